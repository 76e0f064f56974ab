"""Whether this worker should be sent requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.serving.catalogue import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.catalogue import Model


def is_ready(models: Sequence[Model]) -> bool:
    """Tell whether loading is over and something can answer.

    One broken model does not take the others out of service; a gateway in which nothing answers
    is not ready. One without models is: it has pages to show.
    """
    found = {version.state for model in models for version in model.versions}
    if State.LOADING in found:
        return False
    return State.READY in found or not found


def states(models: Sequence[Model]) -> dict[str, dict[str, str]]:
    """Return the state of each version, by model. Reasons are for those who may see the pages."""
    return {m.name: {v.name: str(v.state) for v in m.versions} for m in models}
