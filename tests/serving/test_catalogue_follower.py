"""Following the version store: what is loaded, who answers, and what a failure leaves as it was."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from structlog.testing import CapturingLogger
from tiny_onnx import double, saved
from version_shop import Shop, says, soon

from portico.serving import follower as module
from portico.serving import loader
from portico.serving.errors import ModelUnavailable, UnknownModel, UnknownVersion
from portico.serving.models import State
from portico.serving.versions import CANDIDATE, PRODUCTION, Traffic, WorkerReport
from portico.serving.workers import living, worker_name
from portico.storage.database import open_database
from portico.storage.versions import DatabaseVersionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from portico.storage.database import Database


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(tmp_path)) as made:
        yield made


# Who answers.


def test_a_worker_starts_with_production_and_candidate(shop: Shop) -> None:
    for value in (10, 20, 30):
        shop.publish(value)
    worker = shop.worker()
    assert worker.says() == worker.says(version="production") == worker.says(version="1") == 10
    assert worker.says(version="candidate") == worker.says(version="3") == 30
    assert worker.catalogue.served("m", "candidate").version == "3"
    assert worker.state(2) is State.AVAILABLE


def test_a_version_without_alias_is_loaded_by_the_first_request(shop: Shop) -> None:
    for value in (10, 20, 30):
        shop.publish(value)
    worker = shop.worker()
    with pytest.raises(ModelUnavailable) as caught:
        worker.says(version="2")
    assert caught.value.retry_after == 1
    soon(lambda: worker.state(2) is State.READY)
    assert worker.says(version="2") == 20
    assert worker.catalogue.is_ready()


def test_a_promote_and_a_rollback_are_followed_within_a_second(shop: Shop) -> None:
    shop.publish(10)
    shop.publish(20)
    worker = shop.worker()
    for move, answer in [
        (lambda: shop.promote(2), 20),
        (lambda: shop.versions.rollback("m", "test"), 10),
    ]:
        before = worker.catalogue.revision
        began = time.monotonic()
        move()
        soon(lambda wanted=answer: worker.says() == wanted)
        assert time.monotonic() - began < 1
        assert worker.catalogue.revision > before
        shop.agree()


def test_what_was_imported_while_the_server_runs_is_served(shop: Shop) -> None:
    worker = shop.worker()
    assert worker.catalogue.models() == []
    shop.publish(10)
    soon(worker.catalogue.models)
    soon(lambda: worker.state(1) is State.READY)
    assert worker.says() == 10


def test_a_retired_version_is_gone(shop: Shop) -> None:
    for value in (10, 20, 30):
        shop.publish(value)
    worker = shop.worker()
    shop.versions.retire("m", 2, "test")
    shop.agree()
    with pytest.raises(UnknownVersion, match="it has: 3, 1"):
        worker.says(version="2")


def test_a_model_whose_last_version_is_retired_is_gone(shop: Shop) -> None:
    shop.publish(10)
    worker = shop.worker()
    shop.versions.remove_alias("m", PRODUCTION, "test")
    shop.versions.retire("m", 1, "test")
    shop.agree()
    with pytest.raises(UnknownModel):
        worker.says()


def test_without_production_the_newest_answers(shop: Shop) -> None:
    for value in (10, 20):
        shop.publish(value)
    shop.versions.remove_alias("m", PRODUCTION, "test")
    assert shop.worker().says() == 20


def test_the_shares_of_traffic_are_known(shop: Shop) -> None:
    for value in (10, 20):
        shop.publish(value)
    worker = shop.worker()
    shop.versions.set_traffic("m", Traffic(canary=0.1), "test")
    shop.agree()
    assert worker.catalogue.model("m").traffic == Traffic(canary=0.1)


# Beside versions at paths.


def test_the_store_wins_over_a_path_once_its_version_answers(shop: Shop) -> None:
    saved(shop.folder / "paths" / "m" / "1" / "model.onnx", double())
    saved(shop.folder / "paths" / "other" / "1" / "model.onnx", double())
    worker = shop.worker()
    assert worker.says() == 0
    shop.publish(10)
    soon(lambda: worker.says() == 10)
    assert [v.name for v in worker.catalogue.model("m").versions] == ["1"]
    assert worker.catalogue.served("other")


def test_a_path_goes_on_where_the_version_of_the_store_fails(shop: Shop) -> None:
    saved(shop.folder / "paths" / "m" / "1" / "model.onnx", double())
    worker = shop.worker()
    shop.publish(10, answers=11)
    (report,) = shop.agree()
    assert worker.says() == 0
    assert "m/1" in report.problems


# What fails.


def test_a_wrong_golden_answer_leaves_the_old_version_on(shop: Shop) -> None:
    shop.publish(10)
    worker = shop.worker()
    shop.publish(20, answers=21, promote=True)
    (report,) = shop.agree()
    assert worker.says() == worker.says(version="production") == 10
    assert worker.state(2) is State.FAILED
    assert report.problems == {"m/2": "the golden rows give another 'y' than at import"}
    assert worker.metric(2) == 0
    assert worker.metric(1) == 1
    assert not worker.catalogue.is_ready()
    with pytest.raises(ModelUnavailable, match="version 2 failed to load"):
        worker.says(version="2")


def test_a_changed_file_is_refused_and_comes_back_when_it_is_mended(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.serving.loads.FIRST_PAUSE", 0.1)
    shop.publish(10)
    shop.publish(20)
    file = shop.file(2)
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    worker = shop.worker()
    shop.promote(2)
    (report,) = shop.agree()
    assert "'model.onnx' was changed after the import" in report.problems["m/2"]
    assert str(shop.folder) not in report.problems["m/2"]
    assert worker.says() == 10
    file.write_bytes(whole)
    soon(lambda: worker.says() == 20)
    soon(lambda: shop.agree()[0].problems == {})


def test_a_new_worker_falls_back_to_what_was_in_production_before(shop: Shop) -> None:
    for value in (10, 20, 30, 40):
        shop.publish(value)
    for version in (2, 3):
        shop.promote(version)
    shop.file(3).unlink()
    worker = shop.worker()
    assert worker.says() == 20, "neither the newest nor the candidate, which nobody promoted"
    assert worker.state(1) is State.AVAILABLE


def test_a_version_nobody_promoted_never_stands_in(shop: Shop) -> None:
    shop.publish(10)
    shop.publish(20)
    shop.file(1).unlink()
    worker = shop.worker()
    assert worker.says(version="candidate") == 20
    with pytest.raises(ModelUnavailable, match="version 1 failed to load"):
        worker.says()


def test_a_version_that_hangs_while_loading_blocks_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(10)
    worker = shop.worker(load_timeout=0.3)
    go = threading.Event()
    real = loader.open_runtime

    def open_runtime(path: Path, *rest: Any) -> Any:
        assert path != shop.file(2) or go.wait(20)
        return real(path, *rest)

    monkeypatch.setattr(loader, "open_runtime", open_runtime)
    shop.publish(20, promote=True)
    (report,) = shop.agree()
    assert report.problems == {"m/2": "it was not loaded within 0.3 seconds"}
    assert worker.says() == 10
    shop.publish(30, promote=True)
    soon(lambda: worker.says() == 30)
    go.set()
    soon(lambda: worker.state(2) in (State.READY, State.AVAILABLE))


def test_a_store_that_is_lost_leaves_all_as_it_is(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = CapturingLogger()
    monkeypatch.setattr(module, "log", told)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.3)
    shop.publish(10)
    shop.publish(20)
    worker = shop.worker()
    real = DatabaseVersionStore.revision

    def lost(_: Any) -> int:
        raise OSError("no such host")

    monkeypatch.setattr(DatabaseVersionStore, "revision", lost)
    soon(lambda: worker.catalogue.lost_store)
    time.sleep(1)
    assert worker.says() == 10
    assert [call.args for call in told.calls] == [("version_store_lost",)]
    monkeypatch.setattr(DatabaseVersionStore, "revision", real)
    shop.promote(2)
    soon(lambda: worker.says() == 20)
    soon(lambda: not worker.catalogue.lost_store)


# What is freed.


def test_the_old_version_is_closed_when_the_last_request_is_done(shop: Shop) -> None:
    shop.publish(10)
    shop.publish(20)
    worker = shop.worker(idle=0.0)
    held = worker.catalogue.served("m")
    closed: list[bool] = []
    weakref.finalize(held._batcher._runtime, closed.append, True)
    shop.promote(2)
    soon(lambda: worker.state(1) is State.AVAILABLE)
    assert says(held) == 10, "a request that has begun is answered by the version it began with"
    assert not closed
    del held
    assert closed, "nothing but the request held it, no cycle either"
    assert worker.metric(1) != worker.metric(1), "nothing is said of what is not loaded"


def test_what_is_still_asked_by_number_stays_loaded(shop: Shop) -> None:
    shop.publish(10)
    shop.publish(20)
    worker = shop.worker(idle=0.5)
    shop.promote(2)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert worker.says(version="1") == 10
        time.sleep(0.02)
    soon(lambda: worker.state(1) is State.AVAILABLE)
    with pytest.raises(ModelUnavailable):
        worker.says(version="1")
    soon(lambda: worker.state(1) is State.READY)


def test_so_many_versions_without_alias_are_loaded_at_most(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARES", 1)
    for value in range(5):
        shop.publish(value)
    worker = shop.worker()
    for number in (2, 3, 4):
        worker.catalogue.call_for(worker.catalogue.version("m", str(number)))
        soon(lambda n=number: worker.state(n) is State.READY)
    soon(lambda: [worker.state(n) for n in (2, 3, 4)].count(State.READY) == 1)
    assert worker.state(1) is worker.state(5) is State.READY


# What is told.


def test_nothing_is_opened_before_there_is_a_version(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_it(url: str) -> Database:
        opened.append(url)
        return open_database(url)

    monkeypatch.setattr("version_shop.open_database", open_it)
    saved(shop.folder / "paths" / "m" / "1" / "model.onnx", double())
    worker = shop.worker()
    assert worker.says() == 0
    time.sleep(0.5)
    assert not opened
    shop.publish(10)
    soon(lambda: worker.says() == 10)
    assert opened == [shop.url]


def test_a_worker_that_ends_is_forgotten(shop: Shop) -> None:
    shop.publish(10)
    worker = shop.worker()
    shop.agree()
    worker.follower.close()
    assert shop.versions.reports(0) == []


def test_workers_of_this_machine_that_were_killed_are_forgotten(shop: Shop) -> None:
    shop.publish(10)
    host = worker_name().partition(":")[0]
    now = time.time()
    for name in (f"{host}:999999999:aa", "elsewhere:1:bb"):
        shop.versions.report(WorkerReport(name, 1, {}, now))
    assert [r.worker for r in living(shop.versions.reports(0), now)] == ["elsewhere:1:bb"]
    worker = shop.worker()
    soon(lambda: len(shop.versions.reports(0)) == 2)
    assert {r.worker for r in shop.versions.reports(0)} == {worker.name, "elsewhere:1:bb"}


def test_an_alias_stands_for_its_number(shop: Shop) -> None:
    shop.publish(10)
    shop.publish(20)
    worker = shop.worker()
    names = worker.catalogue.model("m").named()
    assert {word: version.name for word, version in names.items()} == {
        "1": "1", "2": "2", PRODUCTION: "1", CANDIDATE: "2",
    }  # fmt: skip
