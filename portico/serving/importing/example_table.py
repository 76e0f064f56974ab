"""Example rows from a CSV table: read as a model's input, and what a form can learn from them.

What is learnt is a help and never a limit: the next row may lie outside of all examples.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from portico.serving.card import FeatureCard, ModelCard, describe
from portico.serving.codecs.image_fit import with_image
from portico.serving.codecs.rows import tensors_from_csv
from portico.serving.errors import ArtefactError, InvalidInput
from portico.serving.importing.rows import column_of
from portico.serving.signature import Feature, Kind, Signature

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.tensors import Tensors

MAX_ROWS: Final = 10_000
"""Rows that are used; they are taken evenly from a longer table."""

_MAX_CHOICES: Final = 20
_NAMELESS: Final = re.compile(r"x[1-9]\d*")
_SHOWN: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """Example rows of a model.

    Attributes:
        tensors: one array an input, the first axis being the rows.
        card: the given one, with the names, defaults and choices that the table taught.
        notes: sentences for the person who imports.
    """

    tensors: Tensors
    card: ModelCard
    notes: list[str]


def read_examples(path: Path, name: str, signature: Signature, card: ModelCard) -> Examples:
    """Read a CSV table with a header.

    Args:
        path: the file.
        name: what the person calls it.
        signature: as the artefact tells it.
        card: what is known beside.

    Raises:
        ArtefactError: no table, columns that do not match the model, a value that does not fit.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArtefactError(f"'{name}' is no UTF-8 text: {error.reason}") from None
    header = [column.strip() for column in next(csv.reader(io.StringIO(text)), [])]
    if not any(header):
        raise ArtefactError(f"'{name}' is empty; a header with the feature names is expected")
    card = _named(card, signature, header)
    described = describe(with_image(signature, card), card)
    extra = _check_columns(described, header, name)
    try:
        tensors = tensors_from_csv(_open_to_all(described), text)
    except InvalidInput as error:
        raise ArtefactError(f"'{name}', {error.message}") from None
    notes = [f"columns passed over, as the model does not take them: {_listed(extra)}"]
    tensors = _thinned(tensors)
    return Examples(tensors, _learnt(card, described, tensors), notes if extra else [])


def _named(card: ModelCard, signature: Signature, header: list[str]) -> ModelCard:
    """Name the columns of a matrix without names after the table, where it has as many."""
    names = [feature.name for feature in signature.features]
    nameless = all(_NAMELESS.fullmatch(each) for each in names) and len(signature.inputs) == 1
    as_many = len(set(header)) == len(header) == len(names)
    if card.feature_names or not nameless or not as_many or set(header) == set(names):
        return card
    return msgspec.structs.replace(card, feature_names=header)


def _check_columns(signature: Signature, header: list[str], name: str) -> list[str]:
    """Return the columns that the model does not take.

    Raises:
        ArtefactError: a feature has no column.
    """
    if signature.image:
        raise ArtefactError(f"'{name}' is a table; this model takes pictures")
    wanted = [feature.name for feature in signature.features]
    missing = [each for each in wanted if each not in header]
    extra = [each for each in header if each and each not in wanted]
    if not missing:
        return extra
    told = f"'{name}' lacks {_listed(missing)}"
    if extra:
        told += f", and has {_listed(extra)}, which the model does not take"
    if all(map(_NAMELESS.fullmatch, wanted)):
        told += f"; its features have no names, so a table of just {len(wanted)} columns names them"
        raise ArtefactError(told)
    raise ArtefactError(f"{told}; the model takes: {_listed(wanted)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name[:60]}'" for name in names[:_SHOWN]) + more


def _open_to_all(signature: Signature) -> Signature:
    """Take away limits that were meant for those who ask, not for the model's own examples."""
    features = tuple(
        dataclasses.replace(
            feature,
            minimum=None,
            maximum=None,
            closed=False,
            optional=feature.kind in (Kind.NUMBER, Kind.TEXT),
        )
        for feature in signature.features
    )
    return dataclasses.replace(signature, features=features)


def _thinned(tensors: Tensors) -> Tensors:
    rows = len(next(iter(tensors.values())))
    if rows <= MAX_ROWS:
        return tensors
    places = np.linspace(0, rows - 1, MAX_ROWS).astype(np.int64)
    return {name: array[places] for name, array in tensors.items()}


def _learnt(card: ModelCard, signature: Signature, tensors: Tensors) -> ModelCard:
    features = dict(card.features)
    for feature in signature.features:
        column = column_of(tensors, feature)
        if column is not None:
            given = features.get(feature.name, FeatureCard())
            learnt = _of_column(given, feature, column.tolist(), single=column.dtype.itemsize < 8)
            if learnt != FeatureCard():
                features[feature.name] = learnt
    return msgspec.structs.replace(card, features=features)


def _of_column(
    given: FeatureCard, feature: Feature, values: list[Any], *, single: bool
) -> FeatureCard:
    """Return a feature's card with what its values tell and neither card nor artefact did."""
    present = [value for value in values if value not in ("", None) and value == value]  # noqa: PLR0124 NaN differs from itself
    is_text = feature.kind is Kind.TEXT
    changes: dict[str, Any] = {}
    if len(present) < len(values) and feature.kind in (Kind.NUMBER, Kind.TEXT):
        changes["optional"] = True
    if is_text and not feature.choices and _are_categories(present):
        changes["choices"] = sorted(set(present))
        changes["open"] = True
    if present and feature.default is None:
        default = _typical(present, is_text=is_text or bool(feature.choices))
        if single and isinstance(default, float):
            default = float(str(np.float32(default)))
        allowed = [choice.value for choice in feature.choices]
        if _fits(feature, default) and (default in allowed or not allowed or not feature.closed):
            changes["default"] = default
    return msgspec.structs.replace(given, **changes)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _are_categories(values: list[str]) -> bool:
    different = len(set(values))
    return 1 < different <= _MAX_CHOICES and 2 * different <= len(values)


def _typical(values: list[Any], *, is_text: bool) -> Any:
    """Return the most frequent text, or the middle number: one that stands in the table."""
    if is_text or isinstance(values[0], bool):
        return Counter(values).most_common(1)[0][0]
    return sorted(values)[len(values) // 2]


def _fits(feature: Feature, value: Any) -> bool:
    if feature.kind not in (Kind.NUMBER, Kind.INTEGER):
        return True
    low, high = feature.minimum, feature.maximum
    is_whole = feature.kind is Kind.NUMBER or value == int(value)
    return bool(
        np.isfinite(value) and is_whole
        and (low is None or low <= value) and (high is None or value <= high)
    )  # fmt: skip
