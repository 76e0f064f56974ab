"""Binary tensors: bit by bit what was sent, and every size that lies is told."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from portico.serving.codecs.binary_tensors import (
    HEADER,
    binary_outputs,
    decode_binary_request,
    encode_binary_response,
)
from portico.serving.codecs.json_tensors import decode_request, encode_response, tensors_of
from portico.serving.codecs.raw_tensors import array_from_raw, raw_from_array
from portico.serving.errors import InvalidInput
from portico.serving.signature import Signature
from portico.serving.tensors import Array, Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

MATRIX = (-1, 2)


def signature(*specs: tuple[str, Datatype, tuple[int, ...]]) -> Signature:
    outputs = (TensorSpec("y", Datatype.FP32, (-1,)), TensorSpec("z", Datatype.BYTES, (-1,)))
    return Signature(tuple(TensorSpec(*spec) for spec in specs), outputs, ())


def one(datatype: Datatype = Datatype.FP32, shape: tuple[int, ...] = MATRIX) -> Signature:
    return signature(("x", datatype, shape))


def tensor(name: str, array: Array, **parameters: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": Datatype.of(array.dtype),
        "parameters": parameters,
    }


def sent(*pieces: bytes, inputs: Sequence[Any], **members: Any) -> tuple[bytes, str]:
    head = json.dumps({"inputs": inputs, **members}).encode()
    return b"".join([head, *pieces]), str(len(head))


def refusal(body: bytes, length: str, model: Signature) -> str:
    with pytest.raises(InvalidInput) as caught:
        tensors_of(decode_binary_request(body, length, model), model)
    assert caught.value.details
    return caught.value.message


@st.composite
def arrays(draw: st.DrawFn, datatype: Datatype, finite: bool = False) -> Array:
    shape = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    if datatype is Datatype.BYTES:
        texts = draw(st.lists(st.text(), min_size=math.prod(shape), max_size=math.prod(shape)))
        return np.array([*texts, None], dtype=object)[:-1].reshape(shape)
    elements = {"allow_nan": not finite, "allow_infinity": not finite}
    drawn: Array = draw(
        npst.arrays(datatype.dtype, shape, elements=elements if datatype.is_float else None)
    )
    return drawn


# There and back.


@pytest.mark.parametrize("datatype", list(Datatype))
@settings(deadline=None)
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_bits(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    body, length = encode_binary_response("m", "1", {"x": array}, msgspec.UNSET, {"x"})
    (member,) = json.loads(body[:length])["outputs"]
    request = json.dumps({"inputs": [member]}).encode()
    model = one(datatype, (-1,) * array.ndim)
    decoded = decode_binary_request(request + body[length:], str(len(request)), model)
    back = tensors_of(decoded, model)["x"]
    assert (back.dtype, back.shape) == (datatype.dtype, array.shape)
    assert back.flags.aligned
    assert back.tolist() == array.tolist() or back.tobytes() == array.tobytes()


@pytest.mark.parametrize("datatype", list(Datatype))
@settings(deadline=None)
@given(data=st.data())
def test_binary_and_json_give_the_model_the_same(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype, finite=True))
    model = one(datatype, (-1,) * array.ndim)
    member = json.loads(encode_response("m", "1", {"x": array}, msgspec.UNSET))["outputs"][0]
    by_json = tensors_of(decode_request(json.dumps({"inputs": [member]}).encode()), model)["x"]
    raw = raw_from_array(array).tobytes()
    body, length = sent(raw, inputs=[tensor("x", array, binary_data_size=len(raw))])
    by_bytes = tensors_of(decode_binary_request(body, length, model), model)["x"]
    assert (by_bytes.dtype, by_bytes.shape) == (by_json.dtype, by_json.shape)
    np.testing.assert_array_equal(by_bytes, by_json)


def test_numbers_are_little_endian_and_row_major() -> None:
    raw = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0])
    array = array_from_raw(memoryview(raw), Datatype.INT32, (2, 2), "x")
    assert array.tolist() == [[1, 2], [3, 256]]
    assert raw_from_array(array.T).tobytes() == raw_from_array(array.T.copy()).tobytes()


def test_text_has_its_length_in_front() -> None:
    raw = raw_from_array(np.array([["", "grün"]], dtype=object)).tobytes()
    assert raw == b"\0\0\0\0" + b"\5\0\0\0" + "grün".encode()


def test_bytes_of_a_model_come_out_as_they_are() -> None:
    assert raw_from_array(np.array([b"\xff\0"], dtype=object)).tobytes() == b"\2\0\0\0\xff\0"


def test_an_aligned_tensor_is_not_copied() -> None:
    data = memoryview(bytes(64))
    array = array_from_raw(data[8:], Datatype.FP64, (7,), "x")
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


def test_not_a_number_passes_in_both_directions() -> None:
    values = np.array([[np.nan, np.inf]], np.float32)
    body, length = sent(values.tobytes(), inputs=[tensor("x", values, binary_data_size=8)])
    got = tensors_of(decode_binary_request(body, length, one()), one())["x"]
    assert got.tobytes() == values.tobytes()
    answer, head = encode_binary_response("m", "1", {"y": values}, msgspec.UNSET, {"y"})
    assert answer[head:] == values.tobytes()


def test_json_and_binary_inputs_go_together() -> None:
    model = signature(
        ("a", Datatype.UINT8, (-1,)), ("b", Datatype.BYTES, (-1,)), ("c", Datatype.FP16, (-1,))
    )
    a, c = np.array([1, 2], np.uint8), np.array([0.5, -1], np.float16)
    b = {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]}
    first = tensor("c", c, binary_data_size=4)
    body, length = sent(
        c.tobytes(), a.tobytes(), inputs=[first, b, tensor("a", a, binary_data_size=2)]
    )
    got = tensors_of(decode_binary_request(body, length, model), model)
    assert {name: array.tolist() for name, array in got.items()} == {
        "a": [1, 2], "b": ["x", "y"], "c": [0.5, -1],
    }  # fmt: skip


# Sizes that lie.

ROW = np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(
    ("parameters", "tail", "problem"),
    [
        ({"binary_data_size": 8}, 7, "binary_data_size: is 8; 7 bytes of the body are left"),
        ({"binary_data_size": 8}, 9, "body: has 1 bytes that belong to no input"),
        ({"binary_data_size": 4}, 4, "binary_data: is 4 bytes; FP32 of shape [1, 2] takes 8"),
        ({"binary_data_size": -8}, 8, "binary_data_size: must be a whole number"),
        ({"binary_data_size": "8"}, 8, "binary_data_size: must be a whole number"),
        ({"binary_data_size": 8.0}, 8, "binary_data_size: must be a whole number"),
        ({"binary_data_size": True}, 1, "binary_data_size: must be a whole number"),
        ({"binary_data_size": None}, 8, "binary_data_size: must be a whole number"),
        ({"binary_data_size": 2**64}, 8, f"binary_data_size: is {2**64}; 8 bytes of the body"),
        ({}, 8, "body: has 8 bytes that belong to no input"),
        ({}, 0, "data: is missing"),
    ],
)
def test_a_size_that_does_not_fit_is_named(
    parameters: dict[str, Any], tail: int, problem: str
) -> None:
    body, length = sent(bytes(tail), inputs=[tensor("x", ROW, **parameters)])
    assert problem in refusal(body, length, one())


@pytest.mark.parametrize(
    "length", ["-1", "x", "", "1.5", "0x10", "+9", "9, 9", "999999", "9" * 5000, "²"]
)
def test_a_length_that_is_none_is_told(length: str) -> None:
    body, _ = sent(bytes(8), inputs=[tensor("x", ROW, binary_data_size=8)])
    assert refusal(body, length, one()).startswith(HEADER)


def test_a_length_inside_of_the_json_breaks_the_json() -> None:
    body, length = sent(bytes(8), inputs=[tensor("x", ROW, binary_data_size=8)])
    assert "is not valid JSON" in refusal(body, str(int(length) - 1), one())
    assert "is not valid JSON" in refusal(body, str(int(length) + 1), one())


def test_binary_data_beside_json_data_is_refused() -> None:
    given = {**tensor("x", ROW, binary_data_size=8), "data": [0, 0]}
    assert "as well" in refusal(*sent(bytes(8), inputs=[given]), one())


def test_binary_data_without_the_header_is_told_what_it_lacks() -> None:
    body, _ = sent(inputs=[tensor("x", ROW, binary_data_size=8)])
    with pytest.raises(InvalidInput, match=HEADER):
        tensors_of(decode_request(body), one())


@pytest.mark.parametrize("shape", [[2**62, 2], [2**63, 2], [0, 2**64]])
def test_a_shape_of_no_memory_is_refused(shape: list[int]) -> None:
    given = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    assert "inputs[0]" in refusal(*sent(bytes(8), inputs=[given]), one())
    empty = {**given, "shape": [0, 2**63], "parameters": {"binary_data_size": 0}}
    assert "larger than" in refusal(*sent(inputs=[empty]), one(shape=(-1, -1)))


def test_booleans_other_than_0_and_1_are_refused() -> None:
    body, length = sent(b"\1\2", inputs=[tensor("x", np.zeros((1, 2), bool), binary_data_size=2)])
    assert "byte 1 is 2; BOOL is 0 or 1" in refusal(body, length, one(Datatype.BOOL))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "ends after 0 elements; the shape takes 2"),
        (b"\1\0\0\0a", "ends after 1 elements"),
        (b"\1\0\0\0a\0\0\0", "ends after 1 elements"),
        (b"\1\0\0\0a\2\0\0\0b", "element 1 is 2 bytes long; 1 are left"),
        (b"\xff\xff\xff\xff", f"element 0 is {2**32 - 1} bytes long; 0 are left"),
        (b"\1\0\0\0a\1\0\0\0bc", "has 1 bytes after its last element"),
        (b"\1\0\0\0a\1\0\0\0\xff", "element 1 is not valid UTF-8"),
    ],
)
def test_text_that_is_cut_or_broken_is_refused(raw: bytes, problem: str) -> None:
    blank = np.array([["", ""]], dtype=object)
    body, length = sent(raw, inputs=[tensor("x", blank, binary_data_size=len(raw))])
    assert problem in refusal(body, length, one(Datatype.BYTES))


@settings(deadline=None)
@given(body=st.binary(max_size=200), length=st.integers(0, 200))
def test_no_bytes_whatever_break_it(body: bytes, length: int) -> None:
    model = one(Datatype.BYTES)
    with contextlib.suppress(InvalidInput):
        (array,) = tensors_of(decode_binary_request(body, str(length), model), model).values()
        assert array.dtype == object


# What is asked for.


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({}, set()),
        ({"parameters": {"binary_data_output": True}}, {"y", "z"}),
        ({"parameters": {"binary_data_output": True}, "outputs": []}, {"y", "z"}),
        ({"parameters": {"binary_data_output": False}}, set()),
        ({"parameters": None}, set()),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}]}, {"y"}),
        ({"outputs": [{"name": "y"}], "parameters": {"binary_data_output": True}}, {"y"}),
        (
            {
                "outputs": [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}],
                "parameters": {"binary_data_output": True},
            },
            {"z"},
        ),
    ],
)
def test_which_outputs_are_binary(members: dict[str, Any], names: set[str]) -> None:
    request = decode_request(json.dumps({"inputs": [], **members}).encode())
    assert set(binary_outputs(request, one())) == names


@pytest.mark.parametrize(
    ("members", "where"),
    [
        ({"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": "true"}}]}, "outputs[0]."),
    ],
)
def test_a_wish_that_is_neither_true_nor_false_is_refused(
    members: dict[str, Any], where: str
) -> None:
    request = decode_request(json.dumps({"inputs": [], **members}).encode())
    with pytest.raises(InvalidInput, match="must be true or false") as caught:
        binary_outputs(request, one())
    assert caught.value.message.startswith(where)


def test_json_and_binary_outputs_go_together() -> None:
    outputs: dict[str, Array] = {
        "y": np.array([[1.5]], np.float32),
        "z": np.array(["a"], object),
        "w": np.array([True, False]),
    }
    body, length = encode_binary_response("m", "3", outputs, "7", {"w", "y"})
    told = json.loads(body[:length])
    assert (told["model_name"], told["model_version"], told["id"]) == ("m", "3", "7")
    y, z, w = told["outputs"]
    assert y == {
        "name": "y", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4},
    }  # fmt: skip
    assert z == {"name": "z", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    assert w["parameters"] == {"binary_data_size": 2}
    assert body[length:] == outputs["y"].tobytes() + b"\1\0"


# A body without any JSON.


@pytest.mark.parametrize(
    ("datatype", "shape", "body", "values"),
    [
        (Datatype.FP32, (-1, 2), bytes(8), [[0, 0]]),
        (Datatype.UINT8, (-1, -1), b"\1\2\3", [[1, 2, 3]]),
        (Datatype.INT16, (3,), b"\1\0\2\0\3\0", [1, 2, 3]),
        (Datatype.INT8, (2, -1), b"\1\2\3\4", [[1, 2], [3, 4]]),
        (Datatype.BOOL, (-1,), b"\1", [True]),
        (Datatype.BYTES, (-1,), "grün".encode(), ["grün"]),
        (Datatype.BYTES, (-1, 1), b"", [[""]]),
        (Datatype.BYTES, (1,), b"a", ["a"]),
    ],
)
def test_a_raw_body_is_one_row(
    datatype: Datatype, shape: tuple[int, ...], body: bytes, values: list[Any]
) -> None:
    model = one(datatype, shape)
    request = decode_binary_request(body, "0", model)
    assert tensors_of(request, model)["x"].tolist() == values
    assert set(binary_outputs(request, model)) == {"y", "z"}


@pytest.mark.parametrize(
    ("model", "body", "problem"),
    [
        (one(), bytes(12), "is 12 bytes; FP32 of shape [1, 2] takes 8"),
        (one(shape=(-1, -1, -1)), bytes(8), "several sizes are left open"),
        (one(shape=(-1, -1, 2)), bytes(12), "is 12 bytes; FP32 of shape [1, 1, 2] takes 8"),
        (one(shape=(-1, -1, 0)), bytes(12), "takes 0"),
        (one(Datatype.BYTES), b"a", "the shape takes 2"),
        (one(Datatype.BYTES, (1,)), b"\xff", "not valid UTF-8"),
        (signature(("a", Datatype.FP32, (1,)), ("b", Datatype.FP32, (1,))), bytes(4), "one input"),
    ],
)
def test_a_raw_body_that_tells_too_little_is_refused(
    model: Signature, body: bytes, problem: str
) -> None:
    assert problem in refusal(body, "0", model)
