"""How figures of the console read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "\N{EN DASH}"


def seconds(value: float | None) -> str:
    """Return a short time with its unit, such as ``3.2 ms``."""
    if value is None:
        return UNKNOWN
    if value >= 1:
        return f"{value:.2f} s"
    if value >= 0.001:
        return f"{value * 1000:.3g} ms"
    return f"{value * 1_000_000:.0f} µs"


def per_second(value: float) -> str:
    """Return a rate without its unit."""
    if value == 0:
        return "0"
    if value < 0.01:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(value: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def age(started: float | None, now: float) -> str:
    """Return how long ago something started, in its two largest units.

    Args:
        started: seconds since the epoch, or None.
        now: the same.
    """
    if started is None:
        return UNKNOWN
    minutes, rest = divmod(int(max(0.0, now - started)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((i for i, (number, _) in enumerate(units) if number), len(units) - 1)
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2] if number) or (
        "just now"
    )


def moment(stamp: float) -> str:
    """Return a time in UTC, such as ``22 Nov 2026, 16:40:07 UTC``."""
    return datetime.fromtimestamp(stamp, UTC).strftime("%-d %b %Y, %H:%M:%S UTC")
