"""Values of metrics in the files of a worker's slot, counted without waiting.

prometheus-client guards all values of a process with one lock. Under several request threads the
one that holds it loses the interpreter now and then, and the others queue up behind it: measured,
that cost a third of the throughput. Here a thread leaves its increment in a queue and applies what
is in the queue if nobody else is doing so. Nobody ever waits, and nothing is lost: who leaves looks
once more whether something came in meanwhile.

The files are prometheus-client's own (its ``mmap_dict``), so its collector reads them.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key

if TYPE_CHECKING:
    from pathlib import Path

_TWO_DOUBLES: Final = Struct("dd")
"""Value and timestamp, as they stand in the file."""


class SlotFiles:
    """The files that the values of this process are in.

    Args:
        directory: where the files are.
        identifier: what their names end with.
    """

    def __init__(self, directory: Path, identifier: str) -> None:
        self._directory = directory
        self._identifier = identifier
        self._files: dict[str, Any] = {}
        self._values: dict[SlotValue, None] = {}
        self._opening = Lock()
        self._applying = Lock()
        self._pending: deque[tuple[SlotValue, float]] = deque()

    def move(self, identifier: str) -> None:
        """Let every value go on in the files of another slot, as after a fork."""
        self.close()
        self._identifier = identifier
        self._pending.clear()
        for value in self._values:
            value.bind()

    def close(self) -> None:
        """Close the files of this process; they keep what was counted."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def value_class(self) -> type[SlotValue]:
        """Return the class that prometheus-client is to make its values of."""
        return type("SlotValue", (SlotValue,), {"_slot": self})

    def place(self, value: SlotValue, kind: str, key: str) -> tuple[Any, int, float]:
        """Return the file of a value, its position there, and the number that it holds.

        Args:
            value: to be moved with the others from now on.
            kind: of the file, such as ``counter`` or ``gauge_livesum``.
            key: of the value in the file.
        """
        with self._opening:
            self._values[value] = None
            if kind not in self._files:
                path = self._directory / f"{kind}_{self._identifier}.db"
                self._files[kind] = MmapedDict(str(path))  # type: ignore[no-untyped-call]
            file = self._files[kind]
            number, _ = file.read_value(key)
            return file, file._positions[key], number

    def add(self, value: SlotValue, amount: float) -> None:
        """Add to a value, now or, when another thread is at it, a moment later."""
        self._pending.append((value, amount))
        self.settle()

    def settle(self) -> None:
        """Apply what is pending, unless another thread is doing it."""
        pending, applying = self._pending, self._applying
        while pending and applying.acquire(blocking=False):
            try:
                while pending:
                    value, amount = pending.popleft()
                    value.apply(amount)
            finally:
                applying.release()

    def replace(self, value: SlotValue, amount: float) -> None:
        """Set a value, after all that was added before."""
        with self._applying:
            while self._pending:
                pending, added = self._pending.popleft()
                pending.apply(added)
            value.apply(amount - value.number)


class SlotValue:
    """One number in a file; what prometheus-client calls a value.

    Args:
        typ: of the metric, such as ``counter``.
        metric_name: of the metric.
        name: of the sample.
        labelnames: of the sample.
        labelvalues: of the sample.
        help_text: of the metric.
        multiprocess_mode: of a gauge.
    """

    _multiprocess = True
    _slot: SlotFiles

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Any,
        labelvalues: Any,
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._kind = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self._key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
        self.number = 0.0
        self.bind()

    def bind(self) -> None:
        """Go on from what the file holds."""
        self._file, self._position, self.number = self._slot.place(self, self._kind, self._key)

    def inc(self, amount: float) -> None:
        """Add ``amount``."""
        self._slot.add(self, amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Make it ``value``."""
        self._slot.replace(self, value)

    def get(self) -> float:
        """Return the number."""
        self._slot.settle()
        return self.number

    def apply(self, amount: float) -> None:
        """Write the new number; only one thread at a time does so."""
        self.number += amount
        # A file that grew is mapped anew, so the mapping is asked for each time.
        _TWO_DOUBLES.pack_into(self._file._m, self._position, self.number, 0.0)

    def set_exemplar(self, exemplar: Any) -> None:
        """Forget it: there are no exemplars over several processes."""

    def get_exemplar(self) -> None:
        """Return None: there are no exemplars over several processes."""
