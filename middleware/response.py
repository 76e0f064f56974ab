"""Follow one answer to its end, whatever shape its body has.

A WSGI answer is over when the server calls ``close()`` on the body (PEP 3333, "The Application
Object Side"): only then are the bytes handed over, the duration known and a client that left early
seen. The middleware that logs, counts or cleans up hangs a callback on that moment with `watch`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import WSGIEnvironment


class Ending:
    """How an answer ended.

    Attributes:
        bytes_out: Body bytes handed to the server by iteration; None where the server took the
            file itself (sendfile) and never said how much it sent.
        aborted: The server stopped before the body was exhausted: the client went away.
        failed: The application raised.
    """

    __slots__ = ("aborted", "bytes_out", "failed")

    def __init__(
        self, bytes_out: int | None = 0, *, aborted: bool = False, failed: bool = False
    ) -> None:
        self.bytes_out = bytes_out
        self.aborted = aborted
        self.failed = failed


class WatchedBody(Ending):
    """A body that counts what it hands out and calls back, once, when it is closed.

    Several middleware share one instance, so that a chunk passes through one layer of Python
    however many of them are stacked.
    """

    __slots__ = ("_body", "_callbacks", "_closed", "_next")
    bytes_out: int

    def __init__(self, body: Iterable[bytes], done: Callable[[Ending], None]) -> None:
        self.bytes_out = 0
        self.aborted = True
        self.failed = False
        self._body = body
        self._callbacks = [done]
        self._next: Callable[[], bytes] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        # Asking twice must not begin anew, as it would with a list below.
        if self._next is None:
            self._next = iter(self._body).__next__
        return self

    def __next__(self) -> bytes:
        try:
            chunk = self._next()  # type: ignore[misc]
        except StopIteration:
            self.aborted = False
            raise
        except BaseException:
            self.aborted = False
            self.failed = True
            raise
        self.bytes_out += len(chunk)
        return chunk

    def also(self, done: Callable[[Ending], None]) -> None:
        """Call `done` too when the body is closed, after those already waiting."""
        self._callbacks.append(done)

    def close(self) -> None:
        """Close the body below, then tell everyone who waits; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except BaseException:
            self.failed = True
            raise
        finally:
            for done in self._callbacks:
                done(self)


WHOLE_BYTES: Final = 1 << 16


def length_of_whole(body: Iterable[bytes]) -> int | None:
    """Return the bytes of a small answer that is there as a whole, None of any other.

    The server hands it to the system in one go and no code of the application runs any more, so
    for whoever watches it is over when it is returned. Its watcher is spared, and what is counted
    of it is counted before anybody can have it.
    """
    if type(body) is not list:
        return None
    length = sum(map(len, body))
    return length if length <= WHOLE_BYTES else None


def is_file_wrapper(body: object, environ: WSGIEnvironment) -> bool:
    """Tell whether the server knows `body` as its own ``wsgi.file_wrapper``.

    Such a body must reach the server as it is, or the server cannot use sendfile
    (PEP 3333, "Optional Platform-Specific File Handling").
    """
    wrapper = environ.get("wsgi.file_wrapper")
    # Some servers hand out a function; then no instance can be told apart.
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def watch(
    body: Iterable[bytes], environ: WSGIEnvironment, done: Callable[[Ending], None]
) -> Iterable[bytes]:
    """Arrange for `done` to be called once when the server closes `body`.

    Args:
        body: What the application returned.
        environ: The environment of the request, for its ``wsgi.file_wrapper``.
        done: Called with the `Ending`; must not raise.

    Returns:
        The iterable to hand to the server: `body` itself where it is watched already or where
        the server must recognise it.
    """
    if type(body) is WatchedBody:
        body.also(done)
        return body
    if is_file_wrapper(body, environ) and _patch_close(body, done):
        return body
    return WatchedBody(body, done)


def _patch_close(body: Any, done: Callable[[Ending], None]) -> bool:
    """Hook into the close of a file wrapper; False where its type forbids that."""
    close_file = getattr(body, "close", None)
    waiting = [done]

    def close() -> None:
        # The server reports nothing about what it sent, but it closes in a ``finally`` clause,
        # where the exception of a broken connection is still the one being handled.
        aborted = sys.exc_info()[0] is not None
        try:
            if close_file is not None:
                close_file()
        finally:
            if waiting:
                waiting.pop()(Ending(None, aborted=aborted))

    try:
        body.close = close
    except AttributeError:
        return False
    return True
