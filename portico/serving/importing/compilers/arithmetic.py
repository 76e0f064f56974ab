"""Pieces of computation that many compilers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from portico.serving.importing.compilers.graph import DOUBLE, INT64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.importing.compilers.graph import Graph, Operand, Value
    from portico.serving.importing.compilers.tables import Table
    from portico.serving.tensors import Array


def finite(graph: Graph, table: Table) -> Value:
    """Return a table as numbers; a run fails where one is missing or infinite."""
    if table.is_finite:
        return table.numbers(graph)
    return graph.once(("finite", table), lambda: _finite(graph, table.numbers(graph)))


def _finite(graph: Graph, value: Value) -> Value:
    # Zero times a number is zero, and NaN for what is none.
    trace = graph.add("ReduceSum", graph.add("Mul", value, 0.0), keepdims=0)
    return graph.refuse_where(
        graph.add("IsNaN", trace), "a number is missing, infinite or too large", value
    )


def expit(graph: Graph, value: Operand) -> Value:
    """Return the logistic function."""
    # ONNX Runtime's own Sigmoid cuts the tails off.
    down = graph.add("Exp", graph.add("Neg", value))
    return graph.add("Div", 1.0, graph.add("Add", 1.0, down))


def distances(graph: Graph, value: Value, points: Array) -> Value:
    """Return the squared distance of each row from each point, ``[rows, points]``."""
    # Near the middle of the points, little is lost in the difference of the squares.
    middle = points.mean(axis=0)
    centred = graph.add("Sub", value, middle)
    squares = graph.sum(graph.add("Mul", centred, centred), keep=True)
    others = points - middle
    product = graph.matmul(centred, -2 * others.T)
    total = graph.add("Add", graph.add("Add", product, (others**2).sum(axis=1)), squares)
    return graph.add("Max", total, 0.0)


def softmax(graph: Graph, value: Operand, axis: int = 1) -> Value:
    """Return exponentials divided by their sum."""
    return graph.add("Softmax", value, axis=axis)


def two_sided(graph: Graph, positive: Operand) -> Value:
    """Return the probabilities of two classes from that of the second, ``[rows, 1]``."""
    return graph.concat([graph.add("Sub", 1.0, positive), graph.value(positive)])


def normalized(graph: Graph, value: Value, *, else_uniform: bool = True) -> Value:
    """Divide rows by their sums; a row of zeros becomes the same number everywhere."""
    total = graph.sum(value, keep=True)
    zero = graph.add("Equal", total, 0.0)
    divided = graph.add("Div", value, graph.add("Where", zero, 1.0, total))
    if not else_uniform:
        return divided
    ones = graph.add("Add", graph.add("Mul", value, 0.0), 1.0)
    uniform = graph.add("Div", ones, graph.sum(ones, keep=True))
    return graph.add("Where", zero, uniform, divided)


def positive(graph: Graph, value: Operand, above: float = 0.0) -> Value:
    """Return 1 where a vector lies above a bound and 0 elsewhere, as indexes."""
    return graph.cast(graph.add("Greater", graph.reshape(value, -1), above), INT64)


def one_hot(graph: Graph, index: Value, count: int) -> Value:
    """Return doubles ``[..., count]`` that are 1 at the index and 0 elsewhere."""
    last = graph.add("Unsqueeze", index, np.array([-1]))
    return graph.cast(graph.add("Equal", last, np.arange(count)), DOUBLE)


def in_order(graph: Graph, values: Sequence[Value]) -> Value:
    """Add up values from first to last, as a loop would."""
    total = values[0]
    for value in values[1:]:
        total = graph.add("Add", total, value)
    return total


def interpolated(graph: Graph, value: Value, places: Array, levels: Array) -> Value:
    """Return the piecewise linear function through the points, constant beyond the ends.

    Args:
        graph: under construction.
        value: doubles ``[rows]``.
        places: abscissas, rising.
        levels: ordinates.
    """
    if len(places) == 1:
        return graph.add("Add", graph.add("Mul", value, 0.0), float(levels[0]))
    clipped = graph.add("Clip", value, float(places[0]), float(places[-1]))
    above = graph.add("Greater", graph.reshape(clipped, -1, 1), places[1:-1].reshape(1, -1))
    left = graph.sum(graph.cast(above, INT64))
    slopes = np.diff(levels) / np.diff(places)
    start = graph.add("Sub", clipped, graph.add("Gather", places[:-1], left))
    rise = graph.add("Mul", start, graph.add("Gather", slopes, left))
    return graph.add("Add", rise, graph.add("Gather", levels[:-1], left))
