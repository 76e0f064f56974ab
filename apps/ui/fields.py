"""The form of a model: one field a feature, each with its widget, value and problem."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from portico.serving.signature import Feature, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portico.serving.errors import Problem
    from portico.serving.signature import Signature

_LARGEST_EXAMPLE: Final = 1000
"""Elements; a larger array is no help to read."""


class Widget(StrEnum):
    """What a person fills in."""

    NUMBER = "number"
    SELECT = "select"
    CHECKBOX = "checkbox"
    TEXT = "text"
    LONG_TEXT = "long_text"
    ARRAY = "array"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form.

    Attributes:
        id: unique on the page; feature names are free text and cannot be ids.
        value: as the field holds it, which is always text.
        problem: what is wrong with the value, to be read after the feature's name.
        options: value and label of each choice.
    """

    id: str
    feature: Feature
    widget: Widget
    value: str
    problem: str
    options: tuple[tuple[str, str], ...]

    @property
    def hint(self) -> str:
        """What may stand here, in words."""
        feature = self.feature
        if feature.kind is Kind.TENSOR:
            sizes = " by ".join("any" if size < 0 else str(size) for size in feature.shape)
            return f"{feature.datatype} array of shape {sizes or 'one value'}, as JSON"
        if self.widget is Widget.NUMBER and feature.range_text:
            words = f"{feature.range_text} {feature.unit}".strip()
            return words[0].upper() + words[1:]
        return ""

    @property
    def step(self) -> str:
        """The ``step`` of a number field."""
        if self.feature.step is not None:
            return text_of(self.feature.step)
        return "1" if self.feature.kind is Kind.INTEGER else "any"

    @property
    def described_by(self) -> str:
        """Ids of what a screen reader tells about the field."""
        parts = [
            (self.feature.unit and self.widget is Widget.NUMBER, "unit"),
            (self.feature.description, "about"),
            (self.hint, "hint"),
            (True, "problem"),
        ]
        return " ".join(f"{self.id}-{part}" for is_there, part in parts if is_there)


def fields_of(
    signature: Signature,
    values: Mapping[str, str],
    problems: Mapping[str, str] | None = None,
) -> list[Field]:
    """Return the form's fields in the order of the features.

    Args:
        signature: of the model.
        values: text of each field, by feature name.
        problems: what is wrong, by feature name.
    """
    problems = problems or {}
    only_one = len(signature.features) == 1
    return [
        Field(
            id=f"field-{index}",
            feature=feature,
            widget=_widget(feature, only_one=only_one),
            value=values.get(feature.name, ""),
            problem=problems.get(feature.name, ""),
            options=tuple((text_of(choice.value), choice.label) for choice in feature.choices),
        )
        for index, feature in enumerate(signature.features)
    ]


def default_values(signature: Signature) -> dict[str, str]:
    """Return what the fields hold at first: the defaults that the model's card gives."""
    return {f.name: "" if f.default is None else text_of(f.default) for f in signature.features}


def example_values(signature: Signature) -> dict[str, str]:
    """Return a plausible value for each field; pictures have none, nor have large arrays."""
    return {
        feature.name: text_of(feature.example())
        for feature in signature.features
        if feature.kind is not Kind.IMAGE and math.prod(map(abs, feature.shape)) <= _LARGEST_EXAMPLE
    }


def problems_by_feature(signature: Signature, problems: Iterable[Problem]) -> dict[str, str]:
    """Return the first problem of each feature; a place inside an array is its feature's."""
    found: dict[str, str] = {}
    for where, problem in problems:
        name = where if where in signature.feature_by_name else where.partition("[")[0]
        if name in signature.feature_by_name:
            found.setdefault(name, problem)
    return found


def rest_of_sentence(problem: str) -> str:
    """Return a problem as it follows the name of its place, such as ``is missing``."""
    return f" {problem}."


def text_of(value: Any) -> str:
    """Return a value as a form field holds it."""
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, list):
        return json.dumps(value)
    text = str(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _widget(feature: Feature, *, only_one: bool) -> Widget:
    match feature.kind:
        case Kind.IMAGE:
            return Widget.PICTURE
        case Kind.TENSOR:
            return Widget.ARRAY
        case Kind.BOOLEAN:
            return Widget.CHECKBOX
    if feature.choices and feature.closed:
        return Widget.SELECT
    if feature.kind is Kind.TEXT:
        return Widget.LONG_TEXT if only_one else Widget.TEXT
    return Widget.NUMBER
