"""Decision trees and forests, with answers equal to the last bit.

scikit-learn rounds rows to single precision, compares them with thresholds in double, and adds up
the leaves of tree after tree in double. ONNX's TreeEnsemble holds one number a leaf, so its trees
answer *which* leaf a row falls into; the leaves themselves stand in a table.

Source: ONNX operators, ai.onnx.ml, TreeEnsemble (version 5); ``sklearn/tree/_tree.pyx``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import TensorProto, helper
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.ensemble._iforest import _average_path_length
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)
from sklearn.utils import get_tags

from portico.serving.importing.compilers.arithmetic import finite
from portico.serving.importing.compilers.dispatch import Classes, classifier, predictor
from portico.serving.importing.compilers.graph import INT64, ML
from portico.serving.importing.compilers.tables import Numbers, Table
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.tensors import Array

LEQ: Final = 0
MEMBER: Final = 6
_SUM: Final = 1


@dataclass(frozen=True, slots=True)
class Tree:
    """One binary tree as arrays over its nodes; the root is the first node.

    Attributes:
        left: child for rows that the test is true for; -1 at a leaf.
        right: child for the others.
        feature: column that is tested.
        threshold: a row goes left where its value is at most this.
        missing_left: whether a NaN goes left.
        leaf: number that a leaf answers.
        members: for nodes that test membership instead, the values that go left.
    """

    left: Array
    right: Array
    feature: Array
    threshold: Array
    missing_left: Array
    leaf: Array
    members: dict[int, Sequence[float]]


def ensemble(graph: Graph, trees: Sequence[Tree], value: Value) -> Value:
    """Return the leaf's number of each tree for each row, doubles ``[rows, trees]``.

    Args:
        graph: under construction.
        trees: each answers for itself.
        value: doubles ``[rows, columns]``.
    """
    trees = [tree if tree.left[0] >= 0 else _grown(tree) for tree in trees]
    parts: dict[str, list[Any]] = {name: [] for name in _FIELDS}
    members: list[float] = []
    inner_before = leaves_before = 0
    for number, tree in enumerate(trees):
        inner, leaves = np.flatnonzero(tree.left >= 0), np.flatnonzero(tree.left < 0)
        places = np.empty(len(tree.left), dtype=np.int64)
        places[inner] = np.arange(len(inner)) + inner_before
        places[leaves] = np.arange(len(leaves)) + leaves_before
        is_member = np.isin(inner, list(tree.members))
        parts["tree_roots"].append([inner_before])
        parts["nodes_featureids"].append(tree.feature[inner])
        parts["nodes_splits"].append(np.where(is_member, 0.0, tree.threshold[inner]))
        parts["nodes_modes"].append(np.where(is_member, MEMBER, LEQ))
        parts["nodes_missing_value_tracks_true"].append(tree.missing_left[inner])
        for side, children in (("true", tree.left[inner]), ("false", tree.right[inner])):
            parts[f"nodes_{side}nodeids"].append(places[children])
            parts[f"nodes_{side}leafs"].append(tree.left[children] < 0)
        parts["leaf_targetids"].append(np.full(len(leaves), number))
        parts["leaf_weights"].append(tree.leaf[leaves])
        for node in inner[is_member]:
            members += [*tree.members[int(node)], float("nan")]
        inner_before += len(inner)
        leaves_before += len(leaves)
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return _node(graph, joined, members, len(trees), value)


_FIELDS: Final = (
    "tree_roots",
    "nodes_featureids",
    "nodes_splits",
    "nodes_modes",
    "nodes_missing_value_tracks_true",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_trueleafs",
    "nodes_falseleafs",
    "leaf_targetids",
    "leaf_weights",
)


_DOUBLES: Final = ("nodes_splits", "leaf_weights")


def _node(
    graph: Graph, joined: dict[str, Array], members: list[float], targets: int, value: Value
) -> Value:
    attributes: dict[str, Any] = {
        name: array.astype(np.int64).tolist()
        for name, array in joined.items()
        if name not in _DOUBLES
    }
    for name in _DOUBLES:
        attributes[name] = helper.make_tensor(
            "", TensorProto.DOUBLE, joined[name].shape, joined[name]
        )
    modes = joined["nodes_modes"].astype(np.uint8)
    attributes["nodes_modes"] = helper.make_tensor("", TensorProto.UINT8, modes.shape, modes)
    if members:
        attributes["membership_values"] = helper.make_tensor(
            "", TensorProto.DOUBLE, [len(members)], members
        )
    return graph.add(
        "TreeEnsemble", value, domain=ML, n_targets=targets, aggregate_function=_SUM,
        post_transform=0, **attributes,
    )  # fmt: skip


def _grown(tree: Tree) -> Tree:
    """Return a tree that is a lone leaf with a test in front: ONNX knows no tree without one."""
    leaf = np.array([0.0, tree.leaf[0], tree.leaf[0]])
    zeros = np.zeros(3)
    return Tree(np.array([1, -1, -1]), np.array([2, -1, -1]), zeros, zeros, zeros, leaf, {})


def _tree(tree: Any) -> Tree:
    """Return a scikit-learn tree whose leaves answer their own place."""
    return Tree(
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_left=tree.__getstate__()["nodes"]["missing_go_to_left"],
        leaf=np.arange(tree.node_count, dtype=np.float64),
        members={},
    )


def single(graph: Graph, table: Table) -> Value:
    """Return a table as the trees of scikit-learn take it: rounded to single precision."""
    return graph.once(("single", table), lambda: _single(graph, table.numbers(graph)))


def _single(graph: Graph, value: Value) -> Value:
    wide = graph.rounded(value)
    return graph.refuse_where(
        graph.add("IsInf", wide), "a number is infinite or too large for single precision", wide
    )


def complete(graph: Graph, table: Table) -> Value:
    """Return a table as :func:`single` does, for ensembles that refuse missing numbers."""
    whole = Table((Numbers(finite(graph, table), table.width),))
    return single(graph, whole)


def leaf_values(graph: Graph, trees: Sequence[Any], value: Value) -> Value:
    """Return what stands in the leaf that each tree chose, doubles ``[rows, trees, ...]``.

    Args:
        graph: under construction.
        trees: fitted ``sklearn.tree._tree.Tree``.
        value: rows as :func:`single` returns them.
    """
    first = np.cumsum([0] + [tree.node_count for tree in trees[:-1]])
    chosen = graph.cast(ensemble(graph, [_tree(tree) for tree in trees], value), INT64)
    places = graph.add("Add", chosen, first.reshape(1, -1).astype(np.int64))
    content = np.concatenate([tree.value for tree in trees])
    if content.shape[1] == 1:
        content = content[:, 0]
    return graph.add("Gather", content, places)


def added_up(graph: Graph, values: Value, count: int) -> Value:
    """Add up ``[rows, count, ...]`` over the second axis from first to last, as a loop would."""
    if count == 1:
        return graph.add("Gather", values, 0, axis=1)
    return graph.add("Gather", graph.add("CumSum", values, 1), count - 1, axis=1)


@classifier(
    DecisionTreeClassifier, ExtraTreeClassifier, RandomForestClassifier, ExtraTreesClassifier
)
def _classifier(graph: Graph, forest: Any, table: Table) -> Classes:
    probabilities = _mean(graph, forest, table)
    return Classes(graph.argmax(probabilities, -1), probabilities)


@predictor(DecisionTreeRegressor, ExtraTreeRegressor, RandomForestRegressor, ExtraTreesRegressor)
def _regressor(graph: Graph, forest: Any, table: Table) -> Value:
    mean = _mean(graph, forest, table)
    return graph.reshape(mean, 0, -1) if forest.n_outputs_ > 1 else graph.reshape(mean, -1)


def _mean(graph: Graph, forest: Any, table: Table) -> Value:
    trees = [each.tree_ for each in getattr(forest, "estimators_", [forest])]
    takes_missing = get_tags(getattr(forest, "estimators_", [forest])[0]).input_tags.allow_nan
    value = (single if takes_missing else complete)(graph, table)
    total = added_up(graph, leaf_values(graph, trees, value), len(trees))
    return graph.add("Div", total, float(len(trees))) if len(trees) > 1 else total


@predictor(IsolationForest)
def _isolation(graph: Graph, forest: IsolationForest, table: Table) -> Value:
    trees = []
    for place, estimator in enumerate(forest.estimators_):
        depths = forest._decision_path_lengths[place] + forest._average_path_length_per_tree[place]
        tree = _tree(estimator.tree_)
        columns = np.asarray(forest.estimators_features_[place])[tree.feature]
        trees.append(replace(tree, feature=columns, leaf=depths - 1.0))
    total = added_up(graph, ensemble(graph, trees, single(graph, table)), len(trees))
    most = len(trees) * float(_average_path_length([forest._max_samples])[0])
    if most == 0:
        raise CannotCompile("an IsolationForest of single samples has no compiler")
    score = graph.add("Neg", graph.add("Pow", 2.0, graph.add("Neg", graph.add("Div", total, most))))
    apart = graph.add("Less", graph.add("Sub", score, float(forest.offset_)), 0.0)
    return graph.add("Gather", np.array([1, -1]), graph.cast(apart, INT64))
