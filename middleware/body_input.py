"""Reading request bodies: whole, with a limit, or only to throw them away."""

from __future__ import annotations

from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from werkzeug.exceptions import RequestEntityTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed.wsgi import WSGIEnvironment

DISCARD_BYTES = 1 << 20
_DISCARD_SECONDS = 2.0
_DISCARD_PIECE = 1 << 13


class BodyTooLarge(RequestEntityTooLarge):
    """More bytes arrived than the limit allows.

    A `werkzeug.exceptions.RequestEntityTooLarge`, so that frameworks know it; whatever they make
    of it, `Limits` answers 413 in the one shape.
    """


class LimitedInput:
    """An input stream that counts what is read and stops at the limit."""

    def __init__(self, stream: Any, environ: WSGIEnvironment, limit: int) -> None:
        self._stream = stream
        self._environ = environ
        self._left = limit
        self.exceeded = False

    def _take(self, data: bytes) -> bytes:
        self._environ["portico.bytes_in"] += len(data)
        self._left -= len(data)
        if self._left < 0:
            self.exceeded = True
            raise BodyTooLarge
        return data

    def _bounded(self, size: int | None) -> int:
        """Allow one byte beyond the limit, which shows that there is more."""
        if self.exceeded:
            raise BodyTooLarge
        return self._left + 1 if size is None or size < 0 else min(size, self._left + 1)

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, all without one; raises `BodyTooLarge`."""
        wanted = self._bounded(size)
        if size is not None and size >= 0:
            return self._take(self._stream.read(wanted))
        pieces = []
        # A stream may return less than it was asked for before its end.
        while data := self._take(self._stream.read(self._left + 1)):
            pieces.append(data)
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """Read one line, up to `size` bytes of it; raises `BodyTooLarge`."""
        return self._take(self._stream.readline(self._bounded(size)))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Read lines until there are `hint` bytes or more; raises `BodyTooLarge`."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


def read_body(environ: WSGIEnvironment) -> bytes:
    """Read the whole request body; the limits around the gateway bound its size."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        return environ["wsgi.input"].read(int(length))  # type: ignore[no-any-return]
    if environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ:
        return environ["wsgi.input"].read()  # type: ignore[no-any-return]
    return b""


def discard(stream: IO[bytes], at_most: int) -> None:
    """Read and forget up to `at_most` bytes, as long as they come quickly."""
    deadline = monotonic() + _DISCARD_SECONDS
    while at_most > 0 and monotonic() < deadline:
        try:
            data = stream.read(min(at_most, _DISCARD_PIECE))
        except Exception:  # noqa: BLE001, RUF100 - the connection broke, as it may
            return
        if not data:
            return
        at_most -= len(data)
