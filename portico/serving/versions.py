"""Versions, aliases and traffic as every worker of every machine sees them, and who keeps them.

A version is reserved, then published: until then nobody sees it, and a reservation whose import
died is swept away by the next start. Each change that workers must follow raises the revision.
Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PRODUCTION: Final = "production"
"""The alias of the version that answers where a request names none."""

CANDIDATE: Final = "candidate"
"""The alias of the version that canary, shadow and replay try."""

ALIASES: Final = (PRODUCTION, CANDIDATE)


class VersionState(StrEnum):
    """Where a version stands in its life."""

    IMPORTING = "importing"
    AVAILABLE = "available"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One immutable version of a model.

    Attributes:
        digest: sha256 of its manifest, which names its folder in the artefact store.
        by: who imported it.
    """

    model: str
    version: int
    digest: str
    state: VersionState
    created: float
    by: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """Shares, 0 to 1, of a model's requests that meet the candidate.

    Attributes:
        canary: answered by the candidate.
        shadow: answered by production, and run on the candidate as well, for comparison.
    """

    canary: float = 0.0
    shadow: float = 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """What an operator last said about a model as a whole, wherever its versions come from.

    Attributes:
        is_unloaded: no worker serves it, until an operator loads it.
        revision: that it was said at; saying it again is another one.
    """

    is_unloaded: bool
    revision: int
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class AliasChange:
    """An alias that was moved; ``version`` is None where it was removed."""

    model: str
    alias: str
    version: int | None
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """One consistent state of the catalogue.

    Attributes:
        versions: available and retired ones, by model and number.
        aliases: from model to alias to version.
        traffic: of the models that have any.
        service: of the models that an operator has ever loaded or unloaded, those at paths too.
    """

    revision: int = 0
    versions: tuple[VersionRecord, ...] = ()
    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    service: Mapping[str, Service] = field(default_factory=dict)

    def is_unloaded(self, model: str) -> bool:
        """Tell whether an operator took a model out of service."""
        service = self.service.get(model)
        return service is not None and service.is_unloaded


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What one worker has made of the catalogue.

    Attributes:
        worker: a name unique among all machines.
        revision: the last one that it has taken over completely.
        problems: from "NAME/VERSION" to why it does not serve that.
        at: when it was told.
    """

    worker: str
    revision: int
    problems: Mapping[str, str]
    at: float


class VersionStore(Protocol):
    """Keeps versions and aliases. Each method is atomic, and durable once it has returned."""

    def revision(self) -> int:
        """Return the present revision; cheap enough to be asked several times a second."""
        ...

    def state(self) -> CatalogueState:
        """Return one consistent state; reservations are left out."""
        ...

    def reserve(self, model: str, version: int | None, by: str) -> VersionRecord:
        """Reserve a number for an import: ``version``, or the next one; invisible so far.

        Raises:
            VersionExists: that number was given before, be it retired or reserved.
        """
        ...

    def publish(self, model: str, version: int, digest: str, *, promote: bool) -> None:
        """Make a reserved version available.

        It becomes ``production`` if ``promote`` is set or the model has none, else ``candidate``.

        Raises:
            UnknownVersion: it was not reserved, or swept away meanwhile.
        """
        ...

    def abandon(self, model: str, version: int) -> None:
        """Give a reservation back."""
        ...

    def sweep(self, before: float) -> Sequence[VersionRecord]:
        """Give back and return reservations made before a time: their imports have died."""
        ...

    def set_alias(self, model: str, alias: str, version: int, by: str) -> int | None:
        """Move an alias and return the version it stood on; promoting the candidate unsets that.

        Raises:
            UnknownModel, UnknownVersion: there is no such available version.
        """
        ...

    def remove_alias(self, model: str, alias: str, by: str) -> None:
        """Remove an alias; one that is not there is no error."""
        ...

    def rollback(self, model: str, by: str) -> int:
        """Move ``production`` back to the version before, and return that.

        Raises:
            UnknownModel: there is no such model.
            UnknownVersion: there was none before, or it is retired.
        """
        ...

    def retire(self, model: str, version: int, by: str) -> None:
        """Take a version out of service for good; its record and artefact stay.

        Raises:
            UnknownModel, UnknownVersion: there is no such available version.
            VersionInUse: an alias stands on it.
        """
        ...

    def set_traffic(self, model: str, traffic: Traffic, by: str) -> None:
        """Set the shares of the candidate.

        Raises:
            UnknownModel: there is no such model.
            UnknownVersion: a share is not 0, and the model has no candidate.
        """
        ...

    def unload(self, model: str, by: str) -> None:
        """Take a model out of service until it is loaded; it may be one that only paths have."""
        ...

    def load(self, model: str, by: str) -> None:
        """Put a model into service, and have workers try again what they failed to load of it."""
        ...

    def history(self, model: str) -> Sequence[AliasChange]:
        """Return how the aliases were moved, the latest first."""
        ...

    def report(self, report: WorkerReport) -> None:
        """Keep a worker's word, in place of its last one."""
        ...

    def reports(self, since: float) -> Sequence[WorkerReport]:
        """Return the last word of each worker heard since a time."""
        ...

    def forget_worker(self, worker: str) -> None:
        """Remove the word of a worker that ends."""
        ...


class ArtefactStore(Protocol):
    """Keeps the folders of versions by digest; a folder is there wholly or not at all."""

    def put(self, digest: str, folder: Path) -> None:
        """Store a folder whose ``manifest.json`` has this sha256; one that is there stays.

        Raises:
            ArtefactError: no room, or the store cannot be reached.
        """
        ...

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the version's files; the caller checks them.

        Raises:
            ArtefactError: it is not there, or the store cannot be reached.
        """
        ...

    def remove(self, digest: str) -> None:
        """Remove a folder; one that is not there is no error."""
        ...

    def digests(self) -> frozenset[str]:
        """Return the digests of all folders."""
        ...
