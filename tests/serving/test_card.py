"""Model cards: what a person adds is taken as meant, or refused when the model is loaded."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.serving.artefacts import CARD_NAME
from portico.serving.card import (
    AnswerCard,
    FeatureCard,
    ImageCard,
    LimitsCard,
    ModelCard,
    describe,
    read_card,
)
from portico.serving.errors import ArtefactError
from portico.serving.signature import (
    AnswerKind,
    AnswerSpec,
    Choice,
    Feature,
    Scores,
    Signature,
    answer_of,
    features_of,
)
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

IRIS_INPUT = TensorSpec("x", Datatype.FP32, (-1, 2))
LABEL = TensorSpec("label", Datatype.INT64, (-1,))
SCORES = TensorSpec("scores", Datatype.FP32, (-1, 3))
IRIS = Signature(
    (IRIS_INPUT,), (LABEL, SCORES), features_of([IRIS_INPUT]), answer_of([LABEL, SCORES])
)
NETWORK = Signature((IRIS_INPUT,), (SCORES,), features_of([IRIS_INPUT]))


def card_of(folder: Path, text: str) -> ModelCard:
    (folder / CARD_NAME).write_text(text, "utf-8")
    return read_card(folder)


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(ArtefactError) as caught:
        call(*args)
    return caught.value.message


def described(datatype: Datatype, card: FeatureCard, **more: Any) -> Feature:
    spec = TensorSpec("a", datatype, (-1, 1))
    signature = Signature((spec,), (), features_of([spec]))
    return describe(signature, ModelCard(features={"a": card}, **more)).features[0]


# Reading.


def test_no_card_is_an_empty_card(tmp_path: Path) -> None:
    assert read_card(tmp_path) == ModelCard()
    assert card_of(tmp_path, "") == ModelCard()


def test_every_section_is_read(tmp_path: Path) -> None:
    card = card_of(
        tmp_path,
        """
        title = "Iris"
        feature_names = ["length", "width"]

        [features.length]
        unit = "cm"
        choices = { 1 = "short", 2 = "long" }
        open = true
        default = 1

        [answer]
        kind = "classification"
        labels = ["a", "b", "c"]
        scores = "logits"
        top = 2

        [image]
        resize = [12, 34]
        crop = 7
        color = "BGR"

        [limits]
        queue_rows = 9
        deadline = 0.5
        """,
    )
    assert card.feature_names == ["length", "width"]
    assert card.features["length"].choices == {"1": "short", "2": "long"}
    assert card.answer == AnswerCard(
        kind=AnswerKind.CLASSIFICATION, labels=["a", "b", "c"], scores=Scores.LOGITS, top=2
    )
    assert card.image == ImageCard(resize=(12, 34), crop=7, color="BGR")
    assert card.limits == LimitsCard(queue_rows=9, deadline=0.5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("titel = 'x'", "unknown field `titel`"),
        ("[features.a]\nunits = 'cm'", "unknown field `units`"),
        ("title = 7", "Expected `str`, got `int` - at `$.title`"),
        ("title = ", "Invalid value"),
        ("[image]\ncolor = 'HSV'", "$.image.color"),
        ("[image]\nresize = 0", "`resize` must be at least 1 pixel - at `$.image`"),
        ("[image]\ncrop = [1, 2, 3]", "$.image.crop"),
        ("[limits]\nqueue_rows = 0", "$.limits.queue_rows"),
        ("[limits]\ndeadline = 0", "$.limits.deadline"),
        ("[answer]\ntop = 0", "$.answer.top"),
        ("[answer]\nkind = 'guess'", "$.answer.kind"),
    ],
)
def test_unknown_keys_and_wrong_values_are_named(tmp_path: Path, text: str, problem: str) -> None:
    message = refusal(card_of, tmp_path, text)
    assert message.startswith(f"model.toml of '{tmp_path.name}': ")
    assert problem in message


def test_a_card_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / CARD_NAME).write_bytes(b"title = '\xff'")
    assert "utf-8" in refusal(read_card, tmp_path)


@settings(deadline=None)
@given(st.text())
def test_arbitrary_text_is_a_card_or_refused(tmp_path_factory: Any, text: str) -> None:
    folder = tmp_path_factory.mktemp("model")
    with contextlib.suppress(ArtefactError):
        assert isinstance(card_of(folder, text), ModelCard)


# Labels files.


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "tench\ngreat white shark\n\nhen\n"),
        ("labels.txt", "tench\r\n great white shark\r\nhen"),
        ("labels.txt", "\ufefftench\ngreat white shark\nhen"),
        ("labels.json", json.dumps(["tench", "great white shark", "hen"])),
        ("labels.json", json.dumps({"2": "hen", "0": "tench", "1": "great white shark"})),
        (
            "labels.json",
            json.dumps(
                {"0": ["n1", "tench"], "1": ["n2", "great white shark"], "2": ["n3", "hen"]}
            ),
        ),
    ],
    ids=["lines", "other line ends", "byte order mark", "list", "object", "object of pairs"],
)
def test_labels_come_from_a_file(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8", newline="")
    card = card_of(tmp_path, f"[answer]\nlabels_file = '{name}'")
    assert card.answer.labels == ["tench", "great white shark", "hen"]


def test_an_object_of_more_than_ten_labels_is_ordered_by_number(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(json.dumps({str(i): f"c{i}" for i in reversed(range(12))}))
    card = card_of(tmp_path, "[answer]\nlabels_file = 'l.json'")
    assert card.answer.labels == [f"c{i}" for i in range(12)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("labels.txt", None, "cannot be read"),
        ("labels.txt", b"\xff", "cannot be read"),
        ("labels.json", b"[1, 2]", "cannot be read"),
        ("labels.json", b"{", "cannot be read"),
        ("labels.json", b'{"a": "x"}', "the keys must be the class indexes 0 to 0"),
        ("labels.json", b'{"0": "x", "2": "y"}', "the keys must be the class indexes 0 to 1"),
        ("../labels.txt", b"x", "lies outside the model's folder"),
        ("/etc/hostname", None, "lies outside the model's folder"),
        (".", None, "cannot be read"),
    ],
)
def test_labels_files_that_cannot_be_meant_are_refused(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if content is not None:
        (folder / name).write_bytes(content)
    assert problem in refusal(card_of, folder, f"[answer]\nlabels_file = '{name}'")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "labels.txt").symlink_to(tmp_path / "secret.txt")
    message = refusal(card_of, folder, "[answer]\nlabels_file = 'labels.txt'")
    assert "lies outside" in message


# Features.


def test_what_the_card_says_is_added_and_the_rest_is_left() -> None:
    card = FeatureCard(title="Age", unit="years", minimum=0, maximum=120, step=1, default=40)
    feature = described(Datatype.FP32, card)
    assert feature == Feature(
        name="a",
        tensor="a",
        kind=feature.kind,
        datatype=Datatype.FP32,
        title="Age",
        unit="years",
        minimum=0,
        maximum=120,
        step=1,
        default=40.0,
    )
    assert describe(IRIS, ModelCard()).features == IRIS.features


def test_a_feature_that_the_model_lacks_is_told_with_those_it_has() -> None:
    card = ModelCard(features={"petal": FeatureCard()})
    assert "a feature 'petal'; the model has: x1, x2" in refusal(describe, IRIS, card)


def test_names_are_given_before_features_are_described() -> None:
    card = ModelCard(feature_names=["length", "width"], features={"width": FeatureCard(unit="cm")})
    features = describe(IRIS, card).features
    assert [(f.name, f.column, f.unit) for f in features] == [("length", 0, ""), ("width", 1, "cm")]


@pytest.mark.parametrize("names", [["one"], ["a", "b", "c"], ["a", "a"]])
def test_names_that_do_not_fit_the_columns_are_refused(names: list[str]) -> None:
    assert "feature_names" in refusal(describe, IRIS, ModelCard(feature_names=names))


@pytest.mark.parametrize(
    ("datatype", "choices", "wanted"),
    [
        (Datatype.BYTES, ["S", "C"], (Choice("S", "S"), Choice("C", "C"))),
        (Datatype.BYTES, {"S": "Southampton"}, (Choice("S", "Southampton"),)),
        (Datatype.INT64, {"1": "first", "2": "second"}, (Choice(1, "first"), Choice(2, "second"))),
        (Datatype.INT64, {"3.0": "third"}, (Choice(3, "third"),)),
        (Datatype.FP32, {"0.5": "half"}, (Choice(0.5, "half"),)),
        (Datatype.BOOL, {"true": "Yes", "false": "No"}, (Choice(True, "Yes"), Choice(False, "No"))),
    ],
)
def test_choices_become_values_of_the_features_kind(
    datatype: Datatype, choices: Any, wanted: tuple[Choice, ...]
) -> None:
    feature = described(datatype, FeatureCard(choices=choices))
    assert feature.choices == wanted
    assert [type(c.value) for c in feature.choices] == [type(c.value) for c in wanted]
    assert feature.closed
    assert not described(datatype, FeatureCard(choices=choices, open=True)).closed


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (Datatype.FP32, "many"),
        (Datatype.FP32, math.nan),
        (Datatype.FP32, 10**400),
        (Datatype.INT64, 3.7),
        (Datatype.INT64, math.inf),
        (Datatype.INT64, "3.7"),
        (Datatype.BOOL, "perhaps"),
        (Datatype.BOOL, 2),
    ],
)
def test_defaults_and_choices_of_another_kind_are_refused(datatype: Datatype, value: Any) -> None:
    message = refusal(described, datatype, FeatureCard(default=value))
    assert message.startswith("model.toml: default of feature 'a': ")
    assert "choices of feature 'a'" in refusal(described, datatype, FeatureCard(choices=[value]))


def test_false_in_quotes_is_false() -> None:
    assert described(Datatype.BOOL, FeatureCard(default="false")).default is False


def test_large_whole_numbers_keep_every_digit() -> None:
    assert described(Datatype.INT64, FeatureCard(default=2**63 - 1)).default == 2**63 - 1


# The answer.


def test_labels_are_what_a_person_reads_for_the_classes() -> None:
    card = ModelCard(answer=AnswerCard(labels=["a", "b", "c"], title="Species", top=2))
    answer = describe(IRIS, card).answer
    assert (answer.label, answer.scores, answer.classes) == ("label", "scores", (0, 1, 2))
    assert (answer.labels, answer.title, answer.top) == (("a", "b", "c"), "Species", 2)


def test_without_labels_the_classes_read_as_they_are() -> None:
    assert describe(IRIS, ModelCard()).answer.labels == ("0", "1", "2")


def test_labels_make_a_classifier_of_a_lone_row_of_scores() -> None:
    answer = describe(NETWORK, ModelCard(answer=AnswerCard(labels=["a", "b", "c"]))).answer
    assert answer.kind is AnswerKind.CLASSIFICATION
    assert (answer.label, answer.scores, answer.classes) == (None, "scores", (0, 1, 2))


def test_labels_of_another_number_are_refused() -> None:
    card = ModelCard(answer=AnswerCard(labels=["a", "b"]))
    assert "gives 2 labels; the model has 3 classes" in refusal(describe, IRIS, card)
    assert "no single output has 2 scores a row" in refusal(describe, NETWORK, card)


def test_a_regression_keeps_its_unit() -> None:
    value = TensorSpec("y", Datatype.FP32, (-1, 1))
    signature = Signature((IRIS_INPUT,), (value,), features_of([IRIS_INPUT]), answer_of([value]))
    answer = describe(signature, ModelCard(answer=AnswerCard(unit="EUR"))).answer
    assert answer == AnswerSpec(kind=AnswerKind.REGRESSION, value="y", unit="EUR")


@pytest.mark.parametrize(
    ("meaning", "problem"),
    [
        (FeatureCard(minimum=5, maximum=1), "minimum 5 above maximum 1"),
        (FeatureCard(default=900.0, maximum=3), "default 900 .* is not at most 3"),
        (FeatureCard(choices=[1.0, 2.0], default=3.0), "none of its choices"),
    ],
)
def test_what_no_value_could_satisfy_is_refused(meaning: FeatureCard, problem: str) -> None:
    inputs = (TensorSpec("x", Datatype.FP32, (-1, 1)),)
    signature = Signature(inputs, (), features_of(inputs))
    with pytest.raises(ArtefactError, match=problem):
        describe(signature, ModelCard(features={"x": meaning}))
