"""XGBoost and LightGBM models as ONNX, in the precision in which their libraries compare.

XGBoost rounds rows to single precision and asks ``<``; LightGBM compares doubles and asks ``<=``.
Version 5 of ONNX's TreeEnsemble knows both, in both precisions, and splits by categories as well.

Source: ONNX operators, ai.onnx.ml, TreeEnsemble (version 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import numpy_helper

from portico.serving.importing.compilers.graph import ML, Graph
from portico.serving.importing.errors import CannotCompile
from portico.serving.runtimes.boosters import INPUT
from portico.serving.runtimes.lightgbm_text import read_lightgbm
from portico.serving.runtimes.trees import Ensemble, Link, Task, Tree, read_model_file
from portico.serving.runtimes.xgboost_file import read_xgboost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from portico.serving.importing.compilers.graph import Value
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors

_LESS_OR_EQUAL: Final = 0
_LESS: Final = 1
_MEMBER: Final = 6
_SUM: Final = 1

_ZERO: Final = float(np.float32(1e-35))
"""LightGBM's ``kZeroThreshold``: numbers of at most this size are zero to it."""

_MOST: Final = 400
"""Thresholds that are kept of one column."""


def ensemble_of(path: Path) -> Ensemble:
    """Return what a booster's file computes.

    Raises:
        ArtefactError: the file cannot be read.
        CannotCompile: only the library itself can compute it.
    """
    data = read_model_file(path)
    if path.suffix != ".txt":
        return read_xgboost(data, path.name).ensemble
    found = read_lightgbm(data, path.name).ensemble
    if found is None:
        raise CannotCompile(
            "the trees hold linear models in their leaves, or treat the missing values of one "
            "column in several ways; ONNX has no such trees"
        )
    return found


def compile_booster(ensemble: Ensemble, signature: Signature) -> onnx.ModelProto:
    """Return the ONNX model with the inputs and outputs of the native runtime.

    Raises:
        CannotCompile: it has no equal in ONNX.
    """
    graph = Graph([spec.name for spec in (*signature.inputs, *signature.outputs)])
    scores = scores_of(graph, ensemble, INPUT)
    made = [scores] if ensemble.task is Task.VALUE else [graph.argmax(scores), scores]
    return graph.model(signature.inputs, signature.outputs, made)


def scores_of(graph: Graph, ensemble: Ensemble, x: Value) -> Value:
    """Return the probabilities ``[rows, classes]`` of a classifier, or the values of a regressor.

    Args:
        graph: under construction.
        ensemble: the model.
        x: rows in the precision of the ensemble.

    Raises:
        CannotCompile: it has no equal in ONNX.
    """
    base = ensemble.base.astype(ensemble.dtype).reshape(1, -1)
    margins = graph.add("Add", _margins(graph, ensemble, x), base)
    scores: Value = _LINKS[ensemble.link](graph, ensemble, margins)
    if ensemble.task is Task.VALUE:
        return graph.reshape(scores, -1) if ensemble.groups == 1 else scores
    if ensemble.task is Task.BINARY:
        one = np.ones(1, dtype=ensemble.dtype)
        return graph.concat([graph.add("Sub", one, scores), scores])
    return scores


def thresholds_of_booster(ensemble: Ensemble, signature: Signature) -> dict[str, list[float]]:
    """Return split thresholds by the name of the feature, a few hundred of each at most."""
    if len(signature.features) != ensemble.features:
        return {}
    found = {}
    for column, values in ensemble.thresholds().items():
        finite = values[np.isfinite(values)]
        few = finite[np.linspace(0, len(finite) - 1, min(len(finite), _MOST)).astype(np.int64)]
        found[signature.features[column].name] = few.astype(np.float64).tolist()
    return found


def rows_of_booster(ensemble: Ensemble, count: int) -> Tensors:
    """Make up rows: numbers around the thresholds, known and unknown categories, and gaps."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, ensemble.features))
    for column, values in ensemble.thresholds().items():
        finite = values[np.isfinite(values)].astype(np.float64)
        if len(finite):
            low, high = finite[0], finite[-1]
            beyond = (high - low) / 4 + abs(low) / 100 + 1e-3
            x[:, column] = rng.uniform(low - beyond, high + beyond, count)
    for column, most in _largest_categories(ensemble).items():
        x[:, column] = rng.integers(0, most + 2, count)
    x[rng.random(x.shape) < 0.05] = np.nan
    return {INPUT: x.astype(ensemble.dtype)}


def _largest_categories(ensemble: Ensemble) -> dict[int, int]:
    largest: dict[int, int] = {}
    for tree in ensemble.trees:
        for node, categories in tree.categories.items():
            column = int(tree.feature[node])
            largest[column] = max(int(categories.max(initial=0)), largest.get(column, 0))
    return largest


def _margins(graph: Graph, ensemble: Ensemble, x: Value) -> Value:
    if ensemble.weights is not None:
        zeros = np.zeros(1, dtype=ensemble.dtype)
        known = graph.add("Where", graph.add("IsNaN", x), zeros, x)
        product = graph.matmul(known, ensemble.weights[:-1])
        return graph.add("Add", product, ensemble.weights[-1:])
    splits = ensemble.thresholds()
    categorical = ensemble.categorical()
    if categorical & set(splits):
        raise CannotCompile("a column is compared as a number here and as a category there")
    return _trees(graph, ensemble, _prepared(graph, ensemble, categorical, x))


def _prepared(graph: Graph, ensemble: Ensemble, categorical: frozenset[int], x: Value) -> Value:
    """Round categories to codes as the library does, and make zeros missing where it does."""
    if categorical:
        codes = graph.add("Floor", x)
        if not ensemble.strict:  # LightGBM rounds towards zero.
            small = graph.add("Less", graph.add("Abs", x), np.ones(1, dtype=ensemble.dtype))
            codes = graph.add("Where", small, np.zeros(1, dtype=ensemble.dtype), codes)
        x = graph.add("Where", _columns(ensemble, categorical), codes, x)
    return x if ensemble.strict else _zeroed(graph, ensemble, x)


def _zeroed(graph: Graph, ensemble: Ensemble, x: Value) -> Value:
    """Take for zero, or for missing, the numbers that LightGBM takes for it."""
    splits = ensemble.thresholds().values()
    # A split between such a number and zero is the only one that could tell them apart.
    is_split = any(((values >= -_ZERO) & (values < _ZERO)).any() for values in splits)
    if not is_split and not ensemble.zero_is_missing:
        return x
    instead = np.where(_columns(ensemble, ensemble.zero_is_missing), np.nan, 0.0)
    is_zero = graph.add("LessOrEqual", graph.add("Abs", x), np.full(1, _ZERO))
    return graph.add("Where", is_zero, instead, x)


def _columns(ensemble: Ensemble, picked: frozenset[int]) -> Array:
    mask = np.zeros((1, ensemble.features), dtype=bool)
    mask[0, list(picked)] = True
    return mask


def _trees(graph: Graph, ensemble: Ensemble, x: Value) -> Value:
    """Add the sums of the trees' leaves, ``[rows, groups]``."""
    trees = [tree if tree.left[0] >= 0 else _grown(tree) for tree in ensemble.trees]
    if not trees:
        trees, groups = [_grown(None)], [0]
    else:
        groups = list(ensemble.tree_groups)
    parts: dict[str, list[Any]] = {}
    members: list[float] = []
    inner_before = leaves_before = 0
    for tree, group in zip(trees, groups, strict=True):
        inner, leaves = _reached(tree)
        for name, array in _fields(ensemble, tree, group, inner, leaves).items():
            start = inner_before if name == "tree_roots" else 0
            parts.setdefault(name, []).append(array + start)
        for side, children in (("true", tree.left[inner]), ("false", tree.right[inner])):
            place = np.empty(len(tree.left), dtype=np.int64)
            place[inner] = np.arange(len(inner)) + inner_before
            place[leaves] = np.arange(len(leaves)) + leaves_before
            parts.setdefault(f"nodes_{side}nodeids", []).append(place[children])
            parts.setdefault(f"nodes_{side}leafs", []).append(tree.left[children] < 0)
        for node in inner.tolist():
            if len(tree.categories.get(node, ())):
                members += [*tree.categories[node].tolist(), float("nan")]
        inner_before += len(inner)
        leaves_before += len(leaves)
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return _node(graph, ensemble, joined, members, x)


def _reached(tree: Tree) -> tuple[Array, Array]:
    """Return inner nodes and leaves that the root leads to, the root first."""
    alive = np.zeros(len(tree.left), dtype=bool)
    level = np.zeros(1, dtype=np.int64)
    while len(level):
        alive[level] = True
        inner = level[tree.left[level] >= 0]
        level = np.concatenate([tree.left[inner], tree.right[inner]])
    nodes = np.flatnonzero(alive)
    return nodes[tree.left[nodes] >= 0], nodes[tree.left[nodes] < 0]


def _fields(
    ensemble: Ensemble, tree: Tree, group: int, inner: Array, leaves: Array
) -> dict[str, Array]:
    compare = _LESS if ensemble.strict else _LESS_OR_EQUAL
    asks = np.array([len(tree.categories.get(node, ())) > 0 for node in inner.tolist()], dtype=bool)
    # A node that asks for no category at all sends every number right.
    empty = np.array([node in tree.categories for node in inner.tolist()], dtype=bool) & ~asks
    splits = np.where(asks, 0.0, np.where(empty, -np.inf, tree.threshold[inner]))
    return {
        "tree_roots": np.zeros(1, dtype=np.int64),
        "nodes_featureids": tree.feature[inner],
        "nodes_splits": splits.astype(ensemble.dtype),
        "nodes_modes": np.where(asks, _MEMBER, compare),
        "nodes_missing_value_tracks_true": tree.missing_left[inner],
        "leaf_targetids": np.full(len(leaves), group),
        "leaf_weights": tree.value[leaves].astype(ensemble.dtype),
    }


def _node(
    graph: Graph,
    ensemble: Ensemble,
    joined: dict[str, Array],
    members: Sequence[float],
    x: Value,
) -> Value:
    given: dict[str, Any] = {
        name: array.astype(np.int64).tolist()
        for name, array in joined.items()
        if name not in ("nodes_splits", "leaf_weights", "nodes_modes")
    }
    given["nodes_splits"] = numpy_helper.from_array(joined["nodes_splits"])
    given["leaf_weights"] = numpy_helper.from_array(joined["leaf_weights"])
    given["nodes_modes"] = numpy_helper.from_array(joined["nodes_modes"].astype(np.uint8))
    if members:
        given["membership_values"] = numpy_helper.from_array(np.array(members, ensemble.dtype))
    return graph.add(
        "TreeEnsemble", x, domain=ML, n_targets=ensemble.groups, aggregate_function=_SUM,
        post_transform=0, **given,
    )  # fmt: skip


def _grown(tree: Tree | None) -> Tree:
    """Return a lone leaf with a test in front: ONNX knows no tree without one."""
    value = tree.value[0] if tree else 0.0
    zeros = np.zeros(3, dtype=np.int64)
    return Tree(
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        feature=zeros,
        threshold=zeros,
        missing_left=zeros.astype(bool),
        value=np.array([0.0, value, value]),
        categories={},
    )


def _logistic(graph: Graph, ensemble: Ensemble, margins: Value) -> Value:
    slope = np.full(1, ensemble.slope, dtype=ensemble.dtype)
    return graph.add("Sigmoid", graph.add("Mul", margins, slope))


def _step(graph: Graph, ensemble: Ensemble, margins: Value) -> Value:
    above = graph.add("Greater", margins, np.zeros(1, dtype=ensemble.dtype))
    return graph.cast(above, numpy_helper.from_array(np.zeros(1, ensemble.dtype)).data_type)


def _log1p_exp(graph: Graph, ensemble: Ensemble, margins: Value) -> Value:
    one = np.ones(1, dtype=ensemble.dtype)
    return graph.add("Log", graph.add("Add", graph.add("Exp", margins), one))


_LINKS: Final[dict[Link, Any]] = {
    Link.IDENTITY: lambda _graph, _ensemble, margins: margins,
    Link.LOGISTIC: _logistic,
    Link.SOFTMAX: lambda graph, _, margins: graph.add("Softmax", margins, axis=1),
    Link.EXP: lambda graph, _, margins: graph.add("Exp", margins),
    Link.LOG1P_EXP: _log1p_exp,
    Link.SIGNED_SQUARE: lambda graph, _, m: graph.add("Mul", m, graph.add("Abs", m)),
    Link.STEP: _step,
}
