"""Signing in and out, and finding out who asks."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from portico.accounts.errors import SignInRefused
from portico.accounts.passwords import Passwords
from portico.accounts.sessions import SessionCache, Sessions
from portico.accounts.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.accounts.identity import Identity
    from portico.accounts.ports import AccountStore, Session


class Accounts:
    """What the apps and the access middleware ask.

    Args:
        open_store: opens the store, at the first sign-in or the first token seen; a start has
            nothing to do with it.
        passwords: how passwords are hashed.
        sessions: other limits or clocks than the usual ones.
        throttle: another clock than the usual one.
    """

    def __init__(
        self,
        open_store: Callable[[], AccountStore],
        *,
        passwords: Passwords | None = None,
        sessions: Sessions | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._open_store = open_store
        self._opening = Lock()
        self._opened: AccountStore | None = None
        self._passwords = passwords or Passwords()
        self._sessions = sessions or Sessions(lambda: self._store)
        self._throttle = throttle or Throttle(lambda: self._store)
        self._cache = SessionCache(self._sessions.find)

    def sign_in(self, name: str, password: str, address: str) -> str:
        """Check a password and start a session.

        Args:
            name: of the user.
            password: as typed.
            address: network address of who asks.

        Returns:
            The token of the session.

        Raises:
            SignInRefused: unknown name or wrong password.
            TooManyFailures: too many of those; the password was not looked at.
        """
        self._throttle.admit(name, address)
        user = self._store.find_user(name)
        fits = self._passwords.verify(user.password_hash if user else None, password)
        if user is None or not fits:
            raise SignInRefused("The name or the password is wrong.")
        self._throttle.forgive(name, address)
        if self._passwords.is_outdated(user.password_hash):
            self._store.set_password_hash(user.name, self._passwords.hash(password))
        return self._sessions.start(user.name)

    def sign_out(self, token: str) -> None:
        """End a session: here at once, in other processes within half a second."""
        self._sessions.end(token)
        self._cache.forget()

    def sign_out_everywhere(self, user: str) -> None:
        """End every session of a user, as :meth:`sign_out` does."""
        self._sessions.end_all(user)
        self._cache.forget()

    def session(self, token: str) -> Session | None:
        """Return the living session of a token."""
        return self._cache.find(token)

    def identify(self, token: str) -> Identity | None:
        """Return who holds a token."""
        session = self._cache.find(token)
        return session.identity if session else None

    @property
    def _store(self) -> AccountStore:
        # Two first requests at once must not open it twice.
        with self._opening:
            if self._opened is None:
                self._opened = self._open_store()
            return self._opened
