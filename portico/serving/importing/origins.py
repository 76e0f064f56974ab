"""Where the columns that a step of a pipeline sees come from.

A scaled column still tells which input it is: the scaling is turned back. So what a step inside a
pipeline has learned about a column, a split threshold or a range, can be told in terms of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

if TYPE_CHECKING:
    from portico.serving.tensors import Array


@dataclass(frozen=True, slots=True)
class Origin:
    """A column that is ``scale * input + offset``.

    Attributes:
        place: of the input's column among those the estimator was fitted on.
    """

    place: int
    scale: float = 1.0
    offset: float = 0.0

    def then(self, scale: float, offset: float) -> Origin:
        """Return the origin of this column scaled once more."""
        return Origin(self.place, self.scale * scale, self.offset * scale + offset)

    def back(self, values: Array) -> Array:
        """Return the inputs that give these values of the column."""
        return np.asarray((values - self.offset) / self.scale)


Origins: TypeAlias = Sequence[Origin | None]
"""One a column; None for one that no single input tells."""


def visited(estimator: Any) -> Iterator[tuple[Any, Origins]]:
    """Yield every fitted step inside an estimator with the origins of the columns it sees."""
    yield from _walk(estimator, [Origin(place) for place in range(width_of(estimator))])


def width_of(estimator: Any) -> int:
    """Return how many columns an estimator was fitted on; 0 where it takes a text."""
    return int(getattr(estimator, "n_features_in_", 0))


def _walk(step: Any, origins: Origins) -> Iterator[tuple[Any, Origins]]:
    if isinstance(step, str):
        return
    yield step, origins
    for inner, given in _inside(step, origins):
        yield from _walk(inner, given)


def branches(
    transformer: ColumnTransformer, columns: Sequence[Any]
) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the branches of a column transformer, each with those of ``columns`` it is given."""
    places = transformer._transformer_to_input_indices
    for name, step, _ in transformer.transformers_:
        yield step, [columns[i] for i in places[name]] if columns else []


def _inside(step: Any, origins: Origins) -> Iterator[tuple[Any, Origins]]:
    """Yield the steps that a step is made of, each with the origins of what it is given."""
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            yield inner, origins
            origins = _after(inner, origins)
    elif isinstance(step, ColumnTransformer):
        yield from branches(step, origins)
    elif isinstance(step, FeatureUnion):
        yield from ((inner, origins) for _, inner in step.transformer_list)
    else:
        yield from _fitted_inside(step, origins)


def _fitted_inside(step: Any, origins: Origins) -> Iterator[tuple[Any, Origins]]:
    """Yield what a meta-estimator has fitted on the columns that it is given itself."""
    for name in ("best_estimator_", "estimator_", "regressor_"):
        if hasattr(getattr(step, name, None), "get_params"):
            yield getattr(step, name), origins
    subsets = getattr(step, "estimators_features_", None)
    for i, inner in enumerate(np.ravel(np.array(getattr(step, "estimators_", []), dtype=object))):
        picked = (
            origins if subsets is None else [origins[k] for k in subsets[i] if k < len(origins)]
        )
        if hasattr(inner, "get_params"):
            yield inner, picked
    for calibrated in getattr(step, "calibrated_classifiers_", []):
        yield calibrated.estimator, origins


def _after(step: Any, origins: Origins) -> Origins:
    """Return the origins of what a step gives; none where they cannot be told."""
    if isinstance(step, str):
        return origins if step == "passthrough" else []
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            origins = _after(inner, origins)
        return origins
    if isinstance(step, ColumnTransformer | FeatureUnion):
        return [o for inner, given in _inside(step, origins) for o in _after(inner, given)]
    return _after_single(step, origins)


def _after_single(step: Any, origins: Origins) -> Origins:
    if isinstance(step, FunctionTransformer) and step.func is None:
        return origins
    if isinstance(step, SelectorMixin):
        return [origins[i] for i in step.get_support(indices=True) if i < len(origins)]
    if isinstance(step, SimpleImputer):
        return _after_imputer(step, origins)
    slopes = _slopes(step, len(origins))
    if slopes is not None:
        return [o and o.then(s, c) for o, s, c in zip(origins, *slopes, strict=True)]
    return [None] * _width_after(step)


def _after_imputer(step: SimpleImputer, origins: Origins) -> Origins:
    kept: list[Origin | None] = [
        o
        for o, value in zip(origins, step.statistics_, strict=False)
        if step.keep_empty_features or value == value  # noqa: PLR0124 NaN differs from itself
    ]
    return kept + [None] * (_width_after(step) - len(kept))


def _slopes(step: Any, width: int) -> tuple[Array, Array] | None:
    """Return factor and addend of each column where a step is a scaler."""
    if isinstance(step, StandardScaler):
        scale = step.scale_ if step.with_std else np.ones(width)
        return 1 / scale, -(step.mean_ if step.with_mean else np.zeros(width)) / scale
    if isinstance(step, MinMaxScaler):
        return step.scale_, step.min_
    if isinstance(step, MaxAbsScaler):
        return 1 / step.scale_, np.zeros(width)
    if isinstance(step, RobustScaler):
        scale = step.scale_ if step.with_scaling else np.ones(width)
        return 1 / scale, -(step.center_ if step.with_centering else np.zeros(width)) / scale
    return None


def _width_after(step: Any) -> int:
    try:
        return len(step.get_feature_names_out())
    except (AttributeError, ValueError):
        return 0
