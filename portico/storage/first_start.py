"""What a starting server does with its state folder: make the first user.

Importing this module imports no database library; the first call that needs one does.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from portico.accounts.identity import Role
from portico.accounts.passwords import Passwords, generate_password
from portico.accounts.ports import User
from portico.storage.opening import DATABASE, database_url

if TYPE_CHECKING:
    from pathlib import Path

FIRST_USER: Final = "admin"


class FirstLogin(NamedTuple):
    """The name and password made at the first start; shown once and kept nowhere."""

    name: str
    password: str


def bootstrap(state: Path) -> FirstLogin | None:
    """Make the user ``admin`` with a new password, if the state folder knows no user yet.

    When several servers start at once on one folder, exactly one of them gets the password. A
    start that was killed half-way leaves nothing that keeps the next one from doing it.

    Args:
        state: the state folder; made with mode 0700 where it is missing.

    Raises:
        OSError: the folder cannot be made or written.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if has_accounts(state):
        return None
    from portico.storage.accounts import DatabaseAccountStore
    from portico.storage.database import open_database

    password = generate_password()
    user = User(FIRST_USER, Role.ADMIN, Passwords().hash(password), time.time())
    with closing(open_database(database_url(state))) as database:
        is_first = DatabaseAccountStore(database).add_first_user(user)
    return FirstLogin(FIRST_USER, password) if is_first else None


def has_accounts(state: Path) -> bool:
    """Tell whether a state folder knows a user, without the library that most starts need not."""
    file = state / DATABASE
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM users LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        # No table yet, or a start that is making it: the careful way finds out.
        return False
