"""A Python function that is slow as models are: much a call, little a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS: Final = 4

SOURCE: Final = f'''"""Adds up the columns, and takes its time as one that waits for a device."""

import time

inputs = {{"x": ("FP64", [-1, {COLUMNS}])}}
outputs = {{"total": ("FP64", [-1])}}


def predict(x):
    time.sleep(0.010 + 0.0001 * len(x))
    return x.sum(axis=1)
'''


def write_slow_model(folder: Path, card: str = "") -> Path:
    """Write version 1 of the model and its ``model.toml``, and return the artefact's path."""
    path = folder / "1" / "model.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE, "utf-8")
    (folder / "model.toml").write_text(card, "utf-8")
    return path
