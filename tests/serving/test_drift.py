"""What is watched of rows, and what their counts say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portico.serving.drift import Measure, Reference
from portico.serving.drift_report import Level, compare
from portico.serving.errors import ArtefactError
from portico.serving.signature import (
    AnswerKind,
    AnswerSpec,
    Feature,
    Kind,
    Signature,
    answer_of,
    features_of,
)
from portico.serving.tensors import Datatype, TensorSpec

TABLE = TensorSpec("x", Datatype.FP32, (-1, 3))
LABEL = TensorSpec("label", Datatype.INT64, (-1,))
SCORES = TensorSpec("scores", Datatype.FP32, (-1, 2))


def table_signature() -> Signature:
    return Signature(
        inputs=(TABLE,),
        outputs=(LABEL, SCORES),
        features=features_of((TABLE,)),
        answer=answer_of((LABEL, SCORES), (0, 1)),
    )


def texts(*values: str) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def of_one(array: np.ndarray[Any, Any], datatype: Datatype, kind: Kind) -> Reference:
    """Make the reference of a model with one input and no answer to watch."""
    spec = TensorSpec("x", datatype, (-1, *array.shape[1:]))
    feature = Feature(name="x", tensor="x", kind=kind, datatype=datatype, shape=array.shape[1:])
    signature = Signature(inputs=(spec,), outputs=(), features=(feature,))
    return Reference.of(signature, {"x": array}, {})


def test_numbers_are_cut_into_ten_bins_of_about_as_many_rows() -> None:
    numbers = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    outputs = {"label": np.zeros(1000, np.int64), "scores": np.zeros((1000, 2), np.float32)}
    reference = Reference.of(table_signature(), {"x": numbers}, outputs)
    assert reference.rows == 1000
    assert [column.name for column in reference.watched] == ["x1", "x2", "x3", "prediction"]
    for column in reference.columns:
        assert len(column.counts) == 10
        assert all(90 <= count <= 110 for count in column.counts)
        assert (column.low, column.high) == (
            pytest.approx(numbers[:, column.column].min()),
            pytest.approx(numbers[:, column.column].max()),
        )


def test_few_rows_make_few_bins() -> None:
    numbers = np.arange(35.0)
    assert len(of_one(numbers, Datatype.FP64, Kind.NUMBER).columns[0].counts) == 3


def test_a_number_that_never_changed_has_a_bin_of_its_own() -> None:
    reference = of_one(np.full(100, 7.0), Datatype.FP64, Kind.NUMBER)
    counts = reference.count({"x": np.array([6.0, 7.0, 7.0, 7.1])}, {}, 4)
    assert sorted(reference.columns[0].counts) == [0, 0, 100]
    assert counts.tolist() == [1, 2, 1, 0, 2]


def test_a_frequent_number_is_told_from_its_neighbours() -> None:
    numbers = np.concatenate([np.zeros(700), np.linspace(1, 2, 300)])
    reference = of_one(numbers, Datatype.FP64, Kind.NUMBER)
    assert 700 in reference.columns[0].counts


def test_missing_values_and_strange_ones_are_counted_apart() -> None:
    reference = of_one(np.arange(100.0), Datatype.FP64, Kind.NUMBER)
    *bins, missing, strange = reference.count(
        {"x": np.array([np.nan, -1.0, 5.0, 1e9, np.inf])}, {}, 5
    ).tolist()
    assert (sum(bins), missing, strange) == (4, 1, 3)


def test_categories_that_were_never_seen_are_counted_apart() -> None:
    reference = of_one(texts("a", "a", "b", ""), Datatype.BYTES, Kind.TEXT)
    assert reference.columns[0].categories == ["a", "b"]
    assert reference.columns[0].missing == 1
    counts = reference.count({"x": texts("b", "b", "c", "", "a")}, {}, 5)
    assert counts.tolist() == [1, 2, 1, 1, 1]


def test_of_free_text_the_length_is_watched() -> None:
    values = texts(*(f"word {index}" for index in range(1000)))
    column = of_one(values, Datatype.BYTES, Kind.TEXT).columns[0]
    assert column.measure is Measure.LENGTH
    assert (column.low, column.high) == (6, 8)


def test_of_an_array_the_mean_is_watched() -> None:
    pictures = np.random.default_rng(0).random((40, 3, 8, 8)).astype(np.float32)
    column = of_one(pictures, Datatype.FP32, Kind.TENSOR).columns[0]
    assert column.measure is Measure.MEAN
    assert 0.4 < (column.low or 0) < (column.high or 0) < 0.6


@pytest.mark.parametrize(
    ("answer", "outputs", "measure"),
    [
        (
            AnswerSpec(kind=AnswerKind.CLASSIFICATION, label="label"),
            {"label": np.array([1, 1, 0])},
            Measure.CATEGORY,
        ),
        (
            AnswerSpec(kind=AnswerKind.CLASSIFICATION, scores="scores"),
            {"scores": np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])},
            Measure.BEST,
        ),
    ],
)
def test_the_class_that_was_predicted_is_watched(
    answer: AnswerSpec, outputs: dict[str, Any], measure: Measure
) -> None:
    signature = Signature(inputs=(), outputs=(), features=(), answer=answer)
    reference = Reference.of(signature, {"x": np.zeros((3, 1))}, outputs)
    assert reference.prediction is not None
    assert reference.prediction.measure is measure
    assert dict(
        zip(reference.prediction.categories, reference.prediction.counts, strict=False)
    ) == {"1": 2, "0": 1}


def test_rows_without_the_watched_output_count_for_the_inputs_alone() -> None:
    numbers = np.zeros((5, 3), np.float32)
    outputs = {"label": np.zeros(5, np.int64), "scores": np.zeros((5, 2), np.float32)}
    reference = Reference.of(table_signature(), {"x": numbers}, outputs)
    counts = reference.count({"x": numbers}, {}, 5)
    assert [part.sum() for _, part in reference.split(counts)] == [5, 5, 5, 0]


def test_a_reference_comes_back_from_json_as_it_was() -> None:
    numbers = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    numbers[3, 1] = np.inf
    outputs = {"label": np.arange(100) % 2, "scores": np.zeros((100, 2), np.float32)}
    reference = Reference.of(table_signature(), {"x": numbers}, outputs)
    assert Reference.from_json(reference.to_json()) == reference
    with pytest.raises(ArtefactError, match="cannot be read"):
        Reference.from_json(b'{"rows": "many"}')


def test_a_model_that_takes_no_batches_is_watched_row_by_row() -> None:
    spec = TensorSpec("x", Datatype.FP32, (1, 3))
    signature = Signature(inputs=(spec,), outputs=(), features=features_of((spec,)))
    stacked = np.arange(60, dtype=np.float32).reshape(20, 1, 3)
    reference = Reference.of(signature, {"x": stacked}, {})
    assert reference.rows == 20
    assert reference.count({"x": stacked[0]}, {}, 1).sum() == 3


def _compared(before: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> tuple[float, Level]:
    reference = of_one(before, Datatype.FP64, Kind.NUMBER)
    (drift,) = compare(reference, reference.count({"x": now}, {}, len(now))).columns
    return drift.psi, drift.level


@pytest.mark.parametrize(
    ("shift", "level"), [(0.0, Level.NONE), (0.4, Level.MODERATE), (1.0, Level.LARGE)]
)
def test_a_shift_of_numbers_is_called_by_its_size(shift: float, level: Level) -> None:
    generator = np.random.default_rng(1)
    before, now = generator.normal(size=2000), generator.normal(shift, size=2000)
    assert _compared(before, now)[1] is level


def test_a_few_rows_that_differ_by_chance_are_no_drift() -> None:
    """The index of 60 rows is often above 0.1 where nothing has changed; the test knows."""
    generator = np.random.default_rng(2)
    found = [_compared(generator.normal(size=100), generator.normal(size=60)) for _ in range(200)]
    assert sum(index > 0.1 for index, _ in found) > 100
    assert sum(level is not Level.NONE for _, level in found) <= 4


def test_of_a_handful_of_rows_nothing_is_said() -> None:
    assert _compared(np.arange(100.0), np.full(20, 1e6))[1] is Level.UNKNOWN


def test_values_that_are_missing_now_are_drift() -> None:
    now = np.where(np.arange(1000) % 2, np.nan, np.arange(1000.0))
    reference = of_one(np.arange(1000.0), Datatype.FP64, Kind.NUMBER)
    (drift,) = compare(reference, reference.count({"x": now}, {}, 1000)).columns
    assert (drift.missing_before, drift.missing) == (0, 0.5)
    assert drift.level is Level.LARGE
    assert drift.moved[0] == ("missing", 0, 0.5)


def test_unknown_categories_are_told_with_their_share() -> None:
    reference = of_one(texts(*"aaabbb" * 50), Datatype.BYTES, Kind.TEXT)
    now = texts(*"aabc" * 100)
    (drift,) = compare(reference, reference.count({"x": now}, {}, 400)).columns
    assert drift.strange == 0.25
    assert drift.level is Level.LARGE
    assert drift.test is not None
    assert drift.test.p < 1e-6


def test_counts_of_workers_and_hours_add_up() -> None:
    generator = np.random.default_rng(3)
    numbers = generator.normal(size=(500, 3)).astype(np.float32)
    outputs = {"label": np.arange(500) % 2, "scores": np.zeros((500, 2), np.float32)}
    reference = Reference.of(table_signature(), {"x": numbers}, outputs)
    whole = reference.count({"x": numbers}, outputs, 500)
    halves = [
        reference.count({"x": part}, {"label": outputs["label"][:250]}, 250)
        for part in np.split(numbers, 2)
    ]
    assert np.array_equal(whole, sum(halves))
    report = compare(reference, whole)
    assert report.rows == report.reference_rows == 500
    assert report.level is Level.NONE
    assert report.prediction is not None
    assert report.prediction.psi == pytest.approx(0, abs=1e-3)


def test_nothing_served_is_nothing_known() -> None:
    reference = of_one(np.arange(100.0), Datatype.FP64, Kind.NUMBER)
    report = compare(reference, np.zeros(reference.size, np.int64))
    assert report.level is Level.UNKNOWN
    assert report.rows == 0
