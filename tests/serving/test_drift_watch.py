"""Rows served are counted by each worker, and told for all workers together."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from doubling import ask, serve
from prometheus_client import CollectorRegistry, Counter

from portico.serving import drift_watch
from portico.serving.drift import Reference
from portico.serving.drift_report import Level
from portico.serving.drift_watch import DriftWatch
from portico.serving.metrics import DriftMetrics
from portico.serving.recorder import PredictionLog, Retention
from portico.storage.database import open_database
from portico.storage.drift import DatabaseDriftStore
from portico.storage.predictions import DatabasePredictionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.storage.database import Database

NORMAL = np.random.default_rng(7).normal(size=(1000, 1))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(open_database(database_url)) as opened:
        yield opened


class Worker:
    """Serves the model in one process, as far as its log and its watch go."""

    def __init__(self, database: Database, *, has_reference: bool = True) -> None:
        self.registry = CollectorRegistry()
        store, log = DatabaseDriftStore(database), DatabasePredictionStore(database)
        self.watch = DriftWatch(lambda: store, DriftMetrics(self.registry), interval=0.0)
        dropped = Counter("dropped", "-", ["model"], registry=CollectorRegistry())
        self.log = PredictionLog(
            lambda: log, dropped, Retention(1e9, 10**12), observer=self.watch, interval=3600
        )
        self.served = serve()
        if has_reference:
            self.served.reference = Reference.of(
                self.served.signature, {"x": NORMAL}, {"y": NORMAL * 2}
            )
        self.served.recorder = self.log.recorder(self.served)

    def serve(self, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
        ask(self.served, rows)
        self.log.flush()

    def level(self) -> Level | None:
        report = self.watch.report("twice", "1")
        return report.level if report else None

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"model": "twice", "version": "1", **labels})


def test_rows_like_the_examples_are_no_drift_and_others_are(database: Database) -> None:
    worker = Worker(database)
    with closing(worker.log):
        worker.serve(NORMAL[:400])
        assert worker.level() is Level.NONE
        worker.serve(NORMAL[:400] + 5)
        assert worker.level() is Level.LARGE
        psi = worker.metric("portico_drift_psi", feature="x")
        assert psi is not None
        assert psi > 0.25
        assert worker.metric("portico_drift_features", level="large") == 2
        assert worker.metric("portico_drift_rows") == 800
        assert worker.metric("portico_drift_unseen_share", feature="prediction") == pytest.approx(
            0.5, abs=0.05
        )


def test_workers_count_together(database: Database) -> None:
    one, other = Worker(database), Worker(database)
    with closing(one.log), closing(other.log):
        for _ in range(2):
            one.serve(NORMAL[:100])
            other.serve(NORMAL[100:300])
        for worker in (one, other):
            report = worker.watch.report("twice", "1")
            assert report is not None
            assert report.rows == 600
            assert report.level is Level.NONE


def test_the_first_rows_served_are_the_reference_where_the_import_had_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_watch, "FIRST_ROWS", 300)
    one, other = Worker(database, has_reference=False), Worker(database, has_reference=False)
    with closing(one.log), closing(other.log):
        one.serve(NORMAL[:200])
        assert one.level() is None
        one.serve(NORMAL[200:400])
        one.serve(NORMAL[400:600])
        other.serve(NORMAL[:100] + 9)
        other.serve(NORMAL[:300] + 9)
        for worker in (one, other):
            report = worker.watch.report("twice", "1")
            assert report is not None
            assert report.reference_rows == 400
        assert other.level() is Level.LARGE


def test_many_rows_are_sampled(database: Database) -> None:
    worker = Worker(database)
    with closing(worker.log):
        worker.serve(np.repeat(NORMAL, 4, axis=0))
        report = worker.watch.report("twice", "1")
        assert report is not None
        assert 400 <= report.rows <= 500
        assert report.level is Level.NONE


def test_old_stretches_are_forgotten(database: Database) -> None:
    store = DatabaseDriftStore(database)
    for began in (600, 1200):
        store.set_counts("m", "1", "r", began, "w", b"x")
    store.set_counts("m", "1", "r", 1200, "w", b"y")
    assert store.counts("m", "1", "r", 600) == [b"x", b"y"]
    assert store.counts("m", "1", "r", 601) == [b"y"]
    store.prune(1000)
    assert store.counts("m", "1", "r", 0) == [b"y"]


def test_the_first_reference_stays(database: Database) -> None:
    store = DatabaseDriftStore(database)
    assert store.reference("m", "1", "a") is None
    assert store.add_reference("m", "1", "a", b"one") == b"one"
    assert store.add_reference("m", "1", "a", b"two") == b"one"
    assert store.reference("m", "1", "a") == b"one"
