"""The JSON APIs: every way to ask a model, and what is told when it is asked wrongly."""

from __future__ import annotations

import io
import json
import re
import struct
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("sklearn", reason="the tests train their models with scikit-learn")
pytest.importorskip("onnx", reason="the tests make their models with onnx")

from api_models import SITE, client_of, load, no_log, picture, protocol
from prometheus_client import CollectorRegistry

from apps.api import create_app
from portico.serving.allowance import Allowance
from portico.serving.artefacts import Artefact
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.test import Client, TestResponse

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

REGISTRY = CollectorRegistry()
FLOWERS = "/models/my%20flowers"
ROSE = {"petal length (cm)": 9, "width": 0}
TULIP = {"petal length (cm)": 0, "width": 9}
CSV = "width,petal length (cm),note\n0,9,first\n9,0,second\n"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load(tmp_path_factory.mktemp("api") / "models", REGISTRY)


@pytest.fixture
def client(catalogue: Catalogue) -> Client:
    return client_of(create_app(SITE, catalogue, no_log))


@pytest.fixture
def v2(catalogue: Catalogue) -> Client:
    return client_of(protocol(catalogue))


def answer_of(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    told: dict[str, Any] = json.loads(answer.data, parse_constant=pytest.fail)
    return told


def labels(answer: TestResponse) -> list[str]:
    return [prediction["label"] for prediction in answer_of(answer)["predictions"]]


def problems(answer: TestResponse, status: int = 400) -> list[tuple[str, str]]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json is not None
    assert list(answer.json) == ["error", "code", "request_id", "details"]
    return [(detail["where"], detail["problem"]) for detail in answer.json["details"]]


def counted(model: str, outcome: str, version: str = "1") -> float:
    labels = {"model": model, "version": version, "outcome": outcome}
    return REGISTRY.get_sample_value("portico_predictions_total", labels) or 0.0


# What is served.


def test_the_list_tells_every_model_with_its_versions(client: Client) -> None:
    models = {model["name"]: model for model in answer_of(client.get("/models"))["models"]}
    assert list(models) == sorted(models)
    flowers = models["my flowers"]
    assert flowers["title"] == "Flowers"
    assert flowers["description"] == "Tells one flower from another."
    assert (flowers["state"], flowers["version"]) == ("ready", "2")
    assert [(v["version"], v["state"]) for v in flowers["versions"]] == [
        ("3", "failed"),
        ("2", "ready"),
        ("1", "ready"),
    ]
    assert "cannot be opened as ONNX" in flowers["versions"][0]["problem"]
    assert models["broken"]["state"] == "failed"


def test_a_model_tells_what_it_takes_and_gives(client: Client) -> None:
    told = answer_of(client.get(FLOWERS))
    assert told["takes"] == "rows"
    assert told["platform"] == "onnx_onnxv1"
    assert told["batching"] == {"max_rows": 64, "why_not": None}
    single = answer_of(client.get("/models/single"))["batching"]
    assert single == {"max_rows": 0, "why_not": "the model takes one row at a time"}
    assert told["example"] == {"rows": [{"petal length (cm)": 4.5, "width": 0.5}]}
    length = told["row"]["properties"]["petal length (cm)"]
    assert (length["minimum"], length["maximum"]) == (0, 10)
    assert answer_of(client.get("/models/marks"))["takes"] == "picture"
    assert "row" not in answer_of(client.get("/models/broken"))


def test_the_root_leads_on_from_wherever_the_gateway_is(client: Client) -> None:
    told = answer_of(client.get("/", environ_overrides={"portico.root": "/ml"}))
    assert told == {
        "models": "/ml/api/models",
        "openapi": "/ml/api/openapi.json",
        "docs": "/ml/api/docs",
        "open_inference_protocol": "/ml/v2",
    }


# Every way to ask.


def test_rows_are_answered_one_by_one(client: Client) -> None:
    told = answer_of(client.post(f"{FLOWERS}/predict", json={"rows": [ROSE, TULIP]}))
    assert (told["model"], told["version"]) == ("my flowers", "2")
    first, second = told["predictions"]
    assert (first["label"], second["label"]) == ("Rose", "Tulip")
    assert first["probability"] == pytest.approx(1, abs=1e-3)
    assert list(first["probabilities"]) == ["Rose", "Tulip"]


def test_a_bare_row_is_one_row(client: Client) -> None:
    assert labels(client.post(f"{FLOWERS}/predict", json=TULIP)) == ["Tulip"]


def test_json_needs_no_content_type(client: Client) -> None:
    data = json.dumps({"rows": [ROSE]})
    for kind in (None, "", "application/json", "application/json; charset=utf-8",
                 "APPLICATION/JSON", "application/problem+json"):  # fmt: skip
        answer = client.post(f"{FLOWERS}/predict", data=data, content_type=kind)
        assert labels(answer) == ["Rose"], kind


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=utf-8", "text/csv;header=present"])
def test_a_table_may_have_columns_in_any_order_and_more_of_them(client: Client, kind: str) -> None:
    assert labels(client.post(f"{FLOWERS}/predict", data=CSV, content_type=kind)) == [
        "Rose",
        "Tulip",
    ]


def test_a_table_may_come_in_another_encoding(client: Client) -> None:
    data = "text\ngreat ü film\n".encode("latin-1")
    answer = client.post("/models/words/predict", data=data, content_type="text/csv;charset=latin1")
    assert labels(answer) == ["good"]
    told = problems(client.post("/models/words/predict", data=data, content_type="text/csv"))
    assert told == [("body", "is not utf-8 text")]
    wrong = client.post("/models/words/predict", data=data, content_type="text/csv;charset=base64")
    assert problems(wrong) == [("body", "is not base64 text")]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif"])
def test_a_picture_is_the_body(client: Client, kind: str) -> None:
    for content_type in (f"image/{kind}", "application/octet-stream"):
        answer = client.post("/models/marks/predict", data=picture(kind), content_type=content_type)
        assert labels(answer) == ["bright"]


def test_a_picture_is_a_field_of_a_form(client: Client) -> None:
    file = (io.BytesIO(picture(colour="black")), "a.png")
    answer = client.post("/models/marks/predict", data={"image": file})
    (prediction,) = answer_of(answer)["predictions"]
    assert prediction == {
        "label": "dark",
        "probability": 0.5,
        "probabilities": {"dark": 0.5, "bright": 0.5},
    }


def test_a_version_may_be_asked_for(client: Client) -> None:
    for version in ("1", "2"):
        answer = answer_of(client.post(f"{FLOWERS}/versions/{version}/predict", json=ROSE))
        assert answer["version"] == version
        assert answer["predictions"][0]["label"] == "Rose"


def test_the_request_id_is_in_the_answer(client: Client) -> None:
    environ = {"portico.request_id": "my-own-id"}
    answer = client.post(f"{FLOWERS}/predict", json=ROSE, environ_overrides=environ)
    assert answer_of(answer)["request_id"] == "my-own-id"


def test_a_value_comes_with_its_unit_and_gaps_are_filled(client: Client) -> None:
    rows = [{"rooms": 3, "town": "Ulm"}, {"town": "Bonn"}, {"rooms": None, "town": "Bonn"}]
    told = answer_of(client.post("/models/houses/predict", json={"rows": rows}))["predictions"]
    assert [prediction["unit"] for prediction in told] == ["EUR"] * 3
    assert told[1] == told[2]
    table = client.post("/models/houses/predict", data="town\nBonn\n", content_type="text/csv")
    assert answer_of(table)["predictions"] == told[1:2]


def test_what_is_neither_class_nor_value_is_told_as_it_is(client: Client) -> None:
    row = {"flag": True, "count": 255, "half": 0.5, "word": "ü",
           "grid": [[1, 2], [3, 4]]}  # fmt: skip
    (told,) = answer_of(client.post("/models/mixed/predict", json=row))["predictions"]
    assert told["outputs"] == {
        "flag_out": [True],
        "count_out": [255],
        "half_out": [0.5],
        "word_out": "ü",
        "grid_out": [[1, 2], [3, 4]],
    }


def test_models_without_batches_take_rows_as_well(client: Client) -> None:
    rows = [{"x1": 1, "x2": 2, "x3": 3}, {"x1": 4, "x2": 5, "x3": 6}]
    told = answer_of(client.post("/models/single/predict", json={"rows": rows}))
    assert [p["outputs"]["y"] for p in told["predictions"]] == [[2, 4, 6], [8, 10, 12]]
    told = answer_of(client.post("/models/scalar/predict", json={"rows": [{"x": 1}, {"x": 2}]}))
    assert [p["value"] for p in told["predictions"]] == [2, 4]


def test_an_input_may_be_called_rows(client: Client) -> None:
    told = answer_of(client.post("/models/rows/predict", json={"rows": [1, 2]}))
    assert told["predictions"] == [{"outputs": {"y": [-1, -2]}}]


def test_a_value_that_is_no_number_is_null(client: Client, v2: Client) -> None:
    told = answer_of(client.post("/models/logarithm/predict", json={"rows": [{"x": -1}, {"x": 1}]}))
    assert [p["value"] for p in told["predictions"]] == [None, 0]
    tensor = {"name": "x", "shape": [3, 1], "datatype": "FP32", "data": [-1, 0, 1]}
    answer = answer_of(v2.post("/models/logarithm/infer", json={"inputs": [tensor]}))
    assert answer["outputs"][0]["data"] == [None, None, 0]


# What is refused.


@pytest.mark.parametrize(
    ("payload", "where", "problem"),
    [
        ({"rows": [ROSE, {"width": 1}]}, "rows[1].petal length (cm)", "is missing; a number"),
        ({"rows": [{**ROSE, "width": "1.5"}]}, "rows[0].width", "a number is expected"),
        ({"rows": [{**ROSE, "width": True}]}, "rows[0].width", "is True"),
        ({**ROSE, "petal length (cm)": 11}, "rows[0].petal length (cm)", "between 0 and 10 cm"),
        ({**ROSE, "colour": "red"}, "rows[0]", "no feature 'colour'; known: petal length (cm)"),
        ({"rows": []}, "rows", "is empty"),
        ({"rows": {}}, "rows", "must be an array of rows"),
        ({"rows": [ROSE, 5]}, "rows[1]", "must be an object"),
        ({"rows": [ROSE], "more": 1}, "body", "unknown member 'more'"),
        ([ROSE], "body", 'must be an object: {"rows": [...]} or one row'),
        ("text", "body", "must be an object"),
        (None, "body", "must be an object"),
        ({}, "rows[0].petal length (cm)", "is missing"),
    ],
)
def test_wrong_rows_are_told_where(client: Client, payload: Any, where: str, problem: str) -> None:
    told = problems(client.post(f"{FLOWERS}/predict", data=json.dumps(payload)))
    assert told[0][0] == where
    assert problem in told[0][1]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty; JSON is expected"),
        (b"{", "is not valid JSON"),
        (b'{"width": NaN}', "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b'{"width": 1, "width": 2, "petal length (cm)": 1}', "repeats the key 'width'"),
        (b'{"rows": [{"width": 1, "width": 2}]}', "repeats the key 'width'"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_told_so(client: Client, data: bytes, problem: str) -> None:
    (told,) = problems(client.post(f"{FLOWERS}/predict", data=data))
    assert told[0] == "body"
    assert problem in told[1]


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("width,petal length (cm)\n1,2\n3\n", "line 3"),
        ("width,petal length (cm)\n1,x\n", "line 2, column 'petal length (cm)'"),
        ("width\n1\n", "line 1"),
        ("", "line 1"),
        ("width,petal length (cm)\n", "line 2"),
    ],
)
def test_a_wrong_table_is_told_in_which_line(client: Client, table: str, where: str) -> None:
    told = problems(client.post(f"{FLOWERS}/predict", data=table, content_type="text/csv"))
    assert told[0][0] == where


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/tiff", "application/pdf"]
)
def test_other_content_types_are_415_with_those_that_are_read(client: Client, kind: str) -> None:
    answer = client.post(f"{FLOWERS}/predict", data="x", content_type=kind)
    assert problems(answer, 415) == []
    assert answer.json is not None
    assert answer.json["code"] == "unsupported_media_type"
    assert all(known in answer.json["error"] for known in (kind, "application/json", "text/csv"))


def test_the_wrong_kind_of_question_is_told_what_is_right(client: Client) -> None:
    assert problems(client.post("/models/marks/predict", json={"x": 1})) == [
        ("body", "is JSON; this model takes a picture, as the body or in a form field 'image'")
    ]
    rows = "is a picture; this model takes rows as JSON or CSV"
    form = "multipart/form-data; boundary=x"
    assert problems(client.post(f"{FLOWERS}/predict", data=b"--x--", content_type=form)) == [
        ("body", rows)
    ]
    for data, kind in ((picture(), "image/png"), ({"image": (io.BytesIO(b""), "a.png")}, None)):
        answer = client.post(f"{FLOWERS}/predict", data=data, content_type=kind)
        assert problems(answer) == [("body", rows)]
    table = client.post("/models/marks/predict", data="x\n1\n", content_type="text/csv")
    assert "takes a picture" in problems(table)[0][1]
    answer = client.post("/models/marks/predict", data={"note": "x"}, content_type="multipart/form-data")  # fmt: skip  # noqa: E501
    assert problems(answer) == [
        ("image", "is missing; send the picture as a file field named 'image'")
    ]


def test_a_picture_that_is_none_is_refused(client: Client) -> None:
    for data in (b"", b"%PDF-1.7", picture()[:40]):
        answer = client.post("/models/marks/predict", data=data, content_type="image/png")
        assert problems(answer)


def test_an_unknown_category_is_refused_where_it_stands(client: Client) -> None:
    row = {"rooms": 1, "town": "Paris"}
    told = problems(client.post("/models/houses/predict", json=row))
    assert told == [("rows[0].town", "is 'Paris'; it must be one of Bonn, Ulm")]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/rose/predict", 404, "unknown_model"),
        (f"{FLOWERS}/versions/9/predict", 404, "unknown_version"),
        (f"{FLOWERS}/versions/3/predict", 503, "model_unavailable"),
        ("/models/broken/predict", 503, "model_unavailable"),
    ],
)
def test_models_that_cannot_answer_say_why(
    client: Client, path: str, status: int, code: str
) -> None:
    answer = client.post(path, json=ROSE)
    problems(answer, status)
    assert answer.json is not None
    assert answer.json["code"] == code


def test_a_model_that_loads_says_when_to_come_back(tmp_path: Path) -> None:
    artefact = Artefact("slow", "1", tmp_path / "slow.onnx", tmp_path)
    metrics = PredictionMetrics(CollectorRegistry())
    catalogue = Catalogue([artefact], Allowance(tmp_path / "allowed.json"), metrics)
    for app, path in (
        (create_app(SITE, catalogue, no_log), "/models/slow/predict"),
        (protocol(catalogue), "/models/slow/infer"),
    ):
        answer = client_of(app).post(path, json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    ready = client_of(protocol(catalogue)).get("/health/ready")
    assert (ready.status_code, ready.json) == (503, {"ready": False, "live": False})


def test_what_is_asked_is_counted_once(client: Client, v2: Client) -> None:
    def asked() -> tuple[float, float]:
        return counted("my flowers", "ok", "2"), counted("my flowers", "invalid", "2")

    ok, invalid = asked()
    client.post(f"{FLOWERS}/predict", json={"rows": [ROSE, TULIP]})
    client.post(f"{FLOWERS}/predict", json={"rows": []})
    v2.post(f"{FLOWERS}/infer", json=infer())
    v2.post(f"{FLOWERS}/infer", data=b"{")
    assert asked() == (ok + 2, invalid + 2)


def test_every_answer_tells_its_prediction_and_how_long_it_took(client: Client, v2: Client) -> None:
    answers = [
        client.post(f"{FLOWERS}/predict", json={"rows": [ROSE, TULIP]}),
        v2.post(f"{FLOWERS}/infer", json=infer()),
        v2.post(f"{FLOWERS}/infer/", json=infer()),
    ]
    for answer, rows in zip(answers, ("2 rows", "1 row", "1 row"), strict=True):
        timing = re.fullmatch(
            r"decode;dur=([\d.]+), queue;dur=([\d.]+), run;dur=([\d.]+), encode;dur=([\d.]+), "
            r'batch;desc="(\d+ rows?)"',
            answer.headers["Server-Timing"],
        )
        assert timing, answer.headers["Server-Timing"]
        assert all(0 <= float(milliseconds) < 5000 for milliseconds in timing.groups()[:4])
        assert timing[5] == rows
    refused = v2.post(f"{FLOWERS}/infer", data=b"{")
    ids = [answer.headers["X-Prediction-ID"] for answer in [*answers, refused]]
    assert len(set(ids)) == 4


# The Open Inference Protocol.


def infer(*data: float, **members: Any) -> dict[str, Any]:
    values = list(data or (9, 0))
    tensor = {"name": "x", "shape": [len(values) // 2, 2], "datatype": "FP32", "data": values}
    return {"inputs": [tensor], **members}


def test_the_server_tells_what_it_is(v2: Client) -> None:
    for path in ("/", ""):
        told = answer_of(v2.get(path))
        assert told["name"] == "portico"
        assert isinstance(told["version"], str)
        assert told["extensions"] == ["binary_tensor_data", "model_repository"]


def test_the_repository_lists_every_version_and_what_is_wrong_with_it(v2: Client) -> None:
    def index(**request: Any) -> list[dict[str, str]]:
        answer = v2.post("/repository/index", **request)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        listed: list[dict[str, str]] = json.loads(answer.data)
        return listed

    flowers = [entry for entry in index() if entry["name"] == "my flowers"]
    assert [(e["version"], e["state"]) for e in flowers] == [
        ("3", "UNAVAILABLE"), ("2", "READY"), ("1", "READY"),
    ]  # fmt: skip
    assert "cannot be opened as ONNX" in flowers[0]["reason"]
    assert flowers[1]["reason"] == ""
    ready = index(json={"ready": True})
    assert {entry["state"] for entry in ready} == {"READY"}
    assert ready == [entry for entry in index(json={}) if entry["state"] == "READY"]
    refused = v2.post("/repository/index", json={"ready": 1})
    assert [where for where, _ in problems(refused)] == ["ready"]


@pytest.mark.parametrize("action", ["load", "unload"])
def test_a_load_or_unload_that_cannot_be_done_says_why(v2: Client, action: str) -> None:
    path = f"/repository/models/my flowers/{action}"
    unknown = v2.post(f"/repository/models/nobody/{action}", json={"parameters": {}})
    assert unknown.status_code == 404
    assert unknown.json["code"] == "unknown_model"  # type: ignore[index]
    for body in (b"{", b"[]", b'{"parameters": 1}'):
        assert v2.post(path, data=body).status_code == 400
    for body in (b"", b"{}", b'{"parameters": {"unload_dependents": true, "other": [1]}, "a": 1}'):
        lost = v2.post(path, data=body)
        assert (lost.status_code, lost.json["code"]) == (503, "storage_unavailable")  # type: ignore[index]
    assert v2.get(path).status_code == 405
    assert v2.get("/models/my flowers/ready").status_code == 200, "nothing has changed"


@pytest.mark.parametrize("name", ["config", "file:1/model.onnx"])
def test_a_model_inside_a_load_request_is_refused_rather_than_ignored(
    v2: Client, name: str
) -> None:
    refused = v2.post("/repository/models/my flowers/load", json={"parameters": {name: "{}"}})
    assert [where for where, _ in problems(refused)] == [f"parameters.{name}"]


def test_health_is_told_in_both_ways_that_clients_read(v2: Client) -> None:
    for path in ("/health/live", "/health/live/"):
        assert answer_of(v2.get(path)) == {"live": True}
    ready = v2.get("/health/ready")
    assert (ready.status_code, ready.json) == (503, {"ready": False, "live": False})
    assert v2.head("/health/live").status_code == 200


def test_metadata_tell_names_datatypes_and_shapes(v2: Client) -> None:
    for path in (FLOWERS, f"{FLOWERS}/", f"{FLOWERS}/versions/2"):
        assert answer_of(v2.get(path)) == {
            "name": "my flowers",
            "versions": ["1", "2"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [
                {"name": "label", "datatype": "INT64", "shape": [-1]},
                {"name": "scores", "datatype": "FP32", "shape": [-1, 2]},
            ],
        }
    assert answer_of(v2.get("/models/single"))["inputs"][0]["shape"] == [1, 3]


@pytest.mark.parametrize(
    ("path", "status", "ready"),
    [
        (f"{FLOWERS}/ready", 200, True),
        (f"{FLOWERS}/versions/1/ready", 200, True),
        (f"{FLOWERS}/versions/3/ready", 503, False),
        ("/models/broken/ready", 503, False),
    ],
)
def test_readiness_is_told_by_status_and_body(
    v2: Client, path: str, status: int, ready: bool
) -> None:
    answer = v2.get(path)
    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["ready"] is ready


@pytest.mark.parametrize("path", ["/models/rose/ready", f"{FLOWERS}/versions/9/ready"])
def test_readiness_of_what_is_not_there_is_404(v2: Client, path: str) -> None:
    problems(v2.get(path), 404)


@pytest.mark.parametrize("path", [f"{FLOWERS}/infer", f"{FLOWERS}/infer/"])
def test_tensors_go_in_and_come_out(v2: Client, path: str) -> None:
    told = answer_of(v2.post(path, json=infer(9, 0, 0, 9, id="größe-1")))
    assert (told["model_name"], told["model_version"], told["id"]) == (
        "my flowers",
        "2",
        "größe-1",
    )
    label, scores = told["outputs"]
    assert label == {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]}
    assert (scores["shape"], len(scores["data"])) == ([2, 2], 4)


def test_without_an_id_there_is_none(v2: Client) -> None:
    assert "id" not in answer_of(v2.post(f"{FLOWERS}/infer", json=infer()))


def test_outputs_come_in_the_order_they_are_asked_for(v2: Client) -> None:
    wanted = [{"name": "scores"}, {"name": "label"}]
    told = answer_of(v2.post(f"{FLOWERS}/infer", json=infer(outputs=wanted)))
    assert [output["name"] for output in told["outputs"]] == ["scores", "label"]
    told = answer_of(v2.post(f"{FLOWERS}/infer", json=infer(outputs=wanted[:1])))
    assert [output["name"] for output in told["outputs"]] == ["scores"]


def test_a_version_is_used_exactly(v2: Client) -> None:
    told = answer_of(v2.post(f"{FLOWERS}/versions/1/infer", json=infer()))
    assert told["model_version"] == "1"
    assert [output["name"] for output in told["outputs"]] == ["label", "probabilities"]


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/json; charset=utf-8"])
def test_infer_looks_at_no_content_type(v2: Client, kind: str | None) -> None:
    answer = v2.post(f"{FLOWERS}/infer", data=json.dumps(infer()), content_type=kind)
    assert answer_of(answer)["outputs"]


def test_what_clients_add_does_no_harm(v2: Client) -> None:
    payload = infer(
        model_name="other", parameters={"binary_data_output": False, "x": 1, "y": "z"}, extra=[1]
    )
    assert answer_of(v2.post(f"{FLOWERS}/infer", json=payload))["model_name"] == "my flowers"


@pytest.mark.parametrize("path", [f"{FLOWERS}/infer", f"{FLOWERS}/infer/"])
def test_tensors_go_in_and_out_as_bytes(v2: Client, path: str) -> None:
    payload = infer(parameters={"binary_data_output": True}, id="7")
    del payload["inputs"][0]["data"]
    payload["inputs"][0]["parameters"] = {"binary_data_size": 8}
    head = json.dumps(payload).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = v2.post(path, data=head + struct.pack("<2f", 9, 0), headers=length)
    assert (answer.status_code, answer.content_type) == (200, "application/octet-stream")
    end = int(answer.headers["Inference-Header-Content-Length"])
    told = json.loads(answer.data[:end])
    sizes = [output["parameters"]["binary_data_size"] for output in told["outputs"]]
    assert (told["id"], len(answer.data), answer.content_length) == (
        "7", end + sum(sizes), end + sum(sizes),
    )  # fmt: skip
    assert "X-Prediction-ID" in answer.headers
    refused = v2.post(path, data=head, headers=length)
    assert [where for where, _ in problems(refused)] == ["inputs[0].parameters.binary_data_size"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"datatype": "INT64"}, "inputs[0].datatype"),
        ({"datatype": "FLOAT"}, "inputs[0].datatype"),
        ({"shape": [1, 3]}, "inputs[0].shape"),
        ({"shape": [2, 2]}, "inputs[0].data"),
        ({"shape": [-1, 2]}, "inputs[0].shape[0]"),
        ({"shape": [2**62, 2]}, "inputs[0].data"),
        ({"data": [1, "2"]}, "inputs[0].data[1]"),
        ({"data": [1, 1e300]}, "inputs[0].data[1]"),
        ({"data": 5}, "inputs[0].data"),
        ({"name": "y"}, "inputs[0].name"),
    ],
)
def test_wrong_tensors_are_told_where(v2: Client, change: dict[str, Any], where: str) -> None:
    payload = infer()
    payload["inputs"][0] |= change
    told = problems(v2.post(f"{FLOWERS}/infer", json=payload))
    assert told[0][0] == where


@pytest.mark.parametrize("name", ["label", "rose"])
def test_outputs_that_cannot_be_given_are_refused(v2: Client, name: str) -> None:
    payload = infer(outputs=[{"name": name}] * 2)
    where = "outputs[1].name" if name == "label" else "outputs[0].name"
    assert problems(v2.post(f"{FLOWERS}/infer", json=payload))[0][0] == where


def test_inputs_of_different_lengths_are_refused_by_the_model(v2: Client) -> None:
    payload = {
        "inputs": [
            {"name": "rooms", "shape": [1, 1], "datatype": "FP64", "data": [1]},
            {"name": "town", "shape": [2, 1], "datatype": "BYTES", "data": ["Ulm", "Ulm"]},
        ]
    }
    answer = v2.post("/models/houses/infer", json=payload)
    problems(answer)
    assert answer.json is not None
    assert answer.json["code"] == "model_refused"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"{FLOWERS}/infer"), ("POST", FLOWERS), ("PUT", "/"), ("DELETE", "/health/live")],
)
def test_a_wrong_method_is_405(v2: Client, method: str, path: str) -> None:
    problems(v2.open(path, method=method), 405)


@pytest.mark.parametrize("path", ["/models/rose", "/models/rose/infer", "/models/a%2Fb/infer"])
def test_an_unknown_model_is_404(v2: Client, path: str) -> None:
    method = "POST" if path.endswith("infer") else "GET"
    problems(v2.open(path, method=method), 404)


def test_a_chunked_body_is_read(v2: Client) -> None:
    answer = v2.post(
        f"{FLOWERS}/infer",
        input_stream=io.BytesIO(json.dumps(infer()).encode()),
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer_of(answer)["outputs"]


def test_a_version_that_comes_later_is_found(tmp_path: Path) -> None:
    """The quick route keeps what it looked up only until the catalogue changes."""
    from api_models import classifier, saved

    file = saved(tmp_path / "flowers.onnx", classifier())
    metrics = PredictionMetrics(CollectorRegistry())
    artefact = Artefact("flowers", "1", file, tmp_path)
    catalogue = Catalogue([artefact], Allowance(tmp_path / "allowed.json"), metrics)
    client = client_of(protocol(catalogue))
    assert client.post("/models/flowers/infer", json=infer()).status_code == 503
    catalogue.load(30)
    assert client.post("/models/flowers/infer", json=infer()).status_code == 200
