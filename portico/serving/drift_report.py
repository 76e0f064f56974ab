"""Drift: how far the rows that are served have moved away from the rows of reference."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from portico.serving.two_samples import Comparison, chi_square, kolmogorov_smirnov, psi

if TYPE_CHECKING:
    from portico.serving.drift import Column, Reference
    from portico.serving.tensors import Array

FEWEST_ROWS: Final = 50
"""With fewer rows served nothing is said of drift."""

MODERATE: Final = 0.1
LARGE: Final = 0.25
"""The usual thresholds of the PSI; see docs/drift.md."""

SIGNIFICANT: Final = 0.01
"""Probability below which a difference is no chance, over all columns of a model together."""


class Level(StrEnum):
    """How far a column has moved, in a word."""

    UNKNOWN = "unknown"
    NONE = "none"
    MODERATE = "moderate"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        column: what was watched, with the counts of reference.
        rows: served and counted.
        psi: population stability index; a missing value has a bin of its own.
        test: Kolmogorov and Smirnov's for numbers, chi-square for categories; of rows that have a
            value. None where one side has none.
        strange: share of the rows with a number outside the range of reference, or with a
            category that it does not know.
        missing: share of the rows without a value.
        missing_before: the same in the reference.
        level: large and moderate only where the test says that it is no chance.
        moved: the bins whose share changed most, with the shares before and now.
    """

    column: Column
    rows: int
    psi: float
    test: Comparison | None
    strange: float
    missing: float
    missing_before: float
    level: Level
    moved: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class DriftReport:
    """How far the rows served have moved from those of reference.

    Attributes:
        reference_rows: how many rows of reference there were.
        rows: served and counted.
        columns: one a feature, in the order of the signature.
        prediction: of the answers; None where they are not watched.
    """

    reference_rows: int
    rows: int
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None

    @property
    def watched(self) -> tuple[ColumnDrift, ...]:
        """All columns, the prediction last."""
        return (*self.columns, self.prediction) if self.prediction else self.columns

    @property
    def level(self) -> Level:
        """The worst of all columns."""
        order = list(Level)
        return max((drift.level for drift in self.watched), key=order.index, default=Level.UNKNOWN)


def compare(reference: Reference, counts: Array) -> DriftReport:
    """Say how far rows have moved.

    Args:
        reference: that made the counts.
        counts: what :meth:`Reference.count` returned, added up.
    """
    parts = reference.split(counts)
    drifts = tuple(_drift(column, part, len(parts)) for column, part in parts)
    columns = drifts[: len(reference.columns)]
    return DriftReport(
        reference_rows=reference.rows,
        rows=max((drift.rows for drift in columns), default=0),
        columns=columns,
        prediction=drifts[-1] if reference.prediction else None,
    )


def _drift(column: Column, counts: Array, together: int) -> ColumnDrift:
    """Compare one column of ``together`` ones."""
    before, now = np.array([*column.counts, column.missing]), counts[:-1]
    rows, strange = int(now.sum()), int(counts[-1])
    test: Comparison | None = None
    if before[:-1].sum() and now[:-1].sum():
        compared = kolmogorov_smirnov if column.measure.is_number else chi_square
        test = compared(before[:-1], now[:-1])
    index = psi(before, now)
    # A column may also have moved because its values are missing now, which the test cannot see.
    chances = [test.p if test else 1.0, chi_square(before, now).p if rows else 1.0]
    return ColumnDrift(
        column=column,
        rows=rows,
        psi=index,
        test=test,
        strange=strange / rows if rows else 0.0,
        missing=int(now[-1]) / rows if rows else 0.0,
        missing_before=column.missing / max(1, int(before.sum())),
        level=_level(rows, index, min(chances) * len(chances) * together),
        moved=_moved(column, before, now) if rows else (),
    )


def _level(rows: int, index: float, chance: float) -> Level:
    if rows < FEWEST_ROWS:
        return Level.UNKNOWN
    if index < MODERATE or chance >= SIGNIFICANT:
        return Level.NONE
    return Level.LARGE if index >= LARGE else Level.MODERATE


def _moved(column: Column, before: Array, now: Array) -> tuple[tuple[str, float, float], ...]:
    """Return the three bins whose shares changed most, in words, with both shares."""
    first, second = before / before.sum(), now / now.sum()
    names = [*_bin_names(column), "missing"]
    worst = np.argsort(-np.abs(second - first), kind="stable")[:3]
    return tuple((names[i], float(first[i]), float(second[i])) for i in worst.tolist())


def _bin_names(column: Column) -> list[str]:
    if not column.measure.is_number:
        return [*column.categories, "others"]
    cuts = [f"{cut:.4g}" for cut in column.cuts]
    if not cuts:
        return ["any"]
    between = [f"{low} to {high}" for low, high in pairwise(cuts)]
    return [f"below {cuts[0]}", *between, f"{cuts[-1]} and above"]
