from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from portico.accounts.errors import TooManyFailures
from portico.accounts.throttle import Throttle

if TYPE_CHECKING:
    from fake_clock import Clock

    from portico.accounts.ports import AccountStore


@pytest.fixture
def throttle(store: AccountStore, clock: Clock) -> Throttle:
    return Throttle(lambda: store, clock=clock)


def _wait(throttle: Throttle, name: str = "ada", address: str = "192.0.2.1") -> int:
    try:
        throttle.admit(name, address)
    except TooManyFailures as error:
        return error.retry_after
    return 0


def test_waits_double_after_five_failures_up_to_half_a_minute(
    throttle: Throttle, clock: Clock
) -> None:
    waits = []
    for _ in range(13):
        waits.append(_wait(throttle))
        if waits[-1]:
            clock.now += waits[-1]
            assert _wait(throttle) == 0
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_an_early_attempt_does_not_make_the_wait_longer(throttle: Throttle, clock: Clock) -> None:
    for _ in range(5):
        _wait(throttle)
    assert [_wait(throttle) for _ in range(20)] == [1] * 20
    clock.now += 1
    assert _wait(throttle) == 0


def test_nobody_waits_who_comes_from_elsewhere_or_is_somebody_else(throttle: Throttle) -> None:
    for _ in range(6):
        _wait(throttle)
    assert _wait(throttle)
    assert _wait(throttle, address="192.0.2.2") == 0
    assert _wait(throttle, name="bob") == 0


def test_one_network_of_ipv6_is_one_address(throttle: Throttle) -> None:
    for host in range(5):
        _wait(throttle, address=f"2001:db8::{host}")
    assert _wait(throttle, address="2001:db8::ffff")
    assert _wait(throttle, address="2001:db8:0:1::1") == 0


def test_the_right_password_clears_the_count(throttle: Throttle) -> None:
    for _ in range(5):
        _wait(throttle)
    throttle.forgive("ada", "192.0.2.1")
    assert [_wait(throttle) for _ in range(5)] == [0] * 5


def test_failures_are_forgotten_after_a_quarter_of_an_hour(
    throttle: Throttle, clock: Clock
) -> None:
    for _ in range(6):
        _wait(throttle)
    clock.now += 901
    assert [_wait(throttle) for _ in range(5)] == [0] * 5


def test_all_processes_count_together(store: AccountStore, clock: Clock) -> None:
    first, second = (Throttle(lambda: store, clock=clock) for _ in range(2))
    waits = [_wait(throttle) for throttle in (first, second) * 3]
    assert waits == [0, 0, 0, 0, 0, 1]


def test_a_burst_at_once_does_not_slip_through(throttle: Throttle) -> None:
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(lambda _: _wait(throttle), range(64)))
    assert waits.count(0) <= 5


def test_a_clock_set_back_makes_nobody_wait_longer(throttle: Throttle, clock: Clock) -> None:
    for _ in range(6):
        _wait(throttle)
    clock.now -= 86_400
    assert _wait(throttle) <= 2


@pytest.mark.parametrize("address", ["", "unix:", "not an address", "\ud800"])
def test_any_address_counts(throttle: Throttle, address: str) -> None:
    assert _wait(throttle, address=address) == 0
