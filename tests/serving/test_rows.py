"""Rows of named values: JSON, CSV and forms fill the same tensors and name what is wrong."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.serving.codecs.rows import (
    MAX_PROBLEMS,
    csv_template,
    tensors_from_csv,
    tensors_from_form,
    tensors_from_rows,
)
from portico.serving.codecs.values import check_value, read_value
from portico.serving.errors import InvalidInput
from portico.serving.signature import Choice, Feature, Kind, Signature, features_of, kind_of
from portico.serving.tensors import VARIABLE, Datatype, Tensors, TensorSpec, limits_of

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"


def feature(name: str, kind: Kind, datatype: Datatype, **more: Any) -> Feature:
    return Feature(name=name, tensor=name, kind=kind, datatype=datatype, **more)


def signature(*features: Feature) -> Signature:
    specs = tuple(TensorSpec(f.name, f.datatype, (-1, *(f.shape or (1,)))) for f in features)
    return Signature(specs, (), features)


AGE = feature("age", Kind.NUMBER, Datatype.FP32, minimum=0, maximum=120, unit="years")
PORT = feature(
    "port",
    Kind.TEXT,
    Datatype.BYTES,
    choices=(Choice("S", "Southampton"), Choice("C", "Cherbourg")),
)
CABIN = feature("cabin", Kind.TEXT, Datatype.BYTES, optional=True)
KIN = feature("kin", Kind.INTEGER, Datatype.INT64)
ALONE = feature("alone", Kind.BOOLEAN, Datatype.BOOL)
FARE = feature("fare", Kind.NUMBER, Datatype.FP64, optional=True)
SHIP = signature(AGE, PORT, CABIN, KIN, ALONE, FARE)
ROW = {"age": 38, "port": "C", "cabin": "C85", "kin": 1, "alone": False, "fare": 71.2833}

IRIS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 4)),),
    (),
    features_of([TensorSpec("x", Datatype.FP32, (-1, 4))], ["sl", "sw", "pl", "pw"]),
)


def refusal(call: Any, *args: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        call(*args)
    assert caught.value.details
    return caught.value


def plain(tensors: Tensors) -> dict[str, list[Any]]:
    return {name: array.ravel().tolist() for name, array in tensors.items()}


# The same row by every way in.


def test_json_csv_and_form_fill_the_same_tensors() -> None:
    by_json = tensors_from_rows(SHIP, [ROW])
    text = "age,port,cabin,kin,alone,fare\n38,C,C85,1,no,71.2833\n"
    form = {"age": "38", "port": "C", "cabin": "C85", "kin": "1", "fare": "71.2833"}
    assert plain(by_json) == plain(tensors_from_csv(SHIP, text))
    assert plain(by_json) == plain(tensors_from_form(SHIP, form))
    assert {name: array.dtype for name, array in by_json.items()} == {
        f.name: f.datatype.dtype for f in SHIP.features
    }
    assert all(array.shape == (1, 1) for array in by_json.values())


def test_columns_of_one_matrix_are_filled_by_name() -> None:
    rows = [{"pw": 4, "pl": 3, "sw": 2, "sl": 1}, {"sl": 5, "sw": 6, "pl": 7, "pw": 8}]
    array = tensors_from_rows(IRIS, rows)["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_missing_values_of_optional_features_are_nan_and_empty_text() -> None:
    row = {k: v for k, v in ROW.items() if k not in ("cabin", "fare")}
    for tensors in (
        tensors_from_rows(SHIP, [row]),
        tensors_from_rows(SHIP, [row | {"cabin": None, "fare": None}]),
        tensors_from_csv(SHIP, "age,port,kin,alone\n38,C,1,0\n"),
        tensors_from_csv(SHIP, "age,port,kin,alone,cabin,fare\n38,C,1,0, ,\n"),
        tensors_from_form(SHIP, {"age": "38", "port": "C", "kin": "1"}),
    ):
        assert tensors["cabin"].tolist() == [[""]]
        assert math.isnan(tensors["fare"][0, 0])


@pytest.mark.parametrize("datatype", [d for d in Datatype if d is not Datatype.BYTES])
def test_the_whole_range_of_a_datatype_can_be_sent(datatype: Datatype) -> None:
    one = signature(feature("x", kind_of(datatype), datatype))
    values = [False, True] if datatype is Datatype.BOOL else list(limits_of(datatype))
    by_json = tensors_from_rows(one, [{"x": value} for value in values])["x"]
    by_csv = tensors_from_csv(one, "x\n" + "\n".join(map(str, values)))["x"]
    assert by_json.ravel().tolist() == by_csv.ravel().tolist() == values
    assert by_json.dtype == by_csv.dtype == datatype.dtype


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_csv(values: list[float]) -> None:
    one = signature(feature("x", Kind.NUMBER, Datatype.FP32))
    text = "x\r\n" + "".join(f"{value!r}\r\n" for value in values)
    assert tensors_from_csv(one, text)["x"].ravel().tolist() == values


def test_a_template_can_be_sent_back() -> None:
    shown = csv_template(SHIP, [ROW])
    assert shown.splitlines()[0] == "age,port,cabin,kin,alone,fare"
    assert plain(tensors_from_csv(SHIP, shown)) == plain(tensors_from_rows(SHIP, [ROW]))
    assert tensors_from_csv(SHIP, csv_template(SHIP))["port"].tolist() == [["S"]]


# What one value may be.


@pytest.mark.parametrize(
    ("spec", "value", "problem"),
    [
        (AGE, "38", "is '38'; a number is expected"),
        (AGE, True, "is True; a number is expected"),
        (AGE, math.nan, "is nan; a finite number is expected"),
        (AGE, math.inf, "is inf; a finite number is expected"),
        (AGE, 121, "is 121; it must be between 0 and 120 years"),
        (AGE, 10**400, "it must be between 0 and 120 years"),
        (AGE, None, "is missing; a number between 0 and 120 is expected"),
        (AGE, [38], "is an array; a number is expected"),
        (AGE, {}, "is an object; a number is expected"),
        (FARE, 10**400, "that does not fit FP64"),
        (KIN, 1.5, "is 1.5; a whole number is expected"),
        (KIN, 2**63, "that does not fit INT64"),
        (KIN, 1e300, "that does not fit INT64"),
        (ALONE, 1, "is 1; true or false is expected"),
        (ALONE, None, "is missing; true or false is expected"),
        (PORT, "Q", "is 'Q'; it must be one of S, C"),
        (PORT, 1, "is 1; text is expected"),
        (CABIN, 7, "is 7; text is expected"),
        (CABIN, "x" * 99, None),
    ],
)
def test_json_values_are_checked_and_never_coerced(
    spec: Feature, value: Any, problem: str | None
) -> None:
    if problem is None:
        assert check_value(spec, value, "here") == value
        return
    error = refusal(check_value, spec, value, "here")
    assert error.details[0].where == "here"
    assert problem in error.message


@pytest.mark.parametrize(
    ("spec", "text", "problem"),
    [
        (AGE, "old", "is 'old'; a number is expected"),
        (AGE, "38,5", "is '38,5'; a number is expected; write the decimals after a point"),
        (AGE, "1_0", "is '1_0'; a number is expected"),
        (AGE, "nan", "is nan; a finite number is expected"),
        (AGE, "1e999", "is inf; a finite number is expected"),
        (AGE, " ", "is missing"),
        (FARE, "1" * 400, "that does not fit FP64"),
        (FARE, "1" * 5000, "is inf; a finite number is expected"),
        (KIN, "1.5", "is 1.5; a whole number is expected"),
        (KIN, "9" * 30, "that does not fit INT64"),
        (ALONE, "maybe", "is 'maybe'; true or false is expected"),
        (PORT, "s", "is 's'; it must be one of S, C"),
    ],
)
def test_written_values_are_checked(spec: Feature, text: str, problem: str) -> None:
    assert problem in refusal(read_value, spec, text, "here").message


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        (AGE, " 38 ", 38.0),
        (AGE, "3.8e1", 38.0),
        (KIN, "-3", -3),
        (KIN, "3.0", 3),
        (KIN, str(2**63 - 1), 2**63 - 1),
        (ALONE, "Yes", True),
        (ALONE, "off", False),
        (PORT, " C ", "C"),
    ],
)
def test_written_values_are_read_as_meant(spec: Feature, text: str, value: Any) -> None:
    read = read_value(spec, text, "here")
    assert read == value
    assert type(read) is type(value)


def test_open_choices_are_only_suggestions() -> None:
    spec = feature("p", Kind.TEXT, Datatype.BYTES, choices=PORT.choices, closed=False)
    assert check_value(spec, "Queenstown", "here") == "Queenstown"


def test_number_choices_compare_by_value() -> None:
    spec = feature("n", Kind.NUMBER, Datatype.FP32, choices=(Choice(1.0, "one"),))
    assert check_value(spec, 1, "here") == 1
    assert "must be one of 1.0" in refusal(check_value, spec, 2, "here").message


# Where something is wrong.


def test_every_wrong_value_is_named_with_row_and_feature() -> None:
    rows = [ROW, ROW | {"age": "x", "port": "Q"}, ROW | {"kin": None}]
    error = refusal(tensors_from_rows, SHIP, rows)
    assert [problem.where for problem in error.details] == [
        "rows[1].age",
        "rows[1].port",
        "rows[2].kin",
    ]
    assert error.message.endswith("(and 2 more)")


def test_unknown_names_are_told_with_the_known_ones() -> None:
    error = refusal(tensors_from_rows, IRIS, [{"sl": 1, "sw": 1, "pl": 1, "pw": 1, "petal": 1}])
    assert error.message == "rows[0]: has no feature 'petal'; known: sl, sw, pl, pw"


def test_no_rows_are_refused() -> None:
    assert "at least one row" in refusal(tensors_from_rows, IRIS, []).message


def test_no_more_problems_are_told_than_a_person_reads() -> None:
    error = refusal(tensors_from_rows, SHIP, [ROW | {"age": "x"}] * 500)
    assert len(error.details) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: is empty; a header"),
        ("\n1,2,3,4", "line 1: is empty; a header"),
        ("sl,sw,pl,pw\n", "line 2: is missing; at least one row"),
        ("sl,sw,pl\n1,2,3", "line 1: lacks the column 'pw'"),
        ("sl,sw,pl,pw,sl\n1,2,3,4,5", "line 1: repeats the column 'sl'"),
        ("sl,sw,pl,pw\n1,2,3,4\n1,2,3\n", "line 3: has 3 values; the header has 4 columns"),
        ("sl,sw,pl,pw\n1,2,3,4,5", "line 2: has 5 values"),
        ('k,sl,sw,pl,pw\n"a\nb",1,2,3,4\nc,1,2,3\n', "line 4: has 4 values"),
        (
            "sl,sw,pl,pw\n1,2,3,4\n\n1,two,3,4\n",
            "line 4, column 'sw': is 'two'; a number is expected",
        ),
        ('sl,sw,pl,pw\n"1"x,2,3,4', "line 2: is not valid CSV"),
        ('sl,sw,pl,pw\n"1,2,3,4', "line 2: is not valid CSV"),
        ("sl,sw,pl,pw\n" + "1" * 200_000 + ",2,3,4", "line 2: is not valid CSV"),
        ("sl;sw;pl;pw\n1;2;3;4", "line 1: lacks the column 'sl'"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_line(text: str, problem: str) -> None:
    assert refusal(tensors_from_csv, IRIS, text).message.startswith(problem)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffsl,sw,pl,pw\r\n1,2,3,4\r\n",
        "pw,pl,sw,sl,species\n4,3,2,1,setosa\n\n",
        'id,"sl", sw ,pl,pw\n7,"1"," 2 ",3,4',
        "sl,sw,pl,pw\r1,2,3,4",
    ],
    ids=["spreadsheet", "other order, more columns", "quotes and blanks", "old line ends"],
)
def test_tables_come_as_spreadsheets_write_them(text: str) -> None:
    assert tensors_from_csv(IRIS, text)["x"].tolist() == [[1, 2, 3, 4]]


def test_a_header_of_a_hundred_thousand_columns_is_judged_at_once() -> None:
    header = ",".join(f"c{i}" for i in range(100_000))
    begin = time.process_time()
    assert "lacks the column 'sl'" in refusal(tensors_from_csv, IRIS, header).message
    assert time.process_time() - begin < 2


def test_a_form_names_the_field() -> None:
    error = refusal(tensors_from_form, SHIP, {"age": "x", "port": "C"})
    assert [problem.where for problem in error.details] == ["age", "kin"]


# Tensors and pictures among the features.

WINDOW = feature("window", Kind.TENSOR, Datatype.FP32, shape=(-1, 2))


def test_a_tensor_feature_takes_an_array_a_row() -> None:
    one = signature(WINDOW)
    rows = [{"window": [[1, 2], [3, 4]]}, {"window": [[5, 6], [7, 8]]}]
    assert tensors_from_rows(one, rows)["window"].shape == (2, 2, 2)
    by_form = tensors_from_form(one, {"window": "[[1, 2], [3, 4]]"})["window"]
    assert by_form.tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([[1, 2, 3]], "is nested as [1, 3]"),
        ([1, 2], "is nested as [2]"),
        ([[1, "2"]], 'is "2"; FP32 takes a number'),
        ([[1, 2], [3]], "has 1 elements; its neighbours have 2"),
        (7, "is 7; an array of shape [-1, 2] is expected"),
        (None, "is missing; an array of shape [-1, 2] is expected"),
    ],
)
def test_arrays_of_another_shape_are_refused(value: Any, problem: str) -> None:
    error = refusal(tensors_from_rows, signature(WINDOW), [{"window": value}])
    assert error.details[0].where.startswith("rows[0].window")
    assert problem in error.message


def test_rows_of_different_shapes_cannot_be_stacked() -> None:
    rows = [{"window": [[1, 2]]}, {"window": [[1, 2], [3, 4]]}]
    assert "different shapes" in refusal(tensors_from_rows, signature(WINDOW), rows).message


@pytest.mark.parametrize("text", ["[1,", "x", "\ud800", "[" * 100_000, "1" * 5000, "[NaN]"])
def test_arrays_written_into_a_form_must_be_json(text: str) -> None:
    error = refusal(tensors_from_form, signature(WINDOW), {"window": text})
    assert error.details[0].where == "window"


def test_a_picture_has_no_place_in_rows_and_its_tensor_is_left_out() -> None:
    picture = feature("image", Kind.IMAGE, Datatype.FP32)
    pictured = Signature(
        (
            TensorSpec("image", Datatype.FP32, (-1, 3, 8, 8)),
            TensorSpec("age", Datatype.FP32, (-1, 1)),
        ),
        (),
        (picture, AGE),
    )
    for tensors in (
        tensors_from_rows(pictured, [{"age": 3}]),
        tensors_from_csv(pictured, "age,image\n3,a.png\n"),
        tensors_from_form(pictured, {"age": "3"}),
    ):
        assert plain(tensors) == {"age": [3]}
    error = refusal(tensors_from_rows, pictured, [{"age": 3, "image": "aGk="}])
    assert error.message == "rows[0]: 'image' is a picture; it cannot stand in a row"
    assert csv_template(pictured).splitlines()[0] == "age"


# Anything at all.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ALL = signature(AGE, PORT, CABIN, KIN, ALONE, FARE, WINDOW)
NAMES = st.sampled_from([f.name for f in ALL.features]) | st.text(max_size=3)


@settings(deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=8), max_size=3))
def test_arbitrary_rows_raise_nothing_but_invalid_input(rows: list[dict[str, Any]]) -> None:
    try:
        tensors = tensors_from_rows(ALL, rows)
    except InvalidInput:
        return
    assert {len(array) for array in tensors.values()} == {len(rows)}


@settings(deadline=None)
@given(st.fixed_dictionaries({f.name: VALUES for f in (AGE, KIN, FARE)}))
def test_accepted_numbers_fit_their_tensors(row: dict[str, Any]) -> None:
    try:
        tensors = tensors_from_rows(signature(AGE, KIN, FARE), [row])
    except InvalidInput:
        return
    assert tensors["age"][0, 0] == np.float32(row["age"])
    assert tensors["kin"][0, 0] == row["kin"]


@settings(deadline=None)
@given(st.text() | st.lists(st.text(max_size=6)).map("age,port,cabin,kin,alone,fare\n".join))
def test_arbitrary_tables_raise_nothing_but_invalid_input(text: str) -> None:
    try:
        tensors = tensors_from_csv(SHIP, text)
    except InvalidInput:
        return
    assert set(tensors) == set(SHIP.feature_by_name)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.text(), max_size=8))
def test_arbitrary_forms_raise_nothing_but_invalid_input(fields: dict[str, str]) -> None:
    try:
        tensors = tensors_from_form(ALL, fields)
    except InvalidInput:
        return
    assert set(tensors) == set(ALL.feature_by_name)


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the published tables are not at hand")
def test_a_published_table_with_keys_and_targets_is_read() -> None:
    numbers = ["SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm"]
    spec = TensorSpec("x", Datatype.FP32, (-1, 4))
    array = tensors_from_csv(
        Signature((spec,), (), features_of([spec], numbers)), (ASSETS / "iris.csv").read_text()
    )["x"]
    assert array.shape == (150, 4)
    assert array[0].tolist() == pytest.approx([5.1, 3.5, 1.4, 0.2])


def test_a_table_that_names_no_column_is_refused_even_where_all_may_be_missing() -> None:
    spec = TensorSpec("age", Datatype.FP64, (VARIABLE, 1))
    signature = Signature((spec,), (), features_of((spec,)))
    feature = dataclasses.replace(signature.features[0], optional=True)
    signature = dataclasses.replace(signature, features=(feature,))
    assert len(tensors_from_csv(signature, "id,age\n1,\n")["age"]) == 1
    with pytest.raises(InvalidInput, match="names none of the model's columns: age"):
        tensors_from_csv(signature, "Age\n1\n")
    with pytest.raises(InvalidInput, match="columns are separated by commas"):
        tensors_from_csv(signature, "id;age\n1;2\n")
    with pytest.raises(InvalidInput, match=r"rows\[1\]: is empty; give at least one of: age"):
        tensors_from_rows(signature, [{"age": 1.0}, {}])
