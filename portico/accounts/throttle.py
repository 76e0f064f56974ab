"""Slows down who guesses passwords, over all processes, without locking anybody out.

Failures are counted by user name and address together: a guesser makes nobody wait who signs in
from elsewhere, and the longest wait is short. Names that do not exist are counted like others.
"""

from __future__ import annotations

import hashlib
import time
from ipaddress import ip_address, ip_network
from math import ceil
from typing import TYPE_CHECKING, Final

from portico.accounts.errors import TooManyFailures

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.accounts.ports import Failures, FailureStore

FREE: Final = 5
"""Failures that cost no wait: everybody mistypes."""

LONGEST_WAIT: Final = 30.0
"""Seconds; a guesser gets 2,880 tries a day and address, and a victim beside him half a minute."""

FORGET_AFTER: Final = 900.0
"""Seconds after the last failure when all are forgotten."""


class Throttle:
    """Admits attempts to sign in.

    Args:
        store: where failures are counted, opened when it is first needed.
        clock: seconds since the epoch.
    """

    def __init__(
        self, store: Callable[[], FailureStore], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock

    def admit(self, name: str, address: str) -> None:
        """Count an attempt as failed before it is made; :meth:`forgive` takes that back.

        Counting first is what keeps a burst of attempts at once from slipping through.

        Raises:
            TooManyFailures: it comes too early after the last one, or together with another.
        """
        store, now = self._store(), self._clock()
        store.remove_failures_before(now - FORGET_AFTER)
        key = _key(name, address)
        seen = store.failures(key)
        wait = _wait(seen, now)
        if wait > 0 or not store.add_failure(key, seen, now):
            seconds = max(1, ceil(wait))
            unit = "second" if seconds == 1 else "seconds"
            raise TooManyFailures(
                f"Too many attempts. Please try again in {seconds} {unit}.", seconds
            )

    def forgive(self, name: str, address: str) -> None:
        """Forget the failures: the password was right."""
        self._store().remove_failures(_key(name, address))


def _wait(seen: Failures | None, now: float) -> float:
    """Return how many seconds are left of the wait, which doubles with each failure."""
    if seen is None or seen.count < FREE:
        return 0
    needed: float = min(2.0 ** min(seen.count - FREE, 10), LONGEST_WAIT)
    # A clock that was set back must not make anybody wait longer than the rule says.
    return min(seen.last + needed - now, needed)


def _key(name: str, address: str) -> bytes:
    text = f"{_network(address)}\n{name}"
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _network(address: str) -> str:
    """Return what one customer of a provider can choose from: an IPv6 /64, or one address."""
    try:
        if ip_address(address).version == 6:
            return str(ip_network(f"{address}/64", strict=False))
    except ValueError:
        pass
    return address
