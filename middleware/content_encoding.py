"""Decompress request bodies, and bound what comes out."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Final

from middleware.body_input import read_body
from middleware.error_shape import error_response

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from middleware.error_shape import RenderHTML

_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
"""zlib's name of each format; ``deflate`` is zlib's own (RFC 9110, section 8.4.1)."""

KNOWN: Final = "gzip, deflate"


class ContentEncoding:
    """Hand on bodies that came as gzip or deflate as if they had come plain.

    A body that grows beyond the limit gets 413, one that is cut off, damaged or followed by other
    bytes 400, and a coding that is not known, or several at once, 415 with ``Accept-Encoding``
    (RFC 9110, section 15.5.16). All else passes untouched.

    Args:
        app: The application to wrap.
        max_body_bytes: The limit in bytes after decompression.
        render_html: As for `middleware.errors.error_response`.
    """

    def __init__(
        self, app: WSGIApplication, max_body_bytes: int, render_html: RenderHTML | None = None
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._render_html = render_html

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        coding = environ.get("HTTP_CONTENT_ENCODING")
        if coding is None:
            return self._app(environ, start_response)
        coding = coding.strip().lower()
        zipped = b"" if coding in ("", "identity") else read_body(environ)
        if zipped:
            try:
                _put_body(environ, _decompressed(zipped, coding, self._max_body_bytes))
            except _Refused as refused:
                return refused.answer(environ, start_response, self._render_html)
        return self._app(environ, start_response)


class _Refused(Exception):
    """The body cannot be decompressed."""

    def __init__(
        self, status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self._status = status
        self._code = code
        self._message = message
        self._headers = headers

    def answer(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        render_html: RenderHTML | None,
    ) -> list[bytes]:
        return error_response(
            environ, start_response, self._status, self._message, self._code,
            headers=self._headers, render_html=render_html,
        )  # fmt: skip


def _put_body(environ: WSGIEnvironment, body: bytes) -> None:
    del environ["HTTP_CONTENT_ENCODING"]
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = BytesIO(body)


def _decompressed(zipped: bytes, coding: str, limit: int) -> bytes:
    window_bits = _WINDOW_BITS.get(coding)
    if window_bits is None:
        message = f"Content-Encoding '{coding[:40]}' cannot be read; send {KNOWN} or none."
        raise _Refused(415, "unsupported_content_encoding", message, [("Accept-Encoding", KNOWN)])
    decompressor = zlib.decompressobj(window_bits)
    try:
        # One byte beyond the limit shows that there is more, however much that may be.
        body = decompressor.decompress(zipped, limit + 1)
    except zlib.error:
        raise _malformed(f"is not {coding}") from None
    if len(body) > limit:
        message = f"Decompressed, the request body is larger than the {limit} bytes allowed here."
        raise _Refused(413, "body_too_large", message)
    if not decompressor.eof:
        raise _malformed(f"is {coding} that is cut off")
    if decompressor.unused_data:
        raise _malformed(f"goes on after the end of its {coding}")
    return body


def _malformed(problem: str) -> _Refused:
    return _Refused(400, "malformed_content_encoding", f"The request body {problem}.")
