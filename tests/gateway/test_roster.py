"""Workers know of each other what the roster holds."""

from __future__ import annotations

import os

from gateway.roster import Roster


def test_an_arbiter_has_one_roster() -> None:
    class Arbiter:
        pass

    arbiter = Arbiter()
    assert Roster.of(arbiter) is Roster.of(arbiter)
    assert Roster.of(Arbiter()) is not Roster.of(arbiter)


def test_a_worker_with_more_connections_is_told() -> None:
    roster = Roster()
    roster.enter(0)
    roster.enter(1)
    assert not roster.has_less(0, 0)
    assert roster.has_less(0, 1)
    roster.count(1, 1)
    assert not roster.has_less(0, 1)
    assert roster.has_less(0, 2)


def test_a_worker_that_left_takes_no_share() -> None:
    roster = Roster()
    roster.enter(0)
    roster.enter(1)
    roster.leave(1)
    assert not roster.has_less(0, 100)


def test_a_start_in_one_process_is_seen_in_another() -> None:
    roster = Roster()
    child = os.fork()
    if child == 0:
        roster.enter(3)
        os._exit(0)
    os.waitpid(child, 0)
    assert roster.starts == 1
    assert roster.has_less(0, 1)


def test_workers_beyond_the_slots_are_not_counted() -> None:
    roster = Roster(slots=2)
    roster.enter(7)
    assert roster.starts == 1
    assert not roster.has_less(0, 5)
