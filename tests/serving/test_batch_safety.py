"""A model is batched only if its rows get the same answers alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from portico.serving.batch_safety import NO_ROWS, why_not_together
from portico.serving.card import (
    AnswerCard,
    BatchingCard,
    FeatureCard,
    ModelCard,
    describe,
)
from portico.serving.errors import ModelRefused
from portico.serving.golden import Golden, trial_row
from portico.serving.signature import Signature, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.tensors import Tensors


class Function:
    """A model of one output that is a function of its inputs."""

    platform = "test_function"
    concurrency: int | None = 1

    def __init__(self, function: Callable[..., Any], *inputs: TensorSpec) -> None:
        self._function = function
        specs = inputs or (TensorSpec("x", Datatype.FP32, (-1, 2)),)
        output = TensorSpec("y", Datatype.FP32, (-1,))
        self.signature = Signature(specs, (output,), features_of(specs))
        self.asked: list[Tensors] = []

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        self.asked.append(inputs)
        return {"y": self._function(*inputs.values())}

    def close(self) -> None:
        """Nothing is held."""


def why_not(runtime: Function, card: ModelCard | None = None, golden: Golden | None = None) -> str:
    card = card or ModelCard()
    golden = golden or trial_row(runtime.signature)
    return why_not_together(runtime, describe(runtime.signature, card), card, golden)


def test_rows_that_do_not_see_each_other_may_run_together() -> None:
    assert why_not(Function(lambda x: x.sum(axis=1))) == ""


def test_noise_below_the_tolerance_is_no_difference() -> None:
    assert why_not(Function(lambda x: x.sum(axis=1) + 1e-7 * len(x))) == ""


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 0] - x[:, 0].mean(),
        lambda x: x[:, 0] / (x.max() + 1),
        lambda x: np.arange(len(x), dtype=np.float32),
        lambda x: x[::-1, 0] * 1.0,
        lambda x: np.full(len(x), len(x), np.float32),
    ],
    ids=["centred", "scaled", "numbered", "turned round", "counted"],
)
def test_rows_that_see_each_other_never_run_together(function: Callable[..., Any]) -> None:
    assert why_not(Function(function)) == "output 'y' of a row changes with the rows beside it"


def test_a_model_that_is_never_the_same_is_not_batched() -> None:
    random = np.random.default_rng(1)
    assert "changes" in why_not(Function(lambda x: random.random(len(x))))


def test_an_output_without_rows_is_told() -> None:
    assert why_not(Function(lambda x: x.sum()[None])) == "output 'y' does not have one answer a row"


def test_a_model_that_takes_rows_one_by_one_only_is_told() -> None:
    def single(x: Any) -> Any:
        if len(x) > 1:
            raise ModelRefused.at("x", "is more than one row")
        return x[:, 0]

    assert "fails on rows together" in why_not(Function(single))


def test_the_card_and_the_signature_decide_without_a_run() -> None:
    runtime = Function(lambda x: x[:, 0])
    switched_off = ModelCard(batching=BatchingCard(enabled=False))
    assert why_not(runtime, switched_off) == "model.toml switches it off"
    fixed = Function(lambda x: x[:, 0], TensorSpec("x", Datatype.FP32, (1, 2)))
    assert why_not(fixed) == "the model takes one row at a time"
    assert runtime.asked == fixed.asked == []


def test_golden_rows_go_before_made_up_ones() -> None:
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    runtime = Function(lambda x: x.sum(axis=1))
    golden = Golden({"x": x}, {"y": x.sum(axis=1)})
    assert why_not(runtime, golden=golden) == ""
    np.testing.assert_array_equal(runtime.asked[-1]["x"], x)
    assert len(runtime.asked) == 4
    assert why_not(Function(lambda x: x[:, 0] - x[:, 0].mean()), golden=golden) != ""


def test_rows_that_the_model_refuses_are_left_out() -> None:
    def picky(x: Any) -> Any:
        if (x[:, 0] > 0.5).any():
            raise ModelRefused.at("x", "is too large")
        return x[:, 0] - x[:, 0].min()

    card = ModelCard(features={"x1": FeatureCard(minimum=0, maximum=1)})
    assert "changes with the rows" in why_not(Function(picky), card)


def test_without_a_row_that_the_model_takes_there_is_no_proof() -> None:
    def refuses(x: Any) -> Any:
        raise ModelRefused.at("x", "is never right")

    assert why_not(Function(refuses)) == NO_ROWS


def test_rows_are_made_up_from_what_the_card_says() -> None:
    inputs = (
        TensorSpec("word", Datatype.BYTES, (-1, 1)),
        TensorSpec("count", Datatype.INT64, (-1, 1)),
        TensorSpec("grid", Datatype.FP32, (-1, 3, -1)),
    )
    runtime = Function(lambda word, count, grid: count[:, 0], *inputs)
    card = ModelCard(
        features={
            "word": FeatureCard(choices=["red", "white"]),
            "count": FeatureCard(minimum=3, maximum=5),
        },
        answer=AnswerCard(),
    )
    assert why_not(runtime, card) == ""
    asked = runtime.asked[-1]
    assert set(asked["word"].ravel()) == {"red", "white"}
    assert set(asked["count"].ravel()) <= {3, 4, 5}
    assert asked["grid"].shape == (8, 3, 8)
    assert len(np.unique(asked["grid"])) > 100
