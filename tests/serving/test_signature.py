"""Signatures: features derived from tensors, answers recognised, examples that are valid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.serving.codecs.rows import tensors_from_rows
from portico.serving.codecs.values import check_value
from portico.serving.signature import (
    MAX_COLUMNS,
    AnswerKind,
    Choice,
    Feature,
    Kind,
    Scores,
    Signature,
    answer_of,
    features_of,
    kind_of,
)
from portico.serving.tensors import Datatype, TensorSpec, holds, limits_of


def spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def names_of(*inputs: TensorSpec) -> list[str]:
    return [feature.name for feature in features_of(inputs)]


# Tensors.


@pytest.mark.parametrize(
    ("shape", "is_batched", "row_shape", "row_size"),
    [
        ((-1, 4), True, (4,), 4),
        ((-1,), True, (), 1),
        ((1, 4), False, (4,), 4),
        ((4,), False, (4,), 4),
        ((1,), False, (1,), 1),
        ((), False, (), 1),
        ((-1, 3, 8, 8), True, (3, 8, 8), 192),
        ((-1, -1, 2), True, (-1, 2), -1),
    ],
)
def test_the_first_axis_counts_rows(
    shape: tuple[int, ...], is_batched: bool, row_shape: tuple[int, ...], row_size: int
) -> None:
    tensor = spec("x", Datatype.FP32, *shape)
    assert (tensor.is_batched, tensor.row_shape, tensor.row_size) == (
        is_batched,
        row_shape,
        row_size,
    )


@pytest.mark.parametrize(
    ("shape", "is_admitted"),
    [((5, 4), True), ((0, 4), True), ((5, 3), False), ((4,), False), ((5, 4, 1), False)],
)
def test_a_tensor_admits_what_fits_its_shape(shape: tuple[int, ...], is_admitted: bool) -> None:
    assert spec("x", Datatype.FP32, -1, 4).admits(shape) is is_admitted


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_is_known_by_its_dtype(datatype: Datatype) -> None:
    assert Datatype.of(datatype.dtype) is datatype
    assert Datatype.of(np.zeros(1, dtype=datatype.dtype).dtype) is datatype


@pytest.mark.parametrize("dtype", ["U5", "S5"])
def test_text_of_any_width_is_bytes(dtype: str) -> None:
    assert Datatype.of(np.dtype(dtype)) is Datatype.BYTES


@pytest.mark.parametrize(
    ("datatype", "value", "is_held"),
    [
        (Datatype.UINT8, 255, True),
        (Datatype.UINT8, 256, False),
        (Datatype.INT64, -(2**63), True),
        (Datatype.INT64, 2**63, False),
        (Datatype.FP32, 3.4028235e38, True),
        (Datatype.FP32, 3.5e38, False),
        (Datatype.FP16, 65519, True),
        (Datatype.FP16, 65520, False),
        (Datatype.FP64, 10**400, False),
        (Datatype.FP64, float("nan"), False),
        (Datatype.FP32, float("inf"), False),
    ],
)
def test_a_datatype_holds_what_rounds_into_its_range(
    datatype: Datatype, value: float, is_held: bool
) -> None:
    assert holds(datatype, value) is is_held


# Features.


def test_the_columns_of_the_one_matrix_are_numbered_or_named() -> None:
    matrix = spec("input", Datatype.FP32, -1, 3)
    assert names_of(matrix) == ["x1", "x2", "x3"]
    named = features_of([matrix], ["a", "b", "c"])
    assert [(f.name, f.tensor, f.column) for f in named] == [
        ("a", "input", 0),
        ("b", "input", 1),
        ("c", "input", 2),
    ]


def test_columns_of_several_matrices_carry_their_inputs_name() -> None:
    assert names_of(spec("a", Datatype.FP32, -1, 2), spec("b", Datatype.FP32, -1)) == [
        "a_1",
        "a_2",
        "b",
    ]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, 1), ()])
def test_a_single_value_is_one_feature(shape: tuple[int, ...]) -> None:
    (feature,) = features_of([spec("age", Datatype.INT64, *shape)])
    assert (feature.name, feature.column, feature.kind) == ("age", None, Kind.INTEGER)


@pytest.mark.parametrize("shape", [(-1, 3, 8, 8), (-1, -1), (-1, MAX_COLUMNS + 1)])
def test_what_is_no_table_is_one_tensor(shape: tuple[int, ...]) -> None:
    (feature,) = features_of([spec("x", Datatype.FP32, *shape)])
    assert (feature.kind, feature.shape) == (Kind.TENSOR, shape[1:])


@pytest.mark.parametrize(("shape", "width"), [((-1, 3), "3"), ((-1, -1), "variable")])
def test_names_must_fit_the_width(shape: tuple[int, ...], width: str) -> None:
    with pytest.raises(ValueError, match=f"2 feature names were given.* has {width} columns"):
        features_of([spec("x", Datatype.FP32, *shape)], ["a", "b"])


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [
        (Datatype.BYTES, Kind.TEXT),
        (Datatype.BOOL, Kind.BOOLEAN),
        (Datatype.FP16, Kind.NUMBER),
        (Datatype.UINT8, Kind.INTEGER),
    ],
)
def test_the_datatype_tells_the_kind(datatype: Datatype, kind: Kind) -> None:
    assert kind_of(datatype) is kind


@pytest.mark.parametrize(
    ("minimum", "maximum", "text"),
    [
        (0.0, 10.0, "between 0 and 10"),
        (0.5, None, "at least 0.5"),
        (None, 3.0, "at most 3"),
        (None, None, ""),
    ],
)
def test_a_range_reads_as_a_sentence(
    minimum: float | None, maximum: float | None, text: str
) -> None:
    feature = Feature(
        name="a",
        tensor="a",
        kind=Kind.NUMBER,
        datatype=Datatype.FP32,
        minimum=minimum,
        maximum=maximum,
    )
    assert feature.range_text == text


# Examples are valid, whatever the card says.


@st.composite
def features(draw: st.DrawFn) -> Feature:
    datatype = draw(st.sampled_from(list(Datatype)))
    kind = kind_of(datatype)
    more: dict[str, Any] = {}
    if kind in (Kind.NUMBER, Kind.INTEGER):
        low, high = (int(max(min(end, 100), -100)) for end in limits_of(datatype))
        ends = st.none() | st.integers(low, high)
        minimum, maximum = draw(ends), draw(ends)
        if minimum is not None and maximum is not None and minimum > maximum:
            minimum, maximum = maximum, minimum
        more = {"minimum": minimum, "maximum": maximum}
    elif kind is Kind.TEXT:
        texts = draw(st.lists(st.text(), max_size=3))
        more = {"choices": tuple(Choice(text, text) for text in texts)}
    return Feature(name="a", tensor="a", kind=kind, datatype=datatype, **more)


@settings(deadline=None)
@given(features())
def test_an_example_is_a_valid_value(feature: Feature) -> None:
    example = feature.example()
    assert check_value(feature, example, "here") == example


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("shape", [(-1,), (-1, 3), (-1, -1, 2), (-1, 600)])
def test_an_example_row_fills_the_tensors(datatype: Datatype, shape: tuple[int, ...]) -> None:
    tensor = spec("x", datatype, *shape)
    signature = Signature((tensor,), (), features_of([tensor]))
    array = tensors_from_rows(signature, [signature.example_row()])["x"]
    assert array.dtype == datatype.dtype
    assert tensor.admits(array.shape)


def test_a_picture_is_no_part_of_an_example_row() -> None:
    picture = Feature(name="image", tensor="x", kind=Kind.IMAGE, datatype=Datatype.FP32)
    signature = Signature((spec("x", Datatype.FP32, -1, 3, 8, 8),), (), (picture,))
    assert signature.image is picture
    assert signature.example_row() == {}


def test_inputs_outputs_and_features_are_found_by_name() -> None:
    x, y = spec("x", Datatype.FP32, -1, 2), spec("y", Datatype.FP32, -1)
    signature = Signature((x,), (y,), features_of([x]))
    assert signature.input_by_name == {"x": x}
    assert signature.output_by_name == {"y": y}
    assert list(signature.feature_by_name) == ["x1", "x2"]
    assert signature.is_batched
    assert signature.image is None
    assert not Signature((spec("x", Datatype.FP32, 1, 2),), (y,), ()).is_batched


# The answer is recognised in the outputs.

INDEX = spec("label", Datatype.INT64, -1)
TEXT = spec("label", Datatype.BYTES, -1)
PROBABILITIES = spec("probabilities", Datatype.FP32, -1, 3)
VALUE = spec("variable", Datatype.FP32, -1, 1)


def test_a_label_with_scores_is_a_classifier() -> None:
    answer = answer_of([INDEX, PROBABILITIES])
    assert answer.kind is AnswerKind.CLASSIFICATION
    assert (answer.label, answer.scores, answer.classes) == ("label", "probabilities", (0, 1, 2))
    assert answer.scores_are is Scores.PROBABILITIES


def test_known_classes_are_the_order_of_the_scores() -> None:
    answer = answer_of([TEXT, PROBABILITIES], ["a", "b", "c"])
    assert answer.classes == ("a", "b", "c")


def test_a_label_alone_is_a_classifier_without_scores() -> None:
    assert answer_of([TEXT]).label == "label"
    assert answer_of([TEXT]).scores is None
    assert answer_of([INDEX], [0, 1]).classes == (0, 1)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, 1)])
def test_a_lone_number_is_a_regression(shape: tuple[int, ...]) -> None:
    answer = answer_of([spec("y", Datatype.FP32, *shape)])
    assert (answer.kind, answer.value) == (AnswerKind.REGRESSION, "y")


def test_scores_without_a_label_need_known_classes() -> None:
    assert answer_of([PROBABILITIES]).kind is AnswerKind.TENSORS
    answer = answer_of([PROBABILITIES], ["a", "b", "c"])
    assert (answer.kind, answer.label, answer.scores) == (
        AnswerKind.CLASSIFICATION,
        None,
        "probabilities",
    )
    assert answer_of([PROBABILITIES], ["a", "b"]).kind is AnswerKind.TENSORS


@pytest.mark.parametrize(
    "outputs", [[], [VALUE, PROBABILITIES], [spec("mask", Datatype.FP32, -1, 8, 8)]]
)
def test_anything_else_is_just_tensors(outputs: list[TensorSpec]) -> None:
    assert answer_of(outputs).kind is AnswerKind.TENSORS
