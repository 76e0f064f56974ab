"""Values of metrics in the files of a worker's slot, counted without waiting.

prometheus-client guards all values of a process with one lock. Under several request threads the
one that holds it loses the interpreter now and then, and the others queue up behind it: measured,
that cost a third of the throughput. Here a thread leaves what it has to count in a queue, and works
off the queue if nobody else is doing so. Nobody ever waits, and nothing is lost: who leaves looks
once more whether something came in meanwhile. What a request has to count is one entry, however
many values it changes.

The files are prometheus-client's own (its ``mmap_dict``), so its collector reads them.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.mmap_dict import MmapedDict, mmap_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DOUBLE: Final = 8
"""Bytes of a value in the file, and what its position is a multiple of."""


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
        self._cells: dict[Any, Any] = {}
        self._values: dict[SlotValue, None] = {}
        self._opening = Lock()
        self._applying = Lock()
        self._pending: deque[tuple[Callable[[Any], None], Any]] = deque()

    def move(self, identifier: str) -> None:
        """Let every value go on in the files of another slot, as after a fork."""
        self.close()
        self._identifier = identifier
        self._pending.clear()
        for value in self._values:
            value.bind()

    def close(self) -> None:
        """Close the files of this process; they keep what was counted."""
        for cells in self._cells.values():
            cells.release()
        self._cells.clear()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def value_class(self) -> type[SlotValue]:
        """Return the class that prometheus-client is to make its values of."""
        return type("SlotValue", (SlotValue,), {"slot": self})

    def place(self, value: SlotValue, kind: str, key: str) -> tuple[Any, int]:
        """Return the numbers of a file, and the index of a value among them.

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
            file.read_value(key)
            # A file that grew is mapped anew; values placed before go on in the older mapping of
            # the same pages.
            if file._m not in self._cells:
                whole = len(file._m) // _DOUBLE * _DOUBLE
                self._cells[file._m] = memoryview(file._m)[:whole].cast("d")
            return self._cells[file._m], file._positions[key] // _DOUBLE

    def together(self, work: Callable[[Any], None], argument: Any) -> None:
        """Call ``work(argument)``, which applies to values, now or a moment later.

        It is called while nobody else applies; when another thread is at it, by that one.
        """
        applying = self._applying
        if not applying.acquire(blocking=False):
            self._pending.append((work, argument))
            self.settle()
            return
        try:
            work(argument)
        finally:
            applying.release()
        if self._pending:
            self.settle()

    def settle(self) -> None:
        """Work off what is pending, unless another thread is doing it."""
        pending, applying = self._pending, self._applying
        while pending and applying.acquire(blocking=False):
            try:
                while pending:
                    work, argument = pending.popleft()
                    work(argument)
            finally:
                applying.release()

    def replace(self, value: SlotValue, number: float) -> None:
        """Set a value, after all that was added before."""
        with self._applying:
            while self._pending:
                work, argument = self._pending.popleft()
                work(argument)
            value.apply(number - value.number)


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
    slot: SlotFiles

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
        self.bind()

    def bind(self) -> None:
        """Go on from what the file holds."""
        self._cells, self._index = self.slot.place(self, self._kind, self._key)

    @property
    def number(self) -> float:
        """What the file holds."""
        return self._cells[self._index]  # type: ignore[no-any-return]

    def inc(self, amount: float) -> None:
        """Add ``amount``."""
        self.slot.together(self.apply, amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Make it ``value``."""
        self.slot.replace(self, value)

    def get(self) -> float:
        """Return the number."""
        self.slot.settle()
        return self.number

    def apply(self, amount: float) -> None:
        """Write the new number; only one thread at a time does so."""
        self._cells[self._index] += amount

    def set_exemplar(self, exemplar: Any) -> None:
        """Forget it: there are no exemplars over several processes."""

    def get_exemplar(self) -> None:
        """Return None: there are no exemplars over several processes."""
