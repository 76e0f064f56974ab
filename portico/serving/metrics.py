"""What is counted about predictions, under the names of the metrics reference.

The request path keeps a :class:`ModelMeter` per version, whose children are looked up once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.predictions import Prediction

STAGE_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
"""Upper bounds in seconds: from a small tree to a large network."""

ROW_BUCKETS: Final = (1, 4, 16, 64, 256, 1024)

OUTCOMES: Final = ("ok", "invalid", "shed", "deadline", "cancelled", "failed")
"""What becomes of a prediction.

``ok`` answered; ``invalid`` refused as 4xx; ``shed`` queue full; ``deadline`` no turn in time;
``cancelled`` the client left while it waited; ``failed`` the model raised.
"""

SHED_REASONS: Final = {"shed": "queue_full", "deadline": "deadline", "cancelled": "cancelled"}
"""From the outcomes of requests that never ran to why they did not."""


class Tally(Protocol):
    """Counts several values in one go; what it makes may be called inside of ``together`` alone."""

    @property
    def together(self) -> Callable[[Callable[[Any], None], Any], None]:
        """Call a function that counts, with its argument, now or a moment later."""
        ...

    def adder(self, child: Counter | Gauge) -> Callable[[float], None]:
        """Return what adds to a counter or gauge."""
        ...

    def observer(self, child: Histogram) -> Callable[[float], None]:
        """Return what adds an observation to a histogram."""
        ...


class Single:
    """Counts as prometheus-client does: one value after the other, each under a lock."""

    def together(self, work: Callable[[Any], None], argument: Any) -> None:
        """Call it now."""
        work(argument)

    def adder(self, child: Counter | Gauge) -> Callable[[float], None]:
        """Return the metric's own method."""
        return child.inc

    def observer(self, child: Histogram) -> Callable[[float], None]:
        """Return the metric's own method."""
        return child.observe


class ModelMeter:
    """The metrics of one model version, ready to be counted into.

    Attributes:
        waiting: shows the rows that wait.
    """

    __slots__ = (
        "_decode",
        "_encode",
        "_outcomes",
        "_queue",
        "_rows",
        "_run",
        "_shed",
        "_together",
        "waiting",
    )

    def __init__(self, metrics: PredictionMetrics, model: str, version: str) -> None:
        tally, stages = metrics.tally, metrics.durations
        self._together = tally.together
        self._decode = tally.observer(stages.labels(model, version, "decode"))
        self._queue = tally.observer(stages.labels(model, version, "queue"))
        self._run = tally.observer(stages.labels(model, version, "run"))
        self._encode = tally.observer(stages.labels(model, version, "encode"))
        self._rows = tally.observer(metrics.batch_rows.labels(model))
        self._outcomes = {
            outcome: tally.adder(metrics.predictions.labels(model, version, outcome))
            for outcome in OUTCOMES
        }
        self.waiting = metrics.queue_rows.labels(model)
        self._shed = {
            outcome: tally.adder(metrics.shed.labels(model, reason))
            for outcome, reason in SHED_REASONS.items()
        }

    def count(self, prediction: Prediction) -> None:
        """Count a completed prediction: its outcome, and each stage that it came through."""
        self._together(self._count, prediction)

    def rows(self, rows: int) -> None:
        """Count rows that ran together."""
        self._together(self._rows, rows)

    def _count(self, prediction: Prediction) -> None:
        outcome = prediction.outcome
        self._outcomes[outcome](1.0)
        if outcome in self._shed:
            self._shed[outcome](1.0)
        if prediction.decode:
            self._decode(prediction.decode)
        if prediction.queue or prediction.run:
            self._queue(prediction.queue)
        if prediction.run:
            self._run(prediction.run)
        if prediction.encode:
            self._encode(prediction.encode)


class PredictionMetrics:
    """Registers the prediction metrics of this process.

    Args:
        registry: where they are registered; Prometheus' default one unless a test hands another.
        tally: how the values of this process are counted.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, tally: Tally | None = None) -> None:
        self.tally: Tally = tally or Single()
        version = ("model", "version")
        self.predictions = Counter(
            "portico_predictions_total",
            "Predictions by outcome.",
            (*version, "outcome"),
            registry=registry,
        )
        self.durations = Histogram(
            "portico_prediction_duration_seconds",
            "Time of each stage of a prediction.",
            (*version, "stage"),
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "portico_batch_rows",
            "Rows run together.",
            ("model",),
            buckets=ROW_BUCKETS,
            registry=registry,
        )
        self.queue_rows = Gauge(
            "portico_queue_rows",
            "Rows waiting for their turn.",
            ("model",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.shed = Counter(
            "portico_shed_total",
            "Requests that were not run.",
            ("model", "reason"),
            registry=registry,
        )
        self.dropped = Counter(
            "portico_predictions_dropped_total",
            "Predictions that the log had no room for or could not write.",
            ("model",),
            registry=registry,
        )
        self.shadow = Counter(
            "portico_shadow_compared_total",
            "Requests that the candidate was to run aside, by what came of it.",
            ("model", "outcome"),
            registry=registry,
        )
        self.info = Gauge(
            "portico_model_info",
            "1 for each version that a worker knows.",
            (*version, "runtime", "sha256"),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.ready = Gauge(
            "portico_model_ready",
            "1 when every live worker can answer with this version.",
            version,
            multiprocess_mode="livemin",
            registry=registry,
        )

    def meter(self, model: str, version: str) -> ModelMeter:
        """Return the meter of one version."""
        return ModelMeter(self, model, version)


class DriftMetrics:
    """Registers what is told of drift; each worker sets what all of them have counted together.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(
                name,
                text,
                ("model", "version", *labels),
                multiprocess_mode="livemax",
                registry=registry,
            )

        self.psi = gauge(
            "portico_drift_psi",
            "Population stability index of a feature or of the prediction.",
            "feature",
        )
        self.strange = gauge(
            "portico_drift_unseen_share",
            "Share of rows outside the range or the categories of reference.",
            "feature",
        )
        self.columns = gauge(
            "portico_drift_features", "Features and prediction, by how far they moved.", "level"
        )
        self.rows = gauge("portico_drift_rows", "Rows of the last day that were looked at.")
