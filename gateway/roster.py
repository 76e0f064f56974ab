"""What the workers of one server know of each other: a few numbers in memory that they share."""

from __future__ import annotations

import mmap
from typing import Any, Final

_ATTRIBUTE: Final = "portico_roster"
_GONE: Final = -1
_NUMBER: Final = 8
"""Bytes of a number in the shared memory."""


class Roster:
    """Counts the starts of workers, and how many connections each has open.

    It is made in the arbiter before the first fork, so that all workers see the same memory; each
    writes its own numbers only, and reading a stale one does no harm.

    Args:
        slots: workers at most; those beyond are not counted.
    """

    def __init__(self, slots: int = 512) -> None:
        self._slots = slots
        memory = mmap.mmap(-1, (slots + 1) * _NUMBER)
        self._numbers: Any = memoryview(memory).cast("q")
        for slot in range(slots):
            self._numbers[slot + 1] = _GONE

    @classmethod
    def of(cls, arbiter: object) -> Roster:
        """Return the roster of an arbiter, the same one for as long as it lives."""
        roster = getattr(arbiter, _ATTRIBUTE, None)
        if not isinstance(roster, cls):
            roster = cls()
            setattr(arbiter, _ATTRIBUTE, roster)
        return roster

    @property
    def starts(self) -> int:
        """How often a worker began to serve."""
        return self._numbers[0]  # type: ignore[no-any-return]

    def enter(self, slot: int) -> None:
        """Note that the worker in a slot serves from now on."""
        self.count(slot, 0)
        self._numbers[0] += 1

    def leave(self, slot: int) -> None:
        """Note that the worker in a slot takes no more connections."""
        self.count(slot, _GONE)

    def count(self, slot: int, connections: int) -> None:
        """Note how many connections the worker in a slot has open."""
        if slot < self._slots:
            self._numbers[slot + 1] = connections

    def has_less(self, slot: int, connections: int) -> bool:
        """Tell whether another worker has fewer connections open than this one."""
        return any(
            0 <= other < connections
            for index, other in enumerate(self._numbers[1:].tolist())
            if index != slot
        )
