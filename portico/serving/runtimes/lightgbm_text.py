"""LightGBM's text format: read, checked, and written anew for the library.

Source: LightGBM 4.6, ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp``. The library
exits, loops or reads outside its arrays on some texts, so it is given one that is made here of
numbers that were checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from portico.serving.errors import ArtefactError
from portico.serving.runtimes.trees import (
    LEAF,
    MAX_CLASSES,
    MAX_FEATURES,
    Ensemble,
    Integers,
    Link,
    Task,
    Tree,
    reachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_NUMBERS: Final = re.compile(r"[-+0-9.eEinf \t]*")
"""A threshold that parts the missing values from all others is inf."""

_OBJECTIVE: Final = re.compile(r"[a-z_0-9]+(?: [a-z_]+(?::[-+0-9.eE]+)?)*")
_LINKS: Final = {
    "regression": (Task.VALUE, Link.IDENTITY),
    "regression_l1": (Task.VALUE, Link.IDENTITY),
    "huber": (Task.VALUE, Link.IDENTITY),
    "fair": (Task.VALUE, Link.IDENTITY),
    "quantile": (Task.VALUE, Link.IDENTITY),
    "mape": (Task.VALUE, Link.IDENTITY),
    "poisson": (Task.VALUE, Link.EXP),
    "gamma": (Task.VALUE, Link.EXP),
    "tweedie": (Task.VALUE, Link.EXP),
    "cross_entropy": (Task.VALUE, Link.LOGISTIC),
    "cross_entropy_lambda": (Task.VALUE, Link.LOG1P_EXP),
    "lambdarank": (Task.VALUE, Link.IDENTITY),
    "rank_xendcg": (Task.VALUE, Link.IDENTITY),
    "binary": (Task.BINARY, Link.LOGISTIC),
    "multiclass": (Task.MULTICLASS, Link.SOFTMAX),
    "multiclassova": (Task.MULTICLASS, Link.LOGISTIC),
}
_TREE_KEYS: Final = (
    "num_leaves", "num_cat", "split_feature", "threshold", "decision_type", "left_child",
    "right_child", "leaf_value", "cat_boundaries", "cat_threshold", "is_linear", "leaf_const",
    "num_features", "leaf_features", "leaf_coeff", "shrinkage",
)  # fmt: skip
"""What a prediction needs of a tree; the rest tells of the training."""

_CATEGORICAL: Final = 1
_DEFAULT_LEFT: Final = 2
_MISSING: Final = 12
_MISSING_IS_ZERO: Final = 4
_MISSING_IS_NAN: Final = 8
_MAX_WORDS: Final = 1 << 20
"""Words of 32 categories each that one split may ask for."""


@dataclass(frozen=True, slots=True)
class LightGBMText:
    """A model that was read.

    Attributes:
        ensemble: None where the trees hold linear models in their leaves, or treat one column's
            missing values in several ways; such models run in the library alone.
        text: what the library is given.
        names: of the columns.
        categories: of each column that is categorical, as pandas called them.
    """

    task: Task
    groups: int
    ensemble: Ensemble | None
    text: str
    names: tuple[str, ...]
    categories: Mapping[int, Sequence[Any]]


def read_lightgbm(data: bytes, name: str) -> LightGBMText:
    """Read a model file.

    Args:
        data: its content.
        name: of the file, for errors.

    Raises:
        ArtefactError: it is no text model of LightGBM, cut short, or does not make sense.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not re.match(r"tree\r?\nversion=v\d", text):
        raise ArtefactError(
            f"'{name}' is no text model of LightGBM; write one with booster.save_model(PATH)"
        )
    body, end, rest = text.replace("\r\n", "\n").partition("\nend of trees")
    if not end:
        raise ArtefactError(f"'{name}' is cut short: the line 'end of trees' is missing")
    try:
        head, *blocks = re.split(r"\nTree=\d+\n", body)
        return _Reader(_pairs(head), [_pairs(block) for block in blocks]).read(rest)
    except ArtefactError as error:
        raise ArtefactError(f"'{name}' is damaged: {error.message}") from error


class _Reader:
    def __init__(self, head: dict[str, str], blocks: list[dict[str, str]]) -> None:
        self._head = head
        self._blocks = blocks
        self._features = _whole(head, "max_feature_idx", MAX_FEATURES - 1) + 1
        self._groups = _whole(head, "num_tree_per_iteration", MAX_CLASSES)
        self._average = len(blocks) // max(self._groups, 1) if "average_output" in head else 1
        self._missing: dict[int, set[int]] = {}

    def read(self, rest: str) -> LightGBMText:
        task, link, slope = self._objective()
        trees = [self._tree(block, f"tree {i}") for i, block in enumerate(self._blocks)]
        if not self._groups or len(trees) % self._groups:
            raise ArtefactError(f"{len(trees)} trees for {self._groups} scores a row")
        names = tuple(self._head.get("feature_names", "").split(" "))
        if len(names) != self._features or len(set(names)) != self._features:
            raise ArtefactError(f"{len(set(names))} names for {self._features} columns")
        plain = not any(block.get("is_linear", "0") == "1" for block in self._blocks)
        mixed = any(len(kinds) > 1 for kinds in self._missing.values())
        ensemble = Ensemble(
            features=self._features,
            groups=self._groups,
            trees=trees,
            tree_groups=[i % self._groups for i in range(len(trees))],
            base=np.zeros(self._groups),
            strict=False,
            dtype=np.dtype(np.float64),
            task=task,
            link=link,
            slope=slope,
            zero_is_missing=frozenset(c for c, kinds in self._missing.items() if 4 in kinds),
        )
        return LightGBMText(
            task,
            self._groups,
            ensemble if plain and not mixed else None,
            self._written(),
            names,
            self._categories(rest),
        )

    def _objective(self) -> tuple[Task, Link, float]:
        told = self._head.get("objective", "")
        if not told:  # A function of the user's own: the scores are the answer.
            return Task.VALUE, Link.IDENTITY, 1.0
        name, *options = told.split(" ")
        if not _OBJECTIVE.fullmatch(told) or name not in _LINKS:
            raise ArtefactError(f"the objective '{told[:40]}' is not known")
        task, link = _LINKS[name]
        given = dict(option.partition(":")[::2] for option in options)
        if "sqrt" in given and link is Link.IDENTITY:
            link = Link.SIGNED_SQUARE
        classes = _whole(given, "num_class", MAX_CLASSES) if task is Task.MULTICLASS else 1
        if classes != self._groups:
            raise ArtefactError(f"{self._groups} scores a row for {classes} classes")
        slope = float(_numbers(given.get("sigmoid", "1"), np.float64, 1, "sigmoid")[0])
        return task, link, slope

    def _tree(self, block: dict[str, str], where: str) -> Tree:
        leaves = _whole(block, "num_leaves", len(block.get("leaf_value", "")))
        value = _array(block, "leaf_value", np.float64, leaves, where)
        if not leaves or not np.isfinite(value).all():
            raise ArtefactError(f"{where} has no leaves, or a leaf that is no number")
        inner = leaves - 1
        left, right = (
            _array(block, key, np.int64, inner, where) for key in ("left_child", "right_child")
        )
        feature = _array(block, "split_feature", np.int64, inner, where)
        threshold = _array(block, "threshold", np.float64, inner, where)
        kinds = _array(block, "decision_type", np.int64, inner, where)
        if ((feature < 0) | (feature >= self._features)).any():
            raise ArtefactError(f"{where} splits a column that the model has not")
        # The library numbers leaves apart, as -1, -2, ...; here they follow the inner nodes.
        none = np.full(leaves, LEAF)
        left = np.concatenate([np.where(left < 0, inner + ~left, left), none])
        right = np.concatenate([np.where(right < 0, inner + ~right, right), none])
        if not reachable(left, right, where).all():
            raise ArtefactError(f"{where} has nodes that nothing leads to")
        self._check_linear(block, leaves, where)
        categories = self._splits(block, kinds, threshold, where)
        for column, kind in {*zip(feature.tolist(), kinds.tolist(), strict=True)}:
            is_categorical = kind & _CATEGORICAL
            self._missing.setdefault(column, set()).add(-1 if is_categorical else kind & _MISSING)
        blank = np.zeros(leaves)
        return Tree(
            left=left,
            right=right,
            feature=np.concatenate([feature, blank.astype(np.int64)]),
            threshold=np.concatenate([threshold, blank]),
            missing_left=np.concatenate([_missing_left(kinds, threshold), blank.astype(bool)]),
            value=np.concatenate([np.zeros(inner), value / self._average]),
            categories=categories,
        )

    def _splits(
        self, block: dict[str, str], kinds: Integers, threshold: NDArray[Any], where: str
    ) -> dict[int, Integers]:
        """Return the categories that each categorical node sends left."""
        count = _whole(block, "num_cat", len(kinds)) if len(kinds) else 0
        nodes = np.flatnonzero(kinds & _CATEGORICAL)
        bounds = _array(block, "cat_boundaries", np.int64, count + 1, where) if count else [0]
        size = int(bounds[-1])
        if size < 0 or (np.diff(bounds) < 0).any() or bounds[0] != 0 or size > _MAX_WORDS:
            raise ArtefactError(f"{where} has categories out of order")
        words = _array(block, "cat_threshold", np.int64, size, where) if count else np.zeros(0, int)
        if ((words < 0) | (words >= 1 << 32)).any():
            raise ArtefactError(f"{where} has a set of categories that is none")
        splits = {}
        for node in nodes.tolist():
            index = threshold[node]
            if not (0 <= index < count and index == int(index)):
                raise ArtefactError(f"{where} asks for a set of categories that is not there")
            mine = words[int(bounds[int(index)]) : int(bounds[int(index) + 1])].astype("<u4")
            bits = np.unpackbits(mine.view(np.uint8), bitorder="little")
            splits[node] = np.flatnonzero(bits)
        return splits

    def _check_linear(self, block: dict[str, str], leaves: int, where: str) -> None:
        if block.get("is_linear", "0") != "1":
            return
        _array(block, "leaf_const", np.float64, leaves, where)
        counts = _array(block, "num_features", np.int64, leaves, where)
        if (counts < 0).any() or (counts > self._features).any():
            raise ArtefactError(f"{where} has a leaf with more columns than the model")
        columns = _array(block, "leaf_features", np.int64, int(counts.sum()), where)
        _array(block, "leaf_coeff", np.float64, int(counts.sum()), where)
        if ((columns < 0) | (columns >= self._features)).any():
            raise ArtefactError(f"{where} has a leaf that asks for a column that is not there")

    def _categories(self, rest: str) -> dict[int, Sequence[Any]]:
        """Return what pandas called the categories; columns are told by their splits alone."""
        found = re.search(r"^pandas_categorical:(.*)$", rest, re.MULTILINE)
        try:
            told = msgspec.json.decode(found[1], type=list[list[Any]] | None) if found else None
        except msgspec.DecodeError:
            raise ArtefactError("the pandas categories cannot be read") from None
        infos = self._head.get("feature_infos", "").split(" ")
        columns = [i for i, info in enumerate(infos) if re.fullmatch(r"-?\d+(:-?\d+)*", info)]
        return dict(zip(columns, told, strict=True)) if told and len(told) == len(columns) else {}

    def _written(self) -> str:
        """Return the model with what a prediction needs, in the library's own format."""
        keep = ("num_class", "num_tree_per_iteration", "label_index", "max_feature_idx")
        lines = ["tree", "version=v4"]
        lines += [f"{key}={_whole(self._head, key, MAX_FEATURES)}" for key in keep]
        if self._head.get("objective"):
            lines.append(f"objective={self._head['objective']}")
        if "average_output" in self._head:
            lines.append("average_output")
        lines.append("feature_names=" + " ".join(f"x{i}" for i in range(self._features)))
        lines.append("feature_infos=" + " ".join(["none"] * self._features))
        for number, block in enumerate(self._blocks):
            lines += ["", f"Tree={number}"]
            lines += [f"{key}={_plain(block, key)}" for key in _TREE_KEYS if key in block]
            lines.append("")
        return "\n".join([*lines, "", "end of trees", ""])


def _missing_left(kinds: Integers, threshold: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where NaN goes: by default, as the number 0, or right where categories are asked for."""
    missing = kinds & _MISSING
    by_default = (missing == _MISSING_IS_NAN) | (missing == _MISSING_IS_ZERO)
    goes = np.where(by_default, (kinds & _DEFAULT_LEFT) != 0, threshold >= 0)
    return np.asarray(goes & ((kinds & _CATEGORICAL) == 0))


def _pairs(block: str) -> dict[str, str]:
    lines: Iterable[tuple[str, str, str]] = (line.partition("=") for line in block.split("\n"))
    return {key: value.rstrip("\r") for key, _, value in lines}


def _whole(pairs: Mapping[str, str], key: str, most: int) -> int:
    told = pairs.get(key, "")
    if not re.fullmatch(r"\d{1,9}", told) or int(told) > most:
        raise ArtefactError(f"{key} is '{told[:20]}'; a whole number up to {most} is expected")
    return int(told)


def _plain(pairs: Mapping[str, str], key: str) -> str:
    if not _NUMBERS.fullmatch(pairs[key]):
        raise ArtefactError(f"{key} holds something else than numbers")
    return pairs[key]


def _array(pairs: Mapping[str, str], key: str, dtype: Any, count: int, where: str) -> NDArray[Any]:
    return _numbers(pairs.get(key, ""), dtype, count, f"{key} of {where}")


def _numbers(text: str, dtype: Any, count: int, where: str) -> NDArray[Any]:
    if not _NUMBERS.fullmatch(text):
        raise ArtefactError(f"{where} holds something else than numbers")
    words = text.split()
    if len(words) != count:
        raise ArtefactError(f"{where} holds {len(words)} numbers; {count} are expected")
    try:
        return np.array(words, dtype=dtype)
    except (ValueError, OverflowError):
        raise ArtefactError(f"{where} holds something that is no number") from None
