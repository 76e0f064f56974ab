"""From output tensors to answers in words a person understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from portico.serving.signature import AnswerKind, AnswerSpec, Scores

if TYPE_CHECKING:
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """A class, how sure the model is, and the likeliest classes with their probabilities.

    ``probability`` is None and ``probabilities`` empty where the model gives none. At most
    ``top`` classes are listed, the likeliest first.
    """

    label: str
    probability: float | None
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class ValueAnswer:
    """A predicted value in ``unit``; None where the model gave no finite number."""

    value: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """The row's part of each output, where the model's answer is neither class nor value."""

    outputs: dict[str, Any]


Answer: TypeAlias = ClassAnswer | ValueAnswer | TensorAnswer


def answers_of(signature: Signature, outputs: Tensors) -> list[Answer]:
    """Return one answer a row.

    Args:
        signature: of the model that gave ``outputs``.
        outputs: all outputs of the model, the first axis being the rows.
    """
    spec = signature.answer
    if spec.kind is AnswerKind.CLASSIFICATION:
        return _classes(spec, outputs)
    if spec.kind is AnswerKind.REGRESSION and spec.value:
        values = outputs[spec.value].reshape(len(outputs[spec.value]), -1)[:, 0]
        return [ValueAnswer(_finite(value), spec.unit) for value in values]
    rows = min((len(a) for a in outputs.values() if a.ndim), default=1)
    return [
        TensorAnswer({n: a[i].tolist() if a.ndim else a.item() for n, a in outputs.items()})
        if rows
        else TensorAnswer({})
        for i in range(rows)
    ]


def _classes(spec: AnswerSpec, outputs: Tensors) -> list[Answer]:
    label_of = dict(zip(spec.classes, spec.labels or map(str, spec.classes), strict=False))
    if spec.scores is None:
        raw = outputs[str(spec.label)].reshape(-1).tolist()
        return [ClassAnswer(label_of.get(value, str(value)), None, {}) for value in raw]
    scores = _probabilities(outputs[spec.scores], spec.scores_are)
    best = (
        outputs[spec.label].reshape(-1).tolist()
        if spec.label
        else [spec.classes[i] if i < len(spec.classes) else int(i) for i in scores.argmax(axis=1)]
    )
    return [
        _class_answer(spec, label_of, value, row) for value, row in zip(best, scores, strict=True)
    ]


def _class_answer(
    spec: AnswerSpec, label_of: dict[Any, str], value: Any, scores: Array
) -> ClassAnswer:
    order = np.argsort(-scores, kind="stable")
    names = [label_of.get(c, str(c)) for c in (spec.classes or range(len(scores)))]
    label = label_of.get(value, str(value))
    probability = float(scores[names.index(label)]) if label in names else None
    top = {names[i]: float(scores[i]) for i in order[: spec.top]}
    return ClassAnswer(label, probability, top)


def _probabilities(scores: Array, kind: Scores) -> Array:
    scores = scores.reshape(len(scores), -1).astype(np.float64)
    if kind is Scores.LOGITS or (kind is Scores.AUTO and not _are_probabilities(scores)):
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = shifted / shifted.sum(axis=1, keepdims=True)
    return np.nan_to_num(scores)


def _are_probabilities(scores: Array) -> bool:
    return bool(
        (scores >= 0).all()
        and (scores <= 1).all()
        and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    )


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
