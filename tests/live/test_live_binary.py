"""The binary tensor data extension, case by case, over a real server.

The numbers are those of section 9 of the checklist that the project keeps of the extension's text
(triton-inference-server, docs/protocol); the cases of the protocol itself are in `test_live_oip`.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.server import Answer

pytestmark = pytest.mark.live

FLOWER = np.array([[5.1, 3.5, 1.4, 0.2]], "<f4")
ALL = {"binary_data_output": True}
DTYPES = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def given(array: Any, datatype: str, name: str = "x", **more: Any) -> dict[str, Any]:
    size = {"binary_data_size": array.nbytes}
    shape = list(array.shape)
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": size, **more}


def packed(*pieces: bytes, inputs: Sequence[Any], **members: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body of a binary request and its header."""
    head = json.dumps({"inputs": inputs, **members}).encode()
    return b"".join([head, *pieces]), {"Inference_Header_Content_Length": str(len(head))}


def told(answer: Answer) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the JSON of a binary answer and the bytes of its outputs, checking each size."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    start = int(answer.headers["Inference-Header-Content-Length"])
    members, pieces = json.loads(answer.body[:start]), {}
    for output in members["outputs"]:
        if "parameters" in output:
            assert "data" not in output
            end = start + output["parameters"]["binary_data_size"]
            pieces[output["name"]], start = answer.body[start:end], end
    assert start == len(answer.body)
    return members, pieces


def test_9_1_the_extension_is_listed(client):
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]


@pytest.mark.parametrize("datatype", DTYPES)
def test_9_2_tensors_follow_the_json_little_endian(client, datatype):
    values = np.array([[0, 1], [1, 0], [1, 1]], DTYPES[datatype])
    body, headers = packed(values.tobytes(), inputs=[given(values, datatype)], parameters=ALL)
    members, pieces = told(client.infer(f"identity-{datatype.lower()}", body, **headers))
    assert pieces == {"y": values.tobytes()}
    assert members["outputs"][0]["shape"] == [3, 2]
    assert members["outputs"][0]["datatype"] == datatype


def test_9_2_several_inputs_come_in_the_order_of_the_json(client):
    whole, real = np.array([1, 2], "<i8"), np.array([0.25, 0.5], "<f4")
    text = np.frombuffer(b"\1\0\0\0a\0\0\0\0", np.uint8)
    inputs = [
        given(whole, "INT64", "whole"),
        given(text, "BYTES", "text", shape=[2]),
        given(real, "FP32", "real"),
    ]
    body, headers = packed(whole.tobytes(), text.tobytes(), real.tobytes(), inputs=inputs)
    answer = client.infer("several", body, **headers)
    assert answer.headers["Content-Type"] == "application/json"
    assert [o["data"] for o in answer.json()["outputs"]] == [[1.25, 2.5], ["a", ""]]


def test_9_3_text_has_its_length_in_front(client):
    texts = [b"", "grün 🌱".encode()]
    raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    spec = given(np.frombuffer(raw, np.uint8), "BYTES", shape=[1, 2])
    body, headers = packed(raw, inputs=[spec], parameters=ALL)
    assert told(client.infer("identity-bytes", body, **headers))[1] == {"y": raw}


@pytest.mark.parametrize("wish", [{"binary_data": False}, {}, None])
def test_9_4_an_output_is_binary_where_it_says_so(client, wish):
    outputs = [
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", **({} if wish is None else {"parameters": wish})},
    ]
    body, headers = packed(
        FLOWER.tobytes(), inputs=[given(FLOWER, "FP32", "input")], outputs=outputs
    )
    members, pieces = told(client.infer("iris", body, **headers))
    assert [len(piece) for piece in pieces.values()] == [12]
    assert sum(np.frombuffer(pieces["probabilities"], "<f4")) == pytest.approx(1)
    assert members["outputs"][1]["data"] == [0]


def test_9_5_a_wish_for_one_output_overrides_that_for_all(client):
    request = {
        "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": FLOWER.tolist()}],
        "outputs": [{"name": "label", "parameters": {"binary_data": False}}],
        "parameters": ALL,
    }
    assert client.infer("iris", request).json()["outputs"][0]["data"] == [0]
    request["outputs"].append({"name": "probabilities"})
    assert set(told(client.infer("iris", request))[1]) == {"probabilities"}


def test_9_6_json_and_binary_inputs_are_mixed(client):
    real = np.array([0.5], "<f4")
    inputs = [
        {"name": "whole", "shape": [1], "datatype": "INT64", "data": [2**53 + 1]},
        given(real, "FP32", "real"),
        {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["ä"]},
    ]
    body, headers = packed(real.tobytes(), inputs=inputs, parameters=ALL)
    assert (
        told(client.infer("several", body, **headers))[1]["same_text"] == b"\2\0\0\0" + b"\xc3\xa4"
    )


def test_9_7_nothing_follows_the_last_tensor(client):
    body, headers = packed(
        FLOWER.tobytes(), inputs=[given(FLOWER, "FP32", "input")], parameters=ALL
    )
    first, second = (told(client.infer("iris", body, **headers)) for _ in range(2))
    assert first == second  # On one connection: no byte was left over.


def test_9_7_not_a_number_comes_bit_by_bit(client):
    values = np.array([0, -1, 1], "<f4")
    body, headers = packed(values.tobytes(), inputs=[given(values, "FP32")], parameters=ALL)
    got = np.frombuffer(told(client.infer("logarithm", body, **headers))[1]["y"], "<f4")
    assert got[0] == -np.inf
    assert np.isnan(got[1])


def test_9_8_the_id_is_echoed(client):
    body, headers = packed(
        FLOWER.tobytes(), inputs=[given(FLOWER, "FP32", "input")], parameters=ALL, id="größe-1"
    )
    assert told(client.infer("iris", body, **headers))[0]["id"] == "größe-1"


WRONG_SIZES = {
    "short": (16, 12, "binary_data_size"),
    "beyond": (17, 16, "binary_data_size"),
    "negative": (-16, 16, "binary_data_size"),
    "a string": ("16", 16, "binary_data_size"),
    "left over": (16, 20, "4 bytes that belong to no input"),
    "another tensor's": (12, 12, "FP32 of shape [1, 4] takes 16"),
}


@pytest.mark.parametrize("case", WRONG_SIZES)
def test_9_9_a_wrong_size_is_refused(client, refused, case):
    size, sent, part = WRONG_SIZES[case]
    spec = given(FLOWER, "FP32", "input", parameters={"binary_data_size": size})
    body, headers = packed(bytes(sent), inputs=[spec])
    refused(client.infer("iris", body, **headers), 400, part)
    assert client.get("/v2/health/live").status == 200  # The connection is still good.


@pytest.mark.parametrize("length", ["100000", "-1", "many", "1.5", "9" * 1000])
def test_9_9_a_wrong_header_length_is_refused(client, refused, length):
    body, headers = packed(FLOWER.tobytes(), inputs=[given(FLOWER, "FP32", "input")])
    headers["Inference_Header_Content_Length"] = length
    refused(client.infer("iris", body, **headers), 400, "Inference-Header-Content-Length")


def test_9_10_a_raw_request_is_the_tensor_alone(client, refused):
    raw = {"Inference_Header_Content_Length": "0"}
    members, pieces = told(client.infer("iris", FLOWER.tobytes(), **raw))
    assert members["outputs"][0]["shape"] == [1]
    assert {name: len(piece) for name, piece in pieces.items()} == {"label": 8, "probabilities": 12}
    refused(client.infer("iris", FLOWER.tobytes()[:-1], **raw), 400, "takes 16")
    refused(client.infer("several", b"1234", **raw), 400, "one input")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_9_11_the_header_length_counts_the_json_before_compression(client, coding):
    body, headers = packed(
        FLOWER.tobytes(), inputs=[given(FLOWER, "FP32", "input")], parameters=ALL
    )
    small = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    plain = told(client.infer("iris", body, **headers))
    assert told(client.infer("iris", small, Content_Encoding=coding, **headers)) == plain
