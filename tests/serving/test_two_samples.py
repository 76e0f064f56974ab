"""The hand-written statistics, held against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from portico.serving.two_samples import Comparison, chi_square, kolmogorov_smirnov, psi

COUNTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=40)


def _columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    before, now = np.array(pairs, dtype=np.int64).T
    # At least one row in each sample, in bins of their own where there is none.
    before[0] += 1
    now[-1] += 1
    return before, now


@given(COUNTS)
def test_chi_square_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    before, now = _columns(pairs)
    table = np.array([before, now])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] == 1:
        assert chi_square(before, now).p == 1
        return
    expected = stats.chi2_contingency(table, correction=False)
    assert chi_square(before, now) == pytest.approx(
        (expected.statistic, expected.pvalue), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 50, 200])
@pytest.mark.parametrize("factor", [0.1, 0.9, 1.0, 1.3, 3.0])
def test_tail_of_chi_square_is_that_of_scipy(degrees: int, factor: float) -> None:
    from portico.serving.two_samples import _chi_square_tail

    x = degrees * factor
    assert _chi_square_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9)


@given(COUNTS)
def test_kolmogorov_smirnov_is_that_of_scipy_on_the_numbers_of_the_bins(
    pairs: list[tuple[int, int]],
) -> None:
    before, now = _columns(pairs)
    before[0] += 60  # SciPy's asymptotic way does not take a few rows.
    now[-1] += 60
    numbers = np.arange(len(before))
    found = kolmogorov_smirnov(before, now)
    expected = stats.ks_2samp(np.repeat(numbers, before), np.repeat(numbers, now), method="asymp")
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, rel=0.15, abs=0.01)


def test_samples_of_one_distribution_are_rarely_called_different() -> None:
    generator = np.random.default_rng(0)
    share = np.full(10, 0.1)
    tests: list[Comparison] = []
    for _ in range(400):
        before, now = generator.multinomial(1000, share), generator.multinomial(300, share)
        tests.append(chi_square(before, now))
        assert kolmogorov_smirnov(before, now).p > 1e-5
    assert 0.02 < np.mean([test.p < 0.05 for test in tests]) < 0.09


def test_psi_of_equal_shares_is_nothing_and_of_other_shares_what_the_formula_gives() -> None:
    assert psi(np.array([50, 50]), np.array([500, 500])) == pytest.approx(0, abs=1e-6)
    before, now = np.array([900_000, 100_000]), np.array([800_000, 200_000])
    assert psi(before, now) == pytest.approx(0.1 * np.log(2) + 0.1 * np.log(9 / 8), rel=1e-4)


def test_psi_of_an_empty_bin_is_finite() -> None:
    assert 1 < psi(np.array([100, 0]), np.array([0, 100])) < 20
