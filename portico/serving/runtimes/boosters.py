"""What boosters of every library have in common: one matrix in, a class or a value out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.errors import ModelRefused
from portico.serving.runtimes.trees import Task
from portico.serving.signature import Choice, Feature, Signature, answer_of, features_of
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INPUT: Final = "input"
LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
PREDICTION: Final = "prediction"


def signature_of(
    datatype: Datatype,
    width: int,
    names: Sequence[str],
    categories: Mapping[int, Sequence[Any]],
    task: Task,
    groups: int,
) -> Signature:
    """Return the signature of a booster.

    Args:
        datatype: in which the library compares.
        width: columns.
        names: of the columns; empty where the file has none.
        categories: of categorical columns, in the order of their codes; the codes are what the
            column holds, the categories what a person reads for them.
        task: what is predicted.
        groups: margins a row.
    """
    inputs = (TensorSpec(INPUT, datatype, (VARIABLE, width)),)
    features = tuple(
        dataclasses.replace(feature, optional=feature.column is not None)
        for feature in features_of(inputs, names)
    )
    features = tuple(_chosen(f, categories.get(i)) for i, f in enumerate(features))
    if task is Task.VALUE:
        shape = (VARIABLE,) if groups == 1 else (VARIABLE, groups)
        outputs: tuple[TensorSpec, ...] = (TensorSpec(PREDICTION, datatype, shape),)
        return Signature(inputs, outputs, features, answer_of(outputs, regression=True))
    classes = 2 if task is Task.BINARY else groups
    outputs = (
        TensorSpec(LABEL, Datatype.INT64, (VARIABLE,)),
        TensorSpec(PROBABILITIES, datatype, (VARIABLE, classes)),
    )
    return Signature(inputs, outputs, features, answer_of(outputs, tuple(range(classes))))


def _chosen(feature: Feature, categories: Sequence[Any] | None) -> Feature:
    if categories is None or feature.column is None:
        return feature
    choices = tuple(Choice(float(code), str(value)) for code, value in enumerate(categories))
    return dataclasses.replace(feature, choices=choices, closed=False)


def matrix_of(signature: Signature, inputs: Tensors) -> Array:
    """Return the matrix to predict for.

    Raises:
        ModelRefused: it has another number of columns than the model.
    """
    x = inputs[INPUT]
    width = signature.inputs[0].shape[1]
    if x.ndim != 2 or x.shape[1] != width:
        raise ModelRefused(f"the model refused the input: {width} columns are expected")
    return x


def answers_of(task: Task, scores: Array, outputs: tuple[str, ...] | None) -> Tensors:
    """Return the outputs that were asked for.

    Args:
        task: what is predicted.
        scores: values [N] or [N, groups]; the probability of class 1 [N] of a binary classifier,
            that of each class [N, classes] of others.
        outputs: names wanted, in this order; None for all.
    """
    if task is Task.VALUE:
        return {PREDICTION: scores}
    if task is Task.BINARY:
        scores = np.stack([1 - scores, scores], axis=1)
    wanted = outputs or (LABEL, PROBABILITIES)
    return {n: scores.argmax(axis=1) if n == LABEL else scores for n in wanted}
