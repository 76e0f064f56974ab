"""A state folder with its stores, to import into and to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portico.serving.allowance import Allowance
from portico.serving.importing.confinement import Limits
from portico.serving.importing.importer import Importer
from portico.serving.importing.order import Imported, Order
from portico.serving.manifest import read_manifest
from portico.storage.opening import database_url, open_artefacts, open_versions

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.versions import ArtefactStore, VersionStore


@dataclass
class House:
    """A state folder with its stores, and what was reported."""

    state: Path
    versions: VersionStore
    artefacts: ArtefactStore
    limits: Limits = field(
        default_factory=lambda: Limits(seconds=60, memory=8 << 30, disk=256 << 20, source=128 << 20)
    )
    reported: list[str] = field(default_factory=list)

    @property
    def allowance(self) -> Allowance:
        return Allowance.of(self.state)

    @property
    def importer(self) -> Importer:
        return Importer(
            self.state, self.versions, self.artefacts, self.allowance, self.limits,
            report=self.reported.append,
        )  # fmt: skip

    def run(self, file: Path, **order: Any) -> Imported:
        return self.importer.run(Order(file=file, **order))

    def folder(self, imported: Imported) -> Path:
        """Return the stored folder of a version, after checking each of its files."""
        (record,) = [
            r
            for r in self.versions.state().versions
            if (r.model, r.version) == (imported.model, imported.version)
        ]
        folder = self.artefacts.fetch(record.digest)
        read_manifest(folder, record.digest)
        return folder

    def leftovers(self) -> list[str]:
        """Name what lies about beside the versions that the catalogue has."""
        known = {record.digest for record in self.versions.state().versions}
        staging = self.state / "staging"
        found = [str(path) for path in staging.iterdir()] if staging.exists() else []
        return found + sorted(self.artefacts.digests() - known)


def house_at(state: Path) -> House:
    state.mkdir(parents=True, exist_ok=True)
    return House(state, open_versions(database_url(state)), open_artefacts("", state))
