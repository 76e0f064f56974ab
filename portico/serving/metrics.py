"""What is counted about predictions, under the names of the metrics reference.

The request path keeps a :class:`ModelMeter` per version, whose children are looked up once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from portico.serving.predictions import Prediction

STAGE_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
"""Upper bounds in seconds: from a small tree to a large network."""

ROW_BUCKETS: Final = (1, 4, 16, 64, 256, 1024)

OUTCOMES: Final = ("ok", "invalid", "shed", "deadline", "failed")
"""``ok`` answered; ``invalid`` refused as 4xx; ``shed`` queue full; ``failed`` the model raised."""


class ModelMeter:
    """The metrics of one model version, ready to be counted into.

    Attributes:
        rows: counts rows that ran together.
        waiting: shows the rows that wait.
        shed: counts a request that found the queue full.
    """

    __slots__ = ("decode", "encode", "outcomes", "queue", "rows", "run", "shed", "waiting")

    def __init__(self, metrics: PredictionMetrics, model: str, version: str) -> None:
        stages = metrics.durations
        self.decode = stages.labels(model, version, "decode").observe
        self.queue = stages.labels(model, version, "queue").observe
        self.run = stages.labels(model, version, "run").observe
        self.encode = stages.labels(model, version, "encode").observe
        self.rows = metrics.batch_rows.labels(model).observe
        self.waiting = metrics.queue_rows.labels(model)
        self.shed = metrics.shed.labels(model, "queue_full").inc
        self.outcomes = {
            outcome: metrics.predictions.labels(model, version, outcome).inc for outcome in OUTCOMES
        }

    def count(self, prediction: Prediction) -> None:
        """Count a completed prediction: its outcome, and each stage that it came through."""
        self.outcomes[prediction.outcome]()
        if prediction.decode:
            self.decode(prediction.decode)
        if prediction.queue:
            self.queue(prediction.queue)
        if prediction.run:
            self.run(prediction.run)
        if prediction.encode:
            self.encode(prediction.encode)


class PredictionMetrics:
    """Registers the prediction metrics of this process.

    Args:
        registry: where they are registered; Prometheus' default one unless a test hands another.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
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
            "Requests refused at once.",
            ("model", "reason"),
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
