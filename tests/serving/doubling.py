"""A model that doubles numbers, for tests of what happens around models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from portico.serving.card import ModelCard
from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.service import ServedModel
from portico.serving.signature import Signature, answer_of, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from portico.serving.tensors import Tensors

INPUT = TensorSpec("x", Datatype.FP64, (-1, 1))
OUTPUT = TensorSpec("y", Datatype.FP64, (-1, 1))


class Times:
    """Multiplies its input."""

    platform = "test_times"
    concurrency: int | None = None
    signature = Signature((INPUT,), (OUTPUT,), features_of([INPUT]), answer_of([OUTPUT]))

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        return {"y": inputs["x"] * self.factor}

    def close(self) -> None:
        pass


def serve(
    runtime: Times | None = None,
    *,
    name: str = "twice",
    version: str = "1",
    card: ModelCard | None = None,
) -> ServedModel:
    """Serve the model, or one that multiplies by something else."""
    runtime, card = runtime or Times(), card or ModelCard()
    meter = PredictionMetrics(CollectorRegistry()).meter(name, version)
    return ServedModel(
        name=name,
        version=version,
        sha256="0" * 64,
        card=card,
        signature=runtime.signature,
        runtime=runtime,
        meter=meter,
    )


def ask(
    served: ServedModel, values: np.ndarray[tuple[int, int], np.dtype[np.float64]], who: str = ""
) -> Prediction:
    """Ask the model as a view does."""
    prediction = Prediction(served.name, served.version, who)
    prediction.inputs = {"x": values}
    try:
        served.infer(prediction)
    except Exception as error:
        served.fail(prediction, error)
        raise
    served.complete(prediction)
    return prediction
