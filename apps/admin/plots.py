"""Small plots, drawn on the server as paths of an SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 300
HEIGHT: Final = 60
_MARGIN: Final = 3

Points = list[tuple[float, float | None]]
"""Age in seconds and value, oldest first; None is a gap."""


def top_of(*series: Iterable[tuple[float, float | None]]) -> float:
    """Return the largest value of some series; 0 where there is none."""
    return max((value for points in series for _, value in points if value is not None), default=0)


def line(points: Points, span: float, top: float) -> str:
    """Draw a line, broken at gaps; a lone value becomes a dot.

    Args:
        points: what to draw.
        span: seconds from the left edge to the right one.
        top: the value at the upper edge.

    Returns:
        The ``d`` of a path in a box of 300 by 60.
    """
    parts = []
    for run in _runs(points):
        places = [f"{_x(age, span)} {_y(value, top)}" for age, value in run]
        parts.append(f"M{places[0]}" + ("".join(f"L{p}" for p in places[1:]) or "h.01"))
    return "".join(parts)


def area(points: Points, span: float, top: float) -> str:
    """Draw the area below a line; see :func:`line`."""
    parts = []
    for run in _runs(points):
        if len(run) > 1:
            upper = "L".join(f"{_x(age, span)} {_y(value, top)}" for age, value in run)
            parts.append(f"M{_x(run[0][0], span)} {HEIGHT}L{upper}V{HEIGHT}Z")
    return "".join(parts)


def _runs(points: Points) -> Sequence[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for age, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((age, value))
    return [run for run in runs if run]


def _x(age: float, span: float) -> str:
    return f"{max(0.0, 1 - age / span) * WIDTH:.1f}"


def _y(value: float, top: float) -> str:
    share = value / top if top > 0 else 0
    return f"{HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN):.1f}"
