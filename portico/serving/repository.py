"""Taking models out of service and bringing them back, on all workers of all machines.

What is said goes to the version store, which every worker follows: it lasts until somebody says
otherwise, over restarts too.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import structlog

from portico.serving.errors import ModelUnavailable
from portico.serving.workers import await_takeover, short_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.catalogue import Catalogue
    from portico.serving.versions import VersionStore

log = structlog.get_logger(__name__)

UNLOAD_SECONDS: Final = 10.0
"""How long an answer waits for workers to let go of a model; those that come later still do."""

LOAD_MARGIN: Final = 5.0
"""Seconds that a worker may take to find out that there is something to load, and to tell."""


class ModelRepository:
    """What an operator does to whole models.

    Args:
        catalogue: of the worker that is asked; knows which models there are.
        open_versions: opens the version store when it is first needed.
        workers: of this server, which may have had nothing to report so far.
        load_timeout: seconds that loading one version may take.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        open_versions: Callable[[], VersionStore],
        *,
        workers: int,
        load_timeout: float,
    ) -> None:
        self._catalogue = catalogue
        self._open_versions = open_versions
        self._workers = workers
        self._load_timeout = load_timeout

    @cached_property
    def _versions(self) -> VersionStore:
        return self._open_versions()

    def unload(self, name: str, by: str) -> None:
        """Take a model out of service; requests that have begun are still answered.

        It returns when all workers have done it, or after :data:`UNLOAD_SECONDS`.

        Raises:
            UnknownModel: there is none of that name.
            StorageUnavailable: the store cannot be reached; nothing has changed.
        """
        self._catalogue.model(name)
        self._versions.unload(name, by)
        takeover = await_takeover(self._versions, UNLOAD_SECONDS, self._workers)
        if takeover.waiting:
            late = [short_name(report.worker) for report in takeover.waiting]
            log.warning("unload_not_taken_over", model=name, workers=late)

    def load(self, name: str, by: str) -> None:
        """Bring a model back, or try again what failed to load of it; what is loaded stays.

        It returns when all workers have the version that ought to answer.

        Raises:
            UnknownModel: there is none of that name.
            ModelUnavailable: a worker cannot load it, or has not loaded it in time.
            StorageUnavailable: the store cannot be reached; nothing has changed.
        """
        self._catalogue.model(name)
        self._versions.load(name, by)
        seconds = self._load_timeout + LOAD_MARGIN
        takeover = await_takeover(self._versions, seconds, self._workers)
        version = self._catalogue.model(name).wanted.name
        refusals = takeover.refusals(name, int(version))
        if refusals:
            told = f"{len(refusals)} of {len(takeover.done)} workers"
            problem = next(iter(refusals.values()))
            raise ModelUnavailable(
                f"model '{name}' version {version} failed to load on {told}: {problem}"
            )
        if takeover.waiting:
            raise ModelUnavailable(f"model '{name}' is still loading", retry_after=5)
