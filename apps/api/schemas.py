"""JSON Schemas of what a model takes and gives, made from its signature.

Source: JSON Schema 2020-12; for tensors the Open Inference Protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico.serving.signature import AnswerKind, Feature, Kind, Signature
from portico.serving.tensors import VARIABLE, Datatype, TensorSpec, limits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Schema: TypeAlias = dict[str, Any]

# The protocol's values are strings, numbers and booleans; others are passed over like unknown ones.
_PARAMETERS: Final[Schema] = {"type": ["object", "null"]}


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


def infer_request_schema(signature: Signature) -> Schema:
    """Return the JSON Schema of the protocol's infer request."""
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


def infer_response_schema(signature: Signature) -> Schema:
    """Return the JSON Schema of the protocol's infer response."""
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
    shape: Schema = {"type": "array", "minItems": rank, "maxItems": rank}
    if sizes:  # JSON Schema takes no empty list here.
        shape["prefixItems"] = sizes
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": shape,
            "datatype": {"const": spec.datatype.value},
            "data": {"type": "array", "description": "Row-major, nested or flat."},
            "parameters": _PARAMETERS,
        },
    }
