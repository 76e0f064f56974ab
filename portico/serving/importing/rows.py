"""Rows to try a model with, made from examples and from what the signature tells of the features.

All of it is the same at every call: the seed is fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.signature import Kind
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from portico.serving.signature import Feature, Signature
    from portico.serving.tensors import Array, Tensors

_SEED: Final = 20240229
_MARGIN: Final = 0.1
"""How far beyond the examples numbers are made up, as a share of their range."""

_TRIED_TOGETHER: Final = 4
"""Rows in which one feature is missing or unknown."""

STRANGE_TEXTS: Final = (
    "",
    " ",
    "zzz-never-seen",
    "NEVER Seen Before",
    "ÄRGER über Öl; l'ÉCOLE d'été",
    "İSTANBUL",
    "ΟΔΟΣ ΣΑΣ",
    "日本語 テスト 42",
    "a_b c-d e.f 1.5 x2",
    "tab\tnew\nline\u00a0space",
    "e\u0301te\u0301 \U0001f600 ok",
    "word " * 60,
)
"""Texts in which tokenisers disagree: case, accents, signs, scripts, blanks."""


def count_of(tensors: Tensors) -> int:
    """Return how many rows there are."""
    return len(next(iter(tensors.values())))


def example(signature: Signature) -> Tensors:
    """Return the one row that the signature's features give as an example."""
    row = {
        s.name: np.full((1, *map(abs, s.row_shape)), blank_of(s.datatype), dtype=s.datatype.dtype)
        for s in signature.inputs
    }
    for feature in signature.features:
        column = column_of(row, feature)
        if column is not None:
            column[0] = feature.example()
    return row


def blank_of(datatype: Datatype) -> Any:
    """Return what an array of the datatype is filled with."""
    return "" if datatype is Datatype.BYTES else 0


def picked(tensors: Tensors, rows: Sequence[int]) -> Tensors:
    """Return these rows; places beyond the end begin again at the start."""
    places = np.asarray(rows, dtype=np.int64) % count_of(tensors)
    return {name: array[places] for name, array in tensors.items()}


def joined(batches: Sequence[Tensors]) -> Tensors:
    """Join batches of the same inputs."""
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def generated(signature: Signature, base: Tensors, count: int) -> Tensors:
    """Make up rows: every value is drawn for itself, so they go where no example was.

    Args:
        signature: what the rows must fit.
        base: examples; half of the numbers are theirs, half lie anywhere within their range.
        count: how many rows.
    """
    random = np.random.default_rng(_SEED)
    rows = picked(base, random.integers(count_of(base), size=count).tolist())
    for feature in signature.features:
        column = column_of(rows, feature)
        if column is not None:
            column[:] = _drawn(feature, column_of(base, feature), count, random)
    return rows


def column_of(tensors: Tensors, feature: Feature) -> Array | None:
    """Return a view of the values of a feature, or None for one that is no single value."""
    if feature.kind in (Kind.TENSOR, Kind.IMAGE):
        return None
    array = tensors[feature.tensor]
    matrix = array.reshape(len(array), -1)
    return matrix[:, feature.column or 0] if matrix.shape[1] else None


def _drawn(feature: Feature, values: Any, count: int, random: np.random.Generator) -> Array:
    drawn = values[random.integers(len(values), size=count)]
    if feature.choices:
        choices = np.array([c.value for c in feature.choices], dtype=drawn.dtype)
        return np.where(
            random.random(count) < 0.5, choices[random.integers(len(choices), size=count)], drawn
        )
    if not feature.datatype.is_float:
        return np.asarray(drawn)
    known = values[np.isfinite(values)]
    if not len(known) or _are_whole(known):
        return np.asarray(drawn)
    margin = (known.max() - known.min()) * _MARGIN
    within = random.uniform(known.min() - margin, known.max() + margin, size=count)
    return np.where(random.random(count) < 0.5, within, drawn)


def _are_whole(values: Array) -> bool:
    """Tell whether numbers look like codes or counts, which a model may insist on."""
    return bool((values == np.round(values)).all() and len(np.unique(values)) <= 32)


def with_missing(signature: Signature, base: Tensors, calls: int) -> Iterator[Tensors]:
    """Yield a few rows for each of up to ``calls`` features in which that one is missing."""
    for feature in _spread(signature.features, calls):
        blank = _blank(feature)
        if blank is not None:
            yield _with_value(base, feature, [blank] * _TRIED_TOGETHER)


def with_unknown(signature: Signature, base: Tensors, calls: int) -> Iterator[Tensors]:
    """Yield a few rows for each of up to ``calls`` features with values no training saw."""
    asked = [f for f in signature.features if f.choices or f.kind is Kind.TEXT]
    for feature in _spread(asked, calls):
        if feature.kind is Kind.TEXT and not feature.choices:
            yield _with_value(base, feature, STRANGE_TEXTS)
        elif feature.kind is Kind.TEXT:
            yield _with_value(base, feature, STRANGE_TEXTS[2:4])
        elif feature.kind is not Kind.BOOLEAN:
            largest = max(float(choice.value) for choice in feature.choices)
            yield _with_value(base, feature, [largest + 1, largest + 0.5])


def _spread(features: Sequence[Feature], most: int) -> list[Feature]:
    step = max(1, -(-len(features) // max(most, 1)))
    return list(features[::step])


def _blank(feature: Feature) -> Any:
    if feature.datatype is Datatype.BYTES:
        return ""
    return float("nan") if feature.datatype.is_float else None


def _with_value(base: Tensors, feature: Feature, values: Sequence[Any]) -> Tensors:
    rows = picked(base, range(len(values)))
    column = column_of(rows, feature)
    if column is not None:
        column[:] = np.array(values, dtype=column.dtype)
    return rows


def with_thresholds(
    signature: Signature, base: Tensors, thresholds: Mapping[str, Sequence[float]], count: int
) -> Tensors:
    """Make rows whose values lie on split thresholds and one step beside them.

    The step is one of double and one of single precision. In half of the rows one feature lies
    there, so that the rest stays plausible; in the others all features do.
    """
    near = {
        f.name: _beside(np.asarray(thresholds[f.name], dtype=np.float64))
        for f in signature.features
        if len(thresholds.get(f.name, ()))
    }
    if not near:
        return picked(base, range(0))
    random = np.random.default_rng(_SEED)
    rows = picked(base, range(count))
    alone = random.choice(sorted(near), size=count)
    everywhere = random.random(count) < 0.5
    for feature in signature.features:
        column = column_of(rows, feature)
        if feature.name in near and column is not None:
            values = random.choice(near[feature.name], size=count)
            moved = everywhere | (alone == feature.name)
            column[:] = np.where(moved, values, column)
    return rows


def _beside(values: Array) -> Array:
    """Return the values and their neighbours in single and in double precision."""
    single = values.astype(np.float32)
    far = np.float32(np.inf)
    return np.concatenate(
        [
            values,
            np.nextafter(values, np.inf),
            np.nextafter(values, -np.inf),
            single.astype(np.float64),
            np.nextafter(single, far).astype(np.float64),
            np.nextafter(single, -far).astype(np.float64),
        ]
    )
