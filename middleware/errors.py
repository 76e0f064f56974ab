"""Give the one error shape to every exception that escapes an application."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import structlog

from middleware.error_shape import error_body, error_response, wants_html
from middleware.response import is_file_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from middleware.error_shape import RenderHTML

__all__ = ["ErrorPages", "error_body", "error_response", "wants_html"]


class ErrorPages:
    """Turn every exception that escapes into an answer in the one shape, and log its stack.

    The client learns nothing but the request id. Once bytes are on the wire an answer cannot be
    taken back: then the exception is logged and raised again, for the server to cut the connection.
    Answers that mounted applications give themselves are left alone. ``sys.exit`` in an application
    is a failure like any other: it must not end the worker, and some codes would end the server.

    Args:
        app: The application to wrap.
        render_html: As for `error_response`.
        known: What answers a failure that is no bug, by its exact type: called with environ,
            start_response, the exception and `render_html`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        render_html: RenderHTML | None = None,
        known: Mapping[type[BaseException], Callable[..., Iterable[bytes]]] | None = None,
    ) -> None:
        self._app = app
        self._render_html = render_html
        self._known = known or {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        begun = False

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal begun
            begun = True
            if exc_info is None:
                return start_response(status, headers)
            return start_response(status, headers, exc_info)

        def fail(error: BaseException) -> list[bytes]:
            return self._fail(environ, start_response, error, begun=begun)

        try:
            body = self._app(environ, start)
        except (Exception, SystemExit) as error:  # noqa: BLE001, RUF100 - the last one to ask
            return fail(error)
        if type(body) is list or type(body) is tuple or is_file_wrapper(body, environ):
            return body
        return _GuardedBody(body, fail)

    def _fail(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        error: BaseException,
        *,
        begun: bool,
    ) -> list[bytes]:
        """Log the exception being handled and answer 500, if that is still possible."""
        if _is_the_servers(error, environ):
            raise error
        answer = self._known.get(type(error))
        if answer is not None and not begun:
            return list(answer(environ, start_response, error, self._render_html))
        _log_failure(environ)
        # Some servers raise whatever comes as exc_info, so it is given only where it must be.
        return error_response(
            environ,
            start_response,
            500,
            "Something went wrong here. It has been logged under the request id.",
            "internal_error",
            render_html=self._render_html,
            exc_info=sys.exc_info() if begun else None,
        )


class _GuardedBody:
    """A body whose failure before the first byte becomes an error answer."""

    __slots__ = ("_body", "_fail", "_iterator", "_sent")

    def __init__(self, body: Iterable[bytes], fail: Callable[[BaseException], list[bytes]]) -> None:
        self._body = body
        self._fail = fail
        self._iterator: Iterator[bytes] | None = None
        self._sent = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            raise
        except (Exception, SystemExit) as error:
            if self._sent:
                _log_failure({})
                if isinstance(error, SystemExit):
                    raise RuntimeError("the application ended itself in its answer") from error
                raise
            self._iterator = iter(self._fail(error))
            self._sent = True
            return next(self._iterator, b"")
        self._sent = self._sent or bool(chunk)
        return chunk

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _log_failure(environ: WSGIEnvironment) -> None:
    """Log the exception being handled with its stack."""
    structlog.get_logger().exception(
        "request failed",
        method=environ.get("REQUEST_METHOD"),
        mount=environ.get("portico.mount"),
        route=environ.get("portico.route"),
    )


def _is_the_servers(error: BaseException, environ: WSGIEnvironment) -> bool:
    """Tell whether the server's own input stream raised: a client that left or broke HTTP.

    The server knows what to answer to that, and it is no failure of the application.
    """
    server: str = environ.get("SERVER_SOFTWARE", "").partition("/")[0]
    return type(error).__module__.partition(".")[0] == server
