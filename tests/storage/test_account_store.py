from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from portico.accounts.identity import Identity, Role
from portico.accounts.ports import Failures, User
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.accounts.ports import AccountStore
    from portico.storage.database import Database

ADA = User("ada", Role.OPERATOR, "hash-of-ada", 1000.0)
BOB = User("bob", Role.VIEWER, "hash-of-bob", 1001.0)
DIGEST, OTHER = b"d" * 32, b"o" * 32


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(open_database(database_url)) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> DatabaseAccountStore:
    return DatabaseAccountStore(database)


@pytest.fixture
def with_users(store: DatabaseAccountStore) -> AccountStore:
    store.add_user(ADA)
    store.add_user(BOB)
    return store


def test_a_user_is_found_as_it_was_added(with_users: AccountStore) -> None:
    assert with_users.find_user("ada") == ADA
    assert with_users.find_user("eve") is None


@pytest.mark.parametrize("name", ["ADA", "ada ", "a%", "' OR 1=1 --", "", "ä", "\x00"])
def test_names_match_exactly(with_users: AccountStore, name: str) -> None:
    assert with_users.find_user(name.replace("\x00", "")) is None


def test_a_taken_name_changes_nothing(with_users: AccountStore) -> None:
    assert not with_users.add_user(User("ada", Role.ADMIN, "other", 2000.0))
    assert with_users.find_user("ada") == ADA


def test_the_first_user_is_added_only_while_there_is_none(store: AccountStore) -> None:
    assert store.add_first_user(ADA)
    assert not store.add_first_user(BOB)
    assert store.find_user("bob") is None


def test_of_many_first_users_at_once_exactly_one_is_added(database: Database) -> None:
    stores = [DatabaseAccountStore(database) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda store: store.add_first_user(ADA), stores))
    assert added.count(True) == 1


def test_a_password_can_be_replaced(with_users: AccountStore) -> None:
    with_users.set_password_hash("ada", "new")
    with_users.set_password_hash("nobody", "new")
    ada, bob = with_users.find_user("ada"), with_users.find_user("bob")
    assert ada is not None
    assert ada.password_hash == "new"
    assert bob == BOB


def test_a_session_speaks_for_its_user_with_the_present_role(with_users: AccountStore) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    session = with_users.find_session(DIGEST)
    assert session is not None
    assert session.identity == Identity("ada", Role.OPERATOR)
    assert (session.started, session.seen) == (5.0, 5.0)
    assert with_users.find_session(OTHER) is None


def test_touching_moves_only_the_time_it_was_seen(with_users: AccountStore) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    with_users.touch_session(DIGEST, 9.0)
    session = with_users.find_session(DIGEST)
    assert session is not None
    assert (session.started, session.seen) == (5.0, 9.0)


def test_touching_does_not_bring_a_session_back(with_users: AccountStore) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    with_users.remove_session(DIGEST)
    with_users.touch_session(DIGEST, 9.0)
    assert with_users.find_session(DIGEST) is None


def test_all_sessions_of_one_user_can_be_removed(with_users: AccountStore) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    with_users.add_session(OTHER, "bob", 5.0)
    with_users.remove_sessions_of("ada")
    assert with_users.find_session(DIGEST) is None
    assert with_users.find_session(OTHER) is not None


@pytest.mark.parametrize(("started", "seen"), [(6.0, 0.0), (0.0, 8.0)])
def test_old_and_idle_sessions_are_removed(
    with_users: AccountStore, started: float, seen: float
) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    with_users.touch_session(DIGEST, 7.0)
    with_users.add_session(OTHER, "bob", 10.0)
    with_users.remove_sessions_before(started, seen)
    assert with_users.find_session(DIGEST) is None
    assert with_users.find_session(OTHER) is not None


def test_failures_are_counted_only_on_top_of_what_was_seen(store: AccountStore) -> None:
    assert store.failures(DIGEST) is None
    assert store.add_failure(DIGEST, None, 1.0)
    assert not store.add_failure(DIGEST, None, 1.5)
    first = store.failures(DIGEST)
    assert first == Failures(1, 1.0)
    assert store.add_failure(DIGEST, first, 2.0)
    assert not store.add_failure(DIGEST, first, 2.5)
    assert store.failures(DIGEST) == Failures(2, 2.0)


def test_failures_are_forgotten_by_key_and_by_age(store: AccountStore) -> None:
    for key in (DIGEST, OTHER):
        store.add_failure(key, None, 1.0)
    store.remove_failures(DIGEST)
    assert store.failures(DIGEST) is None
    store.remove_failures_before(1.0)
    assert store.failures(OTHER) is not None
    store.remove_failures_before(1.1)
    assert store.failures(OTHER) is None


def test_what_was_written_is_there_after_opening_again(
    database: Database, with_users: AccountStore
) -> None:
    with_users.add_session(DIGEST, "ada", 5.0)
    database.close()
    assert DatabaseAccountStore(database).find_session(DIGEST) is not None
