"""Sessions kept on the server: they can be ended at any time, and end by themselves.

The browser holds a random token; the store knows only its SHA-256, so that a copy of the database
opens no session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.accounts.ports import Session, SessionStore

SESSION_COOKIE: Final = "portico_session"

IDLE: Final = 3600.0
"""Seconds without a request after which a session ends."""

ABSOLUTE: Final = 12 * 3600.0
"""Seconds after which a session ends however busy it is."""

TOUCH_EVERY: Final = 60.0
"""Seconds between two notes that a session is in use: reading must not write each time."""

_TOKEN_BYTES: Final = 32
_is_token = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch


class Sessions:
    """Starts, finds and ends sessions.

    Args:
        store: where sessions are kept, opened when it is first needed.
        idle: seconds without use after which a session ends.
        absolute: seconds after which any session ends.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Callable[[], SessionStore],
        *,
        idle: float = IDLE,
        absolute: float = ABSOLUTE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._idle = idle
        self._absolute = absolute
        self._clock = clock

    def start(self, user: str) -> str:
        """Start a session of a user that exists, and return its token."""
        now = self._clock()
        store = self._store()
        store.remove_sessions_before(now - self._absolute, now - self._idle)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        store.add_session(digest_of(token), user, now)
        return token

    def find(self, token: str) -> Session | None:
        """Return the living session of a token, and note that it is in use."""
        if not _is_token(token):
            return None
        digest = digest_of(token)
        session = self._store().find_session(digest)
        if session is None or not self._lives(session):
            return None
        now = self._clock()
        if now - session.seen >= TOUCH_EVERY:
            self._store().touch_session(digest, now)
        return session

    def end(self, token: str) -> None:
        """End a session if it lives."""
        if _is_token(token):
            self._store().remove_session(digest_of(token))

    def end_all(self, user: str) -> None:
        """End every session of a user."""
        self._store().remove_sessions_of(user)

    def _lives(self, session: Session) -> bool:
        now = self._clock()
        return now - session.started < self._absolute and now - session.seen < self._idle


class SessionCache:
    """Remembers for a moment what a token was found to be, so that few requests ask the store.

    A session ended in one process is refused by the others after `life` at the latest. Unknown
    tokens are remembered as well.

    Args:
        find: asks the store.
        life: seconds; longer makes a revocation later.
        size: most tokens remembered.
        clock: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        find: Callable[[str], Session | None],
        *,
        life: float = 0.5,
        size: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._life = life
        self._size = size
        self._clock = clock
        self._found: dict[bytes, tuple[float, Session | None]] = {}

    def find(self, token: str) -> Session | None:
        """Return the living session of a token, as it is or was a moment ago."""
        if not _is_token(token):
            return None
        digest = digest_of(token)
        # The time is taken before the store is asked, so that a slow answer does not live longer.
        now = self._clock()
        known = self._found.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        session = self._find(token)
        if len(self._found) >= self._size:
            self._found.clear()
        self._found[digest] = (now + self._life, session)
        return session

    def forget(self) -> None:
        """Forget everything: something was revoked in this process."""
        self._found.clear()


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token, under which its session is kept."""
    return hashlib.sha256(token.encode()).digest()
