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
from portico.storage.migrations import HEAD, VERSION_TABLE
from portico.storage.opening import database_url, sqlite_file

if TYPE_CHECKING:
    from pathlib import Path

FIRST_USER: Final = "admin"


class FirstLogin(NamedTuple):
    """The name and password made at the first start; shown once and kept nowhere."""

    name: str
    password: str


def bootstrap(state: Path, database: str = "") -> FirstLogin | None:
    """Bring the database up to date, and make the user ``admin`` if it knows no user yet.

    When several servers start at once on one database, exactly one of them gets the password. A
    start that was killed half-way leaves nothing that keeps the next one from doing it.

    Args:
        state: the state folder; made with mode 0700 where it is missing.
        database: URL as SQLAlchemy writes it; empty where it is in the state folder.

    Raises:
        OSError: the folder cannot be made or written.
        StorageUnavailable: the database cannot be used.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = database_url(state, database)
    if _is_ready(url):
        return None
    from portico.storage.accounts import DatabaseAccountStore
    from portico.storage.database import open_database

    with closing(open_database(url)) as opened:
        store = DatabaseAccountStore(opened)
        if store.has_users():
            return None
        password = generate_password()
        user = User(FIRST_USER, Role.ADMIN, Passwords().hash(password), time.time())
        is_first = store.add_first_user(user)
    return FirstLogin(FIRST_USER, password) if is_first else None


def _is_ready(url: str) -> bool:
    """Tell whether nothing is to do, without the library that most starts need not."""
    file = sqlite_file(url)
    if file is None or not file.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            noted = connection.execute(
                f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 a name of our own
            ).fetchone()
            users = connection.execute("SELECT 1 FROM users LIMIT 1").fetchone()
            return noted == (HEAD,) and users is not None
    except sqlite3.Error:
        # No table yet, or a start that is making it: the careful way finds out.
        return False
