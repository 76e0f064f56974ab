"""Measure what the prediction log costs: the request that hands on, and the thread that writes.

Run it with ``python -m loadtests.prediction_log``.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter, thread_time
from typing import Final, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry

from portico.serving.card import ModelCard
from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction, Recorder
from portico.serving.recorder import PredictionLog, Retention
from portico.serving.service import ServedModel
from portico.serving.signature import Signature, features_of
from portico.serving.tensors import Datatype, Tensors, TensorSpec
from portico.storage.opening import open_predictions

FLUSH: Final = 625
"""Predictions between two flushes: 2,500 a second in one of two workers, four flushes a second."""

ROUNDS: Final = 40

INPUT: Final = TensorSpec("input", Datatype.FP32, (-1, 4))
OUTPUTS: Final = (
    TensorSpec("label", Datatype.INT64, (-1,)),
    TensorSpec("probabilities", Datatype.FP32, (-1, 3)),
)


class Cost(NamedTuple):
    """Microseconds of one prediction: of the request, and of the thread that writes it."""

    request: float
    thread: float


class Nothing:
    """A runtime that is never run; the predictions are made by hand."""

    platform = "nothing"
    concurrency: int | None = None
    signature = Signature((INPUT,), OUTPUTS, features_of([INPUT]))

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Give back what came."""
        return inputs

    def close(self) -> None:
        """Free nothing."""


def measure() -> Cost:
    """Record predictions of one row of four numbers into SQLite, and return the median costs."""
    metrics = PredictionMetrics(CollectorRegistry())
    with tempfile.TemporaryDirectory() as folder:
        store = open_predictions(f"sqlite:///{Path(folder).resolve()}/portico.db")
        log = PredictionLog(lambda: store, metrics.dropped, Retention(1e9, 10**12), interval=3600)
        with closing(log):
            record = log.recorder(_served(metrics))
            rounds = [_round(log, record) for _ in range(ROUNDS)]
    return Cost(*map(statistics.median, zip(*rounds, strict=True)))


def _round(log: PredictionLog, record: Recorder) -> Cost:
    made = [_prediction() for _ in range(FLUSH)]
    started = perf_counter()
    for prediction in made:
        record(prediction)
    recorded = perf_counter()
    before = thread_time()
    log.flush()
    return Cost((recorded - started) / FLUSH * 1e6, (thread_time() - before) / FLUSH * 1e6)


def _prediction() -> Prediction:
    prediction = Prediction("iris", "1", "ada")
    prediction.rows = prediction.batch_rows = 1
    prediction.inputs = {"input": np.zeros((1, 4), np.float32)}
    prediction.outputs = {
        "label": np.zeros(1, np.int64),
        "probabilities": np.zeros((1, 3), np.float32),
    }
    return prediction


def _served(metrics: PredictionMetrics) -> ServedModel:
    card, meter, runtime = ModelCard(), metrics.meter("iris", "1"), Nothing()
    return ServedModel(
        name="iris",
        version="1",
        sha256="0" * 64,
        card=card,
        signature=runtime.signature,
        runtime=runtime,
        meter=meter,
    )


if __name__ == "__main__":
    cost = measure()
    print(
        f"a prediction costs its request {cost.request:.2f} µs, and the thread {cost.thread:.2f} µs"
    )
