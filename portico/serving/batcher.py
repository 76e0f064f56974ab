"""Runs requests at once while there is room, and together once there is none.

There is no dispatching thread. A request that finds a free slot runs in its own thread, with
nothing in between. One that finds none waits in line; when a run ends, the first in line becomes
the leader of the next run and takes with it as many of the others as fit, in order. Who has just
run goes on to answer its own client.

A slot is an item of a deque: taking one and giving it back are single operations of the
interpreter, so the free path takes no lock. Nobody is left waiting beside a free slot, because
each side looks once more after its own step: who joined the line tries for a slot, and who gave a
slot back looks at the line.
"""

from __future__ import annotations

import math
from collections import deque
from threading import TIMEOUT_MAX, Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    QueueFull,
)
from portico.serving.hangup import has_hung_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.card import ModelCard
    from portico.serving.metrics import ModelMeter
    from portico.serving.ports import Runtime
    from portico.serving.predictions import Prediction
    from portico.serving.tensors import Tensors

LOOK_SECONDS: Final = 0.25
"""How often somebody who waits looks whether its client is still there."""

SLOW_SECONDS: Final = 2.0
"""A model that began and ended no run for so long may not keep the last thread of its worker."""

MOST_RETRY_SECONDS: Final = 60
"""Nobody is told to come back later than that."""


class Waiting:
    """A request in line, and what becomes of it.

    Attributes:
        together: requests may run together when this is equal; None runs alone.
        turn: released when the request is to lead or has been answered.
        led: the requests that it is to run as the leader, itself the first.
        taken: when it left the line, by ``perf_counter``; 0 while it stands in it.
        is_last: whether it holds the last thread that this model may take when it is slow.
        ran_rows: of the run that answered it.
        seconds: that the run took, with those before it that failed and were split.
    """

    __slots__ = (
        "error", "first", "inputs", "is_last", "led", "outputs", "ran_rows", "result", "rows",
        "seconds", "taken", "together", "turn",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Tensors,
        rows: int,
        outputs: tuple[str, ...] | None,
        together: tuple[Any, ...] | None,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.outputs = outputs
        self.together = together
        self.first = 0
        self.led: list[Waiting] = []
        self.result: Tensors = {}
        self.error: BaseException | None = None
        self.taken = 0.0
        self.is_last = False
        self.ran_rows = 0
        self.seconds = 0.0
        self.turn = Lock()
        self.turn.acquire()

    def answer(self) -> Tensors:
        """Return the own rows of the run's outputs, as far as they were wanted."""
        if self.error is not None:
            raise self.error
        if self.together is None:
            return self.result
        own = slice(self.first, self.first + self.rows)
        return {name: self.result[name][own] for name in self.outputs or self.result}


class Batcher:
    """The slots and the line of one model version.

    Args:
        runtime: runs the model.
        card: limits, and how many rows run together.
        meter: counts runs and shows who waits.
        batches: whether rows of several requests may run together at all.
        threads: that answer requests in this process.
    """

    __slots__ = (
        "_batches", "_concurrency", "_deadline", "_free", "_limit", "_line", "_lock", "_max_rows",
        "_meter", "_most_waiting", "_pace", "_progress", "_runtime", "_varies", "waiting_rows",
    )  # fmt: skip

    def __init__(
        self, runtime: Runtime, card: ModelCard, meter: ModelMeter, *, batches: bool, threads: int
    ) -> None:
        limits, inputs = card.limits, runtime.signature.inputs
        # One thread is left to others, should every run hang.
        most = max(1, threads - 1)
        self._runtime = runtime
        self._meter = meter
        self._batches = batches
        self._max_rows = card.batching.max_rows
        self._limit = limits.queue_rows
        self._deadline = min(limits.deadline, TIMEOUT_MAX)
        self._concurrency = limits.concurrency or min(runtime.concurrency or most, most)
        self._most_waiting = max(0, most - self._concurrency)
        self._varies = any(-1 in spec.shape[1:] for spec in inputs) or len(inputs) > 1
        self._free: deque[None] = deque([None] * self._concurrency)
        self._line: deque[Waiting] = deque()
        self._lock = Lock()
        """Guards the line against two that take from it; whoever runs at once never needs it."""
        self._pace = 0.0
        self._progress = perf_counter()
        self.waiting_rows = 0
        """Rows that stand in line."""

    @property
    def concurrency(self) -> int:
        """Runs at once."""
        return self._concurrency

    def run(
        self, prediction: Prediction, inputs: Tensors, rows: int, outputs: tuple[str, ...] | None
    ) -> Tensors:
        """Run the model on the rows of a request, alone or with those of others.

        Args:
            prediction: its times add up here, and it tells when its client is gone.
            inputs: one array an input.
            rows: in each of them.
            outputs: names wanted, in this order; None for all.

        Raises:
            InvalidInput: more rows than the line ever holds.
            QueueFull: there is no room in line now.
            DeadlineExceeded: no turn came in time.
            Cancelled: the client has gone meanwhile.
            ModelRefused, ModelFailed: as the runtime says.
        """
        if rows > self._limit:
            raise InvalidInput.at(
                "inputs", f"hold {rows} rows; this model takes at most {self._limit} at once"
            )
        free = self._free
        if not self._line:
            try:
                free.pop()
            except IndexError:
                pass
            else:
                self._progress = started = perf_counter()
                try:
                    result = self._runtime.run(inputs, outputs)
                finally:
                    free.append(None)
                    if self._line:
                        self._call_next()
                    self._progress = ended = perf_counter()
                    prediction.run += ended - started
                prediction.batch_rows = rows
                self._meter.rows(rows)
                return result
        own = Waiting(inputs, rows, outputs, self._together(inputs, rows))
        return self._run_in_turn(prediction, own)

    def _together(self, inputs: Tensors, rows: int) -> tuple[Any, ...] | None:
        """Return what must be equal for requests to run together, or None for one that cannot."""
        if not self._batches or not 0 < rows <= self._max_rows:
            return None
        if not self._varies:
            return ()
        if any(len(array) != rows for array in inputs.values()):
            return None
        return tuple(inputs[spec.name].shape[1:] for spec in self._runtime.signature.inputs)

    def _run_in_turn(self, prediction: Prediction, own: Waiting) -> Tensors:
        arrived = perf_counter()
        self._join(own, arrived)
        self._call_next()
        try:
            self._wait(own, arrived, prediction)
            if own.led:
                self._lead(own.led)
        finally:
            prediction.queue += (own.taken or perf_counter()) - arrived
            prediction.run += own.seconds
            prediction.batch_rows = own.ran_rows
        return own.answer()

    def _join(self, own: Waiting, now: float) -> None:
        """Stand in line, if there is room."""
        with self._lock:
            own.is_last = len(self._line) >= self._most_waiting
            if self.waiting_rows + own.rows > self._limit or self._is_stuck(own, now):
                raise self._full(own)
            self._line.append(own)
            self.waiting_rows += own.rows
        self._meter.waiting.inc(own.rows)

    def _is_stuck(self, own: Waiting, now: float) -> bool:
        return own.is_last and now - self._progress > SLOW_SECONDS

    def _full(self, own: Waiting) -> QueueFull:
        rows = self.waiting_rows
        return QueueFull(
            f"the model's queue is full ({rows} rows wait); try again in a moment",
            self._seconds_for(rows + own.rows),
        )

    def _seconds_for(self, rows: int) -> int:
        """Estimate after how many whole seconds so many rows have run, by the last run's pace."""
        if not self._pace:
            return 1
        seconds = rows / (self._pace * self._concurrency)
        return max(1, min(math.ceil(seconds), MOST_RETRY_SECONDS))

    def _call_next(self) -> None:
        """Make the first in line the leader of a run, for as long as there are both."""
        while self._line:
            try:
                self._free.pop()
            except IndexError:
                return  # Who gives the next slot back looks at the line.
            with self._lock:
                batch = self._take()
            if batch:
                batch[0].turn.release()
                self._meter.waiting.dec(sum(each.rows for each in batch))
            else:
                self._free.append(None)

    def _take(self) -> list[Waiting]:
        """Take the first in line and all that may run with it, up to the first that fits no more.

        Those that cannot run with it stay where they are: they are the next to lead.
        """
        if not self._line:
            return []
        batch = [self._line.popleft()]
        together, rows = batch[0].together, batch[0].rows
        if together is not None:
            for other in list(self._line):
                if other.together != together:
                    continue
                if rows + other.rows > self._max_rows:
                    break
                rows += other.rows
                self._line.remove(other)
                batch.append(other)
        now = perf_counter()
        for each in batch:
            each.taken = now
        batch[0].led = batch
        self.waiting_rows -= rows
        return batch

    def _wait(self, own: Waiting, arrived: float, prediction: Prediction) -> None:
        """Wait for the turn and then, where another leads the run, as long again for its end.

        Raises:
            DeadlineExceeded, QueueFull, Cancelled: and the request has left the line.
        """
        seconds = min(self._deadline, prediction.timeout)
        since = arrived
        while not own.turn.acquire(
            timeout=max(0.0, min(since + seconds - perf_counter(), LOOK_SECONDS))
        ):
            if own.led:
                own.turn.acquire()  # It was just being called: nobody else would run its batch.
                return
            now = perf_counter()
            if own.taken > since:
                since = own.taken
            elif now - since >= seconds:
                if self._leave(own):
                    raise DeadlineExceeded(f"no turn came within {seconds:g} seconds")
                if own.taken == since:
                    raise DeadlineExceeded(f"the run did not end within {seconds:g} seconds")
            elif self._is_stuck(own, now) and self._leave(own):
                raise self._full(own)
            elif has_hung_up(prediction.client) and self._leave(own):
                raise Cancelled("the client left before its turn came")

    def _leave(self, own: Waiting) -> bool:
        """Leave the line, or tell that the turn came meanwhile."""
        with self._lock:
            if own.taken:
                return False
            self._line.remove(own)
            self.waiting_rows -= own.rows
        self._meter.waiting.dec(own.rows)
        return True

    def _lead(self, batch: list[Waiting]) -> None:
        """Run a batch. One that fails is split until only the request that is to blame fails."""
        parts = [batch]
        error: Exception | None = None
        try:
            while True:
                part = parts[-1]
                error = self._attempt(part)
                if error is not None and len(part) > 1:
                    half = len(part) // 2
                    parts[-1:] = [part[half:], part[:half]]
                elif len(parts) > 1:
                    _tell(parts.pop(), error)
                else:
                    break
        except BaseException:
            # What ends a thread, such as sys.exit in a model, must leave nobody behind.
            error = ModelFailed("the model failed on this input")
            raise
        finally:
            self._give_back()  # The next run begins before these answers are written.
            for part in parts:
                _tell(part, error)

    def _give_back(self) -> None:
        self._free.append(None)
        self._call_next()

    def _attempt(self, part: Sequence[Waiting]) -> Exception | None:
        """Run a part of a batch and hand out what came of it; return what went wrong, if it did."""
        self._progress = started = perf_counter()
        try:
            rows = self._run_together(part)
        except Exception as error:
            return error
        finally:
            self._progress = ended = perf_counter()
            seconds = ended - started
            for each in part:
                each.seconds += seconds
        self._pace = rows / seconds if seconds else 0.0
        for each in part:
            each.ran_rows = rows
        self._meter.rows(rows)
        return None

    def _run_together(self, part: Sequence[Waiting]) -> int:
        """Run a part of a batch as one, and return its rows."""
        if len(part) == 1:
            own = part[0]
            own.together = None
            own.result = self._runtime.run(own.inputs, own.outputs)
            return own.rows
        rows = 0
        for each in part:
            each.first = rows
            rows += each.rows
        inputs = {
            name: np.concatenate([each.inputs[name] for each in part]) for name in part[0].inputs
        }
        result = self._runtime.run(inputs, _union(part))
        if any(array.shape[:1] != (rows,) for array in result.values()):
            raise ModelFailed("the model did not answer each row of a batch")
        for each in part:
            each.result = result
        return rows


def _union(part: Sequence[Waiting]) -> tuple[str, ...] | None:
    """Return the outputs that any request wants; None for all."""
    wanted: dict[str, None] = {}
    for each in part:
        if each.outputs is None:
            return None
        wanted.update(dict.fromkeys(each.outputs))
    return tuple(wanted)


def _tell(part: Sequence[Waiting], error: BaseException | None) -> None:
    """Let the requests of a part go on: each returns its rows, or raises."""
    for each in part:
        each.error = error
        each.turn.release()
