"""What can go wrong with accounts, free of HTTP.

::

    AccountError
    └── SignInRefused       unknown name or wrong password; nobody learns which
        └── TooManyFailures  this name failed too often from this address; later again
"""

from __future__ import annotations

from typing import ClassVar


class AccountError(Exception):
    """Root of every failure that accounts report on purpose."""

    code: ClassVar[str] = "account_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SignInRefused(AccountError):
    """The name is unknown or the password is wrong."""

    code = "sign_in_refused"


class TooManyFailures(SignInRefused):
    """The next attempt comes too early; the password was not looked at."""

    code = "too_many_failures"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which a new attempt makes sense."""
