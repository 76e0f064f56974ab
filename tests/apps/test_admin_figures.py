from __future__ import annotations

import os
import re
from math import inf
from typing import TYPE_CHECKING

import pytest
from counted import count
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from apps.admin import plots, words
from apps.admin.history import EVERY, SPAN, History
from apps.admin.overview import cards, model_rows
from apps.admin.reading import Reading, between, quantile, rate, read
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


class Clock:
    now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, {0.1: 10, 1.0: 10, inf: 10}, 0.05),
        (0.99, {0.1: 0, 1.0: 100, inf: 100}, 0.991),
        (0.5, {0.1: 50, 1.0: 100, inf: 100}, 0.1),
        (0.99, {0.1: 50, 1.0: 90, inf: 100}, 1.0),
        (0.5, {0.1: 0, inf: 0}, None),
        (0.5, {0.1: 0, inf: 5}, 0.1),
    ],
)
def test_quantiles_are_those_of_prometheus(
    q: float, buckets: dict[float, float], expected: float | None
) -> None:
    assert quantile(q, buckets) == pytest.approx(expected)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=12),
    st.floats(0, 1, allow_nan=False),
    st.floats(0, 1, allow_nan=False),
)
def test_quantiles_never_fall(counts: list[int], a: float, b: float) -> None:
    total, buckets = 0, {}
    for number, amount in enumerate(counts):
        total += amount
        buckets[number + 1.0] = float(total)
    buckets[inf] = float(total)
    low, high = quantile(min(a, b), buckets), quantile(max(a, b), buckets)
    assert (low is None) == (high is None) == (total == 0)
    if low is not None and high is not None:
        assert 0 <= low <= high + 1e-9 <= len(counts) + 1e-9


def test_a_total_that_was_reset_is_no_negative_rate() -> None:
    assert rate(3, 10, 5) == 0
    assert rate(20, 10, 5) == 2
    assert rate(20, 10, 0) == 0
    assert between({1.0: 3}, {1.0: 10}) == {1.0: 0}


def test_what_is_read_is_added_up() -> None:
    registry = CollectorRegistry()
    metrics = PredictionMetrics(registry)
    for version in ("1", "2"):
        meter = metrics.meter("iris", version)
        count(meter)
        count(meter, "failed", run=0.003, queue=5.0)
        meter.waiting.inc(3)
    reading = read(registry.collect(), 1.0)
    iris = reading.models["iris"]
    assert iris.predictions == 2
    assert iris.outcomes["failed"] == 2
    assert iris.queued == 6
    assert iris.run[inf] == 2
    assert iris.run[0.001] == 0


class TestHistory:
    def test_it_remembers_a_quarter_of_an_hour_and_this_moment(self) -> None:
        clock = Clock()
        history = History(CollectorRegistry().collect, clock=clock)
        for _ in range(400):
            history.sample()
            clock.now += EVERY
        readings = history.readings()
        assert readings[-1].at == clock.now
        assert readings[-1].at - readings[0].at == SPAN
        assert len(readings) == SPAN / EVERY + 1

    def test_looking_does_not_make_it_forget_sooner(self) -> None:
        clock = Clock()
        history = History(CollectorRegistry().collect, clock=clock)
        for _ in range(100):
            history.sample()
            clock.now += EVERY
            for _ in range(20):
                history.readings()
        assert len(history.readings()) == 101

    def test_it_goes_on_after_a_failure(self) -> None:
        tries: Iterator[bool] = iter([True, False])

        def collect() -> list[Metric]:
            if next(tries):
                raise ValueError("half a file")
            return []

        history = History(collect, clock=Clock())
        history.sample()
        assert len(history.readings()) == 1

    def test_each_process_starts_one_thread_of_its_own(self) -> None:
        registry = CollectorRegistry()
        history = History(registry.collect)
        history.start()
        history.start()
        assert len(history._readings) == 1
        child = os.fork()
        if child == 0:
            history.start()
            os._exit(0 if len(history._readings) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _readings(*totals: float) -> list[Reading]:
    """Return a reading every five seconds with these totals of requests, each taking 3 ms."""
    return [
        Reading(
            at=number * EVERY,
            requests=total,
            durations={0.001: 0.0, 0.005: total, inf: total},
        )
        for number, total in enumerate(totals)
    ]


def test_figures_are_averages_of_the_last_minute() -> None:
    requests, errors, latency, _ = cards(_readings(*range(0, 2000, 10)))
    assert requests.value == "2"
    assert errors.value == "0"
    assert not errors.is_bad
    assert latency.value == "3 ms"
    assert "99 of 100 within 4.96 ms" in latency.note


def test_one_reading_is_enough() -> None:
    requests, _, latency, in_progress = cards(_readings(5))
    assert (requests.value, latency.value, in_progress.value) == ("0", words.UNKNOWN, "0")
    assert requests.plot.lines == ("",)


def test_server_errors_stand_out() -> None:
    readings = _readings(0, 10)
    readings[-1].errors = 1
    assert cards(readings)[1].is_bad


def test_models_without_a_prediction_are_listed_and_models_gone_are_kept() -> None:
    readings = _readings(0, 1)
    readings[-1].models["gone"].outcomes["ok"] = 5
    rows = model_rows(readings, ["iris", "digits"])
    assert [row.name for row in rows] == ["iris", "digits", "gone"]
    assert [row.predictions for row in rows] == ["0", "0", "5"]
    assert rows[0].p50 == words.UNKNOWN


def test_a_line_breaks_where_nothing_is_known() -> None:
    line = plots.line([(10, 1.0), (5, None), (0, 2.0)], 10, 2.0)
    assert line == "M0.0 30.0h.01M300.0 3.0h.01"


def test_a_flat_line_at_nothing_lies_on_the_ground() -> None:
    assert plots.line([(10, 0.0), (0, 0.0)], 10, 0.0) == "M0.0 57.0L300.0 57.0"


@given(
    st.lists(
        st.tuples(st.floats(0, 1000), st.one_of(st.none(), st.floats(0, 1e12, allow_nan=False)))
    )
)
def test_plots_stay_in_their_box(points: list[tuple[float, float | None]]) -> None:
    top = plots.top_of(points)
    text = plots.line(points, 900, top) + plots.area(points, 900, top)
    for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", text):
        assert 0 <= float(x) <= plots.WIDTH
        assert 0 <= float(y) <= plots.HEIGHT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, words.UNKNOWN),
        (0.0000456, "46 µs"),
        (0.00321, "3.21 ms"),
        (0.1, "100 ms"),
        (12.345, "12.35 s"),
    ],
)
def test_times_read_well(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001, "< 0.01"), (0.1234, "0.123"), (12.345, "12.3"), (5432.1, "5,432")],
)
def test_rates_read_well(value: float, text: str) -> None:
    assert words.per_second(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (5, "5 s"), (65, "1 min 5 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_ages_read_well(seconds: float, text: str) -> None:
    assert words.age(1000.0, 1000.0 + seconds) == text
