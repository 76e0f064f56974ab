"""The catalogue: which models and versions there are, and which of them can answer.

A version is in one of three states; one that fails to load never becomes the current one, and the
others go on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from portico.serving.artefacts import refuse_repeats, sha256_of
from portico.serving.card import describe, read_card
from portico.serving.codecs.image_fit import with_image
from portico.serving.errors import (
    ModelUnavailable,
    ServingError,
    UnknownModel,
    UnknownVersion,
)
from portico.serving.gate import Gate
from portico.serving.runtimes.registry import open_runtime
from portico.serving.service import ServedModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portico.serving.allowance import Allowance
    from portico.serving.artefacts import Artefact
    from portico.serving.metrics import PredictionMetrics
    from portico.serving.predictions import Recorder

log = structlog.get_logger(__name__)


class State(StrEnum):
    """What a version can do."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(slots=True)
class Version:
    """One version of a model and what became of loading it."""

    artefact: Artefact
    state: State = State.LOADING
    served: ServedModel | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The version's number."""
        return self.artefact.version


@dataclass(slots=True)
class Model:
    """A name and its versions, the newest first."""

    name: str
    versions: list[Version] = field(default_factory=list)

    @property
    def current(self) -> Version:
        """The newest version that answers, else one that may yet, else the newest of all."""
        ready = (v for v in self.versions if v.state is State.READY)
        loading = (v for v in self.versions if v.state is State.LOADING)
        return next(ready, next(loading, self.versions[0]))

    @property
    def title(self) -> str:
        """What a person calls the model."""
        served = self.current.served
        return served.title if served else self.name


class Catalogue:
    """Loads artefacts and finds the version that answers.

    Args:
        artefacts: what to load; the same version twice is an :class:`ArtefactError`.
        allowance: which files may execute code.
        metrics: where predictions are counted.
        threads: threads that one run may use.
        concurrency: runs of one model at once, where its card leaves it open.
        recorder: is handed each completed prediction.
    """

    def __init__(
        self,
        artefacts: Iterable[Artefact],
        allowance: Allowance,
        metrics: PredictionMetrics,
        *,
        threads: int = 1,
        concurrency: int = 8,
        recorder: Recorder | None = None,
    ) -> None:
        self._models = _models(artefacts)
        self._allowance = allowance
        self._metrics = metrics
        self._threads = threads
        self._concurrency = concurrency
        self._recorder = recorder
        self.revision = 0
        """Grows with each change, so that what was looked up can be kept until then."""

    def load(self, wait: float | None = None) -> None:
        """Load every version in the background.

        Args:
            wait: seconds to wait for it at most; None waits until all is loaded or has failed.
        """
        loading = threading.Thread(target=self._load_all, name="catalogue", daemon=True)
        loading.start()
        # Not an event: a signal that ends the process would leave its lock in disorder.
        loading.join(wait)

    def models(self) -> Sequence[Model]:
        """Return the models in the order of their names."""
        return sorted(self._models.values(), key=lambda model: model.name)

    def model(self, name: str) -> Model:
        """Return a model by name.

        Raises:
            UnknownModel: there is none of that name.
        """
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModel(f"there is no model '{name[:100]}'") from None

    def version(self, name: str, version: str | None = None) -> Version:
        """Return one version of a model, or its current one.

        Raises:
            UnknownModel: there is none of that name.
            UnknownVersion: the model has no such version.
        """
        model = self.model(name)
        if version is None:
            return model.current
        for candidate in model.versions:
            if candidate.name == version:
                return candidate
        known = ", ".join(v.name for v in model.versions)
        raise UnknownVersion(f"model '{name}' has no version '{version[:20]}'; it has: {known}")

    def served(self, name: str, version: str | None = None) -> ServedModel:
        """Return a version that answers.

        Raises:
            UnknownModel: there is none of that name.
            UnknownVersion: the model has no such version.
            ModelUnavailable: it is loading, or it failed to load.
        """
        found = self.version(name, version)
        if found.served is not None:
            return found.served
        if found.state is State.LOADING:
            raise ModelUnavailable(f"model '{name}' is loading", retry_after=1)
        raise ModelUnavailable(f"model '{name}' version {found.name} failed to load")

    def is_ready(self) -> bool:
        """Tell whether each version can answer."""
        return all(
            version.state is State.READY
            for model in self._models.values()
            for version in model.versions
        )

    def close(self) -> None:
        """Free every artefact."""
        for model in self._models.values():
            for version in model.versions:
                if version.served:
                    version.served.close()

    def _load_all(self) -> None:
        started = monotonic()
        versions = [version for model in self._models.values() for version in model.versions]
        for version in versions:
            self._load(version)
        ready = sum(version.state is State.READY for version in versions)
        seconds = round(monotonic() - started, 2)
        log.info("models_loaded", ready=ready, failed=len(versions) - ready, seconds=seconds)

    def _load(self, version: Version) -> None:
        artefact = version.artefact
        ready = self._metrics.ready.labels(artefact.model, artefact.version)
        ready.set(0)
        try:
            version.served = self._open(artefact)
        except ServingError as error:
            version.problem = error.message
        except Exception as error:
            log.exception("model_failed", model=artefact.model, version=artefact.version)
            version.problem = f"{type(error).__name__} while loading; the log has the details"
        version.state = State.READY if version.served else State.FAILED
        self.revision += 1
        if version.served:
            ready.set(1)
            self._metrics.info.labels(
                artefact.model, artefact.version, version.served.platform, version.served.sha256
            ).set(1)
        else:
            log.error(
                "model_failed",
                model=artefact.model, version=artefact.version, problem=version.problem,
            )  # fmt: skip

    def _open(self, artefact: Artefact) -> ServedModel:
        card = read_card(artefact.folder)
        file = artefact.file()
        runtime = open_runtime(file, self._threads, self._allowance)
        signature = with_image(runtime.signature, card)
        meter = self._metrics.meter(artefact.model, artefact.version)
        return ServedModel(
            name=artefact.model,
            version=artefact.version,
            sha256=sha256_of(file),
            card=card,
            signature=describe(signature, card),
            runtime=runtime,
            gate=Gate(card.limits, self._concurrency, meter.waiting),
            meter=meter,
            recorder=self._recorder,
        )


def _models(artefacts: Iterable[Artefact]) -> dict[str, Model]:
    ordered = sorted(artefacts, key=lambda artefact: int(artefact.version), reverse=True)
    refuse_repeats(ordered)
    models: dict[str, Model] = {}
    for artefact in ordered:
        model = models.setdefault(artefact.model, Model(artefact.model))
        model.versions.append(Version(artefact))
    return models
