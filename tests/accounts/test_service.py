from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher

from portico.accounts.errors import SignInRefused, TooManyFailures
from portico.accounts.identity import Identity, Role
from portico.accounts.passwords import Passwords
from portico.accounts.service import Accounts

if TYPE_CHECKING:
    from portico.accounts.ports import AccountStore

HERE = "192.0.2.1"


@pytest.fixture
def accounts(store: AccountStore, cheap_passwords: Passwords) -> Accounts:
    return Accounts(lambda: store, passwords=cheap_passwords)


def test_who_signs_in_is_known_by_the_token(accounts: Accounts) -> None:
    token = accounts.sign_in("ada", "open sesame", HERE)
    assert accounts.identify(token) == Identity("ada", Role.OPERATOR)


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("eve", "open sesame")])
def test_wrong_names_and_wrong_passwords_are_refused_alike(
    accounts: Accounts, name: str, password: str
) -> None:
    with pytest.raises(SignInRefused) as refused:
        accounts.sign_in(name, password, HERE)
    assert type(refused.value) is SignInRefused
    assert refused.value.message == "The name or the password is wrong."


@pytest.mark.parametrize("name", ["ada", "eve"])
def test_after_many_failures_even_the_right_password_must_wait(
    accounts: Accounts, name: str
) -> None:
    for _ in range(5):
        with pytest.raises(SignInRefused):
            accounts.sign_in(name, "wrong", HERE)
    with pytest.raises(TooManyFailures):
        accounts.sign_in(name, "open sesame", HERE)


def test_the_owner_elsewhere_is_not_locked_out(accounts: Accounts) -> None:
    for _ in range(8):
        with pytest.raises(SignInRefused):
            accounts.sign_in("ada", "wrong", HERE)
    assert accounts.sign_in("ada", "open sesame", "192.0.2.99")


def test_each_sign_in_gets_a_new_token(accounts: Accounts) -> None:
    tokens = {accounts.sign_in("ada", "open sesame", HERE) for _ in range(3)}
    assert len(tokens) == 3


def test_signing_out_ends_this_session_alone_and_at_once(accounts: Accounts) -> None:
    first, second = (accounts.sign_in("ada", "open sesame", HERE) for _ in range(2))
    assert accounts.identify(first)
    accounts.sign_out(first)
    assert accounts.identify(first) is None
    assert accounts.identify(second)


def test_signing_out_everywhere_ends_every_session(accounts: Accounts) -> None:
    tokens = [accounts.sign_in("ada", "open sesame", HERE) for _ in range(2)]
    assert all(accounts.identify(token) for token in tokens)
    accounts.sign_out_everywhere("ada")
    assert not any(accounts.identify(token) for token in tokens)


def test_an_outdated_hash_is_renewed_when_the_password_is_known(store: AccountStore) -> None:
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    accounts = Accounts(lambda: store, passwords=stronger)
    accounts.sign_in("ada", "open sesame", HERE)
    ada = store.find_user("ada")
    assert ada is not None
    assert "m=16,t=2" in ada.password_hash
    assert accounts.sign_in("ada", "open sesame", HERE)


def test_the_store_is_opened_once_and_only_when_needed(
    store: AccountStore, cheap_passwords: Passwords
) -> None:
    opened: list[AccountStore] = []

    def open_store() -> AccountStore:
        opened.append(store)
        return store

    accounts = Accounts(open_store, passwords=cheap_passwords)
    assert accounts.identify("garbage") is None
    assert opened == []
    accounts.identify(accounts.sign_in("ada", "open sesame", HERE))
    assert opened == [store]
