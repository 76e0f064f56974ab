"""A signature in a manifest is the signature that the import read."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.serving.errors import ArtefactError
from portico.serving.signature import (
    AnswerKind,
    AnswerSpec,
    Choice,
    Feature,
    Kind,
    Scores,
    Signature,
    features_of,
)
from portico.serving.signature_json import signature_from_json, signature_to_json
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

scalars = st.one_of(st.text(), st.floats(), st.integers(), st.booleans())
numbers = st.none() | st.floats()
shapes = st.lists(st.integers(-1, 9), max_size=4).map(tuple)
specs = st.builds(TensorSpec, st.text(), st.sampled_from(Datatype), shapes)
features = st.builds(
    Feature,
    name=st.text(),
    tensor=st.text(),
    kind=st.sampled_from(Kind),
    datatype=st.sampled_from(Datatype),
    column=st.none() | st.integers(0, 600),
    shape=shapes,
    title=st.text(),
    description=st.text(),
    unit=st.text(),
    minimum=numbers,
    maximum=numbers,
    step=numbers,
    choices=st.lists(st.builds(Choice, scalars, st.text()), max_size=3).map(tuple),
    closed=st.booleans(),
    default=st.none() | scalars,
    optional=st.booleans(),
)
answers = st.builds(
    AnswerSpec,
    kind=st.sampled_from(AnswerKind),
    label=st.none() | st.text(),
    scores=st.none() | st.text(),
    value=st.none() | st.text(),
    classes=st.lists(scalars, max_size=4).map(tuple),
    labels=st.lists(st.text(), max_size=4).map(tuple),
    scores_are=st.sampled_from(Scores),
    title=st.text(),
    unit=st.text(),
    top=st.integers(0, 1000),
)


def tuples_of(each: Any) -> Any:
    return st.lists(each, max_size=3).map(tuple)


signatures = st.builds(Signature, tuples_of(specs), tuples_of(specs), tuples_of(features), answers)


@given(signatures)
def test_every_signature_comes_back_through_json_as_it_was(signature: Signature) -> None:
    text = json.dumps(signature_to_json(signature), allow_nan=False)
    # Unlike ==, the text tells 1 from 1.0 and True, and NaN is as good as NaN.
    assert repr(signature_from_json(json.loads(text))) == repr(signature)


@given(signatures)
def test_the_decoder_of_manifests_reads_it_too(signature: Signature) -> None:
    data = msgspec.json.decode(msgspec.json.encode(signature_to_json(signature)))
    assert repr(signature_from_json(data)) == repr(signature)


@pytest.mark.parametrize(
    "scalar", [np.int64(3), np.float64(0.1), np.float32(0.5), np.str_("cat"), np.bool_(True)]
)
def test_classes_may_be_numpy_scalars(scalar: Any) -> None:
    spec = TensorSpec("x", Datatype.FP32, (-1, 2))
    signature = Signature((spec,), (spec,), features_of([spec]), AnswerSpec(classes=(scalar,)))
    (found,) = signature_from_json(signature_to_json(signature)).answer.classes
    assert (type(found), found) == (type(scalar.item()), scalar.item())


def _without_inputs(data: dict[str, Any]) -> None:
    del data["inputs"]


def _with_another_datatype(data: dict[str, Any]) -> None:
    data["inputs"][0]["datatype"] = "FP128"


def _with_an_unknown_key(data: dict[str, Any]) -> None:
    data["output"] = []


def _with_a_number_that_is_none(data: dict[str, Any]) -> None:
    data["answer"]["classes"] = [{"float": "x"}]


@pytest.mark.parametrize(
    "spoil",
    [_without_inputs, _with_another_datatype, _with_an_unknown_key, _with_a_number_that_is_none],
)
def test_what_is_no_signature_is_refused(spoil: Callable[[dict[str, Any]], None]) -> None:
    spec = TensorSpec("x", Datatype.FP32, (-1, 2))
    data = signature_to_json(Signature((spec,), (spec,), features_of([spec])))
    spoil(data)
    with pytest.raises(ArtefactError, match="the signature cannot be read"):
        signature_from_json(data)


def test_infinities_are_kept_apart() -> None:
    spec = TensorSpec("x", Datatype.FP64, (-1,))
    answer = AnswerSpec(classes=(math.inf, -math.inf, 2**64))
    signature = Signature((spec,), (spec,), (), answer)
    assert signature_from_json(signature_to_json(signature)) == signature
