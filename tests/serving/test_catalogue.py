"""The catalogue: which versions there are, which answers, and what a broken one breaks."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

import numpy as np
from prometheus_client import CollectorRegistry
from tiny_onnx import classifier, double, saved

from portico.serving import loader as module
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts, sha256_of
from portico.serving.catalogue import Catalogue
from portico.serving.errors import (
    ArtefactError,
    ModelUnavailable,
    UnknownModel,
    UnknownVersion,
)
from portico.serving.metrics import PredictionMetrics
from portico.serving.models import State
from portico.serving.predictions import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two models: one whose newest version is broken, and one that is whole."""
    folder = tmp_path / "models"
    for version in ("1", "2", "10"):
        saved(folder / "iris" / version / "model.onnx", classifier())
    (folder / "iris" / "10" / "model.onnx").write_bytes(b"no model")
    saved(folder / "double" / "1" / "model.onnx", double())
    (folder / "double" / "model.toml").write_text('title = "Twice"')
    return folder


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def catalogue_of(folder: Path, registry: CollectorRegistry | None = None) -> Catalogue:
    metrics = PredictionMetrics(registry or CollectorRegistry())
    return Catalogue(find_artefacts(folder), Allowance.of(folder / "state"), metrics)


@pytest.fixture
def loaded(models: Path, registry: CollectorRegistry) -> Iterator[Catalogue]:
    catalogue = catalogue_of(models, registry)
    catalogue.load(30)
    yield catalogue
    catalogue.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make each file open only once this is set."""
    go = threading.Event()
    real = module.open_runtime

    def open_runtime(*arguments: Any) -> Any:
        assert go.wait(10)
        return real(*arguments)

    monkeypatch.setattr(module, "open_runtime", open_runtime)
    yield go
    go.set()


def states(catalogue: Catalogue, name: str) -> dict[str, State]:
    return {version.name: version.state for version in catalogue.model(name).versions}


def test_models_come_in_the_order_of_their_names_and_versions_newest_first(
    loaded: Catalogue,
) -> None:
    assert [model.name for model in loaded.models()] == ["double", "iris"]
    assert [version.name for version in loaded.model("iris").versions] == ["10", "2", "1"]


def test_the_newest_version_that_loads_is_the_current_one(loaded: Catalogue) -> None:
    assert loaded.model("iris").current.name == "2"
    assert loaded.served("iris").version == "2"
    assert loaded.version("iris").name == "2"
    assert loaded.served("iris", "1").version == "1"


def test_a_broken_version_takes_no_other_along(loaded: Catalogue) -> None:
    assert states(loaded, "iris") == {"10": State.FAILED, "2": State.READY, "1": State.READY}
    assert states(loaded, "double") == {"1": State.READY}
    assert "cannot be opened as ONNX" in loaded.version("iris", "10").problem
    with pytest.raises(ModelUnavailable, match="'iris' version 10 failed to load") as caught:
        loaded.served("iris", "10")
    assert caught.value.retry_after is None


def test_what_is_not_there_is_told_with_what_is(loaded: Catalogue) -> None:
    with pytest.raises(UnknownModel, match="no model 'rose'"):
        loaded.served("rose")
    with pytest.raises(UnknownVersion, match="no version '3'; it has: 10, 2, 1"):
        loaded.served("iris", "3")
    with pytest.raises(UnknownVersion):
        loaded.version("iris", "01")
    with pytest.raises(UnknownModel) as caught:
        loaded.model("x" * 5000)
    assert len(caught.value.message) < 200


def test_ready_is_only_what_is_ready_whole(models: Path, loaded: Catalogue) -> None:
    assert not loaded.is_ready()
    whole = catalogue_of(models / "double")
    assert not whole.is_ready()
    whole.load(30)
    assert whole.is_ready()


def test_what_the_card_says_is_known(loaded: Catalogue) -> None:
    assert loaded.model("double").title == "Twice"
    assert loaded.model("iris").title == "iris"
    assert loaded.served("double").card.title == "Twice"


def test_a_wrong_card_fails_the_model_with_the_reason(models: Path) -> None:
    (models / "double" / "model.toml").write_text("tilte = 1")
    catalogue = catalogue_of(models)
    catalogue.load(30)
    version = catalogue.version("double")
    assert version.state is State.FAILED
    assert "model.toml" in version.problem
    assert "tilte" in version.problem
    assert catalogue.served("iris").version == "2"


def test_what_nobody_expected_fails_the_version_without_details(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(module, "open_runtime", broken)
    catalogue = catalogue_of(models)
    catalogue.load(30)
    assert catalogue.version("double").problem.startswith("RuntimeError while loading")
    assert "secret" not in catalogue.version("double").problem


def test_a_pickle_that_was_not_allowed_fails_alone(models: Path) -> None:
    file = models / "pickled" / "1" / "model.joblib"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no pickle")
    catalogue = catalogue_of(models)
    catalogue.load(30)
    assert "portico models allow PATH" in catalogue.version("pickled").problem
    assert catalogue.served("double")


def test_the_same_version_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    saved(tmp_path / "a" / "iris" / "1" / "model.onnx", double())
    saved(tmp_path / "b" / "iris" / "01" / "model.onnx", double())
    both = find_artefacts(tmp_path / "a") + find_artefacts(tmp_path / "b")
    with pytest.raises(ArtefactError, match=r"'iris' version 1 is given twice: .*a/iris.*b/iris"):
        Catalogue(both, Allowance.of(tmp_path), PredictionMetrics(CollectorRegistry()))


def test_versions_of_one_model_may_lie_in_several_places(tmp_path: Path) -> None:
    saved(tmp_path / "a" / "iris" / "1" / "model.onnx", double())
    saved(tmp_path / "b" / "iris" / "2" / "model.onnx", double())
    both = find_artefacts(tmp_path / "a") + find_artefacts(tmp_path / "b")
    catalogue = Catalogue(both, Allowance.of(tmp_path), PredictionMetrics(CollectorRegistry()))
    assert [v.name for v in catalogue.model("iris").versions] == ["2", "1"]


# While it loads.


def test_who_does_not_wait_finds_models_that_are_loading(
    models: Path, slow: threading.Event
) -> None:
    catalogue = catalogue_of(models)
    begin = monotonic()
    catalogue.load(0)
    assert monotonic() - begin < 1
    assert set(states(catalogue, "iris").values()) == {State.LOADING}
    with pytest.raises(ModelUnavailable, match="'iris' is loading") as caught:
        catalogue.served("iris")
    assert caught.value.retry_after == 1
    assert not catalogue.is_ready()
    with pytest.raises(UnknownModel):
        catalogue.served("rose")
    slow.set()


def test_who_waits_a_little_goes_on_with_what_is_there(models: Path, slow: threading.Event) -> None:
    catalogue = catalogue_of(models)
    begin = monotonic()
    catalogue.load(0.05)
    assert 0.04 < monotonic() - begin < 2
    assert not catalogue.is_ready()
    slow.set()


def test_who_waits_for_all_gets_all(models: Path, slow: threading.Event) -> None:
    threading.Timer(0.05, slow.set).start()
    catalogue = catalogue_of(models)
    catalogue.load()
    assert State.LOADING not in states(catalogue, "iris").values()
    assert catalogue.served("double")


def test_an_older_version_answers_until_the_newest_is_there(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = catalogue_of(models)
    catalogue.load(30)
    model = catalogue.model("iris")
    monkeypatch.setattr(model.versions[0], "state", State.LOADING)
    assert catalogue.served("iris").version == "2"


def test_the_revision_grows_with_each_change(models: Path) -> None:
    catalogue = catalogue_of(models)
    assert catalogue.revision == 0
    catalogue.load(30)
    assert catalogue.revision >= 4


# What is counted.


def test_the_metrics_tell_what_is_ready_and_from_which_file(
    loaded: Catalogue, registry: CollectorRegistry, models: Path
) -> None:
    def ready(model: str, version: str) -> float | None:
        labels = {"model": model, "version": version}
        return registry.get_sample_value("portico_model_ready", labels)

    assert (ready("iris", "2"), ready("iris", "10"), ready("double", "1")) == (1, 0, 1)
    info = {
        "model": "double",
        "version": "1",
        "runtime": "onnx_onnxv1",
        "sha256": sha256_of(models / "double" / "1" / "model.onnx"),
    }
    assert registry.get_sample_value("portico_model_info", info) == 1
    assert loaded.served("double").sha256 == info["sha256"]


def test_threads_and_concurrency_reach_the_models(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = module.open_runtime

    def open_runtime(path: Path, threads: int, allowance: Allowance) -> Any:
        asked.append(threads)
        return real(path, threads, allowance)

    monkeypatch.setattr(module, "open_runtime", open_runtime)
    metrics = PredictionMetrics(CollectorRegistry())
    artefacts = find_artefacts(models / "double")
    catalogue = Catalogue(artefacts, Allowance.of(models), metrics, threads=3, concurrency=1)
    catalogue.load(30)
    assert asked == [3]
    prediction = Prediction("double", "1", "")
    prediction.inputs = {"x": np.ones((1, 2), np.float32)}
    assert catalogue.served("double").infer(prediction)["y"].tolist() == [[2, 2]]
