"""Decision trees as the files of XGBoost and LightGBM hold them, checked and in one form.

A booster's library trusts its files: a child that points outside its tree is a crash of the
process, and two nodes that are each other's children are a loop without end. So files are read
and checked here before a library sees them, and what is read serves the compiler as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

LEAF: Final = -1
"""The child of a leaf."""

MAX_DEPTH: Final = 10_000
"""Libraries walk down trees recursively here and there; a deeper one could overrun the stack."""

MAX_BYTES: Final = 1 << 30
MAX_FEATURES: Final = 1_000_000
MAX_CLASSES: Final = 10_000


class Task(StrEnum):
    """What the margins of a booster become."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    VALUE = "value"


class Link(StrEnum):
    """The function from margin to answer."""

    IDENTITY = "identity"
    LOGISTIC = "logistic"
    SOFTMAX = "softmax"
    EXP = "exp"
    LOG1P_EXP = "log1p_exp"
    SIGNED_SQUARE = "signed_square"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree; every array has an element a node, and node 0 is the root.

    Attributes:
        left: child where the comparison holds, or the value is one of the categories.
        right: child where not; both are :data:`LEAF` at leaves.
        feature: column that a node looks at.
        threshold: in the precision in which the library compares.
        missing_left: whether NaN goes left.
        value: of a leaf.
        categories: of the nodes that ask for categories.
    """

    left: Integers
    right: Integers
    feature: Integers
    threshold: NDArray[Any]
    missing_left: Booleans
    value: NDArray[Any]
    categories: Mapping[int, Integers]

    @property
    def is_leaf(self) -> Booleans:
        """Which nodes are leaves."""
        return np.equal(self.left, LEAF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Trees whose values are added up to margins, and what is made of these.

    Attributes:
        groups: margins a row.
        tree_groups: the margin that each tree adds to.
        base: margins before the first tree.
        strict: whether a comparison is ``<`` and not ``<=``.
        zero_is_missing: columns where 0 is taken for a missing value.
        dtype: in which the library compares and adds up.
        slope: factor of the margin inside the logistic function.
        weights: of a linear model instead of trees, [features + 1, groups]; the last row is added
            to the margins, and missing values count as 0.
    """

    features: int
    groups: int
    trees: Sequence[Tree]
    tree_groups: Sequence[int]
    base: NDArray[Any]
    strict: bool
    dtype: np.dtype[Any]
    task: Task
    link: Link
    slope: float = 1.0
    zero_is_missing: frozenset[int] = frozenset()
    weights: NDArray[Any] | None = None

    def thresholds(self) -> dict[int, NDArray[Any]]:
        """Return the sorted distinct split thresholds by column; categories are none."""
        columns = [np.zeros(0, dtype=np.int64)]
        values = [np.zeros(0, dtype=self.dtype)]
        for tree in self.trees:
            asks = ~tree.is_leaf
            asks[list(tree.categories)] = False
            columns.append(tree.feature[asks])
            values.append(tree.threshold[asks])
        column, value = np.concatenate(columns), np.concatenate(values)
        return {int(c): np.unique(value[column == c]) for c in np.unique(column)}

    def categorical(self) -> frozenset[int]:
        """Return the columns of which some node asks for categories."""
        return frozenset(int(tree.feature[node]) for tree in self.trees for node in tree.categories)


def reachable(left: Integers, right: Integers, where: str) -> Booleans:
    """Return which nodes the root leads to, each of them by one way.

    Args:
        left: child of each node, or :data:`LEAF`.
        right: the other one.
        where: names the tree in errors.

    Raises:
        ArtefactError: a child lies outside the tree, a node has one child alone or two parents,
            or the tree is deeper than :data:`MAX_DEPTH`.
    """
    count = len(left)
    if not count:
        raise ArtefactError(f"{where} has no nodes")
    seen = np.zeros(count, dtype=bool)
    level = np.zeros(1, dtype=np.int64)
    seen[0] = True
    for _ in range(MAX_DEPTH):
        inner = level[(left[level] != LEAF) | (right[level] != LEAF)]
        if not len(inner):
            return seen
        level = np.concatenate([left[inner], right[inner]])
        if (level < 0).any() or (level >= count).any():
            raise ArtefactError(f"{where} has a child outside the tree")
        if seen[level].any() or len(np.unique(level)) != len(level):
            raise ArtefactError(f"{where} has a node with two parents")
        seen[level] = True
    raise ArtefactError(f"{where} is deeper than {MAX_DEPTH} levels")


def read_model_file(path: Path) -> bytes:
    """Return the content of a booster's file.

    Raises:
        ArtefactError: it cannot be read, or is larger than :data:`MAX_BYTES`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ArtefactError(f"'{path.name}' has {size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"'{path.name}' cannot be read: {error.strerror}") from error
