"""The overview: figures of the last minute over plots of up to a quarter of an hour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from apps.admin import plots
from apps.admin.history import SPAN
from apps.admin.reading import ModelReading, Reading, between, quantile, rate
from apps.admin.words import age, count, per_second, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apps.admin.plots import Points

WINDOW: Final = 60.0
"""Seconds over which a figure is an average."""

_LEAST_SPAN: Final = 120.0


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as paths of an SVG.

    Attributes:
        label: says it in words.
        lines: the strongest first.
        area: below the first line.
    """

    label: str
    lines: tuple[str, ...]
    area: str


@dataclass(frozen=True, slots=True)
class Card:
    """A figure over the last minute and its plot; ``is_bad`` asks the operator to look."""

    name: str
    value: str
    unit: str
    note: str
    plot: Plot
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class ModelRow:
    """What one model did."""

    name: str
    predictions: str
    rate: str
    p50: str
    p99: str
    queued: str
    shed: str
    failed: str
    line: str


def span_of(readings: Sequence[Reading]) -> float:
    """Return how many seconds the plots go back: as far as is known, two minutes at least."""
    return min(SPAN, max(_LEAST_SPAN, readings[-1].at - readings[0].at))


def cards(readings: Sequence[Reading]) -> list[Card]:
    """Return the figures of the whole gateway, from at least one reading."""
    now, before = readings[-1], _before(readings)
    elapsed, span = now.at - before.at, span_of(readings)
    recent = between(now.durations, before.durations)
    errors = rate(now.errors, before.errors, elapsed)
    refused = count(max(0.0, now.refused - before.refused))
    return [
        Card(
            "Requests", per_second(rate(now.requests, before.requests, elapsed)), "a second",
            f"{count(now.requests)} since the start",
            _plot("Requests", [_rates(readings, lambda r: r.requests)], span, per_second),
        ),
        Card(
            "Server errors", per_second(errors), "a second",
            f"{count(now.errors)} since the start. Refused (4xx) in the last minute: {refused}",
            _plot("Server errors", [_rates(readings, lambda r: r.errors)], span, per_second),
            is_bad=errors > 0,
        ),
        Card(
            "Latency", seconds(quantile(0.5, recent)), "median",
            f"99 of 100 within {seconds(quantile(0.99, recent))}",
            _plot("Latency", [_quantiles(readings, q) for q in (0.99, 0.5)], span, seconds),
        ),
        Card(
            "In progress", count(now.in_progress), "requests now", "This page is one of them",
            _plot("Requests in progress", [_in_progress(readings)], span, count),
        ),
    ]  # fmt: skip


def model_rows(readings: Sequence[Reading], known: Sequence[str]) -> list[ModelRow]:
    """Return what each model did, those of the catalogue first.

    Args:
        readings: at least one.
        known: names of the models that are served.
    """
    now, before = readings[-1], _before(readings)
    others = sorted(set(now.models) - set(known))
    return [_model_row(name, readings, now, before) for name in [*known, *others]]


def _model_row(name: str, readings: Sequence[Reading], now: Reading, before: Reading) -> ModelRow:
    later, earlier = _model(now, name), _model(before, name)
    recent = between(later.run, earlier.run)
    points = _rates(readings, lambda reading: _model(reading, name).predictions)
    return ModelRow(
        name=name,
        predictions=count(later.predictions),
        rate=per_second(rate(later.predictions, earlier.predictions, now.at - before.at)),
        p50=seconds(quantile(0.5, recent)),
        p99=seconds(quantile(0.99, recent)),
        queued=count(later.queued),
        shed=count(later.shed),
        failed=count(later.outcomes["failed"] + later.outcomes["deadline"]),
        line=plots.line(points, span_of(readings), plots.top_of(points)),
    )


def _model(reading: Reading, name: str) -> ModelReading:
    return reading.models.get(name) or ModelReading()


def _plot(name: str, series: Sequence[Points], span: float, words: Callable[[float], str]) -> Plot:
    top = plots.top_of(*series)
    return Plot(
        label=f"{name} over the last {age(0, span)}, at most {words(top)}",
        lines=tuple(plots.line(points, span, top) for points in series),
        area=plots.area(series[0], span, top),
    )


def _before(readings: Sequence[Reading]) -> Reading:
    """Return the reading that begins the last minute."""
    limit = readings[-1].at - WINDOW
    return next(reading for reading in readings if reading.at >= limit)


def _rates(readings: Sequence[Reading], total: Callable[[Reading], float]) -> Points:
    end = readings[-1].at
    return [
        (end - later.at, rate(total(later), total(earlier), later.at - earlier.at))
        for earlier, later in pairwise(readings)
    ]


def _in_progress(readings: Sequence[Reading]) -> Points:
    return [(readings[-1].at - reading.at, reading.in_progress) for reading in readings]


def _quantiles(readings: Sequence[Reading], q: float) -> Points:
    end = readings[-1].at
    return [
        (end - later.at, quantile(q, between(later.durations, earlier.durations)))
        for earlier, later in pairwise(readings)
    ]
