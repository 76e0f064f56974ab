"""Whether two versions of a model give the same answer to the same request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.answers import ClassAnswer, ValueAnswer, answers_of
from portico.serving.errors import InvalidInput
from portico.serving.golden import ABSOLUTE
from portico.serving.predictions import Prediction
from portico.serving.signature import AnswerKind, Kind

if TYPE_CHECKING:
    from portico.serving.answers import Answer
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors

TOLERANCE: Final = 1e-4
"""Relative difference of values that is no change."""

_SHOWN_FEATURES: Final = 6


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row to which two versions give different answers.

    Attributes:
        prediction: id of the request.
        inputs: the first few features, in words.
        before, after: both answers, in words.
        difference: largest difference of a probability or value.
    """

    prediction: str
    inputs: str
    before: str
    after: str
    difference: float


def answer(served: ServedModel, inputs: Tensors) -> Prediction:
    """Ask a version aside: the answer is neither counted nor recorded.

    Raises:
        ServingError: as :meth:`ServedModel.infer`; also where another version's inputs do not fit.
    """
    specs = served.signature.inputs
    if inputs.keys() != served.signature.input_by_name.keys():
        raise InvalidInput.at("inputs", f"must be: {', '.join(spec.name for spec in specs)}")
    if any(inputs[spec.name].dtype != spec.datatype.dtype for spec in specs):
        raise InvalidInput.at("inputs", "are of other datatypes")
    prediction = Prediction(served.name, served.version, "")
    prediction.inputs = inputs
    if all(spec.admits(inputs[spec.name].shape) for spec in specs):
        served.infer(prediction)
    elif all(spec.admits(inputs[spec.name].shape[1:]) for spec in specs):
        served.infer_rows(prediction)  # Rows for a model that takes them one by one.
    else:
        raise InvalidInput.at("inputs", "are of other shapes")
    return prediction


def changed_rows(
    signature: Signature, before: Tensors, after: Tensors, tolerance: float = TOLERANCE
) -> tuple[Array, Array]:
    """Compare two answers row by row.

    A classification has changed where another class is answered; anything else, where a number
    differs by more than the tolerance, or something else at all.

    Args:
        signature: of the version that gave ``before``.
        before: some or all outputs; the first axis being the rows.
        after: outputs of the other version; those that ``before`` lacks do not count.
        tolerance: relative difference of numbers that is no change.

    Returns:
        Whether each row has changed, and the largest difference of its numbers (infinite where
        there is nothing to compare).
    """
    rows = max((len(array) for array in before.values() if array.ndim), default=1)
    changed = np.zeros(rows, dtype=np.bool_)
    difference = np.zeros(rows)
    for name, array in before.items():
        other = after.get(name)
        if other is None or other.shape != array.shape or np.atleast_1d(array).shape[0] != rows:
            return np.ones(rows, dtype=np.bool_), np.full(rows, np.inf)
        beyond, distance = _beyond(array.reshape(rows, -1), other.reshape(rows, -1), tolerance)
        changed |= beyond.any(axis=1)
        difference = np.maximum(difference, distance)
    return _other_class(signature, before, after, rows, changed), difference


def _beyond(old: Array, new: Array, tolerance: float) -> tuple[Array, Array]:
    """Return which elements differ too much, and the largest distance of each row."""
    if old.dtype.kind not in "iuf" or new.dtype.kind not in "iuf":
        return np.asarray(old != new), np.zeros(len(old))
    one, other = old.astype(np.float64), new.astype(np.float64)
    distance = np.where(one == other, 0.0, np.abs(other - one))
    are_both_missing = np.isnan(one) & np.isnan(other)
    distance = np.where(are_both_missing, 0.0, np.where(np.isnan(distance), np.inf, distance))
    beyond = distance > ABSOLUTE + tolerance * np.abs(np.nan_to_num(one))
    return beyond, distance.max(axis=1, initial=0.0)


def _other_class(
    signature: Signature, before: Tensors, after: Tensors, rows: int, changed: Array
) -> Array:
    """Return where the class is another one, if both answers tell it; else ``changed``."""
    spec = signature.answer
    if spec.kind is not AnswerKind.CLASSIFICATION:
        return changed
    if spec.label and spec.label in before:
        one, other = before[spec.label], after[spec.label]
        differs: Array = np.asarray(one.reshape(rows, -1) != other.reshape(rows, -1))
        return np.asarray(differs.any(axis=1))
    if spec.scores and spec.scores in before:
        best = [t[spec.scores].reshape(rows, -1).argmax(axis=1) for t in (before, after)]
        return np.asarray(best[0] != best[1])
    return changed


def row_change(
    signature: Signature,
    prediction: str,
    inputs: Tensors,
    before: Tensors,
    after: Tensors,
    row: int,
    difference: float,
) -> RowChange:
    """Say in words what two versions answered to a row."""
    return RowChange(
        prediction=prediction,
        inputs=_inputs_in_words(signature, inputs, row),
        before=_answer_in_words(signature, before, row),
        after=_answer_in_words(signature, after, row),
        difference=difference,
    )


def _inputs_in_words(signature: Signature, inputs: Tensors, row: int) -> str:
    words = []
    for feature in signature.features:
        if feature.kind in (Kind.IMAGE, Kind.TENSOR):
            continue
        array = inputs[feature.tensor]
        flat = array[row].reshape(-1) if signature.is_batched else array.reshape(-1)
        value: Any = flat[feature.column or 0]
        text = f"{value:g}" if isinstance(value, int | float | np.number) else str(value)[:40]
        words.append(f"{feature.heading} {text}")
    more = f" and {len(words) - _SHOWN_FEATURES} more" if len(words) > _SHOWN_FEATURES else ""
    return ", ".join(words[:_SHOWN_FEATURES]) + more


def _answer_in_words(signature: Signature, outputs: Tensors, row: int) -> str:
    if outputs.keys() < signature.output_by_name.keys():
        return _raw(outputs, row)
    try:
        found: Answer = answers_of(signature, outputs)[row]
    except (IndexError, KeyError, ValueError):
        return _raw(outputs, row)
    match found:
        case ClassAnswer(label, None):
            return label
        case ClassAnswer(label, probability):
            return f"{label} ({probability:.3f})"
        case ValueAnswer(value, unit):
            return "none" if value is None else f"{value:g} {unit}".strip()
    return _raw(outputs, row)


def _raw(outputs: Tensors, row: int) -> str:
    texts = (f"{name} {array[row] if array.ndim else array}" for name, array in outputs.items())
    return ", ".join(texts)[:120]
