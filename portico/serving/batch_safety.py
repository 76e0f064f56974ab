"""Whether rows of several requests may run together: a model is tried out before it is served.

Some models give a row another answer beside other rows: a batch normalisation that was left in
training mode, a scaling by the largest value of the batch, an output that counts the rows. For
those, batching would mix up the answers of people who have nothing to do with each other.
"""

from __future__ import annotations

import string
from time import monotonic
from typing import TYPE_CHECKING, Final

import numpy as np

from portico.serving.errors import ServingError
from portico.serving.golden import same
from portico.serving.signature import Kind
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.card import ModelCard
    from portico.serving.golden import Golden
    from portico.serving.ports import Runtime
    from portico.serving.signature import Feature, Signature

ROWS: Final = 8
"""Rows that are run alone and together."""

SECONDS: Final = 3.0
"""A slow model is tried with fewer rows, so that it can be served in time."""

_SIZES: Final = (8, 1)
"""Sizes that stand for a variable dimension, the first that the model takes."""

NO_ROWS: Final = "no rows were found that the model takes, so there is no proof that it is safe"


def why_not_together(
    runtime: Runtime, signature: Signature, card: ModelCard, golden: Golden
) -> str:
    """Return why rows of several requests must not run together; empty where they may.

    Args:
        runtime: of the model; it is run.
        signature: with what the card adds.
        card: may switch batching off.
        golden: rows that the import kept; where they are fewer than two, rows are made up.
    """
    if not card.batching.enabled:
        return "model.toml switches it off"
    if not signature.is_batched:
        return "the model takes one row at a time"
    for inputs in (golden.inputs, *_made_up(signature)):
        alone = _run_alone(runtime, inputs)
        if len(alone) > 1:
            return _difference(runtime, inputs, alone)
    return NO_ROWS


def _run_alone(runtime: Runtime, inputs: Tensors) -> dict[int, Tensors]:
    """Return the answers to rows that the model takes, by the row's number."""
    answers: dict[int, Tensors] = {}
    end = monotonic() + SECONDS
    for row in range(min(ROWS, _rows(inputs))):
        if len(answers) > 1 and monotonic() > end:
            break
        try:
            answers[row] = runtime.run(_picked(inputs, [row]), None)
        except ServingError:
            continue  # A made-up row may be one that the model refuses.
    return answers


def _difference(runtime: Runtime, inputs: Tensors, alone: dict[int, Tensors]) -> str:
    """Run the rows together, and say where an answer is not the one that the row got alone."""
    rows = list(alone)
    try:
        together = runtime.run(_picked(inputs, rows), None)
    except ServingError:
        return "the model fails on rows together that it takes one by one"
    for name, answers in together.items():
        if answers.shape[:1] != (len(rows),):
            return f"output '{name}' does not have one answer a row"
        for index, row in enumerate(rows):
            if not same(alone[row][name], answers[index : index + 1]):
                return f"output '{name}' of a row changes with the rows beside it"
    return ""


def _picked(inputs: Tensors, rows: list[int]) -> Tensors:
    return {name: array[rows] for name, array in inputs.items()}


def _rows(inputs: Tensors) -> int:
    return min(len(array) for array in inputs.values())


def _made_up(signature: Signature) -> Iterator[Tensors]:
    """Yield rows that a model of this signature could be asked."""
    for size in _SIZES:
        random = np.random.default_rng(0)
        inputs = {spec.name: _noise(spec, size, random) for spec in signature.inputs}
        for feature in signature.features:
            if feature.kind not in (Kind.TENSOR, Kind.IMAGE):
                _fill(inputs[feature.tensor], feature, random)
        yield inputs


def _noise(spec: TensorSpec, size: int, random: np.random.Generator) -> Array:
    """Return random elements; text is words, and whole numbers stay small, as indexes are."""
    shape = (ROWS, *(size if axis == VARIABLE else axis for axis in spec.shape[1:]))
    if spec.datatype is Datatype.BYTES:
        letters = random.choice(list(string.ascii_lowercase), (*shape, 5))
        words = np.empty(shape, dtype=object)
        for index in np.ndindex(shape):
            words[index] = "".join(letters[index])
        return words
    if spec.datatype.is_float:
        return random.uniform(0.0, 1.0, shape).astype(spec.datatype.dtype)
    return random.integers(0, 2, shape).astype(spec.datatype.dtype)


def _fill(array: Array, feature: Feature, random: np.random.Generator) -> None:
    """Put plausible values of a feature into its column, the example in the first row."""
    column = array.reshape(len(array), -1)[:, feature.column or 0]
    column[0] = feature.example()
    for row in range(1, len(column)):
        if feature.choices:
            column[row] = feature.choices[random.integers(len(feature.choices))].value
        elif feature.kind in (Kind.NUMBER, Kind.INTEGER):
            column[row] = _number(feature, random)


def _number(feature: Feature, random: np.random.Generator) -> float:
    low = feature.minimum if feature.minimum is not None else 0.0
    high = feature.maximum if feature.maximum is not None else low + 10.0
    value = random.uniform(low, max(low, high))
    return round(value) if feature.kind is Kind.INTEGER else value
