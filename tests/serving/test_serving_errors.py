"""The tree of errors: each has a code of its own, a sentence and the places it speaks of."""

from __future__ import annotations

import re

from portico.serving import errors
from portico.serving.errors import InvalidInput, ModelRefused, Problem, QueueFull, ServingError


def tree(root: type[ServingError] = ServingError) -> list[type[ServingError]]:
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


def test_each_failure_has_a_stable_code_of_its_own() -> None:
    codes = [kind.__dict__.get("code") for kind in tree()]
    assert len(set(codes)) == len(codes)
    assert all(code and re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = re.findall(r"^    .*?(\w+)(?:  .*)?$", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [kind.__name__ for kind in tree()]


def test_one_place_makes_the_sentence() -> None:
    error = InvalidInput.at("inputs[0].shape", "is [2]; 'x' takes [-1, 4]")
    assert str(error) == error.message == "inputs[0].shape: is [2]; 'x' takes [-1, 4]"
    assert error.details == (Problem("inputs[0].shape", "is [2]; 'x' takes [-1, 4]"),)


def test_of_several_places_the_first_makes_the_sentence_and_all_are_told() -> None:
    problems = [Problem("rows[0].age", "is missing"), Problem("rows[1].age", "is 'old'")]
    error = InvalidInput.of(problems)
    assert error.message == "rows[0].age: is missing (and 1 more)"
    assert list(error.details) == problems
    assert InvalidInput.of(problems[:1]).message == "rows[0].age: is missing"


def test_a_refusal_of_the_model_is_invalid_input_made_the_same_way() -> None:
    error = ModelRefused.at("rows[0]", "is unknown")
    assert type(error) is ModelRefused
    assert isinstance(error, InvalidInput)


def test_a_full_queue_says_when_to_come_back() -> None:
    assert QueueFull("full").retry_after == 1
    assert QueueFull("full").details == ()
