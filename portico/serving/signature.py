"""What a model takes and gives: written once, shown as form, OpenAPI, metadata, CSV and errors.

A signature has two levels. *Tensors* are what the runtime sees and the Open Inference Protocol
sends. *Features* are what a person or a row of a table knows: one feature fills one column of a
tensor, or a whole tensor, and carries title, unit, range and choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from portico.serving.tensors import VARIABLE, Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Scalar: TypeAlias = str | float | int | bool
"""One value of a feature as rows, forms and CSV files hold it."""

MAX_COLUMNS: Final = 512
"""A wider matrix is one tensor feature instead of a feature for each column."""


class Kind(StrEnum):
    """What sort of value a feature takes."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"
    IMAGE = "image"
    TENSOR = "tensor"


class Choice(NamedTuple):
    """One allowed value and what a person reads for it."""

    value: Scalar
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One value that a row holds.

    Attributes:
        name: key in a row, header in a CSV file, field in a form.
        tensor: name of the input that it fills.
        column: index on the last axis of that input; None when it fills the whole row of it.
        shape: shape of one value; ``()`` for everything but tensors.
        closed: whether values outside ``choices`` are refused or choices are only suggestions.
        optional: whether a missing value is allowed (NaN for numbers, "" for text).
    """

    name: str
    tensor: str
    kind: Kind
    datatype: Datatype
    column: int | None = None
    shape: tuple[int, ...] = ()
    title: str = ""
    description: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Choice, ...] = ()
    closed: bool = True
    default: Scalar | None = None
    optional: bool = False

    @property
    def heading(self) -> str:
        """What a person reads beside the field."""
        return self.title or self.name

    @property
    def range_text(self) -> str:
        """The allowed range in words, empty when there is none."""
        low, high = self.minimum, self.maximum
        if low is not None and high is not None:
            return f"between {low:g} and {high:g}"
        if low is not None:
            return f"at least {low:g}"
        return f"at most {high:g}" if high is not None else ""

    def example(self) -> Any:
        """Return a plausible value: the default, the first choice or the middle of the range."""
        if self.default is not None:
            return self.default
        if self.choices:
            return self.choices[0].value
        match self.kind:
            case Kind.NUMBER | Kind.INTEGER:
                return self._example_number()
            case Kind.BOOLEAN:
                return False
            case Kind.TENSOR:
                blank = "" if self.datatype is Datatype.BYTES else 0
                sizes = tuple(1 if size == VARIABLE else size for size in self.shape)
                return np.full(sizes, blank, dtype=self.datatype.dtype).tolist()
            case _:
                return "text"  # An empty text is a missing one, in a table or a form.

    def _example_number(self) -> float | int:
        low = self.minimum if self.minimum is not None else 0.0
        high = self.maximum if self.maximum is not None else max(low, 1.0)
        middle = min(max((low + high) / 2, low), high)
        return int(middle) if self.kind is Kind.INTEGER else middle


class AnswerKind(StrEnum):
    """How a model's outputs are told to a person."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    TENSORS = "tensors"


class Scores(StrEnum):
    """What the numbers of a classifier's score output are."""

    AUTO = "auto"
    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSpec:
    """Which outputs hold the answer and how it reads.

    Attributes:
        label: output with the chosen class, shape [N]; None when the best score decides.
        scores: output with one score a class, shape [N, classes]; None when there is none.
        value: output with the predicted value, shape [N] or [N, 1], for regressions.
        classes: the raw class values in the order of the score columns.
        labels: what a person reads for them, in the same order.
        top: how many classes are shown, the likeliest first.
    """

    kind: AnswerKind = AnswerKind.TENSORS
    label: str | None = None
    scores: str | None = None
    value: str | None = None
    classes: tuple[Scalar, ...] = ()
    labels: tuple[str, ...] = ()
    scores_are: Scores = Scores.AUTO
    title: str = ""
    unit: str = ""
    top: int = 5


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs, features and answer of one model version."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[Feature, ...]
    answer: AnswerSpec = field(default_factory=AnswerSpec)

    def __post_init__(self) -> None:
        """Index inputs, outputs and features by name."""
        object.__setattr__(self, "input_by_name", {spec.name: spec for spec in self.inputs})
        object.__setattr__(self, "output_by_name", {spec.name: spec for spec in self.outputs})
        object.__setattr__(self, "feature_by_name", {f.name: f for f in self.features})

    input_by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)
    output_by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)
    feature_by_name: dict[str, Feature] = field(init=False, repr=False, compare=False)

    @property
    def is_batched(self) -> bool:
        """Whether one run takes any number of rows."""
        return all(spec.is_batched for spec in self.inputs)

    @property
    def image(self) -> Feature | None:
        """The feature that takes a picture, if the model has one."""
        return next((f for f in self.features if f.kind is Kind.IMAGE), None)

    def example_row(self) -> dict[str, Any]:
        """Return one plausible row; pictures have no place in a row and are left out."""
        return {f.name: f.example() for f in self.features if f.kind is not Kind.IMAGE}


def features_of(inputs: Sequence[TensorSpec], names: Sequence[str] = ()) -> tuple[Feature, ...]:
    """Derive the features of tensors: one a column, or one for a tensor that is no table.

    Args:
        inputs: the model's inputs.
        names: names for the columns of the one matrix input, where the artefact knows them.

    Raises:
        ValueError: ``names`` do not fit the width of the matrix.
    """
    if len(inputs) == 1 and names:
        width = inputs[0].row_size
        if len(names) != width:
            raise ValueError(
                f"{len(names)} feature names were given, but input "
                f"'{inputs[0].name}' has {'variable' if width == VARIABLE else width} columns"
            )
        return tuple(_column(inputs[0], i, name) for i, name in enumerate(names))
    return tuple(feature for spec in inputs for feature in _derived(spec, alone=len(inputs) == 1))


def _derived(spec: TensorSpec, *, alone: bool) -> Iterable[Feature]:
    if spec.row_shape in ((), (1,)):
        return [_column(spec, None, spec.name)]
    if len(spec.row_shape) == 1 and 0 < spec.row_size <= MAX_COLUMNS:
        prefix = "x" if alone else f"{spec.name}_"
        return [_column(spec, i, f"{prefix}{i + 1}") for i in range(spec.row_size)]
    return [
        Feature(
            name=spec.name,
            tensor=spec.name,
            kind=Kind.TENSOR,
            datatype=spec.datatype,
            shape=spec.row_shape,
        )
    ]


def _column(spec: TensorSpec, column: int | None, name: str) -> Feature:
    return Feature(
        name=name,
        tensor=spec.name,
        column=column,
        kind=kind_of(spec.datatype),
        datatype=spec.datatype,
    )


def kind_of(datatype: Datatype) -> Kind:
    """Return the kind of a single value of ``datatype``."""
    if datatype is Datatype.BYTES:
        return Kind.TEXT
    if datatype is Datatype.BOOL:
        return Kind.BOOLEAN
    return Kind.NUMBER if datatype.is_float else Kind.INTEGER


def answer_of(
    outputs: Sequence[TensorSpec], classes: Sequence[Scalar] = (), *, regression: bool = False
) -> AnswerSpec:
    """Recognise the answer in the outputs: a label with scores, a value, or just tensors.

    Args:
        outputs: the model's outputs.
        classes: the class values in the order of the score columns, where the artefact knows them.
        regression: the artefact says that a lone value is a prediction, not a class.
    """
    label = next((o for o in outputs if _is_label(o) and not regression), None)
    scores = next((o for o in outputs if _is_scores(o, len(classes))), None)
    if label and (scores or classes):
        width = scores.row_size if scores else len(classes)
        return AnswerSpec(
            kind=AnswerKind.CLASSIFICATION,
            label=label.name,
            scores=scores.name if scores else None,
            classes=tuple(classes) or tuple(range(max(width, 0))),
            scores_are=Scores.PROBABILITIES,
        )
    if len(outputs) == 1 and outputs[0].row_size == 1 and outputs[0].datatype.is_float:
        return AnswerSpec(kind=AnswerKind.REGRESSION, value=outputs[0].name)
    if scores and classes:
        return AnswerSpec(
            kind=AnswerKind.CLASSIFICATION, scores=scores.name, classes=tuple(classes)
        )
    if len(outputs) == 1 and label:
        return AnswerSpec(kind=AnswerKind.CLASSIFICATION, label=label.name)
    return AnswerSpec()


def _is_label(spec: TensorSpec) -> bool:
    return spec.row_size == 1 and (
        spec.datatype in (Datatype.BYTES, Datatype.BOOL) or spec.datatype.is_integer
    )


def _is_scores(spec: TensorSpec, classes: int) -> bool:
    if not spec.datatype.is_float or len(spec.row_shape) != 1:
        return False
    width = spec.row_size
    return width == classes if classes else width > 1
