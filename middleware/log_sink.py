"""Write log lines from a background thread, so that no request waits for the log."""

from __future__ import annotations

import os
import threading
from collections import deque
from time import sleep, time
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakSet

from middleware.line_writer import LineWriter
from middleware.log_format import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from middleware.log_format import Event, Render

    Shape = Callable[[tuple[Any, ...]], Event]

# Events are few and matter more than access lines: they have room left when those are dropped.
_RESERVE = 1000
# Lines rendered before others get a turn, about a tenth of a millisecond's work.
_AT_ONCE = 16


class LogSink:
    """A bounded buffer of log lines, and the one thread of the process that writes it out.

    Lines are written whole and in order, at most `interval` seconds after they arrived. When the
    buffer is full (the reader of the stream has stopped) or a write fails (EPIPE, ENOSPC), lines
    are dropped and counted, and the count is a line of its own once writing works again. Nothing
    here ever raises into the caller. A forked child starts with an empty buffer and a thread of
    its own.

    Args:
        stream: Where lines go. A stream with a file descriptor is written to directly, by-passing
            its buffer, which a fork would duplicate.
        render: Turns an event into a line without its line feed.
        interval: Longest wait before lines are written, in seconds.
        batch: Number of waiting lines that are written without waiting for the interval.
        capacity: Number of lines that may wait.
    """

    def __init__(
        self,
        stream: IO[Any],
        render: Render,
        *,
        interval: float = 0.2,
        batch: int = 1000,
        capacity: int = 20_000,
    ) -> None:
        self._writer = LineWriter(stream)
        self._render = render
        self._interval = interval
        self._batch = batch
        self._capacity = capacity
        self._buffer: deque[str | tuple[Shape, tuple[Any, ...]]] = deque()
        self._closed = False
        self._start_afresh()
        _sinks.add(self)

    def _start_afresh(self) -> None:
        """Set up what a fork must not share: locks, events and the thread."""
        self._buffer.clear()
        self._dropped = 0
        self._idle = True
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._awake = threading.Event()
        self._full = threading.Event()

    def defer(self, shape: Shape, values: tuple[Any, ...]) -> None:
        """Keep `values` for a line that the background thread shapes and renders.

        This is the hot path: one append, no lock, no rendering.

        Args:
            shape: Turns the values into an event, later and in another thread.
            values: Immutable facts.
        """
        buffer = self._buffer
        waiting = len(buffer)
        if waiting >= self._capacity:
            self._drop(1)
            return
        buffer.append((shape, values))
        if self._idle:
            self._wake()
        elif waiting == self._batch:
            self._full.set()

    def write(self, line: str) -> None:
        """Keep a rendered line (without line feed) to be written."""
        if len(self._buffer) >= self._capacity + _RESERVE:
            self._drop(1)
            return
        self._buffer.append(line)
        if self._idle:
            self._wake()

    def flush(self) -> None:
        """Write everything that waits, in the calling thread."""
        with self._write_lock:
            lines = list(self._take_lines())
            dropped = self._dropped
            # The report goes first, so it is out if anything is.
            report = [self._line(_dropped_event(dropped))] if dropped else []
            if lines or report:
                written = self._writer.write_lines(report + lines)
                lost = len(report) + len(lines) - written
                self._drop(lost - dropped if written else len(lines))

    def _take_lines(self) -> Iterator[bytes]:
        """Render what waits, and let others run now and then: requests want the interpreter."""
        for number in range(len(self._buffer)):
            if number % _AT_ONCE == _AT_ONCE - 1:
                sleep(0)
            yield self._line(self._buffer.popleft())

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits and stop the thread; later lines are written by whoever logs them.

        Args:
            timeout: Longest wait in seconds for a stream that takes nothing.
        """
        self._closed = True
        self._awake.set()
        self._full.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                return  # The stream is stuck: another writer would hang with the thread.
        self.flush()
        self._idle = True

    def _drop(self, count: int) -> None:
        """Add to the number of lines that were dropped and not yet reported."""
        with self._lock:
            self._dropped += count

    def _wake(self) -> None:
        """Start or wake the thread; the first line after a quiet time comes here."""
        if self._closed:
            self.flush()
            return
        with self._lock:
            if not self._idle:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # No thread to be had now: the lines wait for the next try.
                self._thread = thread
            self._idle = False
        self._awake.set()

    def _run(self) -> None:
        while not self._closed:
            self._awake.wait()
            self._awake.clear()
            self._full.wait(self._interval)
            self._full.clear()
            self.flush()
            self._idle = True
            # A line that came between the flush and the flag has woken nobody.
            if self._buffer:
                self._wake()

    def _line(self, entry: str | Event | tuple[Shape, tuple[Any, ...]]) -> bytes:
        """Render one entry; an entry that cannot be rendered must not stop the others."""
        try:
            if isinstance(entry, tuple):
                entry = entry[0](entry[1])
            if isinstance(entry, dict):
                entry = self._render(entry)
        except Exception as error:  # noqa: BLE001, RUF100
            entry = self._render({"event": "log line lost", "level": "error", "why": repr(error)})
        return entry.encode("utf-8", "backslashreplace") + b"\n"


def _dropped_event(count: int) -> Event:
    return {
        "time": timestamp(time()),
        "level": "warning",
        "event": "log lines dropped",
        "count": count,
    }


_sinks: WeakSet[LogSink] = WeakSet()


def _flush_before_fork() -> None:
    for sink in list(_sinks):
        sink.flush()


def _start_afresh_after_fork() -> None:
    for sink in list(_sinks):
        sink._start_afresh()


# What waits is written by the parent before the fork: a parent that leaves with ``os._exit``, as
# daemons do, would take it along. What came meanwhile stays the parent's.
os.register_at_fork(before=_flush_before_fork, after_in_child=_start_afresh_after_fork)
