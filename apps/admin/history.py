"""The last quarter of an hour, in memory."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from apps.admin.reading import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric

    from apps.admin.reading import Reading

EVERY: Final = 5.0
"""Seconds between two readings."""

SPAN: Final = 900.0
"""Seconds that are remembered."""

log = structlog.get_logger(__name__)


class History:
    """Reads the metrics every few seconds, in a thread of the process that shows them.

    Every worker keeps its own; as the metrics are those of all workers, they show the same.

    Args:
        collect: reads the metrics.
        clock: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collect = collect
        self._clock = clock
        self._readings: deque[Reading] = deque(maxlen=int(SPAN / EVERY) + 1)
        self._pid = 0
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to read, if this process does not yet; a thread does not survive a fork."""
        if self._pid == os.getpid():
            return
        with self._starting:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
        self.sample()
        threading.Thread(target=self._go_on, name="console history", daemon=True).start()

    def sample(self) -> None:
        """Read the metrics once and remember them."""
        reading = self._read()
        if reading is not None:
            self._readings.append(reading)

    def readings(self) -> Sequence[Reading]:
        """Return what is remembered, oldest first, ending with this moment."""
        newest = self._read()
        known = list(self._readings)
        if newest is not None:
            known.append(newest)
        limit = self._clock() - SPAN
        return [reading for reading in known if reading.at >= limit]

    def _read(self) -> Reading | None:
        now = self._clock()
        try:
            return read(self._collect(), now)
        except Exception:  # noqa: BLE001, RUF100 - the next reading may well succeed
            # A worker that starts has half a metrics file for a moment.
            log.warning("metrics not readable", exc_info=True)
            return None

    def _go_on(self) -> None:
        while True:
            time.sleep(EVERY)
            self.sample()
