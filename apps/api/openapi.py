"""The API's description, made from the signatures of the models that are loaded.

Source: OpenAPI Specification 3.1.0; its schemas are JSON Schema 2020-12. Each model has a request
and a response schema of its own, with an example that works as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from apps.api.predict import CSV, FORM, IMAGES, JSON
from portico import __version__
from portico.serving.codecs.rows import csv_template
from portico.serving.signature import AnswerKind, Feature, Kind, Signature
from portico.serving.tensors import VARIABLE, Datatype, TensorSpec, limits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.catalogue import Model
    from portico.serving.service import ServedModel

Schema = dict[str, Any]

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
_PARAMETERS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
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
        "/v2": {"get": _v2_operation("Server metadata", "serverMetadata")},
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
        "paths": paths,
        "components": {"schemas": schemas, "responses": _responses()},
    }


def model_description(served: ServedModel) -> Schema:
    """Describe one model: what a row holds, what an answer holds, and an example of each."""
    signature = served.signature
    return {
        "platform": served.platform,
        "takes": "picture" if signature.image else "rows",
        "row": row_schema(signature),
        "answer": answer_schema(signature),
        "example": {"rows": [signature.example_row()]} if not signature.image else None,
    }


def row_schema(signature: Signature) -> Schema:
    """Return the JSON Schema of one row."""
    features = [f for f in signature.features if f.kind is not Kind.IMAGE]
    return {
        "type": "object",
        "properties": {f.name: feature_schema(f) for f in features},
        "required": [f.name for f in features if not f.optional],
        "additionalProperties": False,
    }


def feature_schema(feature: Feature) -> Schema:
    """Return the JSON Schema of one feature's value."""
    schema = _value_schema(feature)
    if feature.heading != feature.name:
        schema["title"] = feature.title
    words = [feature.description, f"Unit: {feature.unit}." if feature.unit else ""]
    if any(words):
        schema["description"] = " ".join(filter(None, words))
    if feature.choices and feature.closed:
        schema["enum"] = [c.value for c in feature.choices] + [None] * feature.optional
    schema["examples"] = [feature.example()]
    return schema


def _value_schema(feature: Feature) -> Schema:
    match feature.kind:
        case Kind.NUMBER | Kind.INTEGER:
            schema: Schema = {"type": feature.kind.value, **_bounds(feature)}
        case Kind.BOOLEAN:
            schema = {"type": "boolean"}
        case Kind.TENSOR:
            return _nested(feature.shape, _element(feature.datatype))
        case _:
            schema = {"type": "string"}
    if feature.optional:
        schema["type"] = [schema["type"], "null"]
    return schema


def _bounds(feature: Feature) -> Schema:
    low, high = limits_of(feature.datatype)
    return {
        "minimum": low if feature.minimum is None else max(low, feature.minimum),
        "maximum": high if feature.maximum is None else min(high, feature.maximum),
    }


def _nested(shape: Sequence[int], element: Schema) -> Schema:
    schema = element
    for size in reversed(shape):
        schema = {"type": "array", "items": schema}
        if size != VARIABLE:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _element(datatype: Datatype) -> Schema:
    if datatype is Datatype.BYTES:
        return {"type": "string"}
    if datatype is Datatype.BOOL:
        return {"type": "boolean"}
    low, high = limits_of(datatype)
    kind = "number" if datatype.is_float else "integer"
    return {"type": kind, "minimum": low, "maximum": high}


def answer_schema(signature: Signature) -> Schema:
    """Return the JSON Schema of one prediction."""
    answer = signature.answer
    if answer.kind is AnswerKind.CLASSIFICATION:
        label: Schema = {"type": "string"}
        if answer.labels:
            label["examples"] = list(answer.labels[:1])
        properties: Schema = {
            "label": label,
            "probability": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        }
    elif answer.kind is AnswerKind.REGRESSION:
        properties = {"value": {"type": ["number", "null"]}, "unit": {"type": "string"}}
    else:
        properties = {"outputs": {"type": "object"}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _model_paths(served: ServedModel) -> dict[str, Schema]:
    name = quote(served.name)
    return {
        f"/api/models/{name}/predict": {"post": _predict_operation(served)},
        f"/v2/models/{name}": {
            "get": _v2_operation(f"Metadata of {served.title}", f"metadata_{served.name}")
        },
        f"/v2/models/{name}/infer": {"post": _infer_operation(served)},
    }


def _model_schemas(served: ServedModel) -> dict[str, Schema]:
    key = schema_key(served)
    signature = served.signature
    return {
        f"{key}.Row": row_schema(signature),
        f"{key}.Prediction": answer_schema(signature),
        f"{key}.InferRequest": _infer_request(signature),
        f"{key}.InferResponse": _infer_response(signature),
    }


def schema_key(served: ServedModel) -> str:
    """Return the model's name as a component's key, which takes no spaces."""
    return served.name.replace(" ", "_")


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
            "schema": {"anyOf": [rows, row]},
            "example": {"rows": [signature.example_row()]},
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


def infer_example(signature: Signature) -> Schema:
    """Return an infer request of one row that the model answers."""
    return {"inputs": [_example_input(signature, spec) for spec in signature.inputs]}


def _example_input(signature: Signature, spec: TensorSpec) -> Schema:
    shape = [1 if size == VARIABLE else size for size in spec.shape]
    features = [f for f in signature.features if f.tensor == spec.name]
    data: Any = [f.example() for f in features if f.kind not in (Kind.IMAGE, Kind.TENSOR)]
    if not data:
        element = "" if spec.datatype is Datatype.BYTES else 0
        data = element if not shape else _filled(shape, element)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype.value, "data": data}


def _filled(shape: Sequence[int], element: Any) -> Any:
    return [_filled(shape[1:], element) for _ in range(shape[0])] if shape else element


def _infer_request(signature: Signature) -> Schema:
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {
                "type": "array",
                "minItems": len(signature.inputs),
                "maxItems": len(signature.inputs),
                "items": {"anyOf": [_tensor_schema(spec) for spec in signature.inputs]},
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [spec.name for spec in signature.outputs]},
                        "parameters": _PARAMETERS,
                    },
                },
            },
        },
    }


def _infer_response(signature: Signature) -> Schema:
    return {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": {"anyOf": [_tensor_schema(spec) for spec in signature.outputs]},
            },
        },
    }


def _tensor_schema(spec: TensorSpec) -> Schema:
    sizes = [
        {"type": "integer", "minimum": 0} if size == VARIABLE else {"const": size}
        for size in spec.shape
    ]
    rank = len(sizes)
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": {"type": "array", "prefixItems": sizes, "minItems": rank, "maxItems": rank},
            "datatype": {"const": spec.datatype.value},
            "data": {"type": "array", "description": "Row-major, nested or flat."},
            "parameters": _PARAMETERS,
        },
    }


def _list_operation() -> Schema:
    schema = {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": {"type": "object"}}},
    }
    return {
        "operationId": "listModels",
        "summary": "Models and their versions",
        "responses": {"200": _json("What is served.", schema)},
    }


def _v2_operation(summary: str, operation_id: str) -> Schema:
    return {
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
