"""Where the trees of a scikit-learn estimator split, in terms of its inputs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.origins import visited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.signature import Signature
    from portico.serving.tensors import Array

MOST: Final = 400
"""Thresholds that are kept of one column."""


def split_thresholds(estimator: Any, signature: Signature) -> dict[str, list[float]]:
    """Return the inputs at which a tree anywhere inside an estimator decides otherwise.

    Args:
        estimator: fitted; trees behind steps that mix columns are left out.
        signature: of the estimator; its features name the columns.

    Returns:
        thresholds by the name of the feature.
    """
    found: dict[int, list[Array]] = {}
    for step, origins in visited(estimator):
        for column, values in _splits(step):
            origin = origins[column] if column < len(origins) else None
            if origin is not None and np.isfinite(origin.scale) and origin.scale:
                found.setdefault(origin.place, []).append(origin.back(values))
    names = column_names(estimator, signature)
    return {
        names[place]: _thinned(np.unique(np.concatenate(arrays))).tolist()
        for place, arrays in sorted(found.items())
        if place in names
    }


def column_names(estimator: Any, signature: Signature) -> dict[int, str]:
    """Return the feature that fills each column the estimator was fitted on, by its place."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is None:
        return {i: feature.name for i, feature in enumerate(signature.features)}
    return {i: str(n) for i, n in enumerate(known) if str(n) in signature.feature_by_name}


def _splits(step: Any) -> Iterator[tuple[int, Array]]:
    """Yield columns and thresholds of the trees that a step itself holds."""
    tree = getattr(step, "tree_", None)
    if tree is not None and hasattr(tree, "threshold"):
        for column in np.unique(tree.feature[tree.feature >= 0]):
            yield int(column), _single_borders(tree.threshold[tree.feature == column])
    if type(step).__module__.partition(".")[0] in ("xgboost", "lightgbm"):
        yield from _splits_of_booster(step)
    nodes = [p.nodes for stage in getattr(step, "_predictors", []) for p in stage]
    if nodes and getattr(step, "_preprocessor", None) is None:
        joined = np.concatenate(nodes)
        inner = joined[(joined["is_leaf"] == 0) & (joined["is_categorical"] == 0)]
        for column in np.unique(inner["feature_idx"]):
            values = inner["num_threshold"][inner["feature_idx"] == column]
            yield int(column), values[np.isfinite(values)]


def _splits_of_booster(step: Any) -> Iterator[tuple[int, Array]]:
    from portico.serving.importing.compilers.wrapped_boosters import booster_ensemble

    with contextlib.suppress(CannotCompile):
        ensemble = booster_ensemble(step)
        for column, values in ensemble.thresholds().items():
            finite = values[np.isfinite(values)].astype(np.float64)
            # A strict comparison decides on the other side of its threshold.
            below = (
                np.nextafter(finite.astype(ensemble.dtype), -np.inf) if ensemble.strict else finite
            )
            is_single = np.dtype(ensemble.dtype) == np.float32
            yield column, _single_borders(below.astype(np.float64)) if is_single else finite


def _single_borders(thresholds: Array) -> Array:
    """Return thresholds and where doubles round to single precision on the one side or the other.

    These trees compare what was rounded to single precision, so a row decides at the border
    between two neighbours, not at the threshold itself.
    """
    below = thresholds.astype(np.float32)
    below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    return np.concatenate([thresholds, (below.astype(np.float64) + above.astype(np.float64)) / 2])


def _thinned(values: Array) -> Array:
    if len(values) <= MOST:
        return values
    return values[np.linspace(0, len(values) - 1, MOST).astype(np.int64)]
