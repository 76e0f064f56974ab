"""XGBoost and LightGBM estimators as steps of a scikit-learn pipeline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.importing.compilers.boosters import scores_of
from portico.serving.importing.compilers.dispatch import Classes, classifier, predictor
from portico.serving.importing.compilers.graph import DOUBLE, FLOAT
from portico.serving.importing.errors import CannotCompile
from portico.serving.runtimes.lightgbm_text import read_lightgbm
from portico.serving.runtimes.trees import Task
from portico.serving.runtimes.xgboost_file import read_xgboost

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Table
    from portico.serving.runtimes.trees import Ensemble

_CLASSIFIERS: Final = ("XGBClassifier", "XGBRFClassifier", "LGBMClassifier")
_REGRESSORS: Final = ("XGBRegressor", "XGBRFRegressor", "LGBMRegressor")


def register(kind: type) -> None:
    """Register what compiles an estimator's class, which its library has imported already."""
    if kind.__name__ in _CLASSIFIERS:
        classifier(kind)(_classifier)
    elif kind.__name__ in _REGRESSORS:
        predictor(kind)(_regressor)


def _classifier(graph: Graph, model: Any, table: Table) -> Classes:
    ensemble = booster_ensemble(model)
    if ensemble.task is Task.VALUE:
        raise CannotCompile(f"{type(model).__name__} has an objective without probabilities")
    scores = graph.cast(_scores(graph, ensemble, table), DOUBLE)
    return Classes(graph.argmax(scores), scores)


def _regressor(graph: Graph, model: Any, table: Table) -> Value:
    ensemble = booster_ensemble(model)
    if ensemble.task is not Task.VALUE:
        raise CannotCompile(f"{type(model).__name__} has the objective of a classifier")
    return graph.cast(_scores(graph, ensemble, table), DOUBLE)


def _scores(graph: Graph, ensemble: Ensemble, table: Table) -> Value:
    value = table.numbers(graph)
    is_single = np.dtype(ensemble.dtype) == np.float32
    return scores_of(graph, ensemble, graph.cast(value, FLOAT) if is_single else value)


def booster_ensemble(model: Any) -> Ensemble:
    """Read a fitted estimator as its library would write it to a file.

    Raises:
        CannotCompile: only the library itself can compute it, or it predicts nothing.
    """
    if hasattr(model, "get_booster"):
        if not math.isnan(model.missing):
            raise CannotCompile("XGBoost takes another number than NaN for a missing one")
        return read_xgboost(bytes(model.get_booster().save_raw("ubj")), "model.ubj").ensemble
    if not hasattr(model, "booster_"):
        raise CannotCompile(f"there is no compiler for {type(model).__name__}")
    text = model.booster_.model_to_string()
    found = read_lightgbm(text.encode(), "model.txt").ensemble
    if found is None:
        raise CannotCompile("LightGBM's trees are of a kind that ONNX does not have")
    return found
