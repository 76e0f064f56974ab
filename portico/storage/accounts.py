"""Users, sessions and failed sign-ins in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from portico.accounts.identity import Role
from portico.accounts.ports import Failures, Session, User
from portico.storage.schema import prepare
from portico.storage.tables import SESSIONS, SIGN_IN_FAILURES, USERS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from portico.storage.database import Database


class DatabaseAccountStore:
    """The account store over a database.

    Args:
        database: tables that are missing are made.
    """

    def __init__(self, database: Database) -> None:
        prepare(database)
        self._database = database

    def add_user(self, user: User) -> bool:
        """Add a user; False, and no change, where the name is taken."""
        try:
            with self._database.write() as connection:
                connection.execute(insert(USERS).values(_user_row(user)))
        except IntegrityError:
            return False
        return True

    def add_first_user(self, user: User) -> bool:
        """Add a user only if there is none at all; False otherwise."""
        try:
            with self._database.write() as connection:
                if _has_users(connection):
                    return False
                connection.execute(insert(USERS).values(_user_row(user)))
        except IntegrityError:
            # Where writers do not take turns, the other start was faster with the same name.
            return False
        return True

    def has_users(self) -> bool:
        """Tell whether there is any user."""
        with self._database.read() as connection:
            return _has_users(connection)

    def find_user(self, name: str) -> User | None:
        """Return a user by name."""
        with self._database.read() as connection:
            row = connection.execute(select(USERS).where(USERS.c.name == name)).first()
        return User(row.name, Role(row.role), row.password_hash, row.created) if row else None

    def set_password_hash(self, name: str, password_hash: str) -> None:
        """Replace the password of a user; nothing happens where there is none of that name."""
        with self._database.write() as connection:
            connection.execute(
                update(USERS).where(USERS.c.name == name).values(password_hash=password_hash)
            )

    def add_session(self, digest: bytes, user: str, now: float) -> None:
        """Add a session that starts now, of a user that exists."""
        with self._database.write() as connection:
            connection.execute(
                insert(SESSIONS).values(digest=digest, user=user, started=now, seen=now)
            )

    def find_session(self, digest: bytes) -> Session | None:
        """Return a session, however old."""
        query = (
            select(USERS.c.name, USERS.c.role, SESSIONS.c.started, SESSIONS.c.seen)
            .join_from(SESSIONS, USERS)
            .where(SESSIONS.c.digest == digest)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return Session(row.name, Role(row.role), row.started, row.seen) if row else None

    def touch_session(self, digest: bytes, now: float) -> None:
        """Note that the session was used; one that is gone stays gone."""
        with self._database.write() as connection:
            connection.execute(update(SESSIONS).where(SESSIONS.c.digest == digest).values(seen=now))

    def remove_session(self, digest: bytes) -> None:
        """Remove a session if there is one."""
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest))

    def remove_sessions_of(self, user: str) -> None:
        """Remove every session of a user."""
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.user == user))

    def remove_sessions_before(self, started: float, seen: float) -> None:
        """Remove sessions started before one time, or last seen before another."""
        is_old = or_(SESSIONS.c.started < started, SESSIONS.c.seen < seen)
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(is_old))

    def failures(self, key: bytes) -> Failures | None:
        """Return what is counted under a key."""
        table = SIGN_IN_FAILURES
        with self._database.read() as connection:
            row = connection.execute(
                select(table.c["count"], table.c["last"]).where(table.c.key == key)
            ).first()
        return Failures(row[0], row[1]) if row else None

    def add_failure(self, key: bytes, seen: Failures | None, now: float) -> bool:
        """Count one more, if nobody else has since `seen` was read; False otherwise."""
        table = SIGN_IN_FAILURES
        try:
            with self._database.write() as connection:
                if seen is None:
                    connection.execute(insert(table).values(key=key, count=1, last=now))
                    return True
                changed = connection.execute(
                    update(table)
                    .where(table.c.key == key, table.c["count"] == seen.count)
                    .values(count=seen.count + 1, last=now)
                )
                return changed.rowcount == 1
        except IntegrityError:
            return False

    def remove_failures(self, key: bytes) -> None:
        """Forget what is counted under a key."""
        with self._database.write() as connection:
            connection.execute(delete(SIGN_IN_FAILURES).where(SIGN_IN_FAILURES.c.key == key))

    def remove_failures_before(self, last: float) -> None:
        """Forget the keys whose last failure was before a time."""
        with self._database.write() as connection:
            connection.execute(delete(SIGN_IN_FAILURES).where(SIGN_IN_FAILURES.c.last < last))


def _has_users(connection: Connection) -> bool:
    return connection.execute(select(USERS.c.name).limit(1)).first() is not None


def _user_row(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "role": str(user.role),
        "password_hash": user.password_hash,
        "created": user.created,
    }
