"""XGBoost's JSON and UBJSON formats: read, checked, and written anew for the library.

Source: XGBoost 3.2, "Introduction to Model IO" and its JSON schema. The library checks little of
what it reads, so it is given a document that is made here of what was checked.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from portico.serving.errors import ArtefactError
from portico.serving.runtimes.trees import (
    MAX_CLASSES,
    MAX_FEATURES,
    Ensemble,
    Integers,
    Link,
    Task,
)
from portico.serving.runtimes.ubj import NotUBJSON, decode_ubj
from portico.serving.runtimes.xgboost_tree import floats, integers, read_tree, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_OBJECTIVES: Final = {
    "reg:squarederror": (Task.VALUE, Link.IDENTITY),
    "reg:linear": (Task.VALUE, Link.IDENTITY),
    "reg:squaredlogerror": (Task.VALUE, Link.IDENTITY),
    "reg:absoluteerror": (Task.VALUE, Link.IDENTITY),
    "reg:pseudohubererror": (Task.VALUE, Link.IDENTITY),
    "reg:quantileerror": (Task.VALUE, Link.IDENTITY),
    "reg:expectileerror": (Task.VALUE, Link.IDENTITY),
    "reg:logistic": (Task.VALUE, Link.LOGISTIC),
    "reg:gamma": (Task.VALUE, Link.EXP),
    "reg:tweedie": (Task.VALUE, Link.EXP),
    "count:poisson": (Task.VALUE, Link.EXP),
    "survival:cox": (Task.VALUE, Link.EXP),
    "survival:aft": (Task.VALUE, Link.EXP),
    "rank:pairwise": (Task.VALUE, Link.IDENTITY),
    "rank:ndcg": (Task.VALUE, Link.IDENTITY),
    "rank:map": (Task.VALUE, Link.IDENTITY),
    "binary:logistic": (Task.BINARY, Link.LOGISTIC),
    "binary:logitraw": (Task.VALUE, Link.IDENTITY),
    "binary:hinge": (Task.VALUE, Link.STEP),
    "multi:softprob": (Task.MULTICLASS, Link.SOFTMAX),
    "multi:softmax": (Task.MULTICLASS, Link.SOFTMAX),
}
_LOGIT_BASE: Final = frozenset({"reg:logistic", "binary:logistic"})
"""Objectives whose base score is a probability; those with the link EXP keep its exponential."""


@dataclasses.dataclass(frozen=True, slots=True)
class XGBoostFile:
    """A model that was read.

    Attributes:
        ensemble: what it computes.
        document: what the library is given, JSON.
        names: of the columns; empty where the file has none.
        types: of the columns as the library calls them, such as "c"; may be empty.
        categories: of columns whose categories the file holds.
        iterations: boosting rounds that count; None for all.
        is_linear: whether it is a linear model instead of trees.
    """

    ensemble: Ensemble
    document: bytes
    names: tuple[str, ...]
    types: tuple[str, ...]
    categories: Mapping[int, Sequence[Any]]
    iterations: int | None
    is_linear: bool


def read_xgboost(data: bytes, name: str) -> XGBoostFile:
    """Read a model file.

    Args:
        data: its content.
        name: of the file, for errors.

    Raises:
        ArtefactError: it is no model of XGBoost, cut short, or does not make sense.
    """
    document = _decoded(data, name)
    if not isinstance(document, dict) or not isinstance(document.get("learner"), dict):
        raise ArtefactError(f"'{name}' is no model of XGBoost: it has no 'learner'")
    try:
        return _Reader(document).read()
    except ArtefactError as error:
        raise ArtefactError(f"'{name}' is damaged: {error.message}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "wrong types"
        raise ArtefactError(f"'{name}' is damaged: {what}") from error


def _decoded(data: bytes, name: str) -> Any:
    if data[:1] != b"{":
        what = "a pickle" if data[:1] == b"\x80" else "in no format that XGBoost reads today"
        raise ArtefactError(
            f"'{name}' is {what}; open it with the version that wrote it and save it with "
            "booster.save_model('model.json') or 'model.ubj'"
        )
    try:
        if re.match(rb"\{\s*(\"|\})", data):
            return orjson.loads(data)
        return decode_ubj(data)
    except (orjson.JSONDecodeError, NotUBJSON) as error:
        raise ArtefactError(f"'{name}' is damaged or cut short: {error}") from error


class _Reader:
    def __init__(self, document: dict[str, Any]) -> None:
        self._learner = learner = document["learner"]
        self._version = [whole(part, 1 << 16, "version") for part in document["version"]]
        self._params = params = learner["learner_model_param"]
        self._features = whole(params["num_feature"], MAX_FEATURES, "num_feature")
        self._classes = whole(params.get("num_class", "0"), MAX_CLASSES, "num_class")
        self._targets = whole(params.get("num_target", "1"), MAX_CLASSES, "num_target")
        self._groups = max(self._classes, 1) * max(self._targets, 1)
        self._objective = learner["objective"]

    def read(self) -> XGBoostFile:
        task, link = self._task()
        booster = self._learner["gradient_booster"]
        is_linear = booster["name"] == "gblinear"
        ensemble = Ensemble(
            features=self._features,
            groups=self._groups,
            trees=(),
            tree_groups=(),
            base=self._base(link),
            strict=True,
            dtype=np.dtype(np.float32),
            task=task,
            link=link,
        )
        return self._linear(booster, ensemble) if is_linear else self._trees(booster, ensemble)

    def _task(self) -> tuple[Task, Link]:
        name = self._objective["name"]
        if name not in _OBJECTIVES:
            raise ArtefactError(f"the objective '{str(name)[:40]}' is not known")
        task, link = _OBJECTIVES[name]
        if (task is Task.MULTICLASS) != (self._classes > 1) or self._groups > MAX_CLASSES:
            raise ArtefactError(f"objective {name} does not go with {self._classes} classes")
        if task is Task.MULTICLASS:
            told = self._objective["softmax_multiclass_param"]["num_class"]
            if whole(told, MAX_CLASSES, "num_class") != self._classes or self._targets > 1:
                raise ArtefactError("the numbers of classes do not agree")
        # Several yes-or-no labels at once are values: no class wins over the others.
        return (Task.VALUE if task is Task.BINARY and self._targets > 1 else task), link

    def _base(self, link: Link) -> NDArray[Any]:
        told = str(self._params["base_score"]).strip("[] ")
        base = np.array(told.split(","), dtype=np.float32)
        if len(base) not in (1, self._groups) or not np.isfinite(base).all():
            raise ArtefactError(f"{len(base)} base scores for {self._groups} scores a row")
        base = np.broadcast_to(base, (self._groups,))
        with np.errstate(all="ignore"):
            if self._objective["name"] in _LOGIT_BASE:
                base = -np.log(1 / base - 1)
            elif link is Link.EXP:
                base = np.log(base)
        if not np.isfinite(base).all():
            raise ArtefactError("the base score is out of its range")
        return base

    def _linear(self, booster: dict[str, Any], ensemble: Ensemble) -> XGBoostFile:
        shape = (self._features + 1, self._groups)
        weights = floats(booster["model"], "weights", shape[0] * shape[1], "the linear model")
        model = {
            "boosted_rounds": whole(booster["model"].get("boosted_rounds", 0), 1 << 31, "rounds"),
            "weights": weights,
        }
        # The linear booster adds the first base score to every margin.
        base = np.full_like(ensemble.base, ensemble.base[0])
        ensemble = dataclasses.replace(ensemble, base=base, weights=weights.reshape(shape))
        return self._file(ensemble, {"model": model, "name": "gblinear"})

    def _trees(self, booster: dict[str, Any], ensemble: Ensemble) -> XGBoostFile:
        is_dart = booster["name"] == "dart"
        if booster["name"] not in ("gbtree", "dart"):
            raise ArtefactError(f"the booster '{str(booster['name'])[:40]}' is not known")
        model = (booster["gbtree"] if is_dart else booster)["model"]
        blocks = model["trees"]
        groups = integers(model, "tree_info", len(blocks), "the model")
        if ((groups < 0) | (groups >= self._groups)).any():
            raise ArtefactError("a tree adds to a score that is not there")
        weights = np.ones(len(blocks), dtype=np.float32)
        if is_dart:
            weights = floats(booster, "weight_drop", len(blocks), "the model")
        read = [
            read_tree(b, i, w, self._features)
            for i, (b, w) in enumerate(zip(blocks, weights, strict=True))
        ]
        bounds = self._bounds(model, len(blocks))
        iterations = self._iterations(bounds)
        last = len(blocks) if iterations is None else int(bounds[iterations])
        clean = {
            "gbtree_model_param": {
                "num_parallel_tree": str(whole(
                    model["gbtree_model_param"].get("num_parallel_tree", "1"), 1 << 20, "trees"
                )),
                "num_trees": str(len(blocks)),
            },
            "iteration_indptr": bounds,
            "tree_info": groups,
            "trees": [block for _, block in read],
            "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
        }  # fmt: skip
        gbtree: dict[str, Any] = {"model": clean, "name": "gbtree"}
        if is_dart:
            gbtree = {"gbtree": gbtree, "name": "dart", "weight_drop": weights}
        ensemble = dataclasses.replace(
            ensemble, trees=[tree for tree, _ in read][:last], tree_groups=groups.tolist()[:last]
        )
        return self._file(ensemble, gbtree, _categories(model.get("cats")), iterations)

    def _bounds(self, model: dict[str, Any], trees: int) -> Integers:
        """Return the first tree of each boosting round, and the number of trees at the end."""
        if "iteration_indptr" not in model:  # Written before XGBoost 2.0.
            told = model["gbtree_model_param"].get("num_parallel_tree", "1")
            step = self._groups * max(whole(told, 1 << 20, "num_parallel_tree"), 1)
            if trees % step:
                raise ArtefactError(f"{trees} trees in rounds of {step}")
            return np.arange(0, trees + 1, step)
        bounds = integers(model, "iteration_indptr", None, "the model")
        if not len(bounds) or bounds[0] != 0 or bounds[-1] != trees or (np.diff(bounds) < 0).any():
            raise ArtefactError("the boosting rounds are out of order")
        return bounds

    def _iterations(self, bounds: Integers) -> int | None:
        """Return the rounds up to the best one, where the scikit-learn wrapper stopped early."""
        attributes = self._learner.get("attributes", {})
        if "best_iteration" not in attributes or "scikit_learn" not in attributes:
            return None
        rounds = whole(attributes["best_iteration"], 1 << 31, "best_iteration") + 1
        if rounds >= len(bounds):
            raise ArtefactError("the best iteration is not there")
        return rounds

    def _file(
        self,
        ensemble: Ensemble,
        booster: dict[str, Any],
        categories: Mapping[int, Sequence[Any]] | None = None,
        iterations: int | None = None,
    ) -> XGBoostFile:
        learner = {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": booster,
            "learner_model_param": {
                "base_score": str(self._params["base_score"]),
                "boost_from_average": str(self._params.get("boost_from_average", "1")),
                "num_class": str(self._classes),
                "num_feature": str(self._features),
                "num_target": str(self._targets),
            },
            "objective": self._objective,
        }
        document = {"learner": learner, "version": self._version}
        return XGBoostFile(
            ensemble,
            orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY),
            self._texts("feature_names", distinct=True),
            self._texts("feature_types", distinct=False),
            categories or {},
            iterations,
            is_linear=booster["name"] == "gblinear",
        )

    def _texts(self, key: str, *, distinct: bool) -> tuple[str, ...]:
        texts = tuple(str(text) for text in self._learner.get(key) or ())
        given = len(set(texts)) if distinct else len(texts)
        if texts and given != self._features:
            raise ArtefactError(f"{given} {key} for {self._features} columns")
        return texts


def _categories(told: Any) -> dict[int, Sequence[Any]]:
    """Return the categories of each column that has any, as the data frame called them."""
    found: dict[int, Sequence[Any]] = {}
    for column, entry in enumerate((told or {}).get("enc", ())):
        values = np.asarray(entry.get("values", ()))
        offsets = np.asarray(entry.get("offsets", ()))
        if len(offsets):  # Texts, one after another.
            raw = values.astype(np.uint8).tobytes()
            bounds = offsets.tolist()
            pairs = itertools.pairwise(bounds)
            found[column] = [raw[start:stop].decode("utf-8", "replace") for start, stop in pairs]
        elif len(values):
            found[column] = values.tolist()
    return found
