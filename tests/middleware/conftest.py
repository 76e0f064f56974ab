from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    environ: dict[str, Any] = field(repr=False)


class _Server(SimpleHandler):
    def log_exception(self, exc_info: Any) -> None:
        pass


def _call(app: Any, *, body: bytes = b"", validated: bool = True, **environ: Any) -> Answer:
    """Answer one request through the standard library's server, checked by its validator."""
    full: dict[str, Any] = {"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "test/1", **environ}
    if body and "HTTP_TRANSFER_ENCODING" not in full:
        full.setdefault("CONTENT_LENGTH", str(len(body)))
    for key, value in (("QUERY_STRING", ""), ("SCRIPT_NAME", ""), ("PATH_INFO", "/")):
        full.setdefault(key, value)
    setup_testing_defaults(full)
    output = io.BytesIO()
    server = _Server(io.BytesIO(body), output, io.StringIO(), full)
    seen: dict[str, Any] = {}

    def outer(given: dict[str, Any], start_response: Any) -> Any:
        seen.update(env=given)
        return app(given, start_response)

    server.os_environ = {}
    server.run(validator(outer) if validated else outer)
    head, _, content = output.getvalue().partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    code = status.removeprefix("Status: ").split()
    number = code[1] if code[0].startswith("HTTP") else code[0]
    return Answer(int(number), headers, content, seen["env"])


@pytest.fixture(autouse=True)
def _log_as_at_the_start():
    """Forget what a command line run by an earlier test told structlog, which is process-wide."""
    structlog.reset_defaults()


@pytest.fixture
def call() -> Callable[..., Answer]:
    return _call


@pytest.fixture
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
