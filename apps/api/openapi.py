"""The API's description, made from the signatures of the models that are loaded.

Source: OpenAPI Specification 3.1.0; its schemas are JSON Schema 2020-12. Each model has a request
and a response schema of its own, with an example that works as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from apps.api.openapi_predictions import prediction_paths
from apps.api.predict import CSV, FORM, IMAGES, JSON, takes_many
from apps.api.schemas import (
    Schema,
    answer_schema,
    infer_example,
    infer_request_schema,
    infer_response_schema,
    row_schema,
)
from portico import __version__
from portico.serving.codecs.rows import csv_template
from portico.serving.signature import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.models import Model
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature

ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error", "code", "request_id", "details"],
    "properties": {
        "error": {"type": "string", "description": "A sentence for a person."},
        "code": {"type": "string", "description": "A stable word for programs."},
        "request_id": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "problem"],
                "properties": {"where": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
GENERAL: Final = "The gateway"
"""Tag of the operations that belong to no model."""

_FAILURES: Final = {
    "400": "The request does not fit the model; `details` name each place.",
    "413": "The body is too large.",
    "503": "The model is loading, has failed to load, or has no room now.",
    "504": "No turn came within the deadline.",
}


def openapi_document(title: str, root: str, models: Sequence[Model]) -> Schema:
    """Describe the API of all models that can answer.

    Args:
        title: of the site.
        root: the outer prefix of the gateway, "" where there is none.
        models: of the catalogue.
    """
    paths: dict[str, Schema] = {
        "/api/models": {"get": _list_operation()},
        "/v2": {"get": _v2_operation("Server metadata", "serverMetadata", GENERAL)},
        **prediction_paths(GENERAL),
    }
    schemas: dict[str, Schema] = {"Error": ERROR}
    for model in models:
        served = model.current.served
        if served is not None:
            paths |= _model_paths(served)
            schemas |= _model_schemas(served)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "servers": [{"url": root or "/"}],
        "tags": [*({"name": t} for t in dict.fromkeys(m.title for m in models)), {"name": GENERAL}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": _responses()},
    }


def model_description(served: ServedModel) -> Schema:
    """Describe one model: what a row holds, what an answer holds, and an example of each."""
    signature = served.signature
    return {
        "platform": served.platform,
        "batching": {
            "max_rows": 0 if served.batching else served.card.batching.max_rows,
            "why_not": served.batching or None,
        },
        "takes": "picture" if signature.image else "rows",
        "row": row_schema(signature),
        "answer": answer_schema(signature),
        "example": _example(signature) if not signature.image else None,
    }


def _example(signature: Signature) -> Schema:
    row = signature.example_row()
    return {"rows": [row]} if takes_many(signature) else row


def _model_paths(served: ServedModel) -> dict[str, Schema]:
    name = quote(served.name)
    return {
        f"/api/models/{name}/predict": {"post": _predict_operation(served)},
        f"/v2/models/{name}": {
            "get": _v2_operation(
                f"Metadata of {served.title}", f"metadata_{served.name}", served.title
            )
        },
        f"/v2/models/{name}/infer": {"post": _infer_operation(served)},
    }


def _model_schemas(served: ServedModel) -> dict[str, Schema]:
    key = schema_key(served)
    signature = served.signature
    return {
        f"{key}.Row": row_schema(signature),
        f"{key}.Prediction": answer_schema(signature),
        f"{key}.InferRequest": infer_request_schema(signature),
        f"{key}.InferResponse": infer_response_schema(signature),
    }


def schema_key(served: ServedModel) -> str:
    """Return the model's name as a component's key, which takes no spaces.

    No name begins with an underscore, so one at the front says that the others are spaces.
    """
    if " " not in served.name:
        return served.name
    return "_" + served.name.replace("_", "__").replace(" ", "_-")


def _predict_operation(served: ServedModel) -> Schema:
    key = schema_key(served)
    response = {
        "type": "object",
        "required": ["model", "version", "request_id", "predictions"],
        "properties": {
            "model": {"const": served.name},
            "version": {"type": "string"},
            "request_id": {"type": "string"},
            "predictions": {"type": "array", "items": _ref(f"{key}.Prediction")},
        },
    }
    return {
        "operationId": f"predict_{served.name}",
        "summary": f"Ask {served.title}",
        "description": served.card.description,
        "tags": [served.title],
        "requestBody": {"required": True, "content": _predict_content(served, key)},
        "responses": {"200": _json("Predictions, one a row.", response), **_failures()},
    }


def _predict_content(served: ServedModel, key: str) -> Schema:
    signature = served.signature
    if signature.image is not None:
        binary = {"schema": {"type": "string", "contentMediaType": "image/*"}}
        form = {
            "type": "object",
            "properties": {"image": {"type": "string", "contentMediaType": "image/*"}},
            "required": ["image"],
        }
        return {FORM: {"schema": form}, **dict.fromkeys(IMAGES, binary)}
    row = _ref(f"{key}.Row")
    rows = {
        "type": "object",
        "properties": {"rows": {"type": "array", "minItems": 1, "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    content: Schema = {
        JSON: {
            "schema": {"anyOf": [rows, row]} if takes_many(signature) else row,
            "example": _example(signature),
        }
    }
    if all(f.kind is not Kind.TENSOR for f in signature.features):
        content[CSV] = {"schema": {"type": "string"}, "example": csv_template(signature)}
    return content


def _infer_operation(served: ServedModel) -> Schema:
    key = schema_key(served)
    content = {"schema": _ref(f"{key}.InferRequest"), "example": infer_example(served.signature)}
    return {
        "operationId": f"infer_{served.name}",
        "summary": f"Infer with {served.title} (Open Inference Protocol)",
        "tags": [served.title],
        "requestBody": {"required": True, "content": {JSON: content}},
        "responses": {
            "200": _json("Output tensors.", _ref(f"{key}.InferResponse")),
            **_failures(),
        },
    }


def _list_operation() -> Schema:
    schema = {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": {"type": "object"}}},
    }
    return {
        "tags": [GENERAL],
        "operationId": "listModels",
        "summary": "Models and their versions",
        "responses": {"200": _json("What is served.", schema)},
    }


def _v2_operation(summary: str, operation_id: str, tag: str) -> Schema:
    return {
        "tags": [tag],
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": _json("Metadata.", {"type": "object", "required": ["name"]})},
    }


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _responses() -> Schema:
    return {f"Error{status}": _json(text, _ref("Error")) for status, text in _FAILURES.items()}


def _failures() -> Schema:
    return {status: {"$ref": f"#/components/responses/Error{status}"} for status in _FAILURES}
