"""Count predictions that nobody made, for figures that somebody looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.serving.predictions import Prediction

if TYPE_CHECKING:
    from portico.serving.metrics import ModelMeter


def count(meter: ModelMeter, outcome: str = "ok", *, run: float = 0.0, queue: float = 0.0) -> None:
    """Count one prediction; durations in seconds."""
    prediction = Prediction("", "", "")
    prediction.outcome, prediction.run, prediction.queue = outcome, run, queue
    meter.count(prediction)
