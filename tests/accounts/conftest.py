from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from fake_clock import Clock

from portico.accounts.identity import Role
from portico.accounts.passwords import Passwords
from portico.accounts.ports import User
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from portico.accounts.ports import AccountStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def cheap_passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def store(tmp_path: Path, cheap_passwords: Passwords) -> Iterator[AccountStore]:
    """A store that knows the operator ada, password "open sesame"."""
    with closing(open_database(f"sqlite:///{tmp_path}/portico.db")) as database:
        accounts = DatabaseAccountStore(database)
        accounts.add_user(User("ada", Role.OPERATOR, cheap_passwords.hash("open sesame"), 0.0))
        yield accounts
