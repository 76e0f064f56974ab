"""Count several values of metrics in one go.

A request changes a dozen values. prometheus-client takes a lock for each; in a worker's slot they
are changed by one entry in a queue (see :mod:`middleware.slot_values`).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter, Gauge, Histogram

    from middleware.slot_values import SlotFiles

Add: TypeAlias = "Callable[[float], None]"


class Tally:
    """How the values of this process are counted.

    What `adder` and `observer` return may be called inside of `together` alone.

    Args:
        slot: files of this process; None where prometheus-client counts by itself.
    """

    def __init__(self, slot: SlotFiles | None = None) -> None:
        self._is_slot = slot is not None
        self.together: Callable[[Callable[[Any], None], Any], None] = (
            slot.together if slot is not None else _at_once
        )

    @classmethod
    def of_process(cls) -> Tally:
        """Return how metrics that are made now will be counted."""
        return cls(getattr(values.ValueClass, "slot", None))

    def adder(self, child: Counter | Gauge) -> Add:
        """Return what adds to a counter or gauge."""
        return self._adder(child._value)

    def observer(self, child: Histogram) -> Add:
        """Return what adds an observation to a histogram."""
        bounds = child._upper_bounds
        total = self._adder(child._sum)
        buckets = [self._adder(bucket) for bucket in child._buckets]

        def observe(amount: float) -> None:
            total(amount)
            buckets[bisect_left(bounds, amount)](1.0)

        return observe

    def _adder(self, value: Any) -> Add:
        return value.apply if self._is_slot else value.inc  # type: ignore[no-any-return]


def _at_once(work: Callable[[Any], None], argument: Any) -> None:
    work(argument)
