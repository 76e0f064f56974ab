"""What was asked before is asked again, and what changed is told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from doubling import INPUT, Times, serve

from portico.serving.comparison import changed_rows
from portico.serving.errors import ModelFailed
from portico.serving.predictions import Prediction
from portico.serving.replay import ReplayReport, replay
from portico.serving.segments import read, segment_of, stacks_of
from portico.serving.signature import AnswerKind, AnswerSpec, Signature
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.predictions import Logged
    from portico.serving.tensors import Tensors


def logged(*values: list[float]) -> Iterator[Logged]:
    """Yield requests of some rows each."""
    for rows in values:
        made = Prediction("twice", "1", "")
        made.rows = len(rows)
        made.inputs = {"x": np.array(rows).reshape(-1, 1)}
        made.outputs = {}
        for stack in stacks_of([made]):
            yield from read(segment_of(stack))


def replayed(runtime: Any, *values: list[float], tolerance: float = 1e-4) -> ReplayReport:
    return replay(logged(*values), serve(), serve(runtime, version="2"), tolerance)


def test_a_candidate_that_answers_the_same_changes_nothing() -> None:
    report = replayed(Times(2), [1.0, 2.0], [3.0])
    assert (report.requests, report.rows, report.changed, report.failed) == (2, 3, 0, 0)
    assert report.share == 0
    assert report.worst == []
    assert 0 < report.present.p50 <= report.present.p99
    assert 0 < report.candidate.p50 <= report.candidate.p99


def test_the_rows_that_changed_most_are_shown_side_by_side() -> None:
    report = replayed(Times(3), *[[float(n)] for n in range(10)])
    assert (report.rows, report.changed) == (10, 9)
    assert [change.difference for change in report.worst] == [9, 8, 7, 6, 5]
    assert report.worst[0].inputs == "x 9"
    assert (report.worst[0].before, report.worst[0].after) == ("18", "27")


def test_a_tolerance_forgives_small_differences() -> None:
    assert replayed(Times(2.01), [1.0], [2.0], tolerance=0.01).changed == 0
    assert replayed(Times(2.03), [1.0], [2.0], tolerance=0.01).changed == 2


class Refuses(Times):
    """Fails on negative numbers."""

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        if (inputs["x"] < 0).any():
            raise ModelFailed("the model failed")
        return super().run(inputs, outputs)


def test_requests_that_the_candidate_fails_count_as_changed() -> None:
    report = replayed(Refuses(2), [1.0], [-1.0, 2.0])
    assert (report.failed, report.changed, report.rows) == (1, 2, 3)
    assert report.problem == "the model failed"


class Wider(Times):
    """Takes two columns."""

    signature = Signature(
        (TensorSpec("x", Datatype.FP64, (-1, 2)),), Times.signature.outputs, (), AnswerSpec()
    )


class Other(Times):
    """Takes another input."""

    signature = Signature(
        (TensorSpec("z", Datatype.FP64, (-1, 1)),), Times.signature.outputs, (), AnswerSpec()
    )


@pytest.mark.parametrize("runtime", [Wider(), Other()])
def test_a_candidate_that_takes_something_else_fails_every_request(runtime: Times) -> None:
    report = replayed(runtime, [1.0], [2.0])
    assert (report.failed, report.share) == (2, 1.0)
    assert "inputs" in report.problem


def test_nothing_to_replay_is_no_change() -> None:
    report = replayed(Times(2))
    assert (report.requests, report.share) == (0, 0)


CLASSES = Signature(
    (INPUT,),
    (TensorSpec("scores", Datatype.FP32, (-1, 2)),),
    (),
    AnswerSpec(kind=AnswerKind.CLASSIFICATION, scores="scores", classes=(0, 1)),
)


def test_a_class_has_changed_only_where_another_one_is_answered() -> None:
    before = {"scores": np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)}
    after = {"scores": np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)}
    changed, difference = changed_rows(CLASSES, before, after)
    assert changed.tolist() == [False, True]
    assert difference == pytest.approx([0.2, 0.2])


def test_missing_values_equal_missing_values() -> None:
    before = {"y": np.array([[np.nan], [np.nan], [1.0]])}
    after = {"y": np.array([[np.nan], [1.0], [np.nan]])}
    changed, difference = changed_rows(Times.signature, before, after)
    assert changed.tolist() == [False, True, True]
    assert difference.tolist() == [0, math.inf, math.inf]


def test_outputs_of_another_shape_have_changed() -> None:
    changed, _ = changed_rows(Times.signature, {"y": np.zeros((2, 1))}, {"y": np.zeros((2, 3))})
    assert changed.all()
