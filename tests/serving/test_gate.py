"""The gate: what fits is admitted, what waits gets its turn in order, what does not fit is told."""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Gauge

from portico.serving.card import LimitsCard
from portico.serving.errors import DeadlineExceeded, InvalidInput, QueueFull
from portico.serving.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable


def gauge() -> Gauge:
    return Gauge("waiting", "Rows.", registry=None)


def value(waiting: Gauge) -> float:
    return float(waiting._value.get())


def gate_of(
    queue_rows: int = 4096,
    concurrency: int = 1,
    deadline: float = 30.0,
    waiting: Gauge | None = None,
) -> Gate:
    limits = LimitsCard(queue_rows=queue_rows, concurrency=concurrency, deadline=deadline)
    return Gate(limits, 8, waiting or gauge())


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it never came to that"
        sleep(0.001)


def enter_later(gate: Gate, rows: int, then: Callable[[], None]) -> threading.Thread:
    def enter() -> None:
        gate.enter(rows)
        then()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread


def test_rows_that_run_and_wait_are_counted() -> None:
    gate = gate_of(concurrency=2)
    gate.enter(3)
    gate.enter(4)
    assert gate.rows == 7
    gate.leave(3)
    assert gate.rows == 4
    gate.leave(4)
    assert gate.rows == 0


def test_more_rows_than_the_queue_ever_holds_are_the_clients_mistake() -> None:
    gate = gate_of(queue_rows=10)
    with pytest.raises(InvalidInput, match="hold 11 rows; this model takes at most 10"):
        gate.enter(11)
    assert gate.rows == 0


def test_the_queue_takes_rows_up_to_its_last_place_and_no_more() -> None:
    gate = gate_of(queue_rows=10, concurrency=2)
    gate.enter(6)
    with pytest.raises(QueueFull, match="6 rows") as caught:
        gate.enter(5)
    assert caught.value.retry_after == 1
    assert gate.rows == 6
    gate.enter(4)
    gate.leave(4)
    gate.leave(6)
    gate.enter(10)
    assert gate.rows == 10


def test_who_gets_no_turn_in_time_leaves_nothing_behind() -> None:
    waiting = gauge()
    gate = gate_of(deadline=0.05, waiting=waiting)
    gate.enter(1)
    begin = monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 seconds"):
        gate.enter(7)
    assert 0.04 < monotonic() - begin < 1
    assert (gate.rows, value(waiting)) == (1, 0)
    gate.leave(1)
    gate.enter(1)


def test_a_deadline_may_be_for_ever() -> None:
    waiting = gauge()
    gate = gate_of(deadline=float("inf"), waiting=waiting)
    gate.enter(1)
    done = threading.Event()
    enter_later(gate, 1, done.set)
    until(lambda: value(waiting) == 1)
    gate.leave(1)
    assert done.wait(5)


def test_a_request_of_no_rows_gets_its_turn_as_well() -> None:
    waiting = gauge()
    gate = gate_of(waiting=waiting)
    gate.enter(1)
    done = threading.Event()
    enter_later(gate, 0, done.set)
    until(lambda: len(gate._queue) == 1)
    gate.leave(1)
    assert done.wait(5)


def test_the_card_goes_before_the_number_of_threads() -> None:
    limits = LimitsCard(concurrency=None, deadline=0.01)
    gate = Gate(limits, 2, gauge())
    gate.enter(1)
    gate.enter(1)
    with pytest.raises(DeadlineExceeded):
        gate.enter(1)


def test_the_metric_shows_the_rows_that_wait_and_not_those_that_run() -> None:
    waiting = gauge()
    gate = gate_of(waiting=waiting)
    gate.enter(5)
    assert value(waiting) == 0
    done = threading.Event()
    enter_later(gate, 3, done.set)
    until(lambda: value(waiting) == 3)
    gate.leave(5)
    assert done.wait(5)
    assert (gate.rows, value(waiting)) == (3, 0)


def test_turns_are_given_in_the_order_of_arrival() -> None:
    waiting = gauge()
    gate = gate_of(waiting=waiting)
    gate.enter(1)
    order: list[int] = []

    def take(number: int) -> Callable[[], None]:
        def then() -> None:
            order.append(number)
            gate.leave(1)

        return then

    threads = []
    for number in range(8):
        threads.append(enter_later(gate, 1, take(number)))
        until(lambda number=number: value(waiting) == number + 1)  # type: ignore[misc]
    gate.leave(1)
    for thread in threads:
        thread.join(5)
    assert order == list(range(8))


def test_who_comes_late_does_not_overtake_who_waits() -> None:
    waiting = gauge()
    gate = gate_of(deadline=5, waiting=waiting)
    gate.enter(1)
    turns: list[str] = []
    first = enter_later(gate, 1, lambda: turns.append("first"))
    until(lambda: value(waiting) == 1)
    # The turn is free for no moment in which this thread, which is awake, could take it again.
    gate.leave(1)
    late = enter_later(gate, 1, lambda: turns.append("late"))
    first.join(5)
    assert turns == ["first"]
    gate.leave(1)
    late.join(5)
    assert turns == ["first", "late"]


@settings(max_examples=6, deadline=None)
@given(
    concurrency=st.integers(1, 4),
    queue_rows=st.integers(4, 40),
    rows=st.lists(st.integers(0, 4), min_size=8, max_size=16),
    deadline=st.sampled_from([0.0005, 0.003, 30.0]),
)
def test_no_turn_is_lost_and_none_is_given_twice(
    concurrency: int, queue_rows: int, rows: list[int], deadline: float
) -> None:
    """With deadlines as long as the runs, giving up and being called fall together often."""
    waiting = gauge()
    gate = gate_of(queue_rows, concurrency, deadline, waiting)
    running, most, refused = 0, 0, 0
    lock = threading.Lock()

    def work(size: int) -> None:
        nonlocal running, most, refused
        for _ in range(10):
            try:
                gate.enter(size)
            except (QueueFull, DeadlineExceeded):
                with lock:
                    refused += 1
                continue
            with lock:
                running += 1
                most = max(most, running)
            sleep(0.0003)
            with lock:
                running -= 1
            gate.leave(size)

    threads = [threading.Thread(target=work, args=(size,), daemon=True) for size in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "somebody still waits for a turn"
    assert most <= concurrency
    assert (gate.rows, value(waiting)) == (0, 0)
    if deadline == 30.0 and sum(rows) <= queue_rows:
        assert refused == 0
    # Every turn is there again.
    for _ in range(concurrency):
        gate.enter(1)
    assert gate.rows == concurrency


def test_a_call_that_comes_just_as_somebody_gives_up_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The turn is given back between the end of the wait and the look at what came of it."""
    gate = gate_of(deadline=0.05)
    gate.enter(1)

    class Slow:
        """A lock whose timed wait ends without it, just when somebody gives it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            got = self._lock.acquire(blocking, timeout)
            if timeout > 0 and not got:
                gate.leave(1)
            return got

        def release(self) -> None:
            self._lock.release()

    monkeypatch.setattr("portico.serving.gate.Lock", Slow)
    gate.enter(2)  # It was called in the last moment: the turn is taken, not dropped.
    assert gate.rows == 2
    gate.leave(2)
    gate.enter(1)
