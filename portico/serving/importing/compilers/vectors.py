"""Support vector machines: libsvm's decision functions in double."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from portico.serving.importing.compilers.arithmetic import distances, finite
from portico.serving.importing.compilers.borrowed import borrowed_classes
from portico.serving.importing.compilers.dispatch import Classes, classifier, predictor
from portico.serving.importing.compilers.graph import DOUBLE, INT64
from portico.serving.importing.compilers.linear import affine
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Table
    from portico.serving.tensors import Array


def _kernel(graph: Graph, model: Any, value: Value) -> Value:
    """Return the kernel of each row with each support vector."""
    vectors = _dense(model.support_vectors_)
    gamma = float(model._gamma)
    if model.kernel == "rbf":
        return graph.add("Exp", graph.add("Mul", distances(graph, value, vectors), -gamma))
    product = graph.matmul(value, vectors.T)
    if model.kernel == "linear":
        return product
    shifted = graph.add("Add", graph.add("Mul", product, gamma), float(model.coef0))
    if model.kernel == "poly":
        return graph.add("Pow", shifted, float(model.degree))
    if model.kernel == "sigmoid":
        return graph.add("Tanh", shifted)
    raise CannotCompile("a kernel of one's own has no compiler")


def _dense(matrix: Any) -> Array:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _line(graph: Graph, model: Any, value: Value) -> Value:
    weights = _dense(model._dual_coef_).T
    return affine(graph, _kernel(graph, model, value), weights, model._intercept_)


@predictor(SVR, NuSVR)
def _regressor(graph: Graph, model: Any, table: Table) -> Value:
    return graph.reshape(_line(graph, model, finite(graph, table)), -1)


@predictor(OneClassSVM)
def _novelty(graph: Graph, model: Any, table: Table) -> Value:
    above = graph.add("Greater", _line(graph, model, finite(graph, table)), 0.0)
    signs = graph.add("Gather", np.array([-1, 1]), graph.cast(above, INT64))
    return graph.reshape(signs, -1)


@classifier(SVC, NuSVC)
def _classifier(graph: Graph, model: Any, table: Table) -> Classes:
    if hasattr(model, "predict_proba"):
        # Probabilities come from an iteration that ONNX Runtime has an operator for.
        return Classes(*borrowed_classes(graph, model, table))
    value = finite(graph, table)
    if len(model.classes_) == 2:
        return _of_two(graph, model, value)
    if model.break_ties:
        raise CannotCompile("an SVC that breaks ties has no compiler")
    pairs = affine(graph, _kernel(graph, model, value), _pair_weights(model), model._intercept_)
    first, second = np.triu_indices(len(model.classes_), k=1)
    won = graph.cast(graph.add("Greater", pairs, 0.0), DOUBLE)
    votes = graph.add(
        "Add",
        graph.matmul(won, np.eye(len(model.classes_))[first]),
        graph.matmul(graph.add("Sub", 1.0, won), np.eye(len(model.classes_))[second]),
    )
    return Classes(graph.argmax(votes))


def _of_two(graph: Graph, model: Any, value: Value) -> Classes:
    line = _line(graph, model, value)
    # libsvm's sign speaks for the first class.
    chosen = graph.cast(graph.add("LessOrEqual", graph.reshape(line, -1), 0.0), INT64)
    return Classes(chosen, None, graph.add("Neg", line))


def _pair_weights(model: Any) -> Array:
    """Return the weight of each support vector in the decision between each pair of classes."""
    starts = np.cumsum([0, *model._n_support])
    dual = _dense(model._dual_coef_)
    columns = []
    for first, second in zip(*np.triu_indices(len(model.classes_), k=1), strict=True):
        column = np.zeros(dual.shape[1])
        mine, theirs = (slice(starts[c], starts[c + 1]) for c in (first, second))
        column[mine], column[theirs] = dual[second - 1, mine], dual[first, theirs]
        columns.append(column)
    return np.array(columns).T
