"""Follows the version store: what it says, this worker's catalogue comes to serve.

One thread looks at the store's revision several times a second. What has to be loaded is loaded on
other threads, so that a version that hangs holds up neither the others nor the way back. As long as
a new version is not there, the one before goes on; so it does when the store cannot be reached.

Loaded are the versions with an alias, and what goes on in place of one that fails. Any other is
loaded by the first request that names it, and freed when nobody has asked it for a while.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Final

import structlog

from portico.serving.artefacts import Artefact
from portico.serving.errors import StorageUnavailable
from portico.serving.loads import Load, Loads
from portico.serving.models import State, Version
from portico.serving.versions import (
    PRODUCTION,
    CatalogueState,
    Traffic,
    VersionState,
    WorkerReport,
)
from portico.serving.workers import HEARTBEAT, has_ended, worker_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.serving.catalogue import Catalogue
    from portico.serving.versions import VersionStore

log = structlog.get_logger(__name__)

POLL: Final = 0.2
"""Seconds between two looks at the revision."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks, at most, at a store that cannot be reached."""

SPARES: Final = 4
"""Versions that nothing but a request wants, and that a worker keeps loaded at most."""


@dataclass(slots=True, eq=False)
class Followed:
    """One model as the store has it.

    Attributes:
        versions: the available ones, by number.
        aliases: from alias to number.
        order: what may answer where a request names no version, the best first: production, and
            what was production before. Where there is no production, the newest first.
    """

    versions: dict[int, Version] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    order: list[Version] = field(default_factory=list)

    def needed(self) -> list[Version]:
        """Return what must be loaded: what has an alias, and the first in order that can be."""
        found = [self.versions[n] for n in self.aliases.values() if n in self.versions]
        for version in self.order:
            if version not in found:
                found.append(version)
            if version.state is not State.FAILED:
                break
        return found


class Follower:
    """Keeps a catalogue at what the version store says.

    Args:
        catalogue: of this worker.
        open_store: opens the version store, on the follower's thread.
        exists: tells cheaply whether there is a store to open; until then nothing is.
        idle: seconds without a request after which a version that nothing else wants is freed.
        load_timeout: seconds that loading one version may take.
        worker: name of this worker in the store; one that is unique without.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        open_store: Callable[[], VersionStore],
        exists: Callable[[], bool] = lambda: True,
        *,
        idle: float = 60.0,
        load_timeout: float = 120.0,
        worker: str = "",
    ) -> None:
        self._catalogue = catalogue
        self._open_store = open_store
        self._exists = exists
        self._idle = idle
        self._worker = worker or worker_name()
        self._store: VersionStore | None = None
        self._state: CatalogueState | None = None
        self._models: dict[str, Followed] = {}
        self._at_paths: set[Version] = set()
        self._events: SimpleQueue[Load | Version | None] = SimpleQueue()
        self._loads = Loads(catalogue, self._events.put, load_timeout)
        self._told = WorkerReport(self._worker, -1, {}, 0.0)
        self._outage = 0.0
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        catalogue.ask = self._events.put
        catalogue.awaits_store = True
        catalogue.awaits_look = True

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until all that the store wanted at the start is loaded or has failed."""
        deadline = monotonic() + seconds
        # Not an event: a signal that ends the process would leave its lock in disorder.
        while self._catalogue.awaits_store and monotonic() < deadline:
            sleep(0.005)

    def close(self) -> None:
        """Stop, and have the store forget this worker."""
        self._is_stopped = True
        self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(2)

    def _run(self) -> None:
        next_look = 0.0
        while not self._is_stopped:
            if monotonic() >= next_look:
                next_look = monotonic() + self._look()
            self._reconcile()
            if self._await_event(next_look - monotonic()) and not self._outage:
                next_look = 0.0  # What was loaded is told at once.
        if self._store is not None and self._told.at:
            try:
                self._store.forget_worker(self._worker)
            except Exception as error:
                log.warning("worker_not_forgotten", error=_first_line(error))

    def _await_event(self, seconds: float) -> bool:
        """Wait until something is to be done; tell whether a load has ended."""
        try:
            event = self._events.get(timeout=max(seconds, 0.001))
        except Empty:
            return False
        if not isinstance(event, Load):
            return False
        self._loads.finish(event)
        if event.version.model in self._models:
            self._show(event.version.model)
        return True

    # With the store.

    def _look(self) -> float:
        """Take over what is new in the store, and tell it; return the seconds until the next look.

        Whatever goes wrong with the store, the worker goes on with what it has.
        """
        try:
            if self._store is None and self._exists():
                self._store = self._open_store()
                _forget_the_dead(self._store)
            if self._store is not None:
                if self._state is None or self._store.revision() != self._state.revision:
                    self._take(self._store, self._store.state())
                self._tell(self._store)
            self._catalogue.lost_store = False
        except Exception as error:
            self._catalogue.lost_store = True
            return self._lost(error)
        finally:
            self._catalogue.awaits_look = False
            if self._state is None:
                self._catalogue.awaits_store = False
        if self._outage:
            log.info("version_store_back")
        self._outage = 0.0
        return POLL

    def _lost(self, error: Exception) -> float:
        if not self._outage:
            log.error("version_store_lost", error=_first_line(error))
        self._outage = min(2 * self._outage or POLL, LONGEST_PAUSE)
        return self._outage

    def _take(self, store: VersionStore, state: CatalogueState) -> None:
        """Follow another state; what it no longer has is let go once it is shown to nobody."""
        models: dict[str, Followed] = {}
        known = {(v.model, v.name): v for v in self._versions()}
        for record in state.versions:
            if record.state is VersionState.AVAILABLE:
                version = known.get((record.model, str(record.version)))
                if version is None or version.source != record:
                    is_unloaded = state.is_unloaded(record.model)
                    version = Version(record, State.UNLOADED if is_unloaded else State.AVAILABLE)
                models.setdefault(record.model, Followed()).versions[record.version] = version
        for name, model in models.items():
            model.aliases = state.aliases.get(name, {})
            model.order = _order(store, name, model)
        names = self._models.keys() | models.keys()
        said = self._state.service if self._state else state.service
        self._models, self._state = models, state
        for name in names:
            self._show(name)
        for version in set(known.values()).difference(self._versions()):
            self._loads.forget(version)
            self._catalogue.drop(version)
        for name in {model.name for model in self._catalogue.models()}:
            self._serve(name, is_told=state.service.get(name) != said.get(name))

    def _serve(self, name: str, *, is_told: bool) -> None:
        """Take a model out of service, or bring it back, as an operator has said.

        Args:
            name: of the model.
            is_told: whether that was said since the last look; then what failed is tried again.
        """
        versions = {*self._catalogue.model(name).versions}
        versions.update(self._models.get(name, Followed()).versions.values())
        is_unloaded = self._state is not None and self._state.is_unloaded(name)
        if is_told:
            log.info("model_unloaded" if is_unloaded else "model_called_back", model=name)
        for version in versions:
            if is_unloaded and version.state is not State.UNLOADED:
                self._loads.forget(version)
                self._catalogue.drop(version, State.UNLOADED)
            elif not is_unloaded and (
                version.state is State.UNLOADED or (is_told and version.state is State.FAILED)
            ):
                self._bring_back(version)

    def _bring_back(self, version: Version) -> None:
        self._loads.forget(version)
        if isinstance(version.source, Artefact):
            self._catalogue.drop(version, State.LOADING)
            self._at_paths.add(version)
        else:
            self._catalogue.drop(version)  # It is loaded where something wants it.

    def _tell(self, store: VersionStore) -> None:
        """Report once everything is as the store wants it, or has failed to be."""
        if self._state is None or self._is_unsettled():
            return
        self._catalogue.awaits_store = False
        now = time()
        report = WorkerReport(self._worker, self._state.revision, self._problems(), now)
        told = self._told
        is_news = (report.revision, report.problems) != (told.revision, told.problems)
        if is_news or now - told.at > HEARTBEAT:
            store.report(report)
            self._told = report

    def _is_unsettled(self) -> bool:
        return any(
            version.state in (State.AVAILABLE, State.LOADING)
            for model in self._models.values()
            for version in model.needed()
        ) or any(version.state is State.LOADING for version in self._at_paths)

    def _problems(self) -> dict[str, str]:
        shown = [version for model in self._catalogue.models() for version in model.versions]
        return {
            f"{version.model}/{version.name}": version.problem
            for version in [*shown, *self._versions()]
            if version.problem
        }

    # With the catalogue.

    def _versions(self) -> Iterator[Version]:
        for model in self._models.values():
            yield from model.versions.values()

    def _show(self, name: str) -> None:
        model = self._models.get(name, Followed())
        traffic = self._state.traffic.get(name, Traffic()) if self._state else Traffic()
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        self._catalogue.show(name, list(model.versions.values()), aliases, model.order, traffic)

    def _reconcile(self) -> None:
        """Begin to load what is wanted and not there; free what is there and not wanted."""
        needed = [version for model in self._models.values() for version in model.needed()]
        for version in needed:
            self._catalogue.call_for(version)
        failed = [version for version in needed if version.state is State.FAILED]
        self._at_paths = {v for v in self._at_paths if v.state is State.LOADING}
        loading = [v for v in self._versions() if v.state is State.LOADING]
        self._loads.start([*loading, *self._at_paths, *failed])
        kept = {*needed, *(self._catalogue.model(name).current for name in self._models)}
        others = [version for version in self._versions() if version not in kept]
        for version in others:
            if version.state is State.FAILED and not self._loads.pauses(version):
                self._catalogue.drop(version)  # The next request for it is a new try.
        spares = [(v.served.last_used, v) for v in others if v.served]
        spares.sort(key=lambda spare: spare[0], reverse=True)
        for place, (last_used, version) in enumerate(spares):
            if place >= SPARES or time() - last_used > self._idle:
                self._catalogue.drop(version)


def _order(store: VersionStore, name: str, model: Followed) -> list[Version]:
    """Return what may answer for a model, the best first."""
    production = model.aliases.get(PRODUCTION)
    if production is None:
        return [model.versions[number] for number in sorted(model.versions, reverse=True)]
    numbers = {production: None}
    if len(model.versions) > 1:
        changes = (change for change in store.history(name) if change.alias == PRODUCTION)
        numbers.update((c.version, None) for c in changes if c.version is not None)
    return [model.versions[number] for number in numbers if number in model.versions]


def _forget_the_dead(store: VersionStore) -> None:
    """Have the store forget workers of this machine that ended without saying so."""
    for report in store.reports(0):
        if has_ended(report.worker):
            store.forget_worker(report.worker)


def _first_line(error: Exception) -> str:
    reason = f": {error.reason}" if isinstance(error, StorageUnavailable) else ""
    return f"{type(error).__name__}: {error}{reason}".splitlines()[0][:300]
