"""Values in the files of a slot are exact, whoever counts, and prometheus-client reads them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

from middleware.slot_values import SlotFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

THREADS = 8
EACH = 3000


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[SlotFiles]:
    files = SlotFiles(tmp_path, "0")
    before = values.ValueClass
    values.ValueClass = files.value_class()
    yield files
    values.ValueClass = before
    files.close()


def collected(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return {
        s.name + "".join(f"{{{k}={v}}}" for k, v in sorted(s.labels.items())): s.value
        for metric in registry.collect()
        for s in metric.samples
    }


def test_threads_that_count_at_once_lose_nothing(slot: SlotFiles, tmp_path: Path) -> None:
    counter = Counter("hits_total", "h", registry=None)
    histogram = Histogram("took_seconds", "h", registry=None, buckets=(1.0,))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Threads take turns in the middle of everything.
    try:
        run_threads(lambda: (counter.inc(), histogram.observe(0.5)))
    finally:
        sys.setswitchinterval(before)
    read = collected(tmp_path)
    assert read["hits_total"] == THREADS * EACH
    assert read["took_seconds_count"] == THREADS * EACH
    assert read["took_seconds_sum"] == THREADS * EACH * 0.5


def run_threads(work: object) -> None:
    def repeat() -> None:
        for _ in range(EACH):
            work()  # type: ignore[operator]

    threads = [threading.Thread(target=repeat) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_new_series_made_while_others_count_lose_nothing(slot: SlotFiles, tmp_path: Path) -> None:
    counter = Counter("hits_total", "h" * 200, ["route"], registry=None)
    counted = threading.Event()

    def make_series() -> None:
        for number in range(3000):  # More than the first mapping of a file holds.
            counter.labels(str(number)).inc()
        counted.set()

    maker = threading.Thread(target=make_series)
    maker.start()
    busy = counter.labels("busy")
    total = 0
    while not counted.is_set() or total < EACH:
        busy.inc()
        total += 1
    maker.join()
    read = collected(tmp_path)
    assert read["hits_total{route=busy}"] == total
    assert sum(read.values()) == total + 3000


def test_the_next_worker_in_a_slot_goes_on_from_its_values(slot: SlotFiles, tmp_path: Path) -> None:
    Counter("hits_total", "h", registry=None).inc(3)
    successor = SlotFiles(tmp_path, "0")
    values.ValueClass = successor.value_class()
    Counter("hits_total", "h", registry=None).inc(4)
    successor.close()
    assert collected(tmp_path)["hits_total"] == 7


def test_values_made_before_a_fork_go_on_in_the_slot_of_the_child(
    slot: SlotFiles, tmp_path: Path
) -> None:
    counter = Counter("hits_total", "h", registry=None)
    counter.inc(2)
    slot.move("1")
    assert counter._value.get() == 0
    counter.inc(5)
    assert collected(tmp_path)["hits_total"] == 7
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_0.db", "counter_1.db"]


def test_a_gauge_can_be_set_after_and_before_it_is_changed(slot: SlotFiles, tmp_path: Path) -> None:
    gauge = Gauge("rows", "h", registry=None, multiprocess_mode="livesum")
    gauge.inc(5)
    gauge.set(2)
    gauge.dec()
    assert gauge._value.get() == 1
    assert collected(tmp_path)["rows"] == 1
