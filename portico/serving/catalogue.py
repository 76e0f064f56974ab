"""The catalogue of one worker: which models and versions there are, and which of them answers.

A version comes from a path, which is fixed at the start, or from the version store, which
:mod:`portico.serving.follower` follows. A version that fails to load never becomes the current one,
and the others go on.

Request threads only read. What changes is swapped as one reference, and the revision grows, so that
what was looked up can be kept until then.
"""

from __future__ import annotations

import math
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

import structlog

from portico.serving.artefacts import Artefact, refuse_repeats
from portico.serving.errors import (
    ArtefactError,
    ModelUnavailable,
    ServingError,
    UnknownModel,
    UnknownVersion,
)
from portico.serving.loader import Loader
from portico.serving.models import Model, State, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from portico.serving.allowance import Allowance
    from portico.serving.loader import Loaded
    from portico.serving.metrics import PredictionMetrics
    from portico.serving.predictions import RecorderOf
    from portico.serving.service import ServedModel
    from portico.serving.versions import ArtefactStore, Traffic

log = structlog.get_logger(__name__)


_STORE_SECONDS: Final = 10.0
"""How long a file that may have been imported waits for the store's word."""

_LOOK_SECONDS: Final = 5.0
"""How long a start waits at most to learn from the store which models are unloaded."""


class Catalogue:
    """Loads artefacts and finds the version that answers.

    Args:
        artefacts: what to load; the same version twice is an :class:`ArtefactError`.
        allowance: which files may execute code.
        metrics: where predictions are counted.
        threads: threads that one run may use.
        concurrency: threads that answer requests in this process.
        recorder_of: gives what each version hands its predictions to.
        store: has the files of the versions that a follower brings.
    """

    def __init__(
        self,
        artefacts: Iterable[Artefact],
        allowance: Allowance,
        metrics: PredictionMetrics,
        *,
        threads: int = 1,
        concurrency: int = 8,
        recorder_of: RecorderOf | None = None,
        store: ArtefactStore | None = None,
    ) -> None:
        self.loader = Loader(
            allowance,
            metrics,
            threads=threads,
            concurrency=concurrency,
            recorder_of=recorder_of,
            artefacts=store,
        )
        self._metrics = metrics
        self._paths = _by_model(artefacts)
        self._models = {name: Model(name, versions) for name, versions in self._paths.items()}
        self._changing = threading.Lock()
        self._has_started = False
        self._caches: list[Callable[[], None]] = []
        self.revision = 0
        """Grows with each change, so that what was looked up can be kept until then."""
        self.ask: Callable[[Version], None] = _nobody
        """Is told of a version that is available and was asked; a follower loads it."""
        self.awaits_store = False
        """Whether a follower has yet to bring what the store wanted at the start."""
        self.awaits_look = False
        """Whether a follower has yet to look at the store for the first time."""
        self.lost_store = False
        """Whether a follower cannot reach the store, so that nobody knows what it wants."""

    def load(self, wait: float | None = None) -> None:
        """Load every version at a path in the background.

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
        """Return one version of a model by number or alias, or its current one.

        Raises:
            UnknownModel: there is none of that name.
            UnknownVersion: the model has no such version.
        """
        model = self.model(name)
        if version is None:
            return model.current
        found = model.named().get(version)
        if found is None:
            known = ", ".join(v.name for v in model.versions)
            raise UnknownVersion(f"model '{name}' has no version '{version[:20]}'; it has: {known}")
        return found

    def served(self, name: str, version: str | None = None) -> ServedModel:
        """Return a version that answers; one that is only available is loaded from now on.

        Raises:
            UnknownModel: there is none of that name.
            UnknownVersion: the model has no such version.
            ModelUnavailable: it is loading, or it failed to load.
        """
        found = self.version(name, version)
        served = found.served
        if served is not None:
            return served
        self.call_for(found)
        if found.state is State.UNLOADED:
            raise ModelUnavailable(f"model '{name}' was unloaded by an operator")
        if found.state is State.FAILED:
            raise ModelUnavailable(f"model '{name}' version {found.name} failed to load")
        raise ModelUnavailable(f"model '{name}' is loading", retry_after=1)

    def call_for(self, version: Version) -> None:
        """Have a version loaded that is only available."""
        with self._changing:
            if version.state is not State.AVAILABLE:
                return
            version.state = State.LOADING
        self.ask(version)

    def is_starting(self) -> bool:
        """Tell whether something has yet to be loaded, or to fail, for the first time."""
        if self.awaits_store or self._has_started:
            return self.awaits_store
        return any(
            version.state is State.LOADING
            for versions in self._paths.values()
            for version in versions
        )

    def is_ready(self) -> bool:
        """Tell whether the start is over and no version is without an answer."""
        without = (State.FAILED, State.UNREADY)
        return not self.is_starting() and not any(
            version.state in without for model in self.models() for version in model.versions
        )

    def close(self) -> None:
        """Free every artefact."""
        for model in self.models():
            for version in model.versions:
                served = version.served
                if served:
                    served.close()

    # What a loader, a follower and a health check do to it.

    def show(
        self,
        name: str,
        stored: Sequence[Version],
        aliases: Mapping[str, str],
        order: Sequence[Version],
        traffic: Traffic,
    ) -> None:
        """Put what the store has of a model in place of what was shown of it before.

        A version at a path goes on beside it, until the store's of the same number answers.

        Args:
            name: of the model.
            stored: its available versions.
            aliases: from alias to version.
            order: who of ``stored`` may answer where a request names no version; what is at a
                path comes after them. Empty for the newest.
            traffic: shares of its requests that meet the candidate.
        """
        by_name = {v.name: v for v in stored}
        kept = [v for v in self._paths.get(name, ()) if not _replaced(v, by_name.get(v.name))]
        if name in self._paths:
            self._paths[name] = kept
        by_name.update((v.name, v) for v in kept)
        versions = sorted(by_name.values(), key=lambda v: int(v.name), reverse=True)
        ordered = [by_name[v.name] for v in order]
        ordered += [v for v in kept if order and v not in ordered]
        with self._changing:
            if versions:
                model = Model(name, versions, dict(aliases), ordered, traffic)
                self._models = {**self._models, name: model}
            else:
                self._models = {n: model for n, model in self._models.items() if n != name}
            self.revision += 1

    def settle(self, version: Version, loaded: Loaded) -> None:
        """Note that a version was loaded and answers."""
        served = loaded.served
        with self._changing:
            if version.state is State.UNLOADED:
                return  # An operator was faster; nobody holds what was loaded.
            version.golden, version.manifest = loaded.golden, loaded.manifest
            version.problem, version.served, version.size = "", served, loaded.size
            version.state = State.READY
        self._changed(version, 1)
        self._metrics.info.labels(version.model, version.name, served.platform, served.sha256).set(
            1
        )

    def fail(self, version: Version, problem: str) -> None:
        """Note that a version could not be loaded."""
        with self._changing:
            if version.state is State.UNLOADED:
                return
            is_news = problem != version.problem
            version.problem, version.state = problem, State.FAILED
        self._changed(version, 0)
        if is_news:
            log.error(
                "model_failed", model=version.model, version=version.name, problem=problem
            )  # fmt: skip

    def judge(self, version: Version, problem: str) -> None:
        """Note whether a loaded version answers as it should; it is asked all the same."""
        with self._changing:
            if not version.answers or problem == version.problem:
                return
            version.problem = problem
            version.state = State.UNREADY if problem else State.READY
        self._changed(version, 0 if problem else 1)
        tell = log.error if problem else log.info
        event = "model_unready" if problem else "model_ready_again"
        tell(event, model=version.model, version=version.name, problem=problem)

    def drop(self, version: Version, left: State = State.AVAILABLE) -> None:
        """Let go of a version; it is closed when the last request that holds it is done.

        Args:
            version: loaded or not.
            left: the state in which it is left.
        """
        with self._changing:
            served, version.served = version.served, None
            version.state, version.problem = left, ""
        # A gauge that several processes write cannot be taken back: NaN says that nothing is said.
        self._changed(version, math.nan)
        if served:
            for forget in self._caches:
                forget()
            self._metrics.info.labels(
                version.model, version.name, served.platform, served.sha256
            ).set(0)

    def tell_dropped(self, forget: Callable[[], None]) -> None:
        """Have a function called after a version was dropped, to free what it has kept of it."""
        self._caches.append(forget)

    def open(self, version: Version) -> Loaded | str:
        """Open a version; return why not, in a sentence, where that fails."""
        try:
            return self.loader.open(version.source)
        except ServingError as error:
            return error.message
        except Exception as error:
            log.exception("model_failed", model=version.model, version=version.name)
            return f"{type(error).__name__} while loading; the log has the details"

    def _changed(self, version: Version, ready: float) -> None:
        with self._changing:
            self.revision += 1
        self._metrics.ready.labels(version.model, version.name).set(ready)

    def _is_imported(self, version: Version) -> bool:
        """Tell whether the store has a version in place of the file at a path.

        A start imports what is no ONNX before its workers run, so they wait for the store's word
        rather than load a framework for nothing.
        """
        deadline = monotonic() + _STORE_SECONDS
        while self.awaits_store and monotonic() < deadline:
            sleep(0.005)
        return version not in self._paths.get(version.model, ())

    def _load_all(self) -> None:
        started = monotonic()
        paths = [version for each in self._paths.values() for version in each]
        versions: list[Version] = []
        deadline = started + _LOOK_SECONDS
        while self.awaits_look and monotonic() < deadline:
            sleep(0.005)
        for version in sorted(paths, key=_is_native):
            if _is_native(version) and self._is_imported(version):
                continue
            if version.state is State.UNLOADED:
                continue
            versions.append(version)
            self._metrics.ready.labels(version.model, version.name).set(0)
            opened = self.open(version)
            if isinstance(opened, str):
                self.fail(version, opened)
            else:
                self.settle(version, opened)
        self._has_started = True
        ready = sum(version.state is State.READY for version in versions)
        seconds = round(monotonic() - started, 2)
        failed = sum(version.state is State.FAILED for version in versions)
        log.info("models_loaded", ready=ready, failed=failed, seconds=seconds)


def _nobody(version: Version) -> None:
    """Stand in for a follower: without one no version is only available."""


def _by_model(artefacts: Iterable[Artefact]) -> dict[str, list[Version]]:
    """Return the versions of each model, the newest first."""
    ordered = sorted(artefacts, key=lambda artefact: int(artefact.version), reverse=True)
    refuse_repeats(ordered)
    models: dict[str, list[Version]] = {}
    for artefact in ordered:
        models.setdefault(artefact.model, []).append(Version(artefact))
    return models


def _is_native(version: Version) -> bool:
    """Tell whether a version at a path is run by the framework that it was made with."""
    try:
        return isinstance(version.source, Artefact) and version.source.file().suffix != ".onnx"
    except (ArtefactError, OSError):
        return False  # To load it is to be told why.


def _replaced(version: Version, stored: Version | None) -> bool:
    """Tell whether the store's version takes the place of one at a path."""
    waits = version.answers or version.state is State.UNLOADED
    return stored is not None and (stored.answers or not waits)
