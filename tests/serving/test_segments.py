"""Predictions come back from a segment as they went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from portico.serving.predictions import Prediction
from portico.serving.segments import STAGES, parse_id, read, segment_of, stacks_of
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from portico.serving.predictions import Logged
    from portico.serving.tensors import Array, Tensors


def elements(datatype: Datatype) -> st.SearchStrategy[object]:
    if datatype is Datatype.BYTES:
        return st.text(max_size=8)
    return arrays.from_dtype(datatype.dtype)


@st.composite
def tensors(draw: st.DrawFn, rows: int) -> Tensors:
    names = draw(st.lists(st.sampled_from(["x", "y", "a b", "ä"]), unique=True, max_size=2))
    made: Tensors = {}
    for name in names:
        datatype = draw(st.sampled_from(list(Datatype)))
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
        lead = draw(st.sampled_from([(rows,), (), (2,)]))
        array: Array = draw(
            arrays.arrays(datatype.dtype, lead + shape, elements=elements(datatype))
        )
        made[name] = array
    return made


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    made = Prediction(
        draw(st.sampled_from(["iris", "größe"])), draw(st.sampled_from(["1", "2"])), ""
    )
    made.who = draw(st.sampled_from(["", "anna"]))
    made.outcome = draw(st.sampled_from(["ok", "failed"]))
    made.rows = draw(st.integers(0, 3))
    made.batch_rows = draw(st.integers(0, 100))
    for stage in STAGES:
        setattr(made, stage, draw(st.floats(0, 10, width=32)))
    made.inputs = draw(st.none() | tensors(made.rows))
    made.outputs = draw(st.none() | tensors(made.rows))
    return made


def logged(asked: list[Prediction]) -> dict[str, Logged]:
    segments = map(segment_of, stacks_of(asked))
    return {found.id: found for segment in segments for found in read(segment)}


@settings(max_examples=150, deadline=None)
@given(st.lists(predictions(), max_size=6))
def test_each_prediction_comes_back_whole_whatever_it_is_stacked_with(
    asked: list[Prediction],
) -> None:
    found = logged(asked)
    assert found.keys() == {p.id for p in asked}
    for p in asked:
        back = found[p.id]
        assert [back.model, back.version, back.who, back.outcome] == [
            p.model, p.version, p.who, p.outcome,
        ]  # fmt: skip
        assert (back.at, back.rows, back.batch_rows) == (p.at, p.rows, p.batch_rows)
        assert back.durations == {stage: getattr(p, stage) for stage in STAGES}
        _assert_same(p.inputs, back.inputs)
        _assert_same(p.outputs, back.outputs)


def _assert_same(before: Tensors | None, after: Tensors | None) -> None:
    if before is None or after is None:
        assert before is after
        return
    assert list(before) == list(after)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        assert after[name].shape == array.shape
        np.testing.assert_array_equal(after[name], array)


def one(number: float, rows: int = 1) -> Prediction:
    made = Prediction("iris", "1", "")
    made.rows = rows
    made.inputs = {"x": np.full((rows, 4), number, np.float32)}
    made.outputs = {"label": np.full(rows, number, np.int64)}
    return made


def test_predictions_of_different_row_counts_share_a_segment() -> None:
    asked = [one(n, rows=n) for n in (1, 5, 2)]
    (segment,) = map(segment_of, stacks_of(asked))
    assert segment.predictions == 3
    assert (segment.first, segment.last) == tuple(
        int(p.id.partition("-")[2], 16) for p in (asked[0], asked[2])
    )
    assert (segment.began, segment.ended) == (asked[0].at, asked[2].at)


def test_one_prediction_is_read_by_its_number() -> None:
    asked = [one(n) for n in range(10)]
    (segment,) = map(segment_of, stacks_of(asked))
    _, number = parse_id(asked[7].id) or ("", 0)
    (found,) = read(segment, number)
    assert found.id == asked[7].id
    assert found.inputs is not None
    assert found.inputs["x"].tolist() == [[7, 7, 7, 7]]
    assert list(read(segment, number + 1000)) == []


def test_tensors_are_left_out_where_they_are_not_wanted() -> None:
    (stack,) = stacks_of([one(1)])
    segment = segment_of(stack, with_tensors=False)
    assert not segment.has_inputs
    (found,) = read(segment)
    assert found.inputs is found.outputs is None
    assert found.rows == 1


def test_what_is_read_is_writable_and_aligned() -> None:
    """A runtime may insist on both."""
    (found,) = read(segment_of(next(stacks_of([one(1)]))))
    assert found.inputs is not None
    assert found.inputs["x"].flags.writeable
    assert found.inputs["x"].flags.aligned


@pytest.mark.parametrize(
    "text", ["", "-", "abc", "0123456789ab-", "0123456789AB-1", "0123456789ab-1\n", "x" * 10_000]
)
def test_what_is_no_id_is_none(text: str) -> None:
    assert parse_id(text) is None


def test_ids_are_parsed_as_they_are_made() -> None:
    made = Prediction("iris", "1", "").id
    prefix, number = parse_id(made) or ("", 0)
    assert f"{prefix}-{number:x}" == made
