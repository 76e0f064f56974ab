"""From the request path to the prediction log: a buffer, and the thread that empties it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from portico.serving.errors import StorageUnavailable
from portico.serving.segments import segment_of, stacks_of
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Counter

    from portico.serving.predictions import Prediction, PredictionStore, Recorder
    from portico.serving.segments import Segment, Stack
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors

log = structlog.get_logger(__name__)

PRUNE_SECONDS: Final = 60.0
"""How often what is too old or too much is removed."""

_LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts at most, while the log cannot be written."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much the log keeps: predictions of so many seconds, and so many bytes."""

    seconds: float
    bytes: int


class Observer(Protocol):
    """Sees all predictions before they are written, on the thread that writes them."""

    def add(self, served: ServedModel) -> None:
        """Know a version whose predictions will come."""
        ...

    def observe(self, stacks: Iterable[Stack]) -> None:
        """Take notice of predictions; quickly, since requests want the processor."""
        ...

    def tick(self) -> None:
        """Do what is to be done now and then; called after each observation."""
        ...


class PredictionLog:
    """Takes predictions from the threads that answer, and writes them on a thread of its own.

    The request path appends to a buffer. Every ``interval`` seconds the thread writes what came
    since, in one transaction. While that fails, it keeps what is written next time, up to
    ``capacity`` bytes; what does not fit is dropped and counted.

    Args:
        open_store: opens the log; called by the thread, again and again until it succeeds.
        dropped: counts predictions that are lost, by model.
        retention: how much is kept.
        observer: sees all predictions as well, those that the log leaves out included.
        interval: longest wait in seconds before a prediction is written.
        waiting: predictions that may wait in the buffer.
        capacity: bytes of tensors that may wait there, and as many again while writing fails.
    """

    def __init__(
        self,
        open_store: Callable[[], PredictionStore],
        dropped: Counter,
        retention: Retention,
        *,
        observer: Observer | None = None,
        interval: float = 0.25,
        waiting: int = 20_000,
        capacity: int = 32 * 1024 * 1024,
    ) -> None:
        self._open_store = open_store
        self._dropped = dropped
        self._retention = retention
        self._observer = observer
        self._interval = interval
        self._waiting = waiting
        self._capacity = capacity
        self._store: PredictionStore | None = None
        self._whole: deque[Prediction] = deque()
        self._bare: deque[Prediction] = deque()
        self._unlogged: deque[Prediction] = deque()
        self._bytes = 0
        self._unwritten: deque[Segment] = deque()
        self._pause = 0.0
        self._next_try = 0.0
        self._next_prune = monotonic() + PRUNE_SECONDS
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._flushing = threading.Lock()
        self._stopped = threading.Event()

    def recorder(self, served: ServedModel) -> Recorder:
        """Return what takes the predictions of one version; it is called on the request path."""
        if self._observer is not None:
            self._observer.add(served)
        card = served.card.log
        size_of = _size_of(served.signature)
        keep = self._whole if card.enabled and card.inputs else self._bare
        short = self._bare
        if not card.enabled:
            keep = short = self._unlogged
        lose = self._dropped.labels(served.name).inc
        max_bytes, waiting, capacity = card.max_bytes, self._waiting, self._capacity

        def record(prediction: Prediction) -> None:
            size = size_of(prediction)
            buffer = keep if size <= max_bytes else short
            if len(buffer) >= waiting or self._bytes + size > capacity:
                lose()
                return
            # Two threads may lose one of their sums; the next flush begins at nothing again.
            self._bytes += size
            buffer.append(prediction)
            if self._thread is None:
                self._start()

        return record

    def store(self) -> PredictionStore:
        """Return the log that is written, opened once.

        Raises:
            StorageUnavailable: it cannot be opened now.
        """
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def flush(self) -> None:
        """Write what waits, in the calling thread; what cannot be written waits for next time."""
        with self._flushing:
            self._take()
            self._write()

    def close(self) -> None:
        """Write what waits and stop the thread; what cannot be written is dropped and counted."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        self._drop(0)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="prediction-log", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self.flush()
                self._prune()
            except Exception:
                log.exception("prediction_log_failed")

    def _take(self) -> None:
        """Show what is in the buffers to the observer, and make segments of it."""
        self._bytes = 0
        for stack in self._emptied(self._whole):
            self._add(stack, with_tensors=True)
        for stack in self._emptied(self._bare):
            self._add(stack, with_tensors=False)
        self._emptied(self._unlogged)
        if self._observer is not None:
            self._observer.tick()

    def _emptied(self, buffer: deque[Prediction]) -> list[Stack]:
        stacks = list(stacks_of([buffer.popleft() for _ in range(len(buffer))]))
        if self._observer is not None and stacks:
            try:
                self._observer.observe(stacks)
            except Exception:  # The log goes on, whatever becomes of those who look on.
                log.exception("prediction_observer_failed")
        return stacks

    def _add(self, stack: Stack, *, with_tensors: bool) -> None:
        try:
            self._unwritten.append(segment_of(stack, with_tensors=with_tensors))
        except (ValueError, TypeError) as error:  # Such as a text that UTF-8 has no bytes for.
            model = stack.predictions[0].model
            self._dropped.labels(model).inc(len(stack.predictions))
            log.error("prediction_not_loggable", model=model, problem=repr(error))

    def _write(self) -> None:
        if not self._unwritten or (monotonic() < self._next_try and not self._stopped.is_set()):
            self._drop(self._capacity)
            return
        try:
            self.store().write(self._unwritten)
        except StorageUnavailable as error:
            self._wait(error)
            return
        except Exception:  # Another attempt would fail the same way, and keep the others waiting.
            log.exception("prediction_log_refused")
            self._drop(0)
            return
        if self._pause:
            log.info("prediction_log_written_again", segments=len(self._unwritten))
        self._pause = self._next_try = 0.0
        self._unwritten.clear()

    def _wait(self, error: StorageUnavailable) -> None:
        if not self._pause:
            log.error("prediction_log_unwritten", problem=error.message)
        self._pause = min(_LONGEST_PAUSE, self._pause * 2 or 1.0)
        self._next_try = monotonic() + self._pause
        self._drop(self._capacity)

    def _drop(self, capacity: int) -> None:
        """Drop the oldest of what could not be written until the rest takes so many bytes."""
        size = sum(len(segment.data) for segment in self._unwritten)
        while self._unwritten and size > capacity:
            lost = self._unwritten.popleft()
            size -= len(lost.data)
            self._dropped.labels(lost.model).inc(lost.predictions)

    def _prune(self) -> None:
        if monotonic() < self._next_prune:
            return
        self._next_prune = monotonic() + PRUNE_SECONDS
        self.store().prune(time() - self._retention.seconds, self._retention.bytes)


def _size_of(signature: Signature) -> Callable[[Prediction], int]:
    """Return what measures the tensors of a prediction in bytes, as fast as these can be."""
    specs = (*signature.inputs, *signature.outputs)
    if any(spec.datatype is Datatype.BYTES for spec in specs):
        return lambda p: _text_size(p.inputs) + _text_size(p.outputs)
    return _size


def _size(prediction: Prediction) -> int:
    size = 0
    if prediction.inputs is not None:
        for array in prediction.inputs.values():
            size += array.nbytes
    if prediction.outputs is not None:
        for array in prediction.outputs.values():
            size += array.nbytes
    return size


def _text_size(tensors: Tensors | None) -> int:
    size = 0
    for array in (tensors or {}).values():
        size += array.nbytes
        if array.dtype.hasobject:
            size += sum(map(len, array.ravel().tolist()))
    return size
