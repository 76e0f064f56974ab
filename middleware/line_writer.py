"""Write whole lines to a stream that several processes share."""

from __future__ import annotations

import os
import select
import stat
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLL_SECONDS = 1.0


class LineWriter:
    """Writes lines in pieces that do not interleave with those of other processes.

    Args:
        stream: Where lines go. A stream with a file descriptor is written to directly, by-passing
            its buffer, which a fork would duplicate.
    """

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        # Several workers share a pipe; only writes up to PIPE_BUF reach it in one piece.
        self._piece = select.PIPE_BUF if _is_pipe(self._fd) else 1 << 20
        self._torn = False

    def write_lines(self, lines: list[bytes]) -> int:
        """Write lines, each ending in a line feed, and return how many went out."""
        written = 0
        try:
            for count, piece in _pieces(lines, self._piece):
                self._write_piece(b"\n" + piece if self._torn else piece)
                written += count
        except (OSError, ValueError):
            pass
        return written

    def _write_piece(self, data: bytes) -> None:
        if self._stream.closed:
            # Its descriptor may belong to another file by now.
            raise ValueError("stream is closed")
        if self._fd is None:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        while data:
            sent = self._write_some(self._fd, data)
            data = data[sent:]
            # What stops in the middle of a line must not swallow the next one.
            self._torn = bool(data)

    def _write_some(self, descriptor: int, data: bytes) -> int:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            # Whoever shares the terminal or pipe may have made it non-blocking.
            if not select.select([], [descriptor], [], _POLL_SECONDS)[1]:
                raise
            return 0


def _pieces(lines: Iterable[bytes], size: int) -> Iterable[tuple[int, bytes]]:
    """Join lines up to `size` bytes a piece; yields the number of lines and the bytes."""
    piece: list[bytes] = []
    length = 0
    for line in lines:
        if piece and length + len(line) > size:
            yield len(piece), b"".join(piece)
            piece, length = [], 0
        piece.append(line)
        length += len(line)
    yield len(piece), b"".join(piece)


def _descriptor(stream: IO[Any]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _is_pipe(descriptor: int | None) -> bool:
    return descriptor is not None and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
