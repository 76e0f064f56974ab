"""What accounts keep, and the small interfaces of what keeps it.

Times are seconds since the epoch. Each method is atomic, and what it wrote is durable and seen by
every process once it has returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from portico.accounts.identity import Identity

if TYPE_CHECKING:
    from portico.accounts.identity import Role


@dataclass(frozen=True, slots=True)
class User:
    """A person with a password."""

    name: str
    role: Role
    password_hash: str
    created: float


@dataclass(frozen=True, slots=True)
class Session:
    """A user who signed in; the role is the one the user has now."""

    user: str
    role: Role
    started: float
    seen: float

    @property
    def identity(self) -> Identity:
        """Who this session speaks for."""
        return Identity(self.user, self.role)


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed attempts to sign in, in a row."""

    count: int
    last: float


class UserStore(Protocol):
    """Keeps users by name."""

    def add_user(self, user: User) -> bool:
        """Add a user; False, and no change, where the name is taken."""
        ...

    def add_first_user(self, user: User) -> bool:
        """Add a user only if there is none at all; False otherwise."""
        ...

    def has_users(self) -> bool:
        """Tell whether there is any user."""
        ...

    def find_user(self, name: str) -> User | None:
        """Return a user by name."""
        ...

    def set_password_hash(self, name: str, password_hash: str) -> None:
        """Replace the password of a user; nothing happens where there is none of that name."""
        ...


class SessionStore(Protocol):
    """Keeps sessions by the SHA-256 digest of their token; the token itself is nowhere."""

    def add_session(self, digest: bytes, user: str, now: float) -> None:
        """Add a session that starts now, of a user that exists."""
        ...

    def find_session(self, digest: bytes) -> Session | None:
        """Return a session, however old."""
        ...

    def touch_session(self, digest: bytes, now: float) -> None:
        """Note that the session was used; one that is gone stays gone."""
        ...

    def remove_session(self, digest: bytes) -> None:
        """Remove a session if there is one."""
        ...

    def remove_sessions_of(self, user: str) -> None:
        """Remove every session of a user."""
        ...

    def remove_sessions_before(self, started: float, seen: float) -> None:
        """Remove sessions started before one time, or last seen before another."""
        ...


class FailureStore(Protocol):
    """Counts failed attempts to sign in over all processes."""

    def failures(self, key: bytes) -> Failures | None:
        """Return what is counted under a key."""
        ...

    def add_failure(self, key: bytes, seen: Failures | None, now: float) -> bool:
        """Count one more, if nobody else has since `seen` was read; False otherwise."""
        ...

    def remove_failures(self, key: bytes) -> None:
        """Forget what is counted under a key."""
        ...

    def remove_failures_before(self, last: float) -> None:
        """Forget the keys whose last failure was before a time."""
        ...


class AccountStore(UserStore, SessionStore, FailureStore, Protocol):
    """Everything that accounts keep, in one place."""
