"""Plausible rows for an estimator that came without examples, from what fitting left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.importing.origins import visited
from portico.serving.importing.rows import column_of, example, picked
from portico.serving.importing.thresholds import column_names, split_thresholds
from portico.serving.signature import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.signature import Feature, Signature
    from portico.serving.tensors import Array, Tensors

ROWS: Final = 256
_SEED: Final = 19560717
_WORDS: Final = 24


def examples_for(signature: Signature, estimator: Any, count: int = ROWS) -> Tensors:
    """Make rows within the ranges that scalers, trees, neighbours and encoders have seen.

    Args:
        signature: what the rows must fit.
        estimator: fitted.
        count: how many rows.
    """
    random = np.random.default_rng(_SEED)
    seen = _seen(estimator, signature)
    rows = picked(example(signature), [0] * count)
    words = _words(estimator)
    for feature in signature.features:
        column = column_of(rows, feature)
        if column is not None:
            column[:] = _values(feature, seen.get(feature.name), words, count, random)
    return rows


def _values(
    feature: Feature, seen: Array | None, words: Array, count: int, random: np.random.Generator
) -> Array:
    if feature.choices:
        return random.choice(np.array([c.value for c in feature.choices], dtype=object), size=count)
    if feature.kind is Kind.BOOLEAN:
        return random.random(count) < 0.5
    if feature.kind is Kind.TEXT:
        lengths = random.integers(1, _WORDS, size=count)
        return np.array([" ".join(random.choice(words, size=n)) for n in lengths], dtype=object)
    if seen is None:
        return random.normal(size=count)
    low, high = seen.min(), seen.max()
    margin = (high - low) * 0.1 or 1.0
    return random.uniform(low - margin, high + margin, size=count)


def _seen(estimator: Any, signature: Signature) -> dict[str, Array]:
    """Return values that each feature has taken in training, roughly."""
    names = column_names(estimator, signature)
    found: dict[str, list[Array]] = {
        name: [np.array(values)] for name, values in split_thresholds(estimator, signature).items()
    }
    for step, origins in visited(estimator):
        for matrix in _matrices(step):
            for origin, values in zip(origins, np.atleast_2d(matrix).T, strict=False):
                if origin is not None and origin.place in names and origin.scale:
                    found.setdefault(names[origin.place], []).append(origin.back(values))
    joined = {name: np.concatenate(arrays) for name, arrays in found.items()}
    finite = {name: values[np.isfinite(values)] for name, values in joined.items()}
    return {name: values for name, values in finite.items() if len(values)}


def _matrices(step: Any) -> Iterator[Array]:
    """Yield matrices that hold rows like those of the training, in the space the step sees."""
    for low, high in (("data_min_", "data_max_"),):
        if hasattr(step, low):
            yield np.stack([getattr(step, low), getattr(step, high)])
    for centre, variance in (("mean_", "var_"), ("theta_", "var_")):
        middle, spread = getattr(step, centre, None), getattr(step, variance, None)
        if middle is not None and spread is not None:
            yield np.concatenate(
                np.atleast_2d(middle - 2 * np.sqrt(spread), middle + 2 * np.sqrt(spread))
            )
    if hasattr(step, "center_") and hasattr(step, "scale_") and step.center_ is not None:
        yield np.stack([step.center_ - 2 * step.scale_, step.center_ + 2 * step.scale_])
    for name in ("quantiles_", "_fit_X", "support_vectors_", "cluster_centers_", "means_"):
        matrix = getattr(step, name, None)
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2:
            yield matrix
    if hasattr(step, "get_covariance") and hasattr(step, "mean_"):
        spread = 2 * np.sqrt(np.diag(step.get_covariance()))
        yield np.stack([step.mean_ - spread, step.mean_ + spread])


def _words(estimator: Any) -> Array:
    """Return words that a vectoriser inside the estimator knows, and some that none does."""
    vocabulary: list[str] = []
    for step, _ in visited(estimator):
        vocabulary += sorted(getattr(step, "vocabulary_", {}))
    words = vocabulary[:: max(1, len(vocabulary) // 1000)]
    return np.array([*words, "and", "The", "unseen", "x"], dtype=object)
