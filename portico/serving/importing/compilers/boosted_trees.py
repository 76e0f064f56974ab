"""Gradient boosting, histogram gradient boosting and AdaBoost.

The histogram trees compare in double, without rounding to single precision, and send missing and
unknown categories where training found it best. Source: ``sklearn/ensemble/_hist_gradient_boosting/
_predictor.pyx``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from portico.serving.importing.compilers.arithmetic import (
    expit,
    one_hot,
    positive,
    softmax,
    two_sided,
)
from portico.serving.importing.compilers.dispatch import (
    Classes,
    classifier,
    classify,
    predict,
    predictor,
    transform,
)
from portico.serving.importing.compilers.graph import DOUBLE, INT64
from portico.serving.importing.compilers.tables import Table, side_by_side
from portico.serving.importing.compilers.trees import (
    Tree,
    added_up,
    complete,
    ensemble,
    leaf_values,
)
from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.origins import branches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.tensors import Array


def _staged(graph: Graph, leaves: Value, start: Value, rounds: int, outputs: int) -> Value:
    """Add the leaves ``[rows, rounds * outputs]`` to ``start``, round after round."""
    by_round = graph.reshape(leaves, 0, rounds, outputs)
    first = graph.add("Unsqueeze", start, np.array([1]))
    return added_up(graph, graph.concat([first, by_round]), rounds + 1)


def _for_rows_of(graph: Graph, value: Value, constants: Array) -> Value:
    """Return the constants once for each row of a matrix of doubles."""
    zeros = graph.cast(graph.add("Less", graph.columns(value, [0]), -np.inf), DOUBLE)
    return graph.add("Add", zeros, constants)


def _boosted(graph: Graph, model: Any, table: Table) -> Value:
    value = complete(graph, table)
    trees = [each.tree_ for each in model.estimators_.ravel()]
    leaves = leaf_values(graph, trees, value)
    if len(trees[0].value[0]) != 1 or leaves is None:
        raise CannotCompile("a boosted tree has more than one number in a leaf")
    scaled = graph.add("Mul", graph.reshape(leaves, 0, -1), float(model.learning_rate))
    rounds, outputs = model.estimators_.shape
    start = _for_rows_of(graph, value, _start(model))
    return _staged(graph, scaled, start, rounds, outputs)


def _start(model: Any) -> Array:
    """Return what boosting starts from, which is the same for all rows."""
    rows = np.zeros((1, model.n_features_in_), dtype=np.float32)
    if not isinstance(model.init_, str) and not type(model.init_).__name__.startswith("Dummy"):
        raise CannotCompile("boosting that starts from another model's answers has no compiler")
    return np.asarray(model._raw_predict_init(rows)[0], dtype=np.float64)


@predictor(GradientBoostingRegressor)
def _gradient_regressor(graph: Graph, model: Any, table: Table) -> Value:
    return graph.reshape(_boosted(graph, model, table), -1)


@classifier(GradientBoostingClassifier)
def _gradient_classifier(graph: Graph, model: Any, table: Table) -> Classes:
    raw = _boosted(graph, model, table)
    if len(model.classes_) > 2:
        return Classes(graph.argmax(raw), softmax(graph, raw), raw)
    scaled = graph.add("Mul", raw, 2.0) if model.loss == "exponential" else raw
    probabilities = two_sided(graph, expit(graph, scaled))
    at_least = graph.add("GreaterOrEqual", graph.reshape(raw, -1), 0.0)
    return Classes(graph.cast(at_least, INT64), probabilities, raw)


def _histogram(graph: Graph, model: Any, table: Table) -> Value:
    value = _histogram_input(graph, model, table).numbers(graph)
    trees = [_histogram_tree(p) for stage in model._predictors for p in stage]
    leaves = ensemble(graph, trees, value)
    baseline = np.ravel(model._baseline_prediction).astype(np.float64)
    start = _for_rows_of(graph, value, baseline)
    return _staged(graph, leaves, start, len(model._predictors), len(baseline))


def _histogram_input(graph: Graph, model: Any, table: Table) -> Table:
    """Return the columns as the trees number them: categories first, as their codes."""
    preprocessor = getattr(model, "_preprocessor", None)
    if preprocessor is None:
        return table
    made = []
    for step, picked in branches(preprocessor, range(table.width)):
        part = table.pick(graph, picked)
        is_encoder = type(step).__name__ == "OrdinalEncoder"
        if picked:
            made.append(transform(graph, step, part) if is_encoder else part)
    return side_by_side(made)


def _histogram_tree(predictor: Any) -> Tree:
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        missing_left=nodes["missing_go_to_left"],
        leaf=nodes["value"],
        members={
            int(node): _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
            for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf)
        },
    )


def _members(bits: Array) -> Sequence[float]:
    """Return the numbers whose bits are set in eight words of 32 bits."""
    return [float(i) for i in range(256) if bits[i // 32] >> np.uint32(i % 32) & np.uint32(1)]


@predictor(HistGradientBoostingRegressor)
def _histogram_regressor(graph: Graph, model: Any, table: Table) -> Value:
    raw = graph.reshape(_histogram(graph, model, table), -1)
    link = type(model._loss.link).__name__
    if link == "IdentityLink":
        return raw
    if link == "LogLink":
        return graph.add("Exp", raw)
    raise CannotCompile(f"there is no compiler for the link {link}")


@classifier(HistGradientBoostingClassifier)
def _histogram_classifier(graph: Graph, model: Any, table: Table) -> Classes:
    raw = _histogram(graph, model, table)
    if len(model.classes_) > 2:
        return Classes(graph.argmax(raw), softmax(graph, raw), raw)
    return Classes(positive(graph, raw), two_sided(graph, expit(graph, raw)), raw)


@classifier(AdaBoostClassifier)
def _adaptive(graph: Graph, model: Any, table: Table) -> Classes:
    classes = len(model.classes_)
    if all(type(each) is DecisionTreeClassifier for each in model.estimators_):
        leaves = leaf_values(graph, [e.tree_ for e in model.estimators_], complete(graph, table))
        chosen = graph.argmax(leaves, 2)
    else:
        chosen = graph.concat(
            [graph.reshape(classify(graph, e, table).chosen, -1, 1) for e in model.estimators_]
        )
    if any(not np.array_equal(e.classes_, model.classes_) for e in model.estimators_):
        raise CannotCompile("a member of AdaBoost saw only some of the classes")
    weights = model.estimator_weights_[: len(model.estimators_)]
    hot = graph.add("Greater", one_hot(graph, chosen, classes), 0.5)
    votes = graph.add(
        "Where", hot, weights.reshape(-1, 1), (-1 / (classes - 1) * weights).reshape(-1, 1)
    )
    scores = added_up(graph, votes, len(weights))
    scores = graph.add("Div", scores, float(model.estimator_weights_.sum()))
    if classes > 2:
        probabilities = softmax(graph, graph.add("Div", scores, float(classes - 1)))
        return Classes(graph.argmax(scores), probabilities, scores)
    score = graph.sum(graph.add("Mul", scores, np.array([-1.0, 1.0])), keep=True)
    both = graph.concat([graph.add("Neg", score), score])
    probabilities = softmax(graph, graph.add("Div", both, 2.0))
    return Classes(positive(graph, score), probabilities, score)


@predictor(AdaBoostRegressor)
def _adaptive_regressor(graph: Graph, model: Any, table: Table) -> Value:
    if all(type(each) is DecisionTreeRegressor for each in model.estimators_):
        trees = [e.tree_ for e in model.estimators_]
        answers = graph.reshape(leaf_values(graph, trees, complete(graph, table)), 0, -1)
    else:
        answers = graph.concat(
            [graph.reshape(predict(graph, e, table), -1, 1) for e in model.estimators_]
        )
    count = len(model.estimators_)
    ordered, places = graph.add_many(
        "TopK", 2, answers, np.array([count]), axis=1, largest=0, sorted=1
    )
    weights = graph.add("Gather", np.asarray(model.estimator_weights_[:count]), places)
    summed = graph.add("CumSum", weights, 1)
    half = graph.add("Mul", graph.columns(summed, [count - 1]), 0.5)
    reached = graph.cast(graph.add("GreaterOrEqual", summed, half), INT64)
    median = graph.reshape(graph.argmax(reached), -1, 1)
    return graph.reshape(graph.add("GatherElements", ordered, median, axis=1), -1)
