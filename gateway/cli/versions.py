"""The version store of a state folder, as commands look into it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gateway.settings import SettingsError
from portico.serving.errors import UnknownModel, UnknownVersion
from portico.serving.manifest import peek_manifest
from portico.serving.versions import PRODUCTION, VersionState
from portico.serving.workers import SILENCE, living, short_name
from portico.storage.opening import has_versions, open_artefacts, open_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.settings import Settings
    from portico.serving.manifest import Manifest
    from portico.serving.versions import (
        ArtefactStore,
        CatalogueState,
        VersionRecord,
        VersionStore,
        WorkerReport,
    )
    from portico.serving.workers import Takeover


@dataclass(frozen=True)
class Stores:
    """The stores of a state folder, and what they say at one moment."""

    versions: VersionStore
    artefacts: ArtefactStore

    @cached_property
    def state(self) -> CatalogueState:
        """The catalogue as it was when it was first looked at."""
        return self.versions.state()

    @cached_property
    def workers(self) -> Sequence[WorkerReport]:
        """What the workers said that lived then."""
        now = time.time()
        return living(self.versions.reports(now - SILENCE), now)

    def manifest(self, record: VersionRecord) -> Manifest:
        """Return what import wrote about a version.

        Raises:
            ArtefactError: it is not there, or was changed.
        """
        return peek_manifest(self.artefacts.fetch(record.digest), record.digest)

    def aliases_of(self, record: VersionRecord) -> list[str]:
        """Return the aliases that stand on a version."""
        aliases = self.state.aliases.get(record.model, {})
        return [alias for alias, number in aliases.items() if number == record.version]

    def find(self, name: str, version: str = "") -> VersionRecord:
        """Return a version by number or alias; without one that in production, else the newest.

        Raises:
            UnknownModel: there is none of that name.
            UnknownVersion: the model has no such version.
        """
        records = [record for record in self.state.versions if record.model == name]
        if not records:
            known = ", ".join(sorted({record.model for record in self.state.versions}))
            raise UnknownModel(f"the catalogue has no model '{name}'; it has: {known}")
        aliases = self.state.aliases.get(name, {})
        wanted = str(aliases.get(version or PRODUCTION, version or records[-1].version))
        for record in records:
            if str(record.version) == wanted:
                return record
        known = ", ".join([*(str(record.version) for record in records), *aliases])
        raise UnknownVersion(f"model '{name}' has no version '{version}'; it has: {known}")

    def served_by(self, record: VersionRecord) -> str:
        """Say in a few words what the workers make of a version."""
        if record.state is VersionState.RETIRED:
            return ""
        if self.state.is_unloaded(record.model):
            return f"unloaded by {self.state.service[record.model].by}"
        if not self.workers:
            return "no server runs"
        key = f"{record.model}/{record.version}"
        failing = [worker for worker in self.workers if key in worker.problems]
        total = len(self.workers)
        if failing:
            return f"fails on {len(failing)} of {total}: {failing[0].problems[key]}"
        if not self.aliases_of(record):
            return "loaded when asked"
        done = [w for w in self.workers if w.revision >= self.state.revision]
        return f"ready on {len(done)} of {total}"


def has_stores(settings: Settings) -> bool:
    """Tell whether there is a catalogue, without making one."""
    return has_versions(settings.database_url)


def open_stores(settings: Settings) -> Stores:
    """Open the stores that the settings name.

    Raises:
        SettingsError: there is no catalogue.
    """
    if not has_stores(settings):
        raise SettingsError(
            f"state: '{settings.state}' holds no versions; name the server's folder with --state"
        )
    return Stores(
        open_versions(settings.database_url), open_artefacts(settings.artefacts_url, settings.state)
    )


def takeover_in_words(takeover: Takeover, name: str, version: int) -> Iterator[str]:
    """Say which workers have taken a version over, and why others have not."""
    refusals = takeover.refusals(name, version)
    total = len(takeover.done) + len(takeover.waiting)
    if not total:
        yield "no server runs now; the next one serves it from its start"
        return
    fine = len(takeover.done) - len(refusals)
    workers = "worker" if total == 1 else "workers"
    yield f"taken over by {fine} of {total} {workers} in {takeover.seconds:.1f} s"
    for worker, problem in refusals.items():
        yield f"{short_name(worker)} goes on with the version before: {problem}"
    for report in takeover.waiting:
        ago = max(time.time() - report.at, 0)
        yield f"{short_name(report.worker)} is not there yet; it was heard {ago:.0f} s ago"
