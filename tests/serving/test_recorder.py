"""Predictions reach the log, whatever becomes of the database, and never more than fit wait."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from doubling import ask, serve
from prometheus_client import CollectorRegistry, Counter

from portico.serving.card import LogCard, ModelCard
from portico.serving.errors import StorageUnavailable
from portico.serving.predictions import Prediction
from portico.serving.recorder import PredictionLog, Retention
from portico.storage.database import open_database
from portico.storage.predictions import DatabasePredictionStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from portico.serving.segments import Segment, Stack
    from portico.serving.service import ServedModel
    from portico.storage.database import Database

FOREVER = Retention(1e9, 10**12)
ROW = np.array([[1.0]])


class Unsteady(DatabasePredictionStore):
    """A log whose database goes away and comes back."""

    is_away = False

    def write(self, segments: Sequence[Segment]) -> None:
        if self.is_away:
            raise StorageUnavailable("the gateway's database cannot be used now", "pulled out")
        super().write(segments)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(open_database(f"sqlite:///{tmp_path}/portico.db")) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> Unsteady:
    return Unsteady(database)


class Losses:
    """Counts what is dropped."""

    def __init__(self) -> None:
        self.counter = Counter("dropped", "-", ["model"], registry=CollectorRegistry())

    def __int__(self) -> int:
        return int(
            sum(
                sample.value
                for m in self.counter.collect()
                for sample in m.samples
                if sample.name.endswith("_total")
            )
        )


@pytest.fixture
def lost() -> Losses:
    return Losses()


def recorded(log: PredictionLog, **card: Any) -> ServedModel:
    served = serve(card=ModelCard(log=LogCard(**card)))
    served.recorder = log.recorder(served)
    return served


def slow(store: Unsteady, lost: Losses, **options: Any) -> PredictionLog:
    """Make a log whose thread does nothing by itself while a test runs."""
    return PredictionLog(lambda: store, lost.counter, FOREVER, interval=3600, **options)


def wait_for(store: DatabasePredictionStore, prediction: Prediction) -> float:
    """Return the seconds until a prediction is found."""
    began = time.monotonic()
    while store.find(prediction.id) is None:
        assert time.monotonic() < began + 10
        time.sleep(0.01)
    return time.monotonic() - began


def test_predictions_are_found_a_moment_after_they_were_made(store: Unsteady, lost: Losses) -> None:
    with closing(PredictionLog(lambda: store, lost.counter, FOREVER, interval=0.1)) as log:
        served = recorded(log)
        asked = [ask(served, np.array([[float(n)]]), who="ada") for n in range(50)]
        assert wait_for(store, asked[-1]) < 5
    for n, prediction in enumerate(asked):
        found = store.find(prediction.id)
        assert found is not None
        assert found.who == "ada"
        assert found.outputs is not None
        assert found.outputs["y"].tolist() == [[2.0 * n]]
    assert int(lost) == 0


def test_a_log_that_is_closed_has_written_everything(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost)
    asked = [ask(recorded(log), ROW) for _ in range(10)]
    log.close()
    assert all(store.find(prediction.id) for prediction in asked)


def test_a_log_that_is_never_used_opens_nothing(lost: Losses) -> None:
    def refuse() -> Unsteady:
        raise AssertionError

    PredictionLog(refuse, lost.counter, FOREVER).close()


def test_a_full_buffer_drops_and_counts(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost, waiting=100)
    served = recorded(log)
    asked = [ask(served, ROW) for _ in range(130)]
    log.close()
    assert sum(store.find(prediction.id) is not None for prediction in asked) == 100
    assert int(lost) == 30


def test_large_predictions_take_no_more_memory_than_they_may(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost, capacity=100_000)
    served = recorded(log)
    for _ in range(20):
        ask(served, np.zeros((1000, 1)))
    assert int(lost) == 20 - 100_000 // 16_000
    log.flush()
    ask(served, np.zeros((1000, 1)))
    assert int(lost) == 14
    log.close()


def test_predictions_over_the_cap_are_logged_without_their_tensors(
    store: Unsteady, lost: Losses
) -> None:
    log = slow(store, lost)
    served = recorded(log, max_bytes=160)
    fits, too_large = ask(served, np.zeros((10, 1))), ask(served, np.zeros((11, 1)))
    log.close()
    kept, bare = store.find(fits.id), store.find(too_large.id)
    assert kept is not None
    assert kept.inputs is not None
    assert bare is not None
    assert (bare.inputs, bare.outputs, bare.rows) == (None, None, 11)


def test_a_model_may_keep_inputs_out_or_be_left_out(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost)
    private, absent = ask(recorded(log, inputs=False), ROW), ask(recorded(log, enabled=False), ROW)
    log.close()
    found = store.find(private.id)
    assert found is not None
    assert found.inputs is found.outputs is None
    assert store.find(absent.id) is None


def test_what_failed_is_logged_as_well(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost)
    served = recorded(log)
    texts = np.array([["a"]], dtype=object)
    with pytest.raises(TypeError):
        ask(served, texts)
    log.close()
    assert [found.outcome for found in store.of_user("", 10)] == ["failed"]


def test_predictions_wait_for_a_database_that_is_away(store: Unsteady, lost: Losses) -> None:
    with closing(PredictionLog(lambda: store, lost.counter, FOREVER, interval=0.05)) as log:
        served = recorded(log)
        store.is_away = True
        first = ask(served, ROW)
        time.sleep(0.3)
        store.is_away = False
        assert wait_for(store, first) < 5
    assert int(lost) == 0


def test_a_database_that_cannot_be_opened_is_tried_again(store: Unsteady, lost: Losses) -> None:
    tries = []

    def open_store() -> Unsteady:
        tries.append(1)
        if len(tries) == 1:
            raise StorageUnavailable("the gateway's database cannot be used now", "starting")
        return store

    with closing(PredictionLog(open_store, lost.counter, FOREVER, interval=0.05)) as log:
        assert wait_for(store, ask(recorded(log), ROW)) < 5


def test_what_a_database_misses_for_too_long_is_dropped_and_counted(
    store: Unsteady, lost: Losses
) -> None:
    log = slow(store, lost, capacity=10_000)
    served = recorded(log)
    store.is_away = True
    asked = []
    for _ in range(20):
        asked.append(ask(served, np.zeros((100, 1))))
        log.flush()
    assert 10 < int(lost) < 20
    store.is_away = False
    log.close()
    assert [store.find(prediction.id) is None for prediction in asked] == [
        index < int(lost) for index in range(20)
    ]


def test_a_log_that_ends_while_the_database_is_away_counts_what_is_lost(
    store: Unsteady, lost: Losses
) -> None:
    log = slow(store, lost)
    store.is_away = True
    for _ in range(5):
        ask(recorded(log), ROW)
    log.close()
    assert int(lost) == 5


def test_what_no_text_can_hold_is_dropped_alone(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost)
    served = recorded(log)
    good, bad = ask(served, ROW), Prediction("twice", "1", "")
    bad.inputs = {"x": np.array(["\ud800"], dtype=object)}
    log.recorder(served)(bad)
    log.close()
    assert store.find(good.id) is not None
    assert store.find(bad.id) is None
    assert int(lost) == 1


def test_what_the_database_refuses_keeps_nobody_waiting(store: Unsteady, lost: Losses) -> None:
    log = slow(store, lost)
    served = recorded(log)
    ask(served, ROW).who = "\ud800"
    log.flush()
    later = ask(served, ROW)
    log.close()
    assert store.find(later.id) is not None
    assert int(lost) == 1


def test_an_observer_sees_what_the_log_leaves_out(store: Unsteady, lost: Losses) -> None:
    class Rows:
        seen = ticks = 0

        def add(self, served: ServedModel) -> None:
            pass

        def observe(self, stacks: Iterable[Stack]) -> None:
            self.seen += sum(int(stack.rows.sum()) for stack in stacks)

        def tick(self) -> None:
            self.ticks += 1

    rows = Rows()
    log = slow(store, lost, observer=rows)
    for card in ({}, {"inputs": False}, {"enabled": False}, {"max_bytes": 0}):
        ask(recorded(log, **card), np.zeros((3, 1)))
    log.close()
    assert rows.seen == 12
    assert rows.ticks == 1


def test_what_is_too_old_is_forgotten(store: Unsteady, lost: Losses) -> None:
    log = PredictionLog(lambda: store, lost.counter, Retention(0.0, 10**12), interval=0.05)
    with closing(log):
        served = recorded(log)
        prediction = ask(served, ROW)
        wait_for(store, prediction)
        log._next_prune = 0.0
        ask(served, ROW)
        deadline = time.monotonic() + 10
        while store.find(prediction.id):
            assert time.monotonic() < deadline
            time.sleep(0.01)
