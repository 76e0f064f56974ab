from __future__ import annotations

from collections import Counter
from math import log2
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher

from portico.accounts.passwords import Passwords, generate_password

if TYPE_CHECKING:
    from collections.abc import Callable


def test_only_the_right_password_fits(cheap_passwords: Passwords) -> None:
    hashed = cheap_passwords.hash("correct horse")
    assert cheap_passwords.verify(hashed, "correct horse")
    assert not cheap_passwords.verify(hashed, "correct horse ")
    assert not cheap_passwords.verify(hashed, "")


def test_two_hashes_of_one_password_differ(cheap_passwords: Passwords) -> None:
    assert cheap_passwords.hash("same") != cheap_passwords.hash("same")


def test_the_usual_hash_is_argon2id_with_parameters_of_owasp() -> None:
    assert Passwords().hash("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("broken", ["", "plain", "$argon2id$v=19$m=1$x$y", "$2b$12$abc"])
def test_what_is_no_hash_fits_nothing(cheap_passwords: Passwords, broken: str) -> None:
    assert not cheap_passwords.verify(broken, broken)


def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    passwords = Passwords()
    hashed = passwords.hash("right")

    def cost(check: Callable[[], bool]) -> float:
        times = []
        for _ in range(5):
            started = perf_counter()
            assert not check()
            times.append(perf_counter() - started)
        return median(times)

    passwords.verify(None, "wrong")
    known = cost(lambda: passwords.verify(hashed, "wrong"))
    unknown = cost(lambda: passwords.verify(None, "wrong"))
    assert 0.4 < unknown / known < 2.5


def test_two_ways_to_type_the_same_letter_are_one_password(cheap_passwords: Passwords) -> None:
    assert cheap_passwords.verify(cheap_passwords.hash("caf\u00e9"), "cafe\u0301")


def test_lone_surrogates_are_only_a_wrong_password(cheap_passwords: Passwords) -> None:
    assert not cheap_passwords.verify(cheap_passwords.hash("right"), "\ud800")


def test_an_endless_password_is_refused(cheap_passwords: Passwords) -> None:
    longest = "a" * 1024
    hashed = cheap_passwords.hash(longest)
    assert cheap_passwords.verify(hashed, longest)
    assert not cheap_passwords.verify(hashed, longest + "a")
    with pytest.raises(ValueError, match="1024"):
        cheap_passwords.hash(longest + "a")


def test_a_hash_with_other_parameters_is_outdated(cheap_passwords: Passwords) -> None:
    other = Passwords(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    hashed = cheap_passwords.hash("x")
    assert not cheap_passwords.is_outdated(hashed)
    assert other.is_outdated(hashed)


def test_generated_passwords_have_80_bits_and_no_look_alikes() -> None:
    letters = Counter("".join(generate_password().replace("-", "") for _ in range(2000)))
    assert not set(letters) & set("01ilo")
    assert 18 * log2(len(letters)) >= 80
    # Each of the 31 is drawn about 1,161 times; a biased draw would stand out.
    assert max(letters.values()) / min(letters.values()) < 1.5
