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
        TensorAnswer(
            {n: a[i : i + 1].tolist()[0] if a.ndim else a.item() for n, a in outputs.items()}
        )
        for i in range(rows)
    ]


def _classes(spec: AnswerSpec, outputs: Tensors) -> list[Answer]:
    label_of = dict(zip(spec.classes, spec.labels or map(str, spec.classes), strict=False))
    if spec.scores is None:
        raw = outputs[str(spec.label)].reshape(-1).tolist()
        return [ClassAnswer(label_of.get(value, str(value)), None, {}) for value in raw]
    given = outputs[spec.scores].reshape(len(outputs[spec.scores]), -1).astype(np.float64)
    scores = _probabilities(given, spec.scores_are)
    best = (
        outputs[spec.label].reshape(-1).tolist()
        if spec.label
        else [spec.classes[i] if i < len(spec.classes) else int(i) for i in given.argmax(axis=1)]
    )
    return [
        _class_answer(spec, label_of, value, row) for value, row in zip(best, scores, strict=True)
    ]


def _class_answer(
    spec: AnswerSpec, label_of: dict[Any, str], value: Any, scores: Array
) -> ClassAnswer:
    label = label_of.get(value, str(value))
    if not np.isfinite(scores).all():
        return ClassAnswer(label, None, {})
    # A model whose width is variable may give more scores than it has names, or fewer.
    classes = (*spec.classes, *range(len(spec.classes), len(scores)))[: len(scores)]
    probability = float(scores[classes.index(value)]) if value in classes else None
    top: dict[str, float] = {}
    for i in np.argsort(-scores, kind="stable")[: spec.top]:
        # Where two classes have one name, the likelier one is meant.
        top.setdefault(label_of.get(classes[i], str(classes[i])), float(scores[i]))
    return ClassAnswer(label, probability, top)


def _probabilities(scores: Array, kind: Scores) -> Array:
    """Return probabilities, in rows that are not finite where the scores allow none."""
    if kind is Scores.PROBABILITIES:
        return scores
    with np.errstate(invalid="ignore"):
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        softmax: Array = shifted / shifted.sum(axis=1, keepdims=True)
        if kind is Scores.LOGITS:
            return softmax
        # Each row is looked at by itself: its answer must not depend on its neighbours.
        is_done = (scores >= 0).all(axis=1) & np.isclose(scores.sum(axis=1), 1, atol=1e-3)
    return np.where(is_done[:, np.newaxis], scores, softmax)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
