"""The batcher: a lone request runs at once, what waits runs together, and nobody is forgotten."""

from __future__ import annotations

import socket
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from portico.serving import batcher as module
from portico.serving.batcher import Batcher
from portico.serving.card import BatchingCard, LimitsCard, ModelCard
from portico.serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelRefused,
    QueueFull,
    ServingError,
)
from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.signature import Signature, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.tensors import Tensors


class Doubler:
    """Doubles its rows and gives their sums; refuses -1, exits at -2, is slow at -3."""

    platform = "test_doubler"
    concurrency: int | None = 1

    def __init__(self, shape: tuple[int, ...] = (-1, 2), seconds: float = 0.0) -> None:
        spec = TensorSpec("x", Datatype.FP32, shape)
        outputs = (TensorSpec("y", Datatype.FP32, shape), TensorSpec("sum", Datatype.FP32, (-1,)))
        self.signature = Signature((spec,), outputs, features_of([spec]))
        self.seconds = seconds
        self.runs: list[Any] = []
        """First elements of the rows of each run, and the outputs that were asked for."""
        self.now = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self._lock = threading.Lock()

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        x = inputs["x"]
        with self._lock:
            self.runs.append((x[:, 0].tolist(), outputs))
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            assert self.go.wait(20)
            sleep(1.5 if (x == -3).any() else self.seconds)
            if (x == -1).any():
                raise ModelRefused.at("x", "holds -1")
            if (x == -2).any():
                raise SystemExit(3)
        finally:
            with self._lock:
                self.now -= 1
        results = {"y": x * 2, "sum": x.sum(axis=1)}
        return {name: results[name] for name in outputs or ("y", "sum")}

    def close(self) -> None:
        """Nothing is held."""

    @property
    def batches(self) -> list[list[float]]:
        return [first for first, _ in self.runs]


class Bench:
    """A batcher around a runtime, and threads that ask it."""

    def __init__(
        self,
        runtime: Doubler | None = None,
        *,
        batches: bool = True,
        threads: int = 64,
        max_rows: int = 8,
        **limits: Any,
    ) -> None:
        self.runtime = runtime or Doubler()
        registry = CollectorRegistry()
        self._registry = registry
        card = ModelCard(limits=LimitsCard(**limits), batching=BatchingCard(max_rows=max_rows))
        meter = PredictionMetrics(registry).meter("m", "1")
        self.batcher = Batcher(self.runtime, card, meter, batches=batches, threads=threads)
        self.threads: list[threading.Thread] = []

    def metric(self, name: str) -> float:
        return self._registry.get_sample_value(name, {"model": "m"}) or 0.0

    def ask(
        self, x: Any, outputs: tuple[str, ...] | None = None, **facts: Any
    ) -> tuple[Tensors, Prediction]:
        array = np.array(x, np.float32)
        prediction = Prediction("m", "1", "")
        for name, fact in facts.items():
            setattr(prediction, name, fact)
        return self.batcher.run(prediction, {"x": array}, len(array), outputs), prediction

    def later(self, x: Any, outputs: tuple[str, ...] | None = None, **facts: Any) -> Asked:
        """Ask in a thread of its own, and return once that waits or runs."""
        asked = Asked(lambda: self.ask(x, outputs, **facts))
        before = self.metric("portico_queue_rows"), len(self.runtime.runs)
        asked.start()
        until(
            lambda: (
                before != (self.metric("portico_queue_rows"), len(self.runtime.runs))
                or not asked.is_alive()
            )
        )
        return asked

    def hold(self) -> Asked:
        """Occupy the model with a row of 100 until `go` is set."""
        self.runtime.go.clear()
        return self.later([[100, 0]])

    def is_idle(self) -> bool:
        """Tell whether every slot is free and nobody is in line."""
        batcher = self.batcher
        return (
            len(batcher._free) == batcher.concurrency
            and not batcher._line
            and batcher.waiting_rows == 0
            and self.metric("portico_queue_rows") == 0
        )


class Asked(threading.Thread):
    """A request on its way, and what became of it."""

    def __init__(self, ask: Callable[[], tuple[Tensors, Prediction]]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._answer: tuple[Tensors, Prediction] | None = None
        self.error: BaseException | None = None
        self.end = 0.0

    def run(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:
            self.error = error
        self.end = monotonic()

    def answer(self) -> tuple[Tensors, Prediction]:
        self.join(20)
        assert not self.is_alive(), "it still waits"
        if self.error:
            raise self.error
        assert self._answer
        return self._answer


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it never came to that"
        sleep(0.001)


# One request by itself.


def test_a_lone_request_runs_at_once_in_its_own_thread() -> None:
    bench = Bench()
    answer, prediction = bench.ask([[1, 2], [3, 4]])
    assert answer["y"].tolist() == [[2, 4], [6, 8]]
    assert (prediction.queue, prediction.batch_rows) == (0.0, 2)
    assert prediction.run > 0
    assert bench.is_idle()
    assert bench.metric("portico_batch_rows_sum") == 2


def test_slots_are_used_before_anybody_waits() -> None:
    bench = Bench(concurrency=3)
    bench.runtime.go.clear()
    asked = [bench.later([[n, 0]]) for n in range(3)]
    until(lambda: bench.runtime.now == 3)
    assert bench.metric("portico_queue_rows") == 0
    bench.runtime.go.set()
    assert all(each.answer()[1].batch_rows == 1 for each in asked)
    assert bench.is_idle()


@pytest.mark.parametrize(
    ("own", "threads", "card", "expected"),
    [(None, 8, None, 7), (None, 1, None, 1), (1, 8, None, 1), (4, 3, None, 2), (1, 8, 5, 5)],
)
def test_the_runtime_says_how_many_runs_make_sense_and_the_card_goes_before_it(
    own: int | None, threads: int, card: int | None, expected: int
) -> None:
    runtime = Doubler()
    runtime.concurrency = own
    assert Bench(runtime, threads=threads, concurrency=card).batcher.concurrency == expected


# Rows that gather.


def test_what_waits_runs_together_in_order_and_each_gets_its_own_rows() -> None:
    bench = Bench()
    first = bench.hold()
    asked = [bench.later([[n, 1]] * (n % 3 + 1)) for n in range(4)]
    assert bench.metric("portico_queue_rows") == 7
    bench.runtime.go.set()
    first.answer()
    for n, each in enumerate(asked):
        answer, prediction = each.answer()
        assert answer["y"].tolist() == [[2 * n, 2]] * (n % 3 + 1)
        assert answer["sum"].tolist() == [n + 1] * (n % 3 + 1)
        assert prediction.batch_rows == 7
        assert prediction.queue > 0
    assert bench.runtime.batches == [[100], [0, 1, 1, 2, 2, 2, 3]]
    assert bench.metric("portico_batch_rows_count") == 2
    assert bench.is_idle()


def test_a_batch_holds_whole_requests_as_long_as_they_fit() -> None:
    bench = Bench(max_rows=4)
    bench.hold()
    asked = [bench.later([[n, 0]] * rows) for n, rows in enumerate((3, 2, 1, 9, 1, 3))]
    bench.runtime.go.set()
    for each in asked:
        each.answer()
    # The second does not fit beside the first; nine rows are more than a batch holds.
    assert bench.runtime.batches == [[100], [0] * 3, [1, 1, 2, 4], [3] * 9, [5] * 3]


def test_only_rows_of_the_same_shape_run_together() -> None:
    bench = Bench(Doubler((-1, -1)))
    bench.hold()
    wide, narrow = [[1, 1, 1]], [[2, 2]]
    asked = [bench.later(x) for x in (wide, narrow, wide, narrow)]
    bench.runtime.go.set()
    for each in asked:
        each.answer()
    assert bench.runtime.batches == [[100], [1, 1], [2, 2]]


def test_each_gets_the_outputs_that_it_wants() -> None:
    bench = Bench()
    bench.hold()
    wanted = [("y",), ("sum",), ("sum", "y"), ("y",)]
    asked = [bench.later([[n, 0]], outputs) for n, outputs in enumerate(wanted)]
    bench.runtime.go.set()
    for each, outputs in zip(asked, wanted, strict=True):
        assert tuple(each.answer()[0]) == outputs
    assert bench.runtime.runs[1] == ([0, 1, 2, 3], ("y", "sum"))
    bench.hold()
    everything = [bench.later([[0, 0]], ("sum",)), bench.later([[0, 0]])]
    bench.runtime.go.set()
    assert [tuple(each.answer()[0]) for each in everything] == [("sum",), ("y", "sum")]
    assert bench.runtime.runs[-1] == ([0, 0], None)


def test_a_model_that_must_not_batch_runs_one_request_after_the_other() -> None:
    bench = Bench(batches=False)
    bench.hold()
    asked = [bench.later([[n, 0]]) for n in range(3)]
    bench.runtime.go.set()
    for each in asked:
        assert each.answer()[1].batch_rows == 1
    assert bench.runtime.batches == [[100], [0], [1], [2]]


def test_who_has_run_answers_while_the_next_run_goes_on() -> None:
    bench = Bench(max_rows=1)
    bench.runtime.seconds = 0.15
    first, second = bench.later([[1, 0]]), bench.later([[2, 0]])
    second.answer()
    assert second.end - first.end > 0.1


# What goes wrong.


@pytest.mark.parametrize("bad", [{0}, {3}, {7}, {1, 2, 6}, set(range(8))])
def test_a_batch_that_fails_is_split_until_only_the_bad_request_fails(bad: set[int]) -> None:
    bench = Bench()
    bench.hold()
    asked = [bench.later([[-1 if n in bad else n + 1, 0]]) for n in range(8)]
    bench.runtime.go.set()
    for n, each in enumerate(asked):
        if n in bad:
            with pytest.raises(ModelRefused):
                each.answer()
        else:
            assert each.answer()[0]["y"].tolist() == [[2 * n + 2, 0]]
    assert bench.is_idle()
    assert len(bench.runtime.runs) <= 1 + 2 * 8


def test_a_model_that_answers_fewer_rows_than_it_was_asked_is_asked_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    run = bench.runtime.run
    monkeypatch.setattr(bench.runtime, "run", lambda i, o: {n: a[:1] for n, a in run(i, o).items()})
    bench.hold()
    asked = [bench.later([[n, 0]]) for n in range(3)]
    bench.runtime.go.set()
    assert [each.answer()[0]["y"].tolist() for each in asked] == [[[2 * n, 0]] for n in range(3)]


def test_a_model_that_ends_its_thread_leaves_nobody_behind() -> None:
    bench = Bench()
    bench.hold()
    leader, follower = bench.later([[1, 0]]), bench.later([[-2, 0]])
    bench.runtime.go.set()
    with pytest.raises(SystemExit):
        leader.answer()
    with pytest.raises(ModelFailed):
        follower.answer()
    with pytest.raises(SystemExit):
        bench.ask([[-2, 0]])
    assert bench.is_idle()
    bench.ask([[1, 0]])


# Bounds.


def test_more_rows_than_the_queue_ever_holds_are_the_clients_mistake() -> None:
    bench = Bench(queue_rows=10)
    with pytest.raises(InvalidInput, match="hold 11 rows; this model takes at most 10"):
        bench.ask([[0, 0]] * 11)
    assert bench.runtime.runs == []


def test_the_queue_takes_rows_up_to_its_last_place_and_no_more() -> None:
    bench = Bench(queue_rows=5)
    bench.hold()
    asked = [bench.later([[1, 0]] * 3)]
    with pytest.raises(QueueFull, match="3 rows wait") as caught:
        bench.ask([[2, 0]] * 3)
    assert caught.value.retry_after == 1
    asked.append(bench.later([[2, 0]] * 2))
    bench.runtime.go.set()
    for each in asked:
        each.answer()
    assert bench.is_idle()


def test_retry_after_tells_how_long_the_line_takes() -> None:
    bench = Bench(max_rows=2, queue_rows=10)
    bench.runtime.seconds = 0.5
    first, *led = [bench.later([[n, 0]]) for n in range(3)]
    for each in led:
        each.answer()  # Two rows in half a second.
    bench.hold()
    for _ in range(2):
        bench.later([[1, 0]] * 5)
    with pytest.raises(QueueFull) as caught:
        bench.ask([[0, 0]])
    assert caught.value.retry_after == 3
    bench.runtime.go.set()
    first.answer()


def test_who_gets_no_turn_in_time_leaves_nothing_behind() -> None:
    bench = Bench(deadline=0.05)
    first = bench.hold()
    begin = monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no turn came within 0\.05 seconds"):
        bench.ask([[7, 0]])
    assert 0.04 < monotonic() - begin < 2
    assert bench.metric("portico_queue_rows") == 0
    bench.runtime.go.set()
    first.answer()
    assert bench.is_idle()
    assert bench.runtime.batches == [[100]]


def test_a_client_may_give_less_time_than_the_card() -> None:
    bench = Bench(deadline=30)
    bench.hold()
    with pytest.raises(DeadlineExceeded, match=r"0\.02 seconds"):
        bench.ask([[7, 0]], timeout=0.02)
    bench.runtime.go.set()


def test_who_was_taken_along_does_not_wait_for_a_hanging_run_for_ever() -> None:
    bench = Bench(deadline=0.3)
    bench.hold()
    leader, follower = bench.later([[-3, 0]]), bench.later([[2, 0]])
    bench.runtime.go.set()
    with pytest.raises(DeadlineExceeded, match="the run did not end"):
        follower.answer()
    assert leader.is_alive()
    leader.answer()


def test_a_deadline_may_be_for_ever() -> None:
    bench = Bench(deadline=float("inf"))
    bench.hold()
    second = bench.later([[1, 0]])
    bench.runtime.go.set()
    assert second.answer()[0]["y"].tolist() == [[2, 0]]


def test_requests_of_no_rows_get_their_turn() -> None:
    bench = Bench()
    bench.hold()
    asked = Asked(lambda: bench.ask(np.empty((0, 2))))
    asked.start()
    until(lambda: len(bench.batcher._line) == 1)
    bench.runtime.go.set()
    assert asked.answer()[0]["y"].shape == (0, 2)


def test_a_client_that_is_gone_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    bench = Bench()
    first = bench.hold()
    pairs = [socket.socketpair() for _ in range(2)]
    gone, stays = (bench.later([[n + 1, 0]], client=ours) for n, (ours, _) in enumerate(pairs))
    pairs[1][1].send(b"the next request")
    pairs[0][1].close()
    with pytest.raises(Cancelled):
        gone.answer()
    assert bench.metric("portico_queue_rows") == 1
    bench.runtime.go.set()
    first.answer()
    stays.answer()
    assert bench.runtime.batches == [[100], [2]]
    assert pairs[1][0].recv(100) == b"the next request"
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_model_that_hangs_does_not_keep_the_last_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.2)
    bench = Bench(threads=4)
    bench.hold()
    waiting = [bench.later([[n, 0]]) for n in range(2)]
    last = bench.later([[9, 0]])
    assert last.is_alive(), "as long as the model may only be slow, everybody waits"
    with pytest.raises(QueueFull):
        last.answer()
    with pytest.raises(QueueFull):
        bench.ask([[9, 0]])
    assert all(each.is_alive() for each in waiting)
    bench.runtime.go.set()
    for each in waiting:
        each.answer()


# Under stress.


@settings(max_examples=8, deadline=None)
@given(
    concurrency=st.integers(1, 4),
    queue_rows=st.integers(4, 40),
    max_rows=st.integers(1, 8),
    rows=st.lists(st.integers(0, 4), min_size=8, max_size=16),
    deadline=st.sampled_from([0.0005, 0.003, 30.0]),
    seconds=st.sampled_from([0.0, 0.0003, 0.002]),
)
def test_nobody_is_forgotten_and_no_slot_is_lost(
    concurrency: int,
    queue_rows: int,
    max_rows: int,
    rows: list[int],
    deadline: float,
    seconds: float,
) -> None:
    """With deadlines as long as the runs, giving up and being called fall together often."""
    bench = Bench(
        Doubler(seconds=seconds),
        concurrency=concurrency,
        queue_rows=queue_rows,
        max_rows=max_rows,
        deadline=deadline,
        threads=64,
    )
    wrong: list[Any] = []
    refused: list[ServingError] = []

    def work(number: int, size: int) -> None:
        for turn in range(15):
            bad = (number + turn) % 11 == 0 and size > 0
            x = np.full((size, 2), -1 if bad else number * 100 + turn, np.float32)
            try:
                answer, _ = bench.ask(x)
                if bad or not np.array_equal(answer["y"], x * 2):
                    wrong.append((x, answer))
            except (QueueFull, DeadlineExceeded) as error:
                refused.append(error)
            except ModelRefused:
                if not bad:
                    wrong.append(x)

    threads = [
        threading.Thread(target=work, args=(number, size), daemon=True)
        for number, size in enumerate(rows)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "somebody still waits for a turn"
    assert wrong == []
    until(bench.is_idle)
    assert bench.runtime.most <= concurrency
    assert all(
        len(batch) <= max(max_rows, *rows) for batch in bench.runtime.batches if len(batch) > 1
    )
    if deadline == 30.0 and sum(rows) <= queue_rows:
        assert refused == []


def test_thousands_of_requests_leave_no_thread_and_no_slot_behind() -> None:
    before = threading.active_count()
    bench = Bench(Doubler(seconds=0.0002), max_rows=16)
    asked = [0] * 32

    def work(number: int) -> None:
        for turn in range(150):
            x = [[number, turn]]
            assert bench.ask(x)[0]["y"].tolist() == [[2 * number, 2 * turn]]
            asked[number] += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert asked == [150] * 32
    assert threading.active_count() == before
    assert bench.is_idle()
    assert bench.runtime.most == 1
    assert bench.metric("portico_batch_rows_sum") == 32 * 150
    assert len(bench.runtime.runs) < 32 * 150, "rows gathered"
