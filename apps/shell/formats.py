"""How numbers read on a page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNIFICANT: Final = 6
_STEP: Final = 1024


def percent(share: float) -> str:
    """Return a share of 1 with one decimal; what is not quite all or nothing never reads so."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share * 100:.1f} %"


def figure(value: Any) -> str:
    """Return a number with six significant digits, other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f"{value:.{_SIGNIFICANT}g}"


def filesize(size: int) -> str:
    """Return a number of bytes in the unit that reads best."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB"]
    while value >= _STEP and len(units) > 1:
        value /= _STEP
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "percent": percent,
    "figure": figure,
    "filesize": filesize,
}
"""Filters of every template."""
