"""Pipelines, unions and column transformers: what only passes columns on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 makes the halving searches importable
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from sklearn.pipeline import FeatureUnion, Pipeline

from portico.serving.importing.compilers.dispatch import (
    Classes,
    classifier,
    classify,
    predict,
    predictor,
    transform,
    transformer,
)
from portico.serving.importing.compilers.tables import Table, side_by_side
from portico.serving.importing.origins import branches

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value


@transformer(Pipeline)
def _pipeline(graph: Graph, pipeline: Pipeline, table: Table) -> Table:
    return _through(graph, [step for _, step in pipeline.steps], table)


@classifier(Pipeline)
def _classifying_pipeline(graph: Graph, pipeline: Pipeline, table: Table) -> Classes:
    *first, last = [step for _, step in pipeline.steps]
    return classify(graph, last, _through(graph, first, table))


@predictor(Pipeline)
def _predicting_pipeline(graph: Graph, pipeline: Pipeline, table: Table) -> Value:
    *first, last = [step for _, step in pipeline.steps]
    return predict(graph, last, _through(graph, first, table))


def _through(graph: Graph, steps: list[Any], table: Table) -> Table:
    for step in steps:
        if step not in (None, "passthrough"):
            table = transform(graph, step, table)
    return table


@transformer(ColumnTransformer)
def _columns(graph: Graph, columns: ColumnTransformer, table: Table) -> Table:
    tables = []
    for step, picked in branches(columns, range(table.width)):
        if not picked or step == "drop":
            continue
        part = table.pick(graph, picked)
        tables.append(part if step == "passthrough" else transform(graph, step, part))
    return side_by_side(tables)


@transformer(FeatureUnion)
def _union(graph: Graph, union: FeatureUnion, table: Table) -> Table:
    tables = []
    for name, step in union.transformer_list:
        if step == "drop":
            continue
        made = table if step == "passthrough" else transform(graph, step, table)
        weight = (union.transformer_weights or {}).get(name)
        tables.append(made if weight is None else made.scaled(graph, float(weight)))
    return side_by_side(tables)


@transformer(FrozenEstimator)
def _frozen(graph: Graph, frozen: Any, table: Table) -> Table:
    return transform(graph, frozen.estimator, table)


@classifier(FrozenEstimator)
def _frozen_classifier(graph: Graph, frozen: Any, table: Table) -> Classes:
    return classify(graph, frozen.estimator, table)


@predictor(FrozenEstimator)
def _frozen_predictor(graph: Graph, frozen: Any, table: Table) -> Value:
    return predict(graph, frozen.estimator, table)


_SEARCHES = (GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV)


@transformer(*_SEARCHES)
def _search(graph: Graph, search: Any, table: Table) -> Table:
    return transform(graph, search.best_estimator_, table)


@classifier(*_SEARCHES)
def _classifying_search(graph: Graph, search: Any, table: Table) -> Classes:
    return classify(graph, search.best_estimator_, table)


@predictor(*_SEARCHES)
def _predicting_search(graph: Graph, search: Any, table: Table) -> Value:
    return predict(graph, search.best_estimator_, table)
