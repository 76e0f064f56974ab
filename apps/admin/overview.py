"""The overview: figures of the last minute over plots of the last quarter of an hour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from apps.admin import plots
from apps.admin.history import SPAN
from apps.admin.reading import ModelReading, Reading, between, quantile, rate
from apps.admin.words import count, per_second, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apps.admin.plots import Points

WINDOW: Final = 60.0
"""Seconds over which a figure is an average."""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure and its plot.

    Attributes:
        name: what it is.
        value: over the last minute.
        unit: of the value.
        note: a line below.
        label: says the plot in words.
        lines: paths of the plot, the strongest first.
        area: path below the first line.
        is_bad: whether the operator should look.
    """

    name: str
    value: str
    unit: str
    note: str
    label: str
    lines: tuple[str, ...]
    area: str
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


def cards(readings: Sequence[Reading]) -> list[Card]:
    """Return the figures of the whole gateway, from at least one reading."""
    now, before = readings[-1], _before(readings)
    elapsed = now.at - before.at
    recent = between(now.durations, before.durations)
    errors = rate(now.errors, before.errors, elapsed)
    refused = count(max(0.0, now.refused - before.refused))
    return [
        _card(
            "Requests", per_second(rate(now.requests, before.requests, elapsed)), "a second",
            f"{count(now.requests)} since the start",
            [_rates(readings, lambda r: r.requests)], per_second,
        ),
        _card(
            "Server errors", per_second(errors), "a second",
            f"{count(now.errors)} since the start; {refused} requests refused (4xx) in a minute",
            [_rates(readings, lambda r: r.errors)], per_second, is_bad=errors > 0,
        ),
        _card(
            "Latency", seconds(quantile(0.5, recent)), "median",
            f"99 of 100 within {seconds(quantile(0.99, recent))}",
            [_quantiles(readings, 0.99), _quantiles(readings, 0.5)], seconds,
        ),
        _card(
            "In progress", count(now.in_progress), "requests now", "",
            [[(now.at - r.at, r.in_progress) for r in readings]], count,
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
        line=plots.line(points, SPAN, plots.top_of(points)),
    )


def _model(reading: Reading, name: str) -> ModelReading:
    return reading.models.get(name) or ModelReading()


def _card(
    name: str, value: str, unit: str, note: str, series: list[Points],
    words: Callable[[float], str], *, is_bad: bool = False,
) -> Card:  # fmt: skip
    top = plots.top_of(*series)
    return Card(
        name=name,
        value=value,
        unit=unit,
        note=note,
        label=f"{name} over the last 15 minutes, at most {words(top)}",
        lines=tuple(plots.line(points, SPAN, top) for points in series),
        area=plots.area(series[0], SPAN, top),
        is_bad=is_bad,
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


def _quantiles(readings: Sequence[Reading], q: float) -> Points:
    end = readings[-1].at
    return [
        (end - later.at, quantile(q, between(later.durations, earlier.durations)))
        for earlier, later in pairwise(readings)
    ]
