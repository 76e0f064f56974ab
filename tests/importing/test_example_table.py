"""A table of examples fits the model, or the message says which columns do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from portico.serving.card import FeatureCard, ModelCard, describe
from portico.serving.errors import ArtefactError
from portico.serving.importing.example_table import MAX_ROWS, Examples, read_examples
from portico.serving.signature import Choice, Feature, Kind, Signature, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

MATRIX = TensorSpec("input", Datatype.FP32, (-1, 2))
NAMELESS = Signature((MATRIX,), (), features_of([MATRIX]))
NAMED = Signature((MATRIX,), (), features_of([MATRIX], ["length", "width"]))
COLUMNS = (
    TensorSpec("age", Datatype.FP64, (-1, 1)),
    TensorSpec("town", Datatype.BYTES, (-1, 1)),
    TensorSpec("pet", Datatype.BYTES, (-1, 1)),
)
FRAME = Signature(
    COLUMNS,
    (),
    (
        Feature(name="age", tensor="age", kind=Kind.NUMBER, datatype=Datatype.FP64, minimum=0),
        Feature(name="town", tensor="town", kind=Kind.TEXT, datatype=Datatype.BYTES),
        Feature(
            name="pet", tensor="pet", kind=Kind.TEXT, datatype=Datatype.BYTES,
            choices=(Choice("cat", "cat"), Choice("dog", "dog")),
        ),
    ),
)  # fmt: skip


def read(folder: Path, text: str, signature: Signature, card: ModelCard | None = None) -> Examples:
    path = folder / "examples.csv"
    path.write_text(text, "utf-8")
    return read_examples(path, "data.csv", signature, card or ModelCard())


def test_a_table_becomes_tensors(tmp_path: Path) -> None:
    found = read(tmp_path, "width,length\n1,2\n3,4\n", NAMED)
    assert found.tensors["input"].tolist() == [[2, 1], [4, 3]]
    assert found.notes == []


def test_columns_that_are_missing_and_extra_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read(tmp_path, "length,breadth,colour\n1,2,red\n", NAMED)
    assert raised.value.message == (
        "'data.csv' lacks 'width', and has 'breadth', 'colour', which the model does not take; "
        "the model takes: 'length', 'width'"
    )


def test_extra_columns_alone_are_passed_over_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, "length,species,width\n1,setosa,2\n", NAMED)
    assert found.tensors["input"].tolist() == [[1, 2]]
    assert found.notes == ["columns passed over, as the model does not take them: 'species'"]


@pytest.mark.parametrize("text", ["", "\n", " , \n1,2\n"])
def test_an_empty_table_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtefactError, match=r"'data\.csv' is empty; a header"):
        read(tmp_path, text, NAMED)


def test_a_header_without_rows_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="at least one row must follow the header"):
        read(tmp_path, "length,width\n", NAMED)


def test_a_table_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "examples.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError, match=r"'data\.csv' is no UTF-8 text"):
        read_examples(path, "data.csv", NAMED, ModelCard())


def test_a_wrong_value_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="line 3, column 'width': is 'wide'"):
        read(tmp_path, "length,width\n1,2\n3,wide\n", NAMED)


def test_a_table_names_the_columns_of_a_matrix_without_names(tmp_path: Path) -> None:
    found = read(tmp_path, "length,width\n1,2\n", NAMELESS)
    assert found.card.feature_names == ["length", "width"]
    assert found.tensors["input"].tolist() == [[1, 2]]


def test_a_table_of_another_width_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="a table of just 2 columns names them"):
        read(tmp_path, "length,width,species\n1,2,3\n", NAMELESS)


def test_names_that_a_card_gave_stay(tmp_path: Path) -> None:
    card = ModelCard(feature_names=["a", "b"])
    assert read(tmp_path, "b,a\n1,2\n", NAMELESS, card).tensors["input"].tolist() == [[2, 1]]


def test_a_form_learns_what_is_typical_and_never_a_limit(tmp_path: Path) -> None:
    rows = ["3,Rome,cat", "40,Rome,dog", "41,Oslo,dog", "999,Rome,dog", ",Oslo,"]
    found = read(tmp_path, "age,town,pet\n" + "\n".join(rows), FRAME)
    assert found.card.features == {
        "age": FeatureCard(default=41.0, optional=True),
        "town": FeatureCard(choices=["Oslo", "Rome"], open=True, default="Rome"),
        "pet": FeatureCard(default="dog", optional=True),
    }
    assert math.isnan(found.tensors["age"][4, 0])
    described = describe(FRAME, found.card)
    assert described.feature_by_name["town"].closed is False
    assert described.feature_by_name["age"].maximum is None


def test_free_texts_are_no_choices(tmp_path: Path) -> None:
    rows = "\n".join(f"1,street {i},cat" for i in range(10))
    found = read(tmp_path, f"age,town,pet\n{rows}\n", FRAME)
    assert found.card.features["town"].choices == []


def test_what_a_card_says_is_not_learnt_otherwise(tmp_path: Path) -> None:
    card = ModelCard(features={"age": FeatureCard(title="Age", default=7, maximum=50)})
    found = read(tmp_path, "age,town,pet\n30,a,cat\n60,b,cat\n", FRAME, card)
    assert found.card.features["age"] == FeatureCard(title="Age", default=7, maximum=50)


def test_examples_may_lie_outside_of_limits_meant_for_people(tmp_path: Path) -> None:
    card = ModelCard(features={"age": FeatureCard(maximum=50)})
    found = read(tmp_path, "age,town,pet\n60,a,hamster\n", FRAME, card)
    assert found.tensors["pet"].tolist() == [["hamster"]]
    assert found.card.features["age"].default is None
    describe(FRAME, found.card)


def test_single_precision_leaves_no_trace_in_a_default(tmp_path: Path) -> None:
    found = read(tmp_path, "length,width\n5.1,0.2\n", NAMED)
    assert found.card.features["length"].default == 5.1


def test_a_long_table_is_thinned_evenly(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},0" for i in range(3 * MAX_ROWS))
    tensor = read(tmp_path, f"length,width\n{rows}\n", NAMED).tensors["input"]
    assert len(tensor) == MAX_ROWS
    assert np.diff(tensor[:, 0]).max() <= 4
    assert tensor[-1, 0] == 3 * MAX_ROWS - 1
