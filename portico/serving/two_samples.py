"""Statistics of two samples that are known by their counts in common bins.

Written by hand because SciPy would cost a serving process 100 MB and a second; the tests hold
these functions against it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from portico.serving.tensors import Array

_SMALLEST: Final = 1e-16
"""Terms of a series below it change nothing any more."""


class Comparison(NamedTuple):
    """A statistic, and how likely one as large is where both samples are of one distribution."""

    statistic: float
    p: float


def psi(before: Array, now: Array) -> float:
    """Return the population stability index, 0 where the shares of the bins are the same.

    Half a row is added to each bin, so that an empty one gives a finite number.

    Source: B. Yurdakul, J. Naranjo, "Statistical properties of the population stability index",
    Journal of Risk Model Validation 14 (4), 2020.

    Args:
        before: rows in each bin.
        now: the same of the other sample.
    """
    first = (before + 0.5) / (before.sum() + 0.5 * len(before))
    second = (now + 0.5) / (now.sum() + 0.5 * len(now))
    return float(((second - first) * np.log(second / first)).sum())


def kolmogorov_smirnov(before: Array, now: Array) -> Comparison:
    """Compare two samples of numbers by the largest distance of their distribution functions.

    The distance is looked at where the bins end, so it is at most the one of the rows themselves
    and the test rather misses a difference than invents one. The probability is asymptotic.

    Source: M. A. Stephens, "Use of the Kolmogorov-Smirnov, Cramér-von Mises and related statistics
    without extensive tables", J. Royal Statistical Society B 32 (1), 1970.

    Args:
        before: rows in each bin, in the order of the numbers; at least one row.
        now: the same of the other sample.
    """
    n, m = int(before.sum()), int(now.sum())
    distance = float(np.abs(before.cumsum() / n - now.cumsum() / m).max())
    root = math.sqrt(n * m / (n + m))
    return Comparison(distance, _kolmogorov((root + 0.12 + 0.11 / root) * distance))


def chi_square(before: Array, now: Array) -> Comparison:
    """Compare two samples of categories by Pearson's test of homogeneity.

    Args:
        before: rows in each category; at least one row.
        now: the same of the other sample.
    """
    table = np.array([before, now], dtype=np.float64)
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return Comparison(statistic, _chi_square_tail(statistic, table.shape[1] - 1))


def _kolmogorov(x: float) -> float:
    """Return how likely the limit of Kolmogorov's statistic is above ``x``."""
    if x < 0.2:  # The series converges slowly there, and to 1 within 12 digits.
        return 1.0
    total, sign = 0.0, 1.0
    for j in range(1, 101):
        term = math.exp(-2 * j * j * x * x)
        total += sign * term
        sign = -sign
        if term < _SMALLEST:
            break
    return min(1.0, max(0.0, 2 * total))


def _chi_square_tail(x: float, degrees: int) -> float:
    """Return how likely chi-square with ``degrees`` of freedom is above ``x``.

    Source: M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 26.4.4 and 26.4.5.
    """
    if degrees < 1:
        return 1.0
    half = x / 2
    if degrees % 2:
        total = math.erfc(math.sqrt(half))
        term = math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
        first = 1.5
    else:
        total, term, first = 0.0, math.exp(-half), 1.0
    for step in range(degrees // 2):
        total += term
        term *= half / (first + step)
    return min(1.0, total)
