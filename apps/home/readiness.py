"""Whether this worker should be sent requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.serving.models import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Model


def is_ready(catalogue: Catalogue) -> bool:
    """Tell whether the start is over and something can answer.

    One model that is broken, hangs or loads another version does not take the others out of
    service; a gateway in which nothing answers is not ready. One without models, or whose models
    an operator has all unloaded, is: it has pages to show. One that cannot reach its
    version store does not know whether it has any.
    """
    if catalogue.is_starting():
        return False
    models = [m for m in catalogue.models() if m.current.state is not State.UNLOADED]
    if not models:
        return not catalogue.lost_store
    return any(model.current.state is State.READY for model in models)


def states(models: Sequence[Model]) -> dict[str, dict[str, str]]:
    """Return the state of each version, by model. Reasons are for those who may see the pages."""
    return {m.name: {v.name: str(v.state) for v in m.versions} for m in models}
