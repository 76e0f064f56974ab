"""The Open Inference Protocol, case by case, over a real server.

The numbers are those of the checklist that the project keeps of the protocol's own text and schema
(kserve/open-inference-protocol, specification/protocol) and of what two real clients need. M: the
text says so; S: its schema does; C: a client breaks without it; O: open in the text, wanted here.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import small_models

from loadtests.server import ask, portico

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.live

NUMBERS = """
    1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.4 3.1 3.2 3.3 3.4 3.5 3.7 3.8 4.1 4.2 4.3 4.4 5.1 5.2 5.3
    6.1 6.2 6.3 6.4 6.5 6.7 6.8 6.9 6.10 6.11 6.12 6.14 6.16 6.17 6.18
    7.1 7.2 7.3 7.4 7.5 8.1 8.2 8.4 8.5 8.9 10.2
"""
"""Every case of level M, S or C; section 9, the binary extension, is in `test_live_binary`."""

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [2**53 + 1, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**53 + 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.4e38],
    "FP64": [0.1, 1e308],
    "BYTES": ["", "grün 🌱"],
}
"""Two values of each datatype at the edges of what it holds."""

CASES: list[Any] = []


def case(number: str, level: str, *values: Any) -> Callable[[Any], Any]:
    """Note a function as the check of a case; with values, as one check for each."""

    def note(check: Any) -> Any:
        name = check.__name__.strip("_")
        for value in values or (None,):
            suffix = "" if value is None else f"-{value}"
            CASES.append(
                pytest.param(check, value, id=f"{number}-{level}-{name}{suffix}".replace(" ", "_"))
            )
        return check

    return note


@pytest.mark.parametrize(("check", "value"), CASES)
def test_case(check, value, client, refused):
    wanted = check.__code__.co_varnames[: check.__code__.co_argcount]
    known = {"client": client, "refused": refused, "value": value}
    check(**{name: known[name] for name in wanted})


def test_every_required_case_is_checked():
    checked = {str(param.id).partition("-")[0] for param in [*CASES, *ON_THEIR_OWN]}
    assert checked >= set(NUMBERS.split())


def x(shape: list[int], data: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}]}


IRIS = {
    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5, 3.5, 1.4, 1]}]
}


def output(answer: Any, name: str) -> Any:
    assert answer.status == 200, answer
    (found,) = [o for o in answer.json()["outputs"] if o["name"] == name]
    return found


# Health


@case("1.1", "M")
def live_answers_200(client):
    assert client.get("/v2/health/live").status == 200


@case("1.2", "C")
def live_has_a_body(client):
    assert client.get("/v2/health/live").json()["live"] is True


@case("1.3", "M")
def ready_answers_200_when_all_models_are_ready(client):
    assert client.get("/v2/health/ready").status == 200


@case("1.4", "C")
def ready_has_both_members(client):
    body = client.get("/v2/health/ready").json()
    assert (body["ready"], body["live"]) == (True, True)


@case("1.6", "O", "/v2/health/live", "/v2/health/ready")
def probes_answer_head(client, value):
    client.connection.request("HEAD", value)
    answer = client.connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")


# Server metadata


@case("2.1", "M")
@case("2.2", "S")
def server_metadata_is_complete(client):
    answer = client.get("/v2")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    facts = answer.json()
    assert isinstance(facts["name"], str)
    assert isinstance(facts["version"], str)
    assert all(isinstance(extension, str) for extension in facts["extensions"])


@case("2.3", "O")
def server_metadata_answers_with_a_slash(client):
    assert client.get("/v2/").json() == client.get("/v2").json()


@case("2.4", "M", "/v2/nothing", "/v2/models", "/v2/health/other")
def failures_have_an_error(client, value, refused):
    refused(client.get(value), 404)


# Model metadata


def metadata(client: Any, name: str) -> Any:
    answer = client.get(f"/v2/models/{name}")
    assert answer.status == 200, answer
    return answer.json()


MODELS = ("iris", "wine", "digits", "several", "zipmap", "identity-bytes")


@case("3.1", "M", *MODELS)
@case("3.2", "S", *MODELS)
def metadata_is_complete(client, value):
    facts = metadata(client, value)
    assert facts["name"] == value
    assert isinstance(facts["platform"], str)
    assert isinstance(facts["inputs"], list)
    assert isinstance(facts["outputs"], list)


@case("3.3", "S", *MODELS)
@case("3.4", "M", *MODELS)
def tensors_are_described(client, value):
    facts = metadata(client, value)
    assert facts["inputs"]
    assert facts["outputs"]
    for spec in facts["inputs"] + facts["outputs"]:
        assert isinstance(spec["name"], str)
        assert spec["datatype"] in VALUES
        assert all(type(size) is int and size >= -1 for size in spec["shape"])


@case("3.5", "S")
def versions_are_strings_and_usable(client):
    versions = metadata(client, "two%20versions")["versions"]
    assert versions == ["1", "2"]
    for version in versions:
        assert client.get(f"/v2/models/two%20versions/versions/{version}").status == 200


@case("3.7", "M")
def metadata_of_an_unknown_model(client, refused):
    refused(client.get("/v2/models/nobody"), 404, "nobody")


@case("3.8", "M", "9", "x", "01")
def metadata_of_an_unknown_version(client, value, refused):
    refused(client.get(f"/v2/models/iris/versions/{value}"), 404)


@case("3.9", "O")
def a_wrongly_declared_shape_is_mended(client):
    (spec,) = metadata(client, "wrongly-declared")["outputs"]
    assert spec["shape"] == [-1]
    answer = client.infer("wrongly-declared", x([3, 1], [7, 8, 9], "INT64"))
    assert output(answer, "label")["shape"] == [3]


# Model ready


@case("4.1", "M")
@case("4.2", "S")
def model_ready_says_so(client):
    answer = client.get("/v2/models/iris/ready")
    assert (answer.status, answer.json()) == (200, {"name": "iris", "ready": True})


@case("4.3", "C", "/v2/models/nobody/ready", "/v2/models/iris/versions/9/ready")
def what_is_not_there_is_not_ready(client, value, refused):
    refused(client.get(value), 404)


@case("4.4", "M")
def a_version_ready_says_so(client):
    assert client.get("/v2/models/two%20versions/versions/1/ready").status == 200


# Versions


@case("5.1", "M")
def the_version_is_optional(client):
    assert client.get("/v2/models/iris/versions/1").status == 200
    assert client.get("/v2/models/iris/versions/1/ready").status == 200
    assert client.infer("iris/versions/1", IRIS).status == 200
    assert client.infer("iris", IRIS).status == 200


@case("5.2", "M")
@case("5.3", "S")
def exactly_the_version_asked_for_answers(client, refused):
    body = x([1, 2], [1, 2])
    for version, data in {"1": [1, 2], "2": [2, 4]}.items():
        answer = client.infer(f"two%20versions/versions/{version}", body)
        assert output(answer, "y")["data"] == data
        assert answer.json()["model_version"] == version
    assert client.infer("two%20versions", body).json()["model_version"] == "2"
    refused(client.infer("two%20versions/versions/3", body), 404)


# Inference request


@case("6.1", "M")
def inputs_alone_are_enough(client):
    assert client.infer("iris", IRIS).status == 200


@case("6.2", "M", "42", "", "käse 🧀", 'a"b\\c\n')
def the_id_comes_back(client, value):
    assert client.infer("iris", {**IRIS, "id": value}).json()["id"] == value


@case("6.3", "M")
def the_id_may_be_left_out(client):
    assert "id" not in client.infer("iris", IRIS).json()


THREE = {
    "inputs": [
        {"name": "real", "shape": [2], "datatype": "FP32", "data": [0.5, 1]},
        {"name": "whole", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
    ]
}


def names(answer: Any) -> list[str]:
    assert answer.status == 200, answer
    return [found["name"] for found in answer.json()["outputs"]]


@case("6.4", "M")
def without_outputs_all_come(client):
    assert names(client.infer("several", THREE)) == ["sum", "same_text"]


@case("6.5", "M")
def only_the_outputs_asked_for_come(client):
    answer = client.infer("several", {**THREE, "outputs": [{"name": "sum"}]})
    assert names(answer) == ["sum"]
    assert output(answer, "sum")["data"] == [1.5, 3]


@case("6.6", "O")
def outputs_come_in_the_order_asked(client, refused):
    both = [{"name": "same_text"}, {"name": "sum"}]
    assert names(client.infer("several", {**THREE, "outputs": both})) == ["same_text", "sum"]
    refused(client.infer("several", {**THREE, "outputs": both * 2}), 400, "outputs[2]")


@case("6.7", "M")
def an_unknown_output_is_refused(client, refused):
    answer = client.infer("iris", {**IRIS, "outputs": [{"name": "size"}]})
    refused(answer, 400, "outputs[0].name", "size", "label")


@case("6.8", "M")
def inputs_are_required(client, refused):
    for body in ({}, {"inputs": []}, {"inputs": None}):
        refused(client.infer("iris", body), 400, "input")


@case("6.9", "S", "name", "shape", "datatype", "data")
def each_member_of_an_input_is_required(client, value, refused):
    (tensor,) = IRIS["inputs"]
    lacking = {key: member for key, member in tensor.items() if key != value}
    refused(client.infer("iris", {"inputs": [lacking]}), 400, value)


@case("6.10", "M", 1, 2, 7, 500)
def any_batch_size_works(client, value):
    answer = client.infer("identity-fp32", x([value, 2], list(range(2 * value))))
    assert output(answer, "y")["shape"] == [value, 2]


@case("6.11", "M", -1, 2**64, -(2**70), 1.5, "2", None, True)
def dimensions_are_unsigned_64_bit_integers(client, value, refused):
    refused(client.infer("identity-fp32", x([value, 2], [1, 2])), 400, "shape")


@case("6.12", "M")
def shape_data_and_metadata_agree(client, refused):
    for shape, data in (([1, 3], [1, 2, 3]), ([2], [1, 2]), ([1, 2, 1], [1, 2])):
        refused(client.infer("identity-fp32", x(shape, data)), 400, "shape")
    for shape, data in (([2, 2], [1, 2]), ([1, 2], [1, 2, 3]), ([1, 2], [])):
        refused(client.infer("identity-fp32", x(shape, data)), 400, "data")


@case("6.13", "O")
def unknown_missing_and_repeated_inputs_are_refused(client, refused):
    (tensor,) = IRIS["inputs"]
    refused(client.infer("iris", {"inputs": [{**tensor, "name": "other"}]}), 400, "other", "input")
    refused(client.infer("iris", {"inputs": [tensor, tensor]}), 400, "inputs[1]")
    refused(client.infer("several", {"inputs": THREE["inputs"][:2]}), 400, "text")


@case("6.14", "M")
def parameters_do_no_harm(client):
    parameters = {"text": "a", "number": 1.5, "flag": True, "sequence_id": 0}
    (tensor,) = IRIS["inputs"]
    body = {
        "inputs": [{**tensor, "parameters": parameters}],
        "outputs": [{"name": "label", "parameters": parameters}],
        "parameters": parameters,
    }
    assert names(client.infer("iris", body)) == ["label"]


@case("6.15", "O", None, [1], {"a": 1})
def odd_parameters_never_fail(client, value, refused):
    answer = client.infer("iris", {**IRIS, "parameters": {"odd": value}})
    if answer.status != 200:
        refused(answer, 400, "parameters")


@case("6.16", "C")
def extra_members_are_ignored(client):
    assert client.infer("iris", {**IRIS, "model_name": "iris", "other": {"a": [1]}}).status == 200


@case("6.17", "C")
def no_content_type_is_needed(client):
    body = b'{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    answer = client.infer("iris", body)  # http.client adds none to bytes.
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"


@case("6.18", "C")
def a_wish_for_binary_output_is_fulfilled(client):
    answer = client.infer("iris", {**IRIS, "parameters": {"binary_data_output": True}})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    outputs = json.loads(answer.body[: int(answer.headers["Inference-Header-Content-Length"])])
    assert [o["name"] for o in outputs["outputs"]] == ["label", "probabilities"]


@case("6.19", "O")
def charset_and_chunks_are_understood(client):
    body = b'{"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    answer = client.infer("iris", body, Content_Type="application/json; charset=utf-8")
    assert answer.status == 200
    pieces = iter([body[:10], body[10:]])
    assert client.infer("iris", pieces, Transfer_Encoding="chunked").status == 200


# Inference response


@case("7.1", "M")
def an_answer_is_valid_json_without_nan(client):
    answer = client.infer("logarithm", x([4], [1, 0, -1, 2.5]))
    assert answer.headers["Content-Type"] == "application/json"
    assert b"NaN" not in answer.body
    assert b"Infinity" not in answer.body
    data = output(answer, "y")["data"]
    assert data[:3] == [0, None, None]
    assert data[3] == pytest.approx(np.log(2.5))


@case("7.2", "S", *MODELS)
@case("7.3", "S", *MODELS)
def an_answer_is_complete(client, value):
    document = client.get("/api/openapi.json").json()
    operation = document["paths"][f"/v2/models/{value}/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = client.infer(value, example)
    assert answer.status == 200, answer
    assert answer.json()["model_name"] == value
    for found in answer.json()["outputs"]:
        assert found["datatype"] in VALUES
        assert prod(found["shape"]) == len(found["data"])


@case("7.4", "M", b"{", b"[]", b"null", b'{"inputs": 1}', b"\xff", b"")
@case("7.5", "C", b"{", b'{"inputs": [{}]}')
def errors_have_one_shape(client, value, refused):
    refused(client.infer("iris", value), 400)


@case("7.6", "O", "brackets", "deep", "huge", "utf8")
def hostile_bodies_never_break_anything(client, value, refused):
    body = {
        "brackets": b"[" * 100_000,
        "deep": b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":'
        + b"[" * 400 + b"]" * 400 + b"}]}",
        "huge": x([2**62, 2**62], [1]),
        "utf8": b'{"inputs":"\xff\xfe"}',
    }[value]  # fmt: skip
    refused(client.infer("identity-fp32", body), 400)
    sock = client.connection.sock
    assert client.get("/v2/health/live").status == 200
    assert client.connection.sock is sock


# Datatypes


@case("8.1", "M")
def data_is_row_major(client):
    answer = client.infer("identity-int32", x([2, 2], [[1, 2], [3, 4]], "INT32"))
    assert output(answer, "y")["data"] == [1, 2, 3, 4]


@case("8.2", "M", *VALUES)
def nested_and_flat_data_are_the_same(client, value):
    first, second = VALUES[value]
    flat, nested = [first, second, second, first], [[first, second], [second, first]]
    name = f"identity-{value.lower()}"
    answers = [client.infer(name, x([2, 2], data, value)) for data in (flat, nested)]
    assert output(answers[0], "y") == output(answers[1], "y")


@case("8.3", "O", "1.5", True, 1e39, None, [], {})
def elements_of_another_type_are_refused(client, value, refused):
    refused(client.infer("identity-fp32", x([1, 2], [1, value])), 400, "inputs[0].data")


@case("8.4", "M", "FP16", "FP32", "FP64")
def integers_are_floats_too(client, value):
    answer = client.infer(f"identity-{value.lower()}", x([1, 2], [1, -2], value))
    assert output(answer, "y")["data"] == [1, -2]


@case("8.5", "M", *VALUES)
@case("8.6", "O", "INT64", "UINT64")
@case("8.7", "O", "BYTES")
def values_survive(client, value):
    answer = client.infer(f"identity-{value.lower()}", x([1, 2], VALUES[value], value))
    found = output(answer, "y")
    assert (found["datatype"], found["shape"]) == (value, [1, 2])
    if value == "FP32":
        assert np.float32(found["data"]).tolist() == np.float32(VALUES[value]).tolist()
    else:
        assert found["data"] == VALUES[value]


@case("8.5", "M", "numbers")
def classes_of_a_map_become_columns(client):
    found = output(client.infer("zipmap", x([2, 2], [0.25, 0.75, 1, 0])), "probabilities")
    assert (found["datatype"], found["shape"]) == ("FP32", [2, 2])
    assert found["data"] == [0.25, 0.75, 1, 0]


@case("8.7", "O", "empty")
def tensors_without_elements_work(client):
    found = output(client.infer("identity-bytes", x([0, 2], [], "BYTES")), "y")
    assert (found["shape"], found["data"]) == ([0, 2], [])


@case("8.7", "O", "scalar")
def tensors_without_axes_work(client):
    found = output(client.infer("scalar", x([], [2.5])), "y")
    assert (found["shape"], found["data"]) == ([], [-2.5])


@case("8.9", "M", "BF16", "FLOAT", "fp32", "STRING", "", 1, None)
def other_datatypes_are_refused(client, value, refused):
    refused(client.infer("identity-fp32", x([1, 2], [1, 2], value)), 400, "datatype")


@case("8.10", "O", "INT64", "FP64", "BYTES")
def another_datatype_than_the_models_is_refused(client, value, refused):
    answer = client.infer("identity-fp32", x([1, 2], VALUES[value], value))
    refused(answer, 400, "inputs[0].datatype", "FP32")


# Routes


@case("10.1", "O", "GET", "PUT", "DELETE", "PATCH")
def a_wrong_method_is_405(client, value, refused):
    answer = ask(client.connection, value, "/v2/models/iris/infer")
    refused(answer, 405, value)
    assert "POST" in answer.headers["Allow"]


@case("10.2", "C", "two%20versions", "%74wo%20versions")
def names_may_be_percent_encoded(client, value):
    assert client.infer(value, x([1, 2], [1, 2])).status == 200
    assert metadata(client, value)["name"] == "two versions"


@case("10.2", "C", "a/b", "a%2Fb")
def a_slash_in_a_name_finds_nothing(client, value, refused):
    refused(client.get(f"/v2/models/{value}"), 404)


# Models that cannot be served


ON_THEIR_OWN = [
    pytest.param(None, id="1.5-M-a_broken_file"),
    pytest.param(small_models.sequence, id="8.11-O-a_sequence_as_input"),
]


@pytest.mark.parametrize("build", ON_THEIR_OWN)
def test_a_failed_model_makes_the_server_unready_and_alive(build, tmp_path, refused):
    small_models.write(small_models.identity("FP32"), tmp_path, "good")
    if build:
        small_models.write(build(), tmp_path, "bad")
    else:
        (tmp_path / "bad" / "1").mkdir(parents=True)
        (tmp_path / "bad" / "1" / "model.onnx").write_bytes(b"no model")
    with portico(tmp_path) as server:
        assert server.get("/v2/health/live").status == 200
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert server.get("/v2/models/bad/ready").json() == {"name": "bad", "ready": False}
        assert server.get("/v2/models/bad/ready").status == 503
        refused(server.get("/v2/models/bad"), 503, "bad")
        refused(server.ask("POST", "/v2/models/bad/infer", IRIS), 503, "bad")
        body = x([1, 2], [1, 2])
        assert server.ask("POST", "/v2/models/good/infer", body).status == 200
        (model,) = [m for m in server.get("/api/models").json()["models"] if m["name"] == "bad"]
        assert model["state"] == "failed"
        problem = model["versions"][0]["problem"]
        assert "seq(tensor(float))" in problem if build else "cannot be opened as ONNX" in problem
