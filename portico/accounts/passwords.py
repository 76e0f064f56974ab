"""Passwords: hashed with Argon2id, checked at the same cost for known and unknown users."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from functools import cached_property
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS: Final = 3
_GROUP_LENGTH: Final = 6

_LONGEST: Final = 1024
"""Characters; nobody types more, and hashing more would be work for an attacker to order."""


class Passwords:
    """Hashes and checks passwords, one at a time, so that sign-ins cannot take every core.

    The parameters are OWASP's for Argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one
    lane, about 25 ms. Hashes made with others stay valid and are renewed at the next sign-in.

    Args:
        hasher: other parameters, such as cheap ones for tests.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._turn = threading.Lock()

    def hash(self, password: str) -> str:
        """Return a salted hash in the PHC string format.

        Raises:
            ValueError: the password is longer than 1,024 characters.
        """
        if len(password) > _LONGEST:
            raise ValueError(f"a password has at most {_LONGEST} characters")
        with self._turn:
            return self._hasher.hash(_normal(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether a password fits a hash.

        Args:
            password_hash: None for a user who does not exist: costs as much, and never fits.
            password: what was typed.
        """
        against = password_hash or self._dummy
        with self._turn:
            fits = self._fits(against, _normal(password))
        return fits and password_hash is not None and len(password) <= _LONGEST

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (Argon2Error, InvalidHashError):
            return False

    @cached_property
    def _dummy(self) -> str:
        return self.hash(secrets.token_urlsafe())


def generate_password() -> str:
    """Make a password a person can copy: three groups of six without look-alikes, 89 bits."""
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)
    )
    return "-".join(groups)


def _normal(password: str) -> str:
    """Give one form to what keyboards encode in several ways (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password[:_LONGEST].encode("utf-8", "replace").decode())
