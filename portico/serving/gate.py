"""A model's bounded queue: how many rows may run and wait, and how many runs there are at once."""

from __future__ import annotations

from collections import deque
from threading import TIMEOUT_MAX, Lock
from typing import TYPE_CHECKING

from portico.serving.errors import DeadlineExceeded, InvalidInput, QueueFull

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from portico.serving.card import LimitsCard


class Gate:
    """Admits rows as long as there is room, and lets a few runs through at a time, in order.

    What does not fit is refused at once: a caller that must wait longer than it can use the
    answer for is better told so.

    Args:
        limits: of the model.
        concurrency: runs at once, where ``limits`` leaves it open.
        waiting: shows the rows that wait for their turn.
    """

    __slots__ = (
        "_concurrency",
        "_deadline",
        "_limit",
        "_lock",
        "_queue",
        "_running",
        "_waiting",
        "rows",
    )

    def __init__(self, limits: LimitsCard, concurrency: int, waiting: Gauge) -> None:
        self._limit = limits.queue_rows
        self._deadline = min(limits.deadline, TIMEOUT_MAX)
        self._concurrency = limits.concurrency or concurrency
        self._lock = Lock()
        self._queue: deque[Lock] = deque()
        self._running = 0
        self._waiting = waiting
        self.rows = 0
        """Rows that run or wait now."""

    def enter(self, rows: int) -> None:
        """Take a turn for ``rows``, waiting for it when all are taken.

        Raises:
            InvalidInput: more rows than the queue ever holds.
            QueueFull: no room now.
            DeadlineExceeded: no turn came in time.
        """
        with self._lock:
            if self.rows + rows > self._limit:
                self._refuse(rows)
            self.rows += rows
            if self._running < self._concurrency:
                self._running += 1
                return
            turn = Lock()
            turn.acquire()
            self._queue.append(turn)
            self._waiting.inc(rows)
        self._wait(turn, rows)

    def leave(self, rows: int) -> None:
        """Give the turn to who waits longest, or back."""
        with self._lock:
            self.rows -= rows
            if self._queue:
                self._queue.popleft().release()
            else:
                self._running -= 1

    def _refuse(self, rows: int) -> None:
        if rows > self._limit:
            raise InvalidInput.at(
                "inputs", f"hold {rows} rows; this model takes at most {self._limit} at once"
            )
        raise QueueFull(f"the model's queue is full ({self.rows} rows); try again in a moment")

    def _wait(self, turn: Lock, rows: int) -> None:
        came = turn.acquire(timeout=self._deadline)
        with self._lock:
            self._waiting.dec(rows)
            # A turn that came between the end of the wait and here is taken all the same.
            if not came and turn in self._queue:
                self._queue.remove(turn)
                self.rows -= rows
                raise DeadlineExceeded(f"no turn came within {self._deadline:g} seconds")
