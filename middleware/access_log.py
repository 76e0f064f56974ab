"""Write one line a request, when its answer is over."""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from middleware.log_format import timestamp
from middleware.response import Ending, length_of_whole, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from middleware.log_sink import LogSink


class AccessLog:
    """Log method, path, status, duration and who asked, once per request.

    The line holds ``time``, ``method``, ``path``, ``mount``, ``route``, ``status``,
    ``duration_ms``, ``bytes_in``, ``bytes_out``, ``request_id``, ``model``, ``version``,
    ``identity`` and ``remote``; what is not known is left out. ``aborted`` is true where the client
    went away before a stream or a large body was exhausted, ``failed`` where the application
    raised. ``status`` is missing where no answer was begun. The query is never logged, as it may
    hold secrets.

    On the request's own path only a tuple is appended to memory.

    Args:
        app: The application to wrap.
        sink: Where lines go.
    """

    def __init__(self, app: WSGIApplication, sink: LogSink) -> None:
        self._app = app
        self._sink = sink

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        exchange = _Exchange(self._sink, environ, start_response)
        try:
            body = self._app(environ, exchange.start)
        except BaseException:
            exchange.finish(Ending(failed=True))
            raise
        length = length_of_whole(body)
        if length is not None:
            exchange.finish(Ending(length))
            return body
        return watch(body, environ, exchange.finish)


class _Exchange:
    """What is remembered of one request until its answer is over."""

    __slots__ = (
        "_begun",
        "_environ",
        "_headers",
        "_method",
        "_path",
        "_root",
        "_sink",
        "_start_response",
        "_status",
        "_write",
        "_written",
    )
    _write: Callable[[bytes], object]

    def __init__(
        self, sink: LogSink, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._begun = environ.get("portico.started") or perf_counter()
        self._sink = sink
        self._environ = environ
        self._start_response = start_response
        # The dispatcher moves parts of the path and an application may change the method.
        self._method = environ["REQUEST_METHOD"]
        self._root = environ.get("SCRIPT_NAME", "")
        self._path = environ.get("PATH_INFO", "")
        self._status: str | None = None
        self._headers: list[tuple[str, str]] = []
        self._written = 0

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Note the status and pass it on."""
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            self._write = self._start_response(status, headers, exc_info)
        # Only now: the server refuses a second status once the first is on the wire.
        self._status = status
        self._headers = headers
        return self.write

    def write(self, data: bytes) -> object:
        """Count what the application writes itself, and pass it on (PEP 3333)."""
        self._written += len(data)
        return self._write(data)

    def finish(self, ending: Ending) -> None:
        """Leave the facts with the sink."""
        get = self._environ.get
        bytes_out = ending.bytes_out
        bytes_out = self._announced_length() if bytes_out is None else bytes_out + self._written
        self._sink.defer(
            _shape,
            (
                time(),
                self._method,
                self._root,
                self._path,
                get("portico.mount"),
                get("portico.route"),
                self._status,
                perf_counter() - self._begun,
                get("portico.bytes_in"),
                bytes_out,
                get("portico.request_id"),
                get("portico.model"),
                get("portico.version"),
                get("portico.identity"),
                get("REMOTE_ADDR"),
                ending.aborted,
                ending.failed,
            ),
        )

    def _announced_length(self) -> int | None:
        """Return the length the answer announced, for a file the server sent by itself."""
        for name, value in self._headers:
            if name.lower() == "content-length" and value.isdecimal():
                return int(value)
        return None


def _shape(values: tuple[Any, ...]) -> dict[str, Any]:
    """Turn the facts of one request into an event; runs in the sink's thread."""
    at, method, root, path, mount, route, status, seconds, bytes_in, bytes_out, *rest = values
    request_id, model, version, identity, remote, aborted, failed = rest
    event = {
        "time": timestamp(at),
        "level": "info",
        "event": "request",
        "method": method,
        "path": _readable(root + path),
        "mount": mount,
        "route": route,
        "status": int(status[:3]) if status else None,
        "duration_ms": round(seconds * 1000, 3),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "request_id": request_id,
        "model": model,
        "version": version,
        "identity": None if identity is None else str(identity),
        "remote": remote or None,
        "aborted": aborted or None,
        "failed": failed or None,
    }
    return {key: value for key, value in event.items() if value is not None}


def _readable(wsgi_text: str) -> str:
    """Undo the latin-1 dress that PEP 3333 puts on the UTF-8 of a path."""
    if wsgi_text.isascii():
        return wsgi_text
    return wsgi_text.encode("latin-1", "replace").decode("utf-8", "backslashreplace")
