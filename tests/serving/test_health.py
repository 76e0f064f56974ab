"""Health: what turns a loaded version unready, what does not, and how it comes back."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

import numpy as np
from prometheus_client import CollectorRegistry
from tiny_onnx import double, saved
from version_shop import Shop, soon

from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.errors import ModelFailed, ModelRefused, QueueFull, ServingError
from portico.serving.health import Health
from portico.serving.metrics import PredictionMetrics
from portico.serving.models import State
from portico.serving.predictions import Prediction
from portico.serving.runtimes.onnx import ONNXModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from portico.serving.tensors import Tensors

INTERVAL = 0.05
CARD = "[limits]\ndeadline = 0.3\nqueue_rows = 2\nconcurrency = 1\n"


class Patient:
    """A runtime whose runs do what a test says: ``sick`` names the model that does not run."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.runs = 0
        self.behave: Callable[[], None] = lambda: None

    def hang(self) -> None:
        assert self.go.wait(20)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """Make the runs of every model but ``well`` behave as this says."""
    told = Patient()
    real = ONNXModel.run

    def run(self: ONNXModel, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        if "sick" in [spec.name for spec in self.signature.inputs]:
            told.runs += 1
            told.behave()
        return real(self, inputs, outputs)

    monkeypatch.setattr(ONNXModel, "run", run)
    yield told
    told.go.set()


class Ward:
    """A catalogue that is checked, with one model that may fall sick and one that does not."""

    def __init__(self, folder: Path) -> None:
        from tiny_onnx import FLOAT, model, node

        sick = model(
            [node("Add", ["sick", "sick"], ["y"])], [("sick", FLOAT, ("n", 2))],
            [("y", FLOAT, ("n", 2))],
        )  # fmt: skip
        saved(folder / "m" / "sick" / "1" / "model.onnx", sick)
        (folder / "m" / "sick" / "model.toml").write_text(CARD)
        saved(folder / "m" / "well" / "1" / "model.onnx", double())
        self.registry = CollectorRegistry()
        metrics = PredictionMetrics(self.registry)
        self.catalogue = Catalogue(find_artefacts(folder / "m"), Allowance.of(folder), metrics)
        self.catalogue.load(30)
        self.version = self.catalogue.version("sick")
        self.health = Health(self.catalogue, INTERVAL)

    def ask(self) -> None:
        served = self.catalogue.served("sick")
        prediction = Prediction("sick", "1", "")
        prediction.inputs = {"sick": np.ones((1, 2), np.float32)}
        try:
            served.infer(prediction)
        except Exception as error:
            served.fail(prediction, error)
            raise
        served.complete(prediction)

    def gauge(self) -> float | None:
        labels = {"model": "sick", "version": "1"}
        return self.registry.get_sample_value("portico_model_ready", labels)

    def turns(self, state: State) -> None:
        soon(lambda: self.version.state is state)
        assert self.catalogue.version("well").state is State.READY
        assert bool(self.version.problem) is (state is State.UNREADY)
        assert self.gauge() == (1 if state is State.READY else 0)
        assert self.catalogue.is_ready() is (state is State.READY)


@pytest.fixture
def ward(tmp_path: Path, patient: Patient) -> Iterator[Ward]:
    made = Ward(tmp_path)
    made.health.start()
    yield made
    patient.go.set()
    made.health.close()
    made.catalogue.close()


def test_a_model_that_hangs_turns_unready_and_comes_back(ward: Ward, patient: Patient) -> None:
    patient.behave = patient.hang
    ward.turns(State.UNREADY)
    patient.go.set()
    ward.turns(State.READY)


def test_a_model_that_hangs_under_load_turns_unready(ward: Ward, patient: Patient) -> None:
    patient.behave = patient.hang

    def ask() -> None:
        with suppress(ServingError):
            ward.ask()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    ward.turns(State.UNREADY)
    patient.go.set()
    for thread in threads:
        thread.join()
    ward.turns(State.READY)


def test_a_model_that_fails_turns_unready_and_is_asked_all_the_same(
    ward: Ward, patient: Patient
) -> None:
    def fail() -> None:
        raise ModelFailed("the model failed on this input")

    patient.behave = fail
    ward.turns(State.UNREADY)
    assert ward.version.problem == "the model failed on this input"
    with pytest.raises(ModelFailed):
        ward.ask()
    patient.behave = lambda: None
    ward.turns(State.READY)


def test_a_refusal_is_an_answer(ward: Ward, patient: Patient) -> None:
    def refuse() -> None:
        raise ModelRefused("not these values")

    patient.behave = refuse
    seen = patient.runs
    soon(lambda: patient.runs > seen + 2)
    assert ward.version.state is State.READY


def test_a_full_queue_is_no_illness_while_answers_come(ward: Ward, patient: Patient) -> None:
    def full() -> None:
        raise QueueFull("the model's queue is full")

    served = ward.catalogue.served("sick")
    patient.behave = full
    deadline = time.monotonic() + 0.6
    while time.monotonic() < deadline:
        served.last_used = time.time()
        time.sleep(0.01)
        assert ward.version.state is State.READY
    ward.turns(State.UNREADY)
    assert ward.version.problem == "its queue is full, and no answer comes"


def test_a_slow_model_is_asked_less_often(ward: Ward, patient: Patient) -> None:
    patient.behave = lambda: time.sleep(0.1)
    soon(lambda: patient.runs > 2)
    seen = patient.runs
    time.sleep(1.5)
    assert patient.runs - seen <= 3


def test_checks_are_no_predictions(ward: Ward, patient: Patient) -> None:
    soon(lambda: patient.runs > 4)
    labels = {"model": "sick", "version": "1", "outcome": "ok"}
    assert not ward.registry.get_sample_value("portico_predictions_total", labels)


def test_a_version_that_answers_otherwise_than_at_import_turns_unready(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.publish(10)
    worker = shop.worker()
    health = Health(worker.catalogue, INTERVAL)
    health.start()
    version = worker.catalogue.version("m")
    golden = version.golden
    assert golden is not None
    golden.outputs["y"] += 1
    soon(lambda: version.state is State.UNREADY)
    assert version.problem == "the golden rows give another 'y' than at import"
    soon(lambda: shop.agree()[0].problems == {"m/1": version.problem})
    golden.outputs["y"] -= 1
    soon(lambda: version.state is State.READY)
    health.close()
    shop.close()
