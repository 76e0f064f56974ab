"""Give every request an id, a start time and a clean logging context."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import structlog

from middleware.response import length_of_whole, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from structlog.typing import EventDict

    from middleware.response import Ending

_is_sane_id = re.compile(r"[A-Za-z0-9._:-]{8,128}").fullmatch
# Later versions than 00 may go on after another dash, and only they.
_match_traceparent = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?:-.*)?"
).fullmatch

_NAME = "x-request-id"
_NAME_LENGTH = len(_NAME)

_request_id: ContextVar[str | None] = ContextVar("portico_request_id", default=None)

# Ids have to be unique, not secret: 128 bits of a generator seeded by the system cost a quarter
# of a microsecond and, unlike a counter, tell nobody how many requests there were. Worker
# processes are forks of one parent and would go on with the same sequence, so each seeds anew.
_ids = Random()  # noqa: S311
os.register_at_fork(after_in_child=_ids.seed)


def current_request_id() -> str | None:
    """Return the id of the request this thread is answering, None outside of one."""
    return _request_id.get()


def new_request_id() -> str:
    """Make an id of 32 hexadecimal digits, unique over threads and forks."""
    return f"{_ids.getrandbits(128):032x}"


def trace_id_of(traceparent: str) -> str | None:
    """Return the trace id of a W3C ``traceparent`` header, None where the header is invalid.

    Source: W3C Trace Context, section 3.2 "Traceparent Header": lower-case hexadecimal, version
    ``ff`` and ids of zeros are invalid, later versions are read by their first four fields.
    """
    if traceparent.startswith("00-") and len(traceparent) != 55:
        return None
    match = _match_traceparent(traceparent)
    return match[1] if match else None


class RequestContext:
    """Set the facts that everything further in relies on, and clear them when the answer is over.

    The request id is the client's ``X-Request-ID`` where that is sane (8 to 128 characters of
    letters, digits and ``._:-``), else the trace id of a valid ``traceparent``, else a new one.
    It is sent back as ``X-Request-ID``, in place of any that the application set.

    Sets ``portico.request_id``, ``portico.trace_id`` (only with a valid ``traceparent``),
    ``portico.started`` and ``portico.root``.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        environ["portico.started"] = perf_counter()
        environ["portico.root"] = environ.get("SCRIPT_NAME", "")
        environ["portico.request_id"] = request_id = _identify(environ)
        # A server that never closed the last answer would leave its context on this thread.
        _forget()
        _request_id.set(request_id)
        try:
            body = self._app(environ, _adding_id(start_response, request_id))
        except BaseException:
            _forget()
            raise
        if length_of_whole(body) is not None:
            _forget()
            return body
        return watch(body, environ, _forget)


def _identify(environ: WSGIEnvironment) -> str:
    """Choose the id of a request, and note its trace id."""
    trace_id = None
    if "HTTP_TRACEPARENT" in environ:
        trace_id = trace_id_of(environ["HTTP_TRACEPARENT"])
        if trace_id is not None:
            environ["portico.trace_id"] = trace_id
    given: str | None = environ.get("HTTP_X_REQUEST_ID")
    if given is not None and _is_sane_id(given):
        return given
    return trace_id or new_request_id()


def _adding_id(start_response: StartResponse, request_id: str) -> StartResponse:
    """Wrap `start_response` so that the answer carries the id."""

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        headers = [h for h in headers if len(h[0]) != _NAME_LENGTH or h[0].lower() != _NAME]
        headers.append(("X-Request-ID", request_id))
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return start


def _forget(_ending: Ending | None = None) -> None:
    """Clear the context of this thread, ours and the one that structlog merges into events."""
    _request_id.set(None)
    structlog.contextvars.clear_contextvars()


def add_request_id(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Attach the id of the current request to an event, where there is one (structlog)."""
    request_id = _request_id.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event
