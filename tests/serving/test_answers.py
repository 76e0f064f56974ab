"""Answers: labels, probabilities and values that a person understands, one a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.serving.answers import ClassAnswer, TensorAnswer, ValueAnswer, answers_of
from portico.serving.signature import AnswerKind, AnswerSpec, Scores, Signature

if TYPE_CHECKING:
    from portico.serving.tensors import Array


def signature(**answer: Any) -> Signature:
    return Signature((), (), (), AnswerSpec(**answer))


def classes(*names: Any, **more: Any) -> Signature:
    return signature(kind=AnswerKind.CLASSIFICATION, scores="scores", **{"classes": names, **more})


def floats(*rows: list[float]) -> Array:
    return np.array(rows, dtype=np.float32)


def test_the_class_comes_with_its_probability_and_the_likeliest_first() -> None:
    given_ = classes("a", "b", "c", label="label", scores_are=Scores.PROBABILITIES)
    outputs = {
        "label": np.array(["b", "a"], object),
        "scores": floats([0.25, 0.5, 0.25], [1, 0, 0]),
    }
    assert answers_of(given_, outputs) == [
        ClassAnswer("b", 0.5, {"b": 0.5, "a": 0.25, "c": 0.25}),
        ClassAnswer("a", 1.0, {"a": 1.0, "b": 0.0, "c": 0.0}),
    ]
    (first, _) = answers_of(given_, outputs)
    assert isinstance(first, ClassAnswer)
    assert list(first.probabilities) == ["b", "a", "c"]


def test_labels_stand_for_the_raw_classes() -> None:
    given_ = classes(7, 9, label="label", labels=("Iris setosa", "Iris virginica"))
    outputs = {"label": np.array([9]), "scores": floats([0.25, 0.75])}
    assert answers_of(given_, outputs) == [
        ClassAnswer("Iris virginica", 0.75, {"Iris virginica": 0.75, "Iris setosa": 0.25})
    ]


def test_the_models_own_label_counts_even_where_another_scores_higher() -> None:
    outputs = {"label": np.array([0]), "scores": floats([0.25, 0.75])}
    (answer,) = answers_of(classes(0, 1, label="label"), outputs)
    assert answer == ClassAnswer("0", 0.25, {"1": 0.75, "0": 0.25})


def test_without_a_label_the_best_score_decides() -> None:
    outputs = {"scores": floats([0.25, 0.75], [1, 0])}
    answers = answers_of(classes(False, True), outputs)
    assert [a.label for a in answers if isinstance(a, ClassAnswer)] == ["True", "False"]


def test_a_label_alone_comes_without_probabilities() -> None:
    alone = signature(
        kind=AnswerKind.CLASSIFICATION, label="label", classes=("a", "b"), labels=("Ah", "Be")
    )
    outputs = {"label": np.array(["b", "new"], object)}
    assert answers_of(alone, outputs) == [ClassAnswer("Be", None, {}), ClassAnswer("new", None, {})]


def test_logits_become_probabilities() -> None:
    (answer,) = answers_of(classes(0, 1), {"scores": floats([0, np.log(3)])})
    assert isinstance(answer, ClassAnswer)
    assert answer.label == "1"
    assert answer.probability == pytest.approx(0.75)
    assert answer.probabilities == pytest.approx({"1": 0.75, "0": 0.25})


def test_large_logits_do_not_overflow() -> None:
    (answer,) = answers_of(classes(0, 1), {"scores": floats([1e38, -1e38])})
    assert answer == ClassAnswer("0", 1.0, {"0": 1.0, "1": 0.0})


def test_a_masked_class_has_no_probability() -> None:
    (answer,) = answers_of(classes(0, 1), {"scores": floats([2, -np.inf])})
    assert answer == ClassAnswer("0", 1.0, {"0": 1.0, "1": 0.0})


def test_what_sums_to_one_is_left_as_it_is() -> None:
    (answer,) = answers_of(classes(0, 1), {"scores": floats([0.125, 0.875])})
    assert answer == ClassAnswer("1", 0.875, {"1": 0.875, "0": 0.125})


def test_the_card_says_when_numbers_that_sum_to_one_are_logits() -> None:
    outputs = {"scores": floats([0.0, 1.0])}
    (answer,) = answers_of(classes(0, 1, scores_are=Scores.LOGITS), outputs)
    assert isinstance(answer, ClassAnswer)
    assert answer.probability == pytest.approx(np.e / (1 + np.e))


def test_at_most_the_top_are_listed() -> None:
    names = tuple(range(10))
    outputs = {"scores": np.eye(10, dtype=np.float32)[[4]]}
    (answer,) = answers_of(classes(*names, top=3), outputs)
    assert isinstance(answer, ClassAnswer)
    assert list(answer.probabilities) == ["4", "0", "1"]


def test_two_classes_of_one_name_keep_their_own_scores() -> None:
    """ImageNet's labels hold "crane" twice: the bird and the machine."""
    given_ = classes(0, 1, 2, labels=("crane", "dog", "crane"))
    (answer,) = answers_of(given_, {"scores": floats([0.125, 0.25, 0.625])})
    assert answer == ClassAnswer("crane", 0.625, {"crane": 0.625, "dog": 0.25})
    (answer,) = answers_of(given_, {"scores": floats([0.625, 0.25, 0.125])})
    assert answer == ClassAnswer("crane", 0.625, {"crane": 0.625, "dog": 0.25})


def test_more_or_fewer_scores_than_names_are_told_by_number() -> None:
    named = classes(0, 1, labels=("a", "b"), label="label", scores_are=Scores.PROBABILITIES)
    outputs = {"label": np.array([1]), "scores": floats([0.25, 0.25, 0.5])}
    assert answers_of(named, outputs) == [ClassAnswer("b", 0.25, {"2": 0.5, "a": 0.25, "b": 0.25})]
    outputs = {"label": np.array([1]), "scores": floats([1])}
    assert answers_of(named, outputs) == [ClassAnswer("b", None, {"a": 1.0})]


@pytest.mark.parametrize("kind", list(Scores))
def test_scores_that_are_no_numbers_give_no_probability(kind: Scores) -> None:
    nan = np.nan
    outputs = {"label": np.array([1, 1]), "scores": floats([nan, nan], [0.25, 0.75])}
    first, second = answers_of(classes(0, 1, label="label", scores_are=kind), outputs)
    assert first == ClassAnswer("1", None, {})
    assert isinstance(second, ClassAnswer)
    assert second.probability is not None


def test_an_infinite_score_gives_no_probability() -> None:
    for kind in Scores:
        outputs = {"scores": floats([np.inf, 0.5])}
        (answer,) = answers_of(classes(0, 1, scores_are=kind), outputs)
        assert answer == ClassAnswer("0", None, {})


def test_a_row_that_is_broken_does_not_change_the_answers_of_others() -> None:
    good = floats([0.25, 0.75])
    alone = answers_of(classes(0, 1), {"scores": good})
    for other in ([np.nan, 0], [3, 5], [np.inf, 1]):
        both = answers_of(classes(0, 1), {"scores": np.concatenate([good, floats(other)])})
        assert both[:1] == alone


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    kind=st.sampled_from([Scores.AUTO, Scores.LOGITS]),
)
def test_probabilities_lie_between_0_and_1_whatever_the_model_gives(
    rows: list[list[float]], kind: Scores
) -> None:
    answers = answers_of(classes(0, 1, 2, scores_are=kind), {"scores": floats(*rows)})
    assert len(answers) == len(rows)
    for answer in answers:
        assert isinstance(answer, ClassAnswer)
        values = [*answer.probabilities.values(), answer.probability or 0]
        assert all(0 <= value <= 1 + 1e-9 for value in values)
        assert (answer.probability is None) == (not answer.probabilities)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_value_comes_with_its_unit(shape: tuple[int, ...]) -> None:
    value = signature(kind=AnswerKind.REGRESSION, value="y", unit="EUR")
    outputs = {"y": np.array([1.5, -2], np.float32).reshape(shape)}
    assert answers_of(value, outputs) == [ValueAnswer(1.5, "EUR"), ValueAnswer(-2.0, "EUR")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_none(value: float) -> None:
    given_ = signature(kind=AnswerKind.REGRESSION, value="y")
    assert answers_of(given_, {"y": np.array([value])}) == [ValueAnswer(None, "")]


def test_anything_else_is_told_as_it_is_row_by_row() -> None:
    outputs = {"a": np.array([[1, 2], [3, 4]]), "b": np.array(["x", "y"], object)}
    assert answers_of(signature(), outputs) == [
        TensorAnswer({"a": [1, 2], "b": "x"}),
        TensorAnswer({"a": [3, 4], "b": "y"}),
    ]


def test_an_output_without_rows_is_told_once() -> None:
    assert answers_of(signature(), {"a": np.array(5)}) == [TensorAnswer({"a": 5})]
