"""Metrics as the console needs them: added up, with quantiles and differences over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

Buckets = dict[float, float]
"""Observations up to each bound in seconds, as a Prometheus histogram counts them."""


@dataclass(slots=True)
class ModelReading:
    """Totals of one model since the server's start.

    Attributes:
        outcomes: predictions by outcome.
        run: time of the model's runs.
        queued: rows that run or wait now.
        shed: requests refused because there was no room.
    """

    outcomes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    run: Buckets = field(default_factory=lambda: defaultdict(float))
    queued: float = 0
    shed: float = 0

    @property
    def predictions(self) -> float:
        """Predictions answered."""
        return self.outcomes["ok"]


@dataclass(slots=True)
class Reading:
    """Totals of all workers at one moment.

    Attributes:
        at: a clock that never goes back, in seconds.
        requests: requests answered.
        errors: of those, answered with 5xx.
        refused: of those, answered with 4xx.
        in_progress: requests being answered.
        durations: time of the requests.
        models: by name.
    """

    at: float
    requests: float = 0
    errors: float = 0
    refused: float = 0
    in_progress: float = 0
    durations: Buckets = field(default_factory=lambda: defaultdict(float))
    models: dict[str, ModelReading] = field(default_factory=lambda: defaultdict(ModelReading))


def read(metrics: Iterable[Metric], at: float) -> Reading:
    """Add up what the console shows.

    Args:
        metrics: families of a registry or of the collector over several processes.
        at: the time they were collected.
    """
    reading = Reading(at)
    for metric in metrics:
        for sample in metric.samples:
            _add(reading, sample)
    return reading


def _add(reading: Reading, sample: Sample) -> None:
    labels, value = sample.labels, sample.value
    match sample.name:
        case "portico_http_requests_total":
            reading.requests += value
            reading.errors += value if labels["status"].startswith("5") else 0
            reading.refused += value if labels["status"].startswith("4") else 0
        case "portico_http_request_duration_seconds_bucket":
            reading.durations[float(labels["le"])] += value
        case "portico_http_requests_in_progress":
            reading.in_progress += value
        case "portico_predictions_total":
            reading.models[labels["model"]].outcomes[labels["outcome"]] += value
        case "portico_prediction_duration_seconds_bucket" if labels["stage"] == "run":
            reading.models[labels["model"]].run[float(labels["le"])] += value
        case "portico_queue_rows":
            reading.models[labels["model"]].queued += value
        case "portico_shed_total" if labels["reason"] == "queue_full":
            reading.models[labels["model"]].shed += value


def between(later: Buckets, earlier: Buckets) -> Buckets:
    """Return what was observed between two readings; never less than nothing."""
    return {bound: max(0.0, count - earlier.get(bound, 0.0)) for bound, count in later.items()}


def rate(later: float, earlier: float, seconds: float) -> float:
    """Return the growth of a total a second; a total that was reset did not grow."""
    return max(0.0, later - earlier) / seconds if seconds > 0 else 0.0


def quantile(q: float, buckets: Buckets) -> float | None:
    """Estimate a quantile from a histogram.

    Observations are taken to be spread evenly over their bucket, as Prometheus'
    ``histogram_quantile`` does it; above the last finite bound that bound is returned.

    Args:
        q: between 0 and 1.
        buckets: counts up to each bound.

    Returns:
        Seconds; None where nothing was observed.
    """
    counts = [(0.0, 0.0), *sorted(buckets.items())]
    total = counts[-1][1]
    if total <= 0:
        return None
    rank = q * total
    for (lower, below), (upper, count) in pairwise(counts):
        if count >= rank and count > below:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
    return counts[-1][0]
