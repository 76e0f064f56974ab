"""Models and versions as one worker knows them, and which version answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from portico.serving.versions import PRODUCTION, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.serving.golden import Golden
    from portico.serving.loader import Source
    from portico.serving.manifest import Manifest
    from portico.serving.service import ServedModel


class State(StrEnum):
    """What a version can do."""

    AVAILABLE = "available"
    """It is not loaded; the first request for it loads it."""

    LOADING = "loading"
    READY = "ready"
    UNREADY = "unready"
    """It is loaded and asked, but it does not answer as it should."""

    FAILED = "failed"
    UNLOADED = "unloaded"
    """An operator took the model out of service; only an operator brings it back."""


_ANSWERING: Final = frozenset({State.READY, State.UNREADY})


@dataclass(slots=True, eq=False)
class Version:
    """One version of a model and what became of loading it.

    Attributes:
        source: where it comes from.
        served: answers; None while it is not loaded.
        problem: why it does not answer, a sentence; empty while it does.
        golden: rows that it must answer, once it was loaded.
        manifest: what import wrote about it; None before, and for a version at a path.
        size: of its files in bytes, once it was loaded.
    """

    source: Source
    state: State = State.LOADING
    served: ServedModel | None = None
    problem: str = ""
    golden: Golden | None = None
    manifest: Manifest | None = None
    size: int | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.source.model

    @property
    def name(self) -> str:
        """The version's number."""
        return str(self.source.version)

    @property
    def answers(self) -> bool:
        """Whether it is loaded, be its answers as they should or not."""
        return self.state in _ANSWERING


@dataclass(slots=True)
class Model:
    """A name and its versions.

    Attributes:
        versions: the newest first.
        aliases: from alias to version, as the version store has them.
        order: who may answer where a request names no version, in that order; by default the
            newest first.
        traffic: shares of the requests that meet the candidate.
    """

    name: str
    versions: list[Version] = field(default_factory=list)
    aliases: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[Version] = ()
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def current(self) -> Version:
        """The first in order that answers, else the first that may yet, else the first of all."""
        order = self.order or self.versions
        answering = (v for v in order if v.answers)
        loading = (v for v in order if v.state is State.LOADING)
        return next(answering, next(loading, order[0]))

    @property
    def wanted(self) -> Version:
        """The version that ought to be the current one."""
        return (self.order or self.versions)[0]

    @property
    def title(self) -> str:
        """What a person calls the model."""
        served = self.current.served
        return served.title if served else self.name

    def named(self) -> dict[str, Version]:
        """Return what each word that may stand for a version in a URL means: numbers, aliases."""
        numbered = {version.name: version for version in self.versions}
        aliases = {a: numbered[n] for a, n in self.aliases.items() if n in numbered}
        # What answers in production's place is production, for whoever asks.
        return {**numbered, **aliases, PRODUCTION: self.current}
