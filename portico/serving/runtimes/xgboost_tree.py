"""One tree of an XGBoost model: read, checked, and written anew for the library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.errors import ArtefactError
from portico.serving.runtimes.trees import MAX_CLASSES, Integers, Tree, reachable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROOT_PARENT: Final = 2_147_483_647
_MAX_CATEGORY: Final = 1 << 24


def read_tree(
    block: dict[str, Any], number: int, weight: np.float32, features: int
) -> tuple[Tree, dict[str, Any]]:
    """Return a tree, and the same as the library reads it.

    Args:
        block: as the file holds it.
        number: of the tree.
        weight: that its leaves are multiplied by.
        features: columns of the model.

    Raises:
        ArtefactError: it does not make sense.
    """
    where = f"tree {number}"
    params = block["tree_param"]
    count = whole(params["num_nodes"], len(block["left_children"]), "num_nodes")
    if whole(params.get("size_leaf_vector", "1"), MAX_CLASSES, "size_leaf_vector") > 1:
        raise ArtefactError("trees with several values a leaf are not served")
    left = integers(block, "left_children", count, where)
    right = integers(block, "right_children", count, where)
    feature = integers(block, "split_indices", count, where)
    default = integers(block, "default_left", count, where) != 0
    threshold = floats(block, "split_conditions", count, where)
    alive = reachable(left, right, where)
    inner = alive & (left != -1)
    if ((feature[inner] < 0) | (feature[inner] >= features)).any():
        raise ArtefactError(f"{where} splits a column that the model has not")
    categories = _node_categories(block, inner, where)
    # A value among the categories goes right there; here it goes left.
    swapped = np.zeros(count, dtype=bool)
    swapped[list(categories)] = True
    tree = Tree(
        left=np.where(swapped, right, left),
        right=np.where(swapped, left, right),
        feature=feature,
        threshold=threshold,
        missing_left=default ^ swapped,
        value=np.where(left == -1, threshold, 0) * weight,
        categories=categories,
    )
    return tree, _clean_tree(block, tree, swapped, params, number, features)


def _clean_tree(
    block: dict[str, Any],
    tree: Tree,
    swapped: NDArray[np.bool_],
    params: dict[str, Any],
    number: int,
    features: int,
) -> dict[str, Any]:
    """Return a tree as the library reads it, made of nothing but what was checked."""
    count = len(tree.left)
    left, right = (
        np.where(swapped, tree.right, tree.left),
        np.where(swapped, tree.left, tree.right),
    )
    inner = np.flatnonzero(left != -1)
    parents = np.zeros(count, dtype=np.int64)
    for children in (left, right):
        inside = inner[(children[inner] >= 0) & (children[inner] < count)]
        parents[children[inside]] = inside
    parents[0] = _ROOT_PARENT
    nodes = sorted(tree.categories)
    sizes = [len(tree.categories[node]) for node in nodes]
    told = {
        key: np.nan_to_num(floats(block, key, count, "a tree", finite=False))
        for key in ("base_weights", "loss_changes", "sum_hessian")
    }
    return {
        **told,
        "categories": [c for node in nodes for c in tree.categories[node].tolist()],
        "categories_nodes": nodes,
        "categories_segments": np.cumsum([0, *sizes])[:-1],
        "categories_sizes": sizes,
        "default_left": (tree.missing_left ^ swapped).astype(np.int64),
        "id": number,
        "left_children": left,
        "parents": parents,
        "right_children": right,
        "split_conditions": tree.threshold,
        "split_indices": tree.feature,
        "split_type": swapped.astype(np.int64),
        "tree_param": {
            "num_deleted": str(whole(params.get("num_deleted", "0"), count, "num_deleted")),
            "num_feature": str(features),
            "num_nodes": str(count),
            "size_leaf_vector": "1",
        },
    }


def _node_categories(
    block: dict[str, Any], inner: NDArray[np.bool_], where: str
) -> dict[int, Integers]:
    """Return the categories that each categorical node sends right."""
    if "split_type" not in block:  # Written before XGBoost knew categories.
        return {}
    count = len(inner)
    asks = np.flatnonzero((integers(block, "split_type", count, where) == 1) & inner)
    values = integers(block, "categories", None, where)
    nodes = integers(block, "categories_nodes", None, where)
    starts = integers(block, "categories_segments", len(nodes), where)
    sizes = integers(block, "categories_sizes", len(nodes), where)
    if ((values < 0) | (values >= _MAX_CATEGORY)).any():
        raise ArtefactError(f"{where} asks for a category that none can be")
    if ((starts < 0) | (sizes < 0) | (starts + sizes > len(values))).any():
        raise ArtefactError(f"{where} has categories out of order")
    found = {
        node: values[start : start + size]
        for node, start, size in zip(nodes.tolist(), starts.tolist(), sizes.tolist(), strict=True)
    }
    if not set(asks.tolist()) <= set(found):
        raise ArtefactError(f"{where} asks for categories that are not there")
    return {node: found[node] for node in asks.tolist()}


def whole(told: Any, most: int, what: str) -> int:
    """Return a whole number that is told as a number or a text."""
    if not re.fullmatch(r"\d{1,10}", str(told)) or int(told) > most:
        raise ArtefactError(
            f"{what} is '{str(told)[:20]}'; a whole number up to {most} is expected"
        )
    return int(told)


def integers(block: dict[str, Any], key: str, count: int | None, where: str) -> Integers:
    """Return an array of whole numbers; of ``count`` of them, where that is known."""
    values = _array(block, key, count, where)
    if len(values) and values.dtype.kind not in "iub":
        raise ArtefactError(f"{key} of {where} holds something else than whole numbers")
    return values.astype(np.int64)


def floats(
    block: dict[str, Any], key: str, count: int, where: str, *, finite: bool = True
) -> NDArray[np.float32]:
    """Return an array of numbers in single precision."""
    values = _array(block, key, count, where)
    if len(values) and values.dtype.kind not in "iuf":
        raise ArtefactError(f"{key} of {where} holds something else than numbers")
    with np.errstate(over="ignore"):
        floats = values.astype(np.float32)
    if finite and not np.isfinite(floats).all():
        raise ArtefactError(f"{key} of {where} holds a number that is not finite")
    return floats


def _array(block: dict[str, Any], key: str, count: int | None, where: str) -> NDArray[Any]:
    values = np.asarray(block[key])
    if values.ndim != 1 or (count is not None and len(values) != count):
        raise ArtefactError(f"{key} of {where} holds {values.size} values; {count} are expected")
    return values
