"""The description of the routes of logged predictions."""

from __future__ import annotations

from typing import Any, Final

from apps.api.predictions import LARGEST_LABEL, LONGEST_LABEL

_ID: Final = {
    "name": "prediction",
    "in": "path",
    "required": True,
    "description": "What the answer's header `X-Prediction-ID` gave.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{12}-[0-9a-f]{1,15}$"},
}
_LABEL: Final = {
    "type": ["string", "number", "boolean", "null"],
    "maxLength": LONGEST_LABEL,
    "minimum": -LARGEST_LABEL,
    "maximum": LARGEST_LABEL,
}
_FEEDBACK: Final = {
    "type": "object",
    "required": ["right", "label", "who", "time"],
    "properties": {
        "right": {"type": "boolean"},
        "label": _LABEL,
        "who": {"type": "string"},
        "time": {"type": "string"},
    },
}
_TENSORS: Final = {"type": ["array", "null"], "items": {"type": "object"}}
_PREDICTION: Final = {
    "type": "object",
    "required": ["id", "time", "model", "version", "outcome", "inputs", "outputs", "feedback"],
    "properties": {
        "id": {"type": "string"},
        "time": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "outcome": {"type": "string"},
        "seconds": {"type": "object"},
        "inputs": _TENSORS,
        "outputs": _TENSORS,
        "feedback": {"type": "array", "items": _FEEDBACK},
    },
}
_BODY: Final = {
    "type": "object",
    "required": ["right"],
    "properties": {
        "right": {"type": "boolean", "description": "Whether the answer was right."},
        "label": {**_LABEL, "description": "What would have been right."},
    },
    "additionalProperties": False,
}
_FAILURES: Final = {
    "400": "The body is no feedback.",
    "404": "There is no such prediction, or not for you.",
    "413": "The body is too large.",
    "503": "The prediction log cannot be read now.",
}


def prediction_paths(tag: str) -> dict[str, Any]:
    """Describe how a prediction is found again, and what may be said of it."""
    return {
        "/api/predictions/{prediction}": {
            "get": {
                "tags": [tag],
                "operationId": "getPrediction",
                "summary": "A prediction by its id",
                "parameters": [_ID],
                "responses": {
                    "200": _json("What was asked and answered.", _PREDICTION),
                    **_errors(),
                },
            }
        },
        "/api/predictions/{prediction}/feedback": {
            "post": {
                "tags": [tag],
                "operationId": "addFeedback",
                "summary": "Say whether a prediction was right",
                "parameters": [_ID],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _BODY}},
                },
                "responses": {"201": _json("What is kept.", _FEEDBACK), **_errors()},
            }
        },
    }


def _errors() -> dict[str, Any]:
    return {
        status: _json(text, {"$ref": "#/components/schemas/Error"})
        for status, text in _FAILURES.items()
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
