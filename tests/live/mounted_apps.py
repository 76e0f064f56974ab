"""WSGI callables that the tests' servers mount beside Portico's own apps."""

from __future__ import annotations

import json
from typing import Any


def shop(environ: Any, start_response: Any) -> list[bytes]:
    """Tell what arrived."""
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("a secret of the shop")
    told = ("SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "HTTP_COOKIE", "HTTP_X_FORWARDED_FOR")
    content = json.dumps({name: environ.get(name) for name in told}).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [content]


NOT_CALLABLE = 1
