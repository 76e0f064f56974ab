"""The prediction service: what is asked is answered or told, and each of it is counted once."""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from prometheus_client import CollectorRegistry
from tiny_onnx import FLOAT, INT64, STRING, constant, double, model, node, saved

from portico.serving.answers import TensorAnswer, answers_of
from portico.serving.card import LimitsCard, ModelCard
from portico.serving.codecs.rows import tensors_from_rows
from portico.serving.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelRefused,
    QueueFull,
)
from portico.serving.metrics import OUTCOMES, PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.service import ServedModel
from portico.serving.signature import Signature, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.serving.tensors import Tensors

T = TypeVar("T")


class Echo:
    """Gives back its input, or raises what it is told; may be held up."""

    platform = "test_echo"
    concurrency: int | None = None

    def __init__(self, *shape: int) -> None:
        spec = TensorSpec("x", Datatype.FP32, shape)
        self.signature = Signature((spec,), (spec,), features_of([spec]))
        self.error: Exception | None = None
        self.closed = False
        self.runs = 0
        self.started = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        self.runs += 1
        self.started.set()
        assert self.go.wait(10)
        if self.error:
            raise self.error
        return {name: inputs[name] for name in outputs or ("x",)}

    def close(self) -> None:
        self.closed = True


class Counts:
    """What the registry holds about the one model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __call__(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(name, {"model": "m", **labels}) or 0.0

    @property
    def outcomes(self) -> dict[str, int]:
        counted = {
            outcome: int(self("portico_predictions_total", version="1", outcome=outcome))
            for outcome in OUTCOMES
        }
        return {outcome: count for outcome, count in counted.items() if count}

    def stage(self, stage: str) -> int:
        name = "portico_prediction_duration_seconds_count"
        return int(self(name, version="1", stage=stage))


def serve(runtime: Any, **limits: Any) -> tuple[ServedModel, Counts]:
    registry = CollectorRegistry()
    meter = PredictionMetrics(registry).meter("m", "1")
    card = ModelCard(limits=LimitsCard(**limits))
    served = ServedModel(
        name="m",
        version="1",
        sha256="0" * 64,
        card=card,
        signature=runtime.signature,
        runtime=runtime,
        meter=meter,
    )
    return served, Counts(registry)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Any], tuple[ServedModel, Counts]]:
    def open_model(made: Any) -> tuple[ServedModel, Counts]:
        return serve(ONNXModel(saved(tmp_path / "model.onnx", made), 1))

    return open_model


def asked(served: ServedModel, inputs: Tensors) -> Prediction:
    prediction = Prediction(served.name, served.version, "")
    prediction.inputs = inputs
    return prediction


def ended(served: ServedModel, prediction: Prediction, ask: Callable[[Prediction], T]) -> T:
    """Ask as the apps do: each prediction is completed, whatever became of it."""
    try:
        answer = ask(prediction)
    except Exception as error:
        served.fail(prediction, error)
        raise
    served.complete(prediction)
    return answer


def infer(served: ServedModel, inputs: Tensors) -> Tensors:
    return ended(served, asked(served, inputs), served.infer)


def infer_rows(served: ServedModel, inputs: Tensors) -> Tensors:
    return ended(served, asked(served, inputs), served.infer_rows)


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 5
    while not condition():
        assert monotonic() < end, "it never came to that"
        sleep(0.001)


def rows(count: int, width: int = 2) -> Tensors:
    return {"x": np.arange(count * width, dtype=np.float32).reshape(count, width)}


# What is counted.


def test_an_answer_counts_once_with_its_rows_and_stages() -> None:
    served, counts = serve(Echo(-1, 2))
    assert infer(served, rows(3))["x"].shape == (3, 2)
    assert counts.outcomes == {"ok": 1}
    assert (counts.stage("queue"), counts.stage("run")) == (1, 1)
    assert counts("portico_batch_rows_sum") == 3
    assert counts("portico_batch_rows_count") == 1
    assert counts("portico_queue_rows") == 0
    assert counts("portico_queue_rows") == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ModelRefused.at("x", "is strange"), "invalid"),
        (ModelFailed("the model failed on this input"), "failed"),
    ],
)
def test_what_the_model_does_not_answer_counts_once(error: Exception, outcome: str) -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo)
    echo.error = error
    with pytest.raises(type(error)):
        infer(served, rows(3))
    assert counts.outcomes == {outcome: 1}
    assert (counts.stage("run"), counts("portico_batch_rows_count")) == (1, 0)
    assert counts("portico_queue_rows") == 0
    echo.error = None
    infer(served, rows(1))
    assert counts.outcomes == {outcome: 1, "ok": 1}


def test_more_rows_than_ever_fit_are_invalid_and_never_run() -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo, queue_rows=2)
    with pytest.raises(InvalidInput, match="3 rows"):
        infer(served, rows(3))
    assert (counts.outcomes, echo.runs) == ({"invalid": 1}, 0)


def test_what_finds_no_room_is_shed() -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo, queue_rows=4, concurrency=1)
    echo.go.clear()
    thread = threading.Thread(
        target=infer,
        args=(
            served,
            rows(3),
        ),
        daemon=True,
    )
    thread.start()
    assert echo.started.wait(5)
    second = threading.Thread(target=infer, args=(served, rows(3)), daemon=True)
    second.start()
    until(lambda: counts("portico_queue_rows") == 3)
    with pytest.raises(QueueFull):
        infer(served, rows(2))
    echo.go.set()
    thread.join(5)
    second.join(5)
    assert counts.outcomes == {"ok": 2, "shed": 1}
    assert counts("portico_shed_total", reason="queue_full") == 1
    assert echo.runs == 2


def test_what_waits_too_long_is_told_so() -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo, concurrency=1, deadline=0.03)
    echo.go.clear()
    thread = threading.Thread(
        target=infer,
        args=(
            served,
            rows(1),
        ),
        daemon=True,
    )
    thread.start()
    assert echo.started.wait(5)
    with pytest.raises(DeadlineExceeded):
        infer(served, rows(1))
    echo.go.set()
    thread.join(5)
    assert counts.outcomes == {"ok": 1, "deadline": 1}
    assert counts("portico_shed_total", reason="deadline") == 1
    assert counts("portico_shed_total", reason="queue_full") == 0
    assert counts("portico_queue_rows") == 0


def test_what_was_refused_before_the_model_counts_as_invalid() -> None:
    served, counts = serve(Echo(-1, 2))
    served.fail(Prediction("m", "1", ""), InvalidInput.at("body", "is empty"))
    assert counts.outcomes == {"invalid": 1}


def test_an_error_that_nobody_expected_gives_the_turn_back() -> None:
    echo = Echo(-1, 2)
    served, _ = serve(echo, concurrency=1, deadline=0.05)
    echo.error = KeyError("surprise")
    with pytest.raises(KeyError):
        infer(served, rows(1))
    echo.error = None
    infer(served, rows(1))


def test_many_threads_are_counted_exactly() -> None:
    served, counts = serve(Echo(-1, 2), queue_rows=1, concurrency=2)
    told: list[str] = []

    def ask() -> None:
        for _ in range(50):
            try:
                infer(served, rows(1))
                told.append("ok")
            except QueueFull:
                told.append("shed")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 300
    assert counts.outcomes == {o: told.count(o) for o in ("ok", "shed") if o in told}


def test_a_completed_prediction_is_recorded_with_what_was_asked_and_answered() -> None:
    served, counts = serve(Echo(-1, 2))
    kept: list[Prediction] = []
    served.recorder = kept.append
    infer(served, rows(3))
    (prediction,) = kept
    assert (prediction.outcome, prediction.rows, prediction.batch_rows) == ("ok", 3, 3)
    assert prediction.inputs is not None
    assert prediction.outputs is not None
    np.testing.assert_array_equal(prediction.inputs["x"], prediction.outputs["x"])
    assert prediction.run > 0
    with pytest.raises(InvalidInput):
        infer(served, rows(5000))
    assert [p.outcome for p in kept] == ["ok", "invalid"]
    assert kept[1].outputs is None
    assert counts.outcomes == {"ok": 1, "invalid": 1}


def test_a_surprise_is_counted_as_a_failure() -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo)
    echo.error = KeyError("surprise")
    with pytest.raises(KeyError):
        infer(served, rows(1))
    assert counts.outcomes == {"failed": 1}


def test_a_table_runs_in_parts_and_comes_back_whole() -> None:
    echo = Echo(-1, 2)
    served, counts = serve(echo)
    prediction = asked(served, rows(7))
    answer = served.infer_rows(prediction, at_once=3)
    np.testing.assert_array_equal(answer["x"], rows(7)["x"])
    assert (prediction.rows, echo.runs, counts("portico_batch_rows_sum")) == (7, 3, 7)


# Models that take one row at a time.


@pytest.mark.parametrize("shape", [(1, 2), (2,), (1, 2, 1), (2, 1)])
def test_a_model_without_batches_is_asked_row_by_row(
    opened: Callable[[Any], tuple[ServedModel, Counts]], shape: tuple[int, ...]
) -> None:
    served, counts = opened(double(shape=shape))
    row_shape = served.signature.inputs[0].row_shape
    inputs = {"x": np.arange(6, dtype=np.float32).reshape(3, *row_shape)}
    answer = infer_rows(served, inputs)["y"]
    np.testing.assert_array_equal(answer, inputs["x"] * 2)
    assert counts.outcomes == {"ok": 1}
    assert counts("portico_batch_rows_count") == 3


def test_a_model_over_one_number_is_asked_row_by_row(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    for shape in ((), (1,)):
        served, _ = opened(double(shape=shape))
        tensors = tensors_from_rows(served.signature, [{"x": 1}, {"x": 2}])
        assert infer_rows(served, tensors)["y"].reshape(-1).tolist() == [2, 4]


def test_a_model_over_three_numbers_is_asked_row_by_row(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    served, _ = opened(double(shape=(3,)))
    tensors = tensors_from_rows(served.signature, [dict.fromkeys(("x1", "x2", "x3"), 2)] * 2)
    assert infer_rows(served, tensors)["y"].tolist() == [[4, 4, 4], [4, 4, 4]]


@pytest.mark.parametrize("shape", [(1, "n"), (2, "n")])
def test_a_row_of_variable_width_is_asked_alone(
    opened: Callable[[Any], tuple[ServedModel, Counts]], shape: tuple[Any, ...]
) -> None:
    served, _ = opened(double(shape=shape))
    value = [1, 2, 3] if shape[0] == 1 else [[1, 2], [3, 4]]
    tensors = tensors_from_rows(served.signature, [{"x": value}, {"x": value}])
    np.testing.assert_array_equal(infer_rows(served, tensors)["y"], np.array([value, value]) * 2)


def test_one_input_without_rows_makes_the_others_go_row_by_row(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    made = model(
        [node("Mul", ["x", "factor"], ["y"])],
        [("x", FLOAT, ["n", 2]), ("factor", FLOAT, [1])],
        [("y", FLOAT, ["n", 2])],
    )
    served, counts = opened(made)
    row = {"x_1": 1, "x_2": 2, "factor": 3}
    tensors = tensors_from_rows(served.signature, [row, {**row, "factor": 5}])
    assert infer_rows(served, tensors)["y"].tolist() == [[3, 6], [5, 10]]
    assert counts.outcomes == {"ok": 1}


def test_an_output_whose_length_depends_on_the_values_is_told_row_by_row(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    made = model(
        [node("NonZero", ["x"], ["at"]), node("Squeeze", ["at", "axis"], ["y"])],
        [("x", FLOAT, [4])],
        [("y", INT64, ["n"])],
        [constant("axis", INT64, [1], [0])],
    )
    served, _ = opened(made)
    inputs = {"x": np.array([[0, 1, 1, 0], [1, 0, 0, 1]], np.float32)}
    assert infer_rows(served, inputs)["y"].tolist() == [[1, 2], [0, 3]]
    ragged = {"x": np.array([[0, 1, 1, 0], [1, 1, 0, 1]], np.float32)}
    with pytest.raises(InvalidInput, match="different"):
        infer_rows(served, ragged)


def test_rows_that_a_model_refuses_end_the_request(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    made = model(
        [node("Gather", ["table", "x"], ["y"])],
        [("x", INT64, [1])],
        [("y", FLOAT, [1])],
        [constant("table", FLOAT, [2], [1.0, 2.0])],
    )
    served, counts = opened(made)
    with pytest.raises(ModelRefused):
        infer_rows(served, {"x": np.array([[0], [9], [1]])})
    assert counts.outcomes == {"invalid": 1}


def test_a_model_with_batches_is_asked_once(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    served, counts = opened(double())
    assert infer_rows(served, rows(5))["y"].shape == (5, 2)
    assert counts.outcomes == {"ok": 1}


def test_texts_come_out_as_answers(
    opened: Callable[[Any], tuple[ServedModel, Counts]],
) -> None:
    made = model(
        [node("Identity", ["a"], ["b"]), node("Identity", ["c"], ["d"])],
        [("a", STRING, ["n"]), ("c", STRING, ["n"])],
        [("b", STRING, ["n"]), ("d", STRING, ["n"])],
    )
    served, _ = opened(made)
    tensors = tensors_from_rows(served.signature, [{"a": "x", "c": "ü"}])
    answers = answers_of(served.signature, infer_rows(served, tensors))
    assert answers == [TensorAnswer({"b": "x", "d": "ü"})]


def test_closing_frees_the_artefact() -> None:
    echo = Echo(-1, 2)
    served, _ = serve(echo)
    served.close()
    assert echo.closed


def test_the_title_is_the_cards_or_the_name() -> None:
    served, _ = serve(Echo(-1, 2))
    assert served.title == "m"
    served.card = ModelCard(title="Twice")
    assert served.title == "Twice"
