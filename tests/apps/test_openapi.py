"""The API's description: valid, complete, and every example in it works as it stands."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

pytest.importorskip("sklearn", reason="the tests train their models with scikit-learn")
pytest.importorskip("onnx", reason="the tests make their models with onnx")
pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis")

import jsonschema_rs
from api_models import MAKERS, SITE, client_of, load, no_log, picture, protocol
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from apps.api import create_app
from apps.api.predict import CSV, FORM, JSON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug.test import Client

    from portico.serving.catalogue import Catalogue

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

Document = dict[str, Any]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load(tmp_path_factory.mktemp("openapi") / "models")


@pytest.fixture(scope="module")
def client(catalogue: Catalogue) -> Client:
    mounts = {"/api": create_app(SITE, catalogue, no_log), "/v2": protocol(catalogue)}
    return client_of(DispatcherMiddleware(lambda e, s: [], mounts))


@pytest.fixture(scope="module")
def document(client: Client) -> Document:
    answer = client.get("/api/openapi.json", environ_overrides={"portico.root": ""})
    assert answer.headers["Content-Type"] == "application/json"
    told: Document = json.loads(answer.data, parse_constant=pytest.fail)
    return told


def bundled(document: Document, schema: Document) -> Document:
    """Return a schema that stands alone, with the components that it may refer to."""
    return {**schema, "components": document["components"]}


def check(document: Document, schema: Document, value: Any) -> None:
    jsonschema_rs.Draft202012Validator(bundled(document, schema)).validate(value)


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def at_hand(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield what can be asked as it stands: a single prediction has to be made first."""
    return (found for found in operations(document) if "{" not in found[1])


def schemas(node: Any, key: str = "") -> Iterator[Document]:
    """Yield every schema of the document, wherever it stands."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "schema":
                yield value
            yield from schemas(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value, key)


def test_the_document_has_the_parts_that_openapi_demands(document: Document) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Models of ours"
    assert isinstance(document["info"]["version"], str)
    assert document["servers"] == [{"url": "/"}]
    for method, path, operation in operations(document):
        assert path.startswith("/")
        assert method in ("get", "post")
        assert {"200", "201"} & operation["responses"].keys()
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert "description" in response or "$ref" in response
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    keys = document["components"]["schemas"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", key) for key in keys)


def test_every_schema_is_valid_json_schema(document: Document) -> None:
    for schema in [*schemas(document["paths"]), *document["components"]["schemas"].values()]:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema",
                                     **schema})  # fmt: skip


def test_every_reference_leads_somewhere(document: Document) -> None:
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        assert reference.startswith("#/")
        node: Any = document
        for part in reference[2:].split("/"):
            node = node[part]


def test_every_model_that_answers_is_described_and_no_other(document: Document) -> None:
    told = {
        unquote(path.split("/")[3]) for path in document["paths"] if path.startswith("/api/models/")
    }
    assert told == set(MAKERS) - {"broken"}


def test_names_that_differ_in_a_space_have_schemas_of_their_own(document: Document) -> None:
    def row(path: str) -> Document:
        content = document["paths"][path]["post"]["requestBody"]["content"][JSON]
        reference = content["schema"]["anyOf"][1]["$ref"]
        found: Document = document["components"]["schemas"][reference.rpartition("/")[2]]
        return found

    spaced, underscored = (
        row("/api/models/my%20flowers/predict"),
        row("/api/models/my_flowers/predict"),
    )
    assert set(spaced["properties"]) == {"petal length (cm)", "width"}
    assert set(underscored["properties"]) == {"x1", "x2"}


def test_every_example_fits_its_schema_and_is_answered_as_described(
    document: Document, client: Client
) -> None:
    sent = 0
    for method, path, operation in at_hand(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" not in content:
                assert kind == FORM or kind.startswith("image/"), path
                continue
            check(document, content["schema"], content["example"])
            example = content["example"]
            data = example if kind == CSV else json.dumps(example)
            answer = client.open(path, method=method.upper(), data=data, content_type=kind)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            schema = operation["responses"]["200"]["content"][JSON]["schema"]
            check(document, schema, json.loads(answer.data))
            sent += 1
    assert sent >= 25


def test_the_examples_of_features_fit_their_schemas(document: Document) -> None:
    told = 0
    for key, schema in document["components"]["schemas"].items():
        if key.endswith(".Row"):
            for feature in schema["properties"].values():
                for example in feature["examples"]:
                    check(document, feature, example)
                    told += 1
    assert told > 15


def test_pictures_are_answered_in_each_form_that_is_described(
    document: Document, client: Client
) -> None:
    operation = document["paths"]["/api/models/marks/predict"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {FORM, "image/png", "image/jpeg", "image/webp", "image/gif"}
    for kind in content:
        if kind == FORM:
            continue
        data = picture(kind.removeprefix("image/"))
        answer = client.post("/api/models/marks/predict", data=data, content_type=kind)
        schema = operation["responses"]["200"]["content"][JSON]["schema"]
        check(document, schema, json.loads(answer.data))


def test_what_takes_no_body_is_answered_as_described(document: Document, client: Client) -> None:
    for method, path, operation in at_hand(document):
        if method == "get":
            answer = client.get(path)
            assert answer.status_code == 200, path
            schema = operation["responses"]["200"]["content"][JSON]["schema"]
            check(document, schema, json.loads(answer.data))


@pytest.mark.parametrize(
    ("row", "is_right"),
    [
        ({"petal length (cm)": 1, "width": 2}, True),
        ({"petal length (cm)": 11, "width": 2}, False),
        ({"petal length (cm)": 1}, False),
        ({"petal length (cm)": 1, "width": "2"}, False),
        ({"petal length (cm)": 1, "width": True}, False),
        ({"petal length (cm)": 1, "width": 1e39}, False),
        ({"petal length (cm)": 1, "width": None}, False),
        ({"petal length (cm)": 1, "width": 2, "more": 3}, False),
    ],
)
def test_the_schema_of_a_row_takes_what_the_model_takes(
    document: Document, client: Client, row: dict[str, Any], is_right: bool
) -> None:
    path = "/api/models/my%20flowers/predict"
    schema = document["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
    validator = jsonschema_rs.Draft202012Validator(bundled(document, schema))
    assert validator.is_valid(row) is is_right
    assert client.post(path, json=row).status_code == (200 if is_right else 400)


@pytest.mark.parametrize("row", [{"rooms": None, "town": "Ulm"}, {"town": "Ulm"}])
def test_what_may_be_missing_may_be_so_in_the_schema(
    document: Document, client: Client, row: dict[str, Any]
) -> None:
    check(document, {"$ref": "#/components/schemas/houses.Row"}, row)
    assert client.post("/api/models/houses/predict", json=row).status_code == 200


def test_errors_are_told_as_described(document: Document, client: Client) -> None:
    schema = {"$ref": "#/components/schemas/Error"}
    wrong = client.post("/api/models/houses/predict", json={"rows": []})
    for answer in (wrong, client.get("/api/nothing"), client.get("/v2/models/broken")):
        assert answer.status_code >= 400
        check(document, schema, answer.json)


def test_the_outer_prefix_is_the_servers_address(client: Client) -> None:
    told = client.get("/api/openapi.json", environ_overrides={"portico.root": "/ml"}).json
    assert told is not None
    assert told["servers"] == [{"url": "/ml"}]


def test_the_documentation_loads_nothing_from_elsewhere(client: Client) -> None:
    text = client.get("/api/docs", environ_overrides={"portico.root": "/ml"}).text
    assert "openapi.json" in text
    assert not re.findall(r'(?:src|href)="(?!/ml/|#|data:)[^"]*"', text)
    assert not re.findall(r"https?://(?!www\.w3\.org)", text)
