"""A JSON answer: ``Content-Type: application/json`` without parameters, written by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response


def json_answer(payload: Any, status: int = 200) -> Response:
    """Answer with ``payload``, or with bytes that are JSON already; arrays and NaN included."""
    if not isinstance(payload, bytes):
        payload = orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(payload, status, content_type="application/json")
