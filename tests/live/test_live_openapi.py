"""The API does what its own description says: schemathesis makes requests, right and wrong."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.server import BIN

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.server import Server

pytestmark = pytest.mark.live

MODELS = ("iris", "diabetes", "wine", "digits", "identity-bytes")
"""Classes, values, text, pictures and plain tensors; each takes seconds."""

CONFORMANCE = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def described(server: Server) -> dict[str, Any]:
    """Return the description of the API, of a few models alone."""
    document: dict[str, Any] = server.get("/api/openapi.json").json()
    document["paths"] = {
        path: item
        for path, item in document["paths"].items()
        if "/models/" not in path or path.split("/")[3] in MODELS
    }
    return document


def without_tuples(schema: Any) -> Any:
    """Describe tuples as arrays: schemathesis 4.32 cannot check answers against ``prefixItems``."""
    if isinstance(schema, list):
        return [without_tuples(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: without_tuples(part) for key, part in schema.items() if key != "prefixItems"}
    return {**kept, "items": {"type": "integer"}} if "prefixItems" in schema else kept


def run(server: Server, document: dict[str, Any], folder: Path, *options: str) -> None:
    """Let schemathesis ask what ``document`` describes; it must find nothing."""
    for name, schema in document["components"]["schemas"].items():
        if name.endswith(".InferResponse"):
            document["components"]["schemas"][name] = without_tuples(schema)
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    command = [
        BIN / "schemathesis", "run", file, "--url", server.url, "--no-color", "--seed", "1",
        "--generation-database", "none", "--warnings", "off", *options,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "generated" in done.stdout


def test_what_is_described_is_what_happens(gateway, tmp_path):
    """Requests that fit and that do not: no 5xx, only described answers, nothing wrong accepted."""
    checks = f"{CONFORMANCE},negative_data_rejection"
    phases = ("--phases", "examples,coverage,fuzzing", "--max-examples", "15")
    run(gateway, described(gateway), tmp_path, "--checks", checks, *phases)


def test_rows_that_fit_the_description_are_answered(gateway, tmp_path):
    """Only of rows in JSON: what a table or a picture holds, no schema can say."""
    document = described(gateway)
    for path, item in list(document["paths"].items()):
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        if not path.endswith("/predict") or "application/json" not in content:
            del document["paths"][path]
            continue
        for kind in [kind for kind in content if kind != "application/json"]:
            del content[kind]
    assert len(document["paths"]) == len(MODELS) - 1
    options = ("--mode", "positive", "--phases", "examples,fuzzing", "--max-examples", "30")
    checks = f"{CONFORMANCE},positive_data_acceptance"
    run(gateway, document, tmp_path, "--checks", checks, *options)


def test_every_example_of_the_description_is_answered(gateway):
    document = gateway.get("/api/openapi.json").json()
    asked = 0
    for path, item in document["paths"].items():
        body = item.get("post", {}).get("requestBody", {}).get("content", {})
        for kind, content in body.items():
            if "example" in content:
                example = content["example"]
                sent = example if isinstance(example, str) else json.dumps(example)
                answer = gateway.ask("POST", path, sent, Content_Type=kind)
                assert answer.status == 200, (path, kind, answer)
                asked += 1
    assert asked > 20
