"""Taking models out of service and bringing them back: what each worker makes of it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from tiny_onnx import double, saved
from version_shop import Shop, says, soon

from portico.serving import loader
from portico.serving.errors import ModelUnavailable, UnknownModel
from portico.serving.models import State
from portico.serving.repository import ModelRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from version_shop import Worker


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A store with a model in two versions, and a model at a path."""
    with closing(Shop(tmp_path)) as made:
        saved(tmp_path / "paths" / "at path" / "1" / "model.onnx", double())
        made.publish(10)
        made.publish(20)
        yield made


def repository(shop: Shop, worker: Worker, workers: int = 1) -> ModelRepository:
    return ModelRepository(
        worker.catalogue, lambda: shop.versions, workers=workers, load_timeout=20.0
    )


def check_unloaded(worker: Worker, model: str) -> None:
    for version in (None, "1"):
        with pytest.raises(ModelUnavailable, match=f"'{model}' was unloaded") as caught:
            worker.catalogue.served(model, version)
        assert caught.value.retry_after is None
    assert {v.state for v in worker.catalogue.model(model).versions} == {State.UNLOADED}
    assert worker.catalogue.is_ready()
    assert not worker.catalogue.is_starting()


@pytest.mark.parametrize("model", ["m", "at path"])
def test_two_workers_agree_within_a_second(shop: Shop, model: str) -> None:
    workers = [shop.worker(), shop.worker()]
    one = repository(shop, workers[0], 2)
    other = {"m": "at path", "at path": "m"}[model]
    served = [worker.catalogue.served(other) for worker in workers]
    began = time.monotonic()
    one.unload(model, "ada")
    for worker in workers:
        check_unloaded(worker, model)
    assert time.monotonic() - began < 1
    one.load(model, "ada")
    for worker in workers:
        assert worker.says(model) == {"m": 10, "at path": 0}[model]
        assert worker.catalogue.is_ready()
    assert [worker.catalogue.served(other) for worker in workers] == served


def test_loading_what_is_loaded_loads_nothing(shop: Shop) -> None:
    worker = shop.worker()
    before = [worker.catalogue.served(name) for name in ("m", "at path")]
    for name in ("m", "at path"):
        repository(shop, worker).load(name, "ada")
    assert [worker.catalogue.served(name) for name in ("m", "at path")] == before


def test_a_worker_that_starts_later_does_not_serve_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = loader.open_runtime

    def open_runtime(path: Path, *rest: Any) -> Any:
        opened.append(str(path))
        return real(path, *rest)

    monkeypatch.setattr(loader, "open_runtime", open_runtime)
    for name in ("m", "at path"):
        shop.versions.unload(name, "ada")
    worker = shop.worker()
    for name in ("m", "at path"):
        check_unloaded(worker, name)
    assert opened == []


def test_a_gateway_without_versions_follows_too(tmp_path: Path) -> None:
    with closing(Shop(tmp_path)) as shop:
        saved(tmp_path / "paths" / "m" / "1" / "model.onnx", double())
        workers = [shop.worker(), shop.worker()]
        repository(shop, workers[0], 2).unload("m", "ada")
        for worker in workers:
            check_unloaded(worker, "m")
        shop.agree()


def test_requests_that_have_begun_are_answered_and_then_the_memory_is_free(shop: Shop) -> None:
    worker = shop.worker()
    for name in ("m", "at path"):
        held = worker.catalogue.served(name)
        answer = says(held)
        closed: list[bool] = []
        weakref.finalize(held._batcher._runtime, closed.append, True)
        repository(shop, worker).unload(name, "ada")
        assert says(held) == answer
        assert not closed
        del held
        gc.collect()
        assert closed


def test_an_unloaded_model_stays_so_whatever_is_imported_or_promoted(shop: Shop) -> None:
    worker = shop.worker()
    repository(shop, worker).unload("m", "ada")
    shop.promote(2)
    shop.publish(30, promote=True)
    shop.agree()
    check_unloaded(worker, "m")
    repository(shop, worker).load("m", "ada")
    assert worker.says() == 30


def test_a_version_without_alias_is_not_loaded_by_a_request(shop: Shop) -> None:
    shop.publish(30)
    worker = shop.worker()
    repository(shop, worker).unload("m", "ada")
    version = worker.catalogue.version("m", "2")
    worker.catalogue.call_for(version)
    assert version.state is State.UNLOADED
    repository(shop, worker).load("m", "ada")
    assert version.state is State.AVAILABLE


def test_a_load_that_ends_after_the_unload_comes_to_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = shop.worker()
    asked, go = threading.Event(), threading.Event()
    real = loader.open_runtime

    def open_runtime(*arguments: Any) -> Any:
        asked.set()
        assert go.wait(20)
        return real(*arguments)

    monkeypatch.setattr(loader, "open_runtime", open_runtime)
    for name in ("m", "at path"):
        shop.versions.unload(name, "ada")
    shop.agree()
    for name in ("m", "at path"):
        asked.clear()
        shop.versions.load(name, "ada")
        assert asked.wait(10)
        assert not worker.catalogue.is_starting(), "the others are ready all the while"
        shop.versions.unload(name, "ada")
        soon(lambda n=name: worker.catalogue.model(n).current.state is State.UNLOADED)
    go.set()
    time.sleep(0.5)
    for name in ("m", "at path"):
        check_unloaded(worker, name)
        repository(shop, worker).load(name, "ada")
        assert worker.catalogue.served(name)


@pytest.mark.parametrize("model", ["m", "at path"])
def test_a_load_tries_again_what_failed_and_says_why_it_fails_again(shop: Shop, model: str) -> None:
    file = shop.folder / "paths" / "at path" / "1" / "model.onnx" if model != "m" else shop.file(1)
    whole = file.read_bytes()
    file.write_bytes(b"no model")
    worker = shop.worker()
    with pytest.raises(ModelUnavailable, match=r"version 1 failed to load on 1 of 1 workers: .+"):
        repository(shop, worker).load(model, "ada")
    file.write_bytes(whole)
    repository(shop, worker).load(model, "ada")
    assert worker.catalogue.served(model).version == "1"


def test_an_unknown_model_leaves_no_trace(shop: Shop) -> None:
    one = repository(shop, shop.worker())
    for action in (one.load, one.unload):
        with pytest.raises(UnknownModel):
            action("nobody", "ada")
    assert shop.versions.state().service == {}
