"""JSON tensors: nothing is coerced, nothing hostile gets through, what goes out comes back."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from portico.serving.codecs.json_tensors import (
    ANY_JSON,
    InferRequest,
    array_from_json,
    decode_json,
    decode_request,
    encode_response,
    output_members,
    outputs_of,
    tensors_of,
)
from portico.serving.errors import InvalidInput
from portico.serving.signature import Signature
from portico.serving.tensors import Array, Datatype, TensorSpec, limits_of

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"

NUMBERS = [d for d in Datatype if d not in (Datatype.BOOL, Datatype.BYTES)]
INTEGERS = [d for d in NUMBERS if d.is_integer]
FLOATS = [d for d in NUMBERS if d.is_float]

IRIS = Signature(
    (TensorSpec("input-0", Datatype.FP32, (-1, 4)),),
    (TensorSpec("label", Datatype.INT64, (-1,)), TensorSpec("scores", Datatype.FP32, (-1, 3))),
    (),
)


def one(datatype: Datatype, *shape: int) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), (), ())


def body(data: Any, shape: Any, datatype: str = "FP32", name: str = "x", **members: Any) -> bytes:
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **members}).encode()


def refusal(raw: bytes, signature: Signature = IRIS) -> str:
    with pytest.raises(InvalidInput) as caught:
        tensors_of(decode_request(raw), signature)
    assert caught.value.details
    return caught.value.message


@st.composite
def arrays(draw: st.DrawFn, datatype: Datatype) -> Array:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    if datatype is Datatype.BYTES:
        texts = draw(st.lists(st.text(), min_size=math.prod(shape), max_size=math.prod(shape)))
        return np.array([*texts, None], dtype=object)[:-1].reshape(shape)
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.is_float else None
    drawn: Array = draw(npst.arrays(datatype.dtype, shape, elements=elements))
    return drawn


# There and back.


@pytest.mark.parametrize("datatype", list(Datatype))
@settings(deadline=None)
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    answer = json.loads(encode_response("m", "1", {"x": array}, msgspec.UNSET))
    member = answer["outputs"][0]
    assert (member["name"], member["datatype"]) == ("x", datatype)
    shape = (-1,) * array.ndim
    raw = json.dumps({"inputs": [member]}).encode()
    back = tensors_of(decode_request(raw), one(datatype, *shape))["x"]
    assert back.dtype == datatype.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("datatype", list(Datatype))
@settings(deadline=None)
@given(data=st.data())
def test_nested_and_flat_data_are_the_same(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    flat = array_from_json(array.ravel().tolist(), datatype, array.shape, "x")
    nested = array_from_json(array.tolist(), datatype, array.shape, "x")
    np.testing.assert_array_equal(flat, nested)
    assert flat.shape == nested.shape == array.shape


@pytest.mark.parametrize("datatype", NUMBERS)
def test_both_ends_of_a_range_are_taken(datatype: Datatype) -> None:
    array = array_from_json(list(limits_of(datatype)), datatype, (2,), "x")
    assert tuple(array.tolist()) == limits_of(datatype)


def test_the_shortest_text_of_the_largest_float_is_taken() -> None:
    array = array_from_json([3.4028235e38], Datatype.FP32, (1,), "x")
    assert array[0] == np.finfo(np.float32).max


def test_not_a_number_is_sent_as_null() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.5], dtype=np.float32)
    answer = json.loads(encode_response("m", "1", {"x": values}, "7"))
    assert answer["id"] == "7"
    assert answer["outputs"][0]["data"] == [None, None, None, 1.5]


def test_arrays_that_are_not_contiguous_are_sent_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3).T
    answer = json.loads(encode_response("m", "1", {"x": array}, msgspec.UNSET))
    assert answer["outputs"][0]["data"] == [0, 3, 1, 4, 2, 5]
    assert answer["outputs"][0]["shape"] == [3, 2]


def test_bytes_of_a_model_are_sent_as_text() -> None:
    labels = np.array([b"\xc3\xa4", "b"], dtype=object)
    assert b'["\xc3\xa4","b"]' in encode_response("m", "1", {"x": labels}, msgspec.UNSET)


def test_an_output_of_no_protocol_datatype_is_a_fault_of_the_model() -> None:
    with pytest.raises(ValueError, match="no protocol datatype holds complex64"):
        output_members({"x": np.zeros(1, dtype=np.complex64)})


# What is not coerced.


@pytest.mark.parametrize(
    ("datatype", "value", "problem"),
    [
        (Datatype.FP32, "1.5", 'is "1.5"; FP32 takes a number'),
        (Datatype.FP32, True, "is true; FP32 takes a number"),
        (Datatype.FP32, None, "is null; FP32 takes a number"),
        (Datatype.FP32, {"a": 1}, "is an object; FP32 takes a number"),
        (Datatype.FP32, 1e39, "that does not fit FP32"),
        (Datatype.FP16, 70000, "is 70000; that does not fit FP16"),
        (Datatype.FP64, 10**400, "that does not fit FP64"),
        (Datatype.INT64, 1.5, "is 1.5; INT64 takes a whole number"),
        (Datatype.INT64, 1.0, "is 1.0; INT64 takes a whole number"),
        (Datatype.INT64, False, "is false; INT64 takes a whole number"),
        (Datatype.INT64, 2**63, "that does not fit INT64"),
        (Datatype.UINT8, 256, "is 256; that does not fit UINT8"),
        (Datatype.UINT8, -1, "is -1; that does not fit UINT8"),
        (Datatype.UINT64, 10**30, "that does not fit UINT64"),
        (Datatype.BOOL, 1, "is 1; BOOL takes true or false"),
        (Datatype.BYTES, 1, "is 1; BYTES takes a string"),
        (Datatype.BYTES, "a" * 99, None),
    ],
)
def test_an_element_of_another_type_or_range_is_named(
    datatype: Datatype, value: Any, problem: str | None
) -> None:
    good = {Datatype.BOOL: True, Datatype.BYTES: "good"}.get(datatype, 1)
    raw = body([[good, good], [good, value]], [2, 2], datatype)
    if problem is None:
        tensors_of(decode_request(raw), one(datatype, -1, 2))
        return
    message = refusal(raw, one(datatype, -1, 2))
    assert message.startswith("inputs[0].data[1][1]: ")
    assert problem in message


def test_the_element_named_is_the_one_that_does_not_fit() -> None:
    message = refusal(body([3.4028235e38, 1e39], [2]), one(Datatype.FP32, -1))
    assert message.startswith("inputs[0].data[1]: ")


@pytest.mark.parametrize(
    ("data", "shape", "problem"),
    [
        ([1, 2, 3], [1, 4], "data: holds 3 elements; shape [1, 4] takes 4"),
        ([[1, 2, 3, 4]], [2, 4], "data: holds 4 elements; shape [2, 4] takes 8"),
        ([[1, 2], [3, 4]], [1, 4], "data: is nested as [2, 2]; the shape is [1, 4]"),
        ([[1, 2, 3, 4], [1, 2, 3]], [2, 4], "data[1]: has 3 elements; its neighbours have 4"),
        ([[1, 2, 3, 4], 5], [2, 4], "data[1]: is no array, but its neighbours are"),
        ([1, [2], 3, 4], [1, 4], "data[1]: is an array; FP32 takes a number"),
        ([], [1, 4], "data: holds 0 elements"),
        ([1, 2, 3], [1, 3], "shape: is [1, 3]; 'input-0' takes [-1, 4] (-1 is any size)"),
        ([1, 2, 3, 4], [4], "shape: is [4]"),
        ([], [-1, 4], "shape[0]: is -1; a size is 0 or more"),
        ([], [2**64, 4], f"shape[0]: is {2**64}"),
        ({}, [1, 4], "data: must be an array"),
        (None, [1, 4], "data: must be an array"),
        ("AAAA", [1, 4], "data: must be an array"),
    ],
)
def test_data_and_shape_must_agree(data: Any, shape: list[int], problem: str) -> None:
    assert f"inputs[0].{problem}" in refusal(body(data, shape, name="input-0"))


@pytest.mark.parametrize("shape", [[0, 2**64 - 1], [2**62, 0], [0, 2**40, 2**40]])
def test_empty_tensors_of_impossible_size_are_refused(shape: list[int]) -> None:
    free = one(Datatype.FP32, *[-1] * len(shape))
    assert "is larger than can be held" in refusal(body([], shape), free)


def test_an_empty_batch_keeps_its_columns() -> None:
    array = tensors_of(decode_request(body([], [0, 4], name="input-0")), IRIS)["input-0"]
    assert array.shape == (0, 4)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"inputs": []}, "inputs: lacks 'input-0' (FP32, shape [-1, 4])"),
        ({}, "body: object missing required field `inputs`"),
        ({"inputs": {}}, "inputs: expected `array`, got `object`"),
        ({"inputs": [{"name": "x"}]}, "inputs[0]: object missing required field `shape`"),
        (
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]},
            "inputs[0].name: the model has no input 'x'; it has: input-0",
        ),
        (
            {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": []}]},
            "inputs[0].datatype: is 'FP64'; 'input-0' takes FP32",
        ),
        (
            {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP32"}]},
            "inputs[0].data: is missing",
        ),
        (
            {"inputs": [{"name": "input-0", "shape": [1.5, 4], "datatype": "FP32"}]},
            "inputs[0].shape[0]: expected `int`, got `float`",
        ),
        ({"inputs": [], "id": 7}, "id: expected `str`, got `int`"),
        ({"inputs": [], "parameters": []}, "parameters: expected `object | null`, got `array`"),
    ],
)
def test_members_that_are_missing_or_wrong_are_named(members: Any, problem: str) -> None:
    message = refusal(json.dumps(members).encode())
    assert message.replace("[]", "[0]").startswith(problem) or message.startswith(problem)


def test_an_input_given_twice_is_refused() -> None:
    tensor = {"name": "input-0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    raw = json.dumps({"inputs": [tensor, tensor]}).encode()
    assert "inputs[1].name: 'input-0' is given twice" in refusal(raw)


# Outputs that are asked for.


def asked(*names: str) -> tuple[str, ...] | None:
    raw = json.dumps({"inputs": [], "outputs": [{"name": name} for name in names]}).encode()
    return outputs_of(decode_request(raw), IRIS)


def test_outputs_come_in_the_order_asked_for() -> None:
    assert asked("scores", "label") == ("scores", "label")
    assert asked() is None
    assert outputs_of(decode_request(b'{"inputs":[]}'), IRIS) is None


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("proba",), "outputs[0].name: the model has no output 'proba'; it has: label, scores"),
        (("label", "label"), "outputs[1].name: 'label' is asked for twice"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(*names)
    assert caught.value.message == problem


# Hostile bodies.


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "body: is empty; JSON is expected"),
        (b"{", "body: is not valid JSON"),
        (b"nonsense", "body: is not valid JSON"),
        (b"[1]", "body: expected `object`, got `array`"),
        (b'{"inputs":[]}trailing', "body: is not valid JSON"),
        (b"\xff\xfe", "body: is not valid JSON"),
        ('{"inputs":[]}'.encode("utf-16"), "body: is not valid JSON"),
        (b'{"inputs":[{"name":"\xff","shape":[],"datatype":"x"}]}', "body: is not valid UTF-8"),
        (b'{"other":"\xff","inputs":[]}', "body: is not valid UTF-8"),
        (b'{"inputs":[],"inputs":[]}', "body: repeats the key 'inputs'"),
        (b'{"inputs":[],"\\u0069nputs":[]}', "body: repeats the key 'inputs'"),
        (b'{"inputs":[],"parameters":{"a":1,"a":2}}', "body: repeats the key 'a'"),
        (b'{"inputs":[],"parameters":{"a":{"b":1,"b":2}}}', "body: repeats the key 'b'"),
        (b'{"inputs":[],"other":{"b":1,"b":2}}', "body: repeats the key 'b'"),
        (b"[" * 100_000, "body: "),
        (b'{"inputs":[],"id":' + b"[" * 100_000, "id: expected `str`, got `array`"),
        (b'{"other":' + b"[" * 100_000 + b"]" * 100_000 + b',"inputs":[]}', "body: is nested"),
    ],
)
def test_hostile_bodies_are_refused(raw: bytes, problem: str) -> None:
    assert refusal(raw).startswith(problem)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "-" + "9" * 4000, "0x1", "01"]
)
def test_numbers_that_no_tensor_holds_are_refused(number: str) -> None:
    text = body(["@"], [1]).decode().replace('"@"', number)
    assert refusal(text.encode(), one(Datatype.FP32, -1))


@pytest.mark.parametrize("depth", [2, 100, 900, 985, 995, 5000, 100_000])
def test_a_tower_of_brackets_in_place_of_a_number_is_refused(depth: int) -> None:
    text = body([1, "@"], [2]).decode().replace('"@"', "[" * depth + "]" * depth)
    assert refusal(text.encode(), one(Datatype.FP32, -1))


def test_colons_inside_of_strings_are_no_keys() -> None:
    signature = one(Datatype.BYTES, -1)
    array = tensors_of(decode_request(body(["a:b", "::"], [2], "BYTES")), signature)["x"]
    assert array.tolist() == ["a:b", "::"]


def test_unknown_members_and_parameters_are_passed_over() -> None:
    raw = body([1], [1], parameters={"a": 1, "b": [True]}, id="7", extra={"x": {"y": ":"}})
    request = decode_request(raw)
    assert request.id == "7"
    assert tensors_of(request, one(Datatype.FP32, -1))["x"].tolist() == [1]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "input-0"]) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON_VALUES,
        "datatype": st.sampled_from([*Datatype, "FP128"]) | JSON_VALUES,
        "data": JSON_VALUES,
        "parameters": JSON_VALUES,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | JSON_VALUES},
    optional={"outputs": JSON_VALUES, "id": JSON_VALUES, "parameters": JSON_VALUES},
)


@settings(deadline=None)
@given(REQUESTS | JSON_VALUES, st.sampled_from(list(Datatype)), st.integers(0, 3))
def test_arbitrary_json_raises_nothing_but_invalid_input(
    value: Any, datatype: Datatype, rank: int
) -> None:
    signature = one(datatype, *[-1] * rank)
    try:
        request = decode_request(json.dumps(value).encode())
        outputs_of(request, signature)
        array = tensors_of(request, signature)["x"]
    except InvalidInput:
        return
    assert array.dtype == datatype.dtype
    assert array.ndim == rank


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_invalid_input(raw: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        assert decode_json(raw, ANY_JSON) == json.loads(raw)
    with contextlib.suppress(InvalidInput):
        assert isinstance(decode_request(raw), InferRequest)


# Bodies that others publish.


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the published payloads are not at hand")
def test_a_published_payload_is_read() -> None:
    raw = (ASSETS / "oip-payloads" / "iris_input_v2.json").read_bytes()
    array = tensors_of(decode_request(raw), IRIS)["input-0"]
    wanted = np.array([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]], dtype=np.float32)
    np.testing.assert_array_equal(array, wanted)
