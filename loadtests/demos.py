"""The demo models that load tests, the benchmark and the live tests ask."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from portico.demos import pickles, train

FOLDER: Final = Path(__file__).parents[1] / ".portico" / "demos"
"""Where ``make serve`` keeps them as well, so that they are trained once a checkout."""


def demo_models() -> tuple[Path, list[Path]]:
    """Return the folder of the demo models, trained now if need be, and the pickles in it."""
    train(FOLDER)
    return FOLDER, pickles(FOLDER)
