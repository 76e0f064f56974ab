"""Refuse request bodies that are too large, announced or not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from middleware.body_input import DISCARD_BYTES, BodyTooLarge, LimitedInput, discard
from middleware.error_shape import error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from middleware.error_shape import RenderHTML


class Limits:
    """Bound the size of request bodies, and keep count of them in ``portico.bytes_in``.

    A ``Content-Length`` beyond the limit gets 413 before the application is called, a malformed
    one 400. A body without a length (chunked, or HTTP/2) is counted while it is read. All else
    passes untouched, with its input stream not wrapped.

    A body that is refused is read and thrown away where it is at most 1 MiB over and comes within
    2 s: clients that send all before they read would else see a reset connection instead of the
    answer, and the connection stays usable. Of larger ones nothing is read, and the server closes
    the connection. No ``Connection: close`` is sent: hop-by-hop headers are the server's (PEP 3333,
    "Other HTTP Features").

    Args:
        app: The application to wrap.
        max_body_bytes: The limit in bytes.
        max_body_for: Gives the limit of one request where it depends on the path.
        render_html: As for `middleware.errors.error_response`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        max_body_bytes: int,
        max_body_for: Callable[[WSGIEnvironment], int] | None = None,
        render_html: RenderHTML | None = None,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_body_for = max_body_for
        self._render_html = render_html

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        announced: str = environ.get("CONTENT_LENGTH") or ""
        if "HTTP_TRANSFER_ENCODING" in environ or (not announced and _may_lack_length(environ)):
            return _Counted(self, environ, start_response).run(self._app)
        if not announced or announced == "0":
            environ["portico.bytes_in"] = 0
            return self._app(environ, start_response)
        if not (announced.isascii() and announced.isdecimal()):
            return self.refuse_length(environ, start_response)
        # Python converts no endless rows of digits, and no limit has so many.
        length = int(announced) if len(announced) < 19 else sys.maxsize
        limit = self.limit_for(environ)
        if length > limit:
            if length <= limit + DISCARD_BYTES:
                discard(environ["wsgi.input"], length)
            environ["portico.bytes_in"] = 0
            return self.refuse(environ, start_response, limit)
        environ["portico.bytes_in"] = length
        return self._app(environ, start_response)

    def limit_for(self, environ: WSGIEnvironment) -> int:
        """Return the limit of this request in bytes."""
        return self._max_body_bytes if self._max_body_for is None else self._max_body_for(environ)

    def refuse(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        limit: int,
        exc_info: OptExcInfo | None = None,
    ) -> list[bytes]:
        """Answer 413 Content Too Large (RFC 9110, section 15.5.14)."""
        return error_response(
            environ,
            start_response,
            413,
            f"The request body is larger than the {limit} bytes allowed here.",
            "body_too_large",
            render_html=self._render_html,
            exc_info=exc_info,
        )

    def refuse_length(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer 400 to a ``Content-Length`` that is no number (RFC 9110, section 8.6)."""
        return error_response(
            environ,
            start_response,
            400,
            "The Content-Length header is not a number.",
            "malformed_content_length",
            render_html=self._render_html,
        )


class _Counted:
    """One request whose body has no length.

    The application may catch `BodyTooLarge` and answer as it likes, so what decides is whether the
    limit was passed, not what came of it: until the first byte is out, the answer becomes the 413.
    """

    def __init__(
        self, limits: Limits, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        environ["portico.bytes_in"] = 0
        self._limits = limits
        self._limit = limits.limit_for(environ)
        self._environ = environ
        self._start_response = start_response
        self._stream = environ["wsgi.input"]
        self._input = LimitedInput(self._stream, environ, self._limit)
        environ["wsgi.input"] = self._input
        self._begun = False
        self._sent = False
        self._body: Iterable[bytes] = ()

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        try:
            self._body = app(self._environ, self._start)
        except Exception:
            if not self._input.exceeded or self._sent:
                raise
            return self._refuse()
        if self._input.exceeded and not self._sent:
            return self._refuse_and_close()
        return self

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        if self._input.exceeded and not self._sent:
            return self._ignore
        if exc_info is None:
            self._write_out = self._start_response(status, headers)
        else:
            self._write_out = self._start_response(status, headers, exc_info)
        self._begun = True
        return self._write

    def _write(self, data: bytes) -> object:
        self._sent = True
        return self._write_out(data)

    def _ignore(self, data: bytes) -> None:
        """Swallow what is written of an answer that is replaced."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._body:
                if self._input.exceeded and not self._sent:
                    break
                self._sent = self._sent or bool(chunk)
                yield chunk
        except Exception:
            if not self._input.exceeded or self._sent:
                raise
        if self._input.exceeded and not self._sent:
            yield from self._refuse()

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def _refuse_and_close(self) -> list[bytes]:
        try:
            return self._refuse()
        finally:
            self.close()

    def _refuse(self) -> list[bytes]:
        self._sent = True
        discard(self._stream, DISCARD_BYTES)
        return self._limits.refuse(
            self._environ, self._start_response, self._limit, _exc_info() if self._begun else None
        )


def _may_lack_length(environ: WSGIEnvironment) -> bool:
    """Tell whether a body may come without a header that says so, as HTTP/2 allows."""
    return not environ.get("SERVER_PROTOCOL", "HTTP/1.1").startswith("HTTP/1")


def _exc_info() -> OptExcInfo:
    """Make what `start_response` asks for where an answer has been begun already."""
    try:
        raise BodyTooLarge
    except BodyTooLarge:
        return sys.exc_info()
