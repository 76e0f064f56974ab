"""A model that cannot be compiled, slow as such models are: much a call, little a row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from portico.demos.recipe import write_joblib

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.tensors import Array

CALL_SECONDS: Final = 0.010
ROW_SECONDS: Final = 0.0001

COLUMNS: Final = 4


class SlowFunction(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn is untyped.
    """Adds up its columns and takes its time, as one that waits for a device or a library."""

    def fit(self, x: Array, y: Any = None) -> SlowFunction:
        """Learn nothing but the number of columns."""
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x: Array) -> Array:
        """Return the sum of each row."""
        time.sleep(CALL_SECONDS + ROW_SECONDS * len(x))
        return x.sum(axis=1)  # type: ignore[no-any-return]


def write_slow_model(folder: Path, card: str = "") -> Path:
    """Write version 1 of the model and its ``model.toml``, and return the artefact's path."""
    path = folder / "1" / "model.joblib"
    path.parent.mkdir(parents=True)
    (folder / "model.toml").write_text(card, "utf-8")
    write_joblib(SlowFunction().fit(np.zeros((1, COLUMNS))), path)
    return path
