"""What is counted together is counted whole, in a worker's slot and without one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from middleware.slot_values import SlotFiles
from middleware.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUNDS = (0.1, 0.5, 1.0)


@pytest.fixture(params=["slot", "process"])
def tally(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tally]:
    if request.param == "process":
        yield Tally.of_process()
        return
    files = SlotFiles(tmp_path, "0")
    before = values.ValueClass
    values.ValueClass = files.value_class()
    yield Tally.of_process()
    values.ValueClass = before
    files.close()


def test_a_counter_a_gauge_and_a_histogram_move_in_one_go(tally: Tally) -> None:
    registry = CollectorRegistry()
    count = tally.adder(Counter("hits_total", "h", registry=registry))
    gauge = tally.adder(Gauge("busy", "h", registry=registry, multiprocess_mode="livesum"))
    observe = tally.observer(Histogram("took", "h", buckets=BOUNDS, registry=registry))

    def work(seconds: float) -> None:
        count(1.0)
        gauge(-2.0)
        observe(seconds)

    tally.together(work, 0.25)
    tally.together(work, 0.75)
    assert registry.get_sample_value("hits_total") == 2
    assert registry.get_sample_value("busy") == -4
    assert registry.get_sample_value("took_sum") == 1.0
    assert registry.get_sample_value("took_bucket", {"le": "0.5"}) == 1
    assert registry.get_sample_value("took_count") == 2


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.1000001, 0.5, 0.9, 1.0, 7.0, math.inf])
def test_a_value_falls_into_the_bucket_that_prometheus_client_chooses(
    tally: Tally, amount: float
) -> None:
    registry = CollectorRegistry()
    ours = Histogram("ours", "h", buckets=BOUNDS, registry=registry)
    theirs = Histogram("theirs", "h", buckets=BOUNDS, registry=registry)
    tally.together(tally.observer(ours), amount)
    theirs.observe(amount)
    for bound in ("0.1", "0.5", "1.0", "+Inf"):
        labels = {"le": bound}
        assert registry.get_sample_value("ours_bucket", labels) == registry.get_sample_value(
            "theirs_bucket", labels
        )


def test_work_that_fails_leaves_the_next_one_its_turn(tally: Tally) -> None:
    counter = Counter("hits_total", "h", registry=None)
    with pytest.raises(ZeroDivisionError):
        tally.together(lambda zero: print(1 / zero), 0)
    tally.together(tally.adder(counter), 1.0)
    assert counter._value.get() == 1.0
