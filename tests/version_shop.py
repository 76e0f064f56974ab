"""A version store with an artefact store, and workers in this process that follow it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry

from loadtests.versions import publish
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.follower import Follower
from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.versions import PRODUCTION, WorkerReport
from portico.serving.workers import worker_name
from portico.storage.artefacts import LocalArtefacts
from portico.storage.database import open_database
from portico.storage.opening import has_catalogue
from portico.storage.versions import DatabaseVersionStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.serving.models import State
    from portico.serving.service import ServedModel


class Worker:
    """A catalogue and its follower, as a worker process has them."""

    def __init__(self, folder: Path, url: str, **options: Any) -> None:
        self.registry = CollectorRegistry()
        paths = folder / "paths"
        self.catalogue = Catalogue(
            find_artefacts(paths) if paths.exists() else [],
            Allowance.of(folder),
            PredictionMetrics(self.registry),
            store=LocalArtefacts(folder / "artefacts"),
        )
        self.name = options.setdefault("worker", worker_name())
        self.follower = Follower(
            self.catalogue,
            lambda: DatabaseVersionStore(open_database(url)),
            lambda: has_catalogue(url),
            **options,
        )
        self.follower.start()
        self.catalogue.load(30)
        self.follower.wait(30)

    def says(self, model: str = "m", version: str | None = None) -> float:
        """Ask the model, and return the number that its answer is made of."""
        return says(self.catalogue.served(model, version))

    def state(self, version: int, model: str = "m") -> State:
        return self.catalogue.version(model, str(version)).state

    def metric(self, version: int) -> float | None:
        labels = {"model": "m", "version": str(version)}
        return self.registry.get_sample_value("portico_model_ready", labels)

    def close(self) -> None:
        self.follower.close()
        self.catalogue.close()


def says(served: ServedModel) -> float:
    prediction = Prediction(served.name, served.version, "")
    prediction.inputs = {"x": np.zeros((3, 2), np.float32)}
    (answer,) = set(served.infer(prediction)["y"].ravel().tolist())
    served.complete(prediction)
    return float(answer)


def soon(fact: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something has become true."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)


class Shop:
    """A version store and an artefact store, and workers that follow them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/portico.db"
        self.database = open_database(self.url)
        self.artefacts = LocalArtefacts(folder / "artefacts")
        self._workers: list[Worker] = []

    @property
    def versions(self) -> DatabaseVersionStore:
        return DatabaseVersionStore(self.database)

    def publish(self, value: float, **options: Any) -> int:
        return publish(self.versions, self.artefacts, "m", value, **options)

    def promote(self, version: int) -> None:
        self.versions.set_alias("m", PRODUCTION, version, "test")

    def worker(self, **options: Any) -> Worker:
        worker = Worker(self.folder, self.url, **options)
        self._workers.append(worker)
        return worker

    def file(self, version: int) -> Path:
        """Return the model file of a version in the artefact store."""
        (digest,) = (r.digest for r in self.versions.state().versions if r.version == version)
        return self.artefacts.fetch(digest) / "model.onnx"

    def agree(self) -> list[WorkerReport]:
        """Wait until each worker has told that it took the present revision over."""
        revision = self.versions.revision()
        names = {worker.name for worker in self._workers}

        def reports() -> list[WorkerReport]:
            return [r for r in self.versions.reports(0) if r.worker in names]

        soon(lambda: [r.revision for r in reports()] == [revision] * len(names))
        return reports()

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self.database.close()
