"""A step of a scikit-learn pipeline that takes its time; servers of the tests import it too."""

from __future__ import annotations

import time
from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin


class Slow(TransformerMixin, BaseEstimator):
    """Hands its input on unchanged.

    Args:
        opening: seconds that unpickling takes.
        running: seconds that a run takes for rows whose first value is above zero.
    """

    def __init__(self, opening: float = 0.0, running: float = 0.0) -> None:
        self.opening = opening
        self.running = running

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        time.sleep(self.opening)

    def fit(self, rows: Any, target: Any = None) -> Slow:
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows: Any) -> Any:
        if rows[0][0] > 0:
            time.sleep(self.running)
        return rows
