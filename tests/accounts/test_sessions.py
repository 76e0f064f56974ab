from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portico.accounts.sessions import SessionCache, Sessions, digest_of

if TYPE_CHECKING:
    from fake_clock import Clock

    from portico.accounts.ports import AccountStore, Session


@pytest.fixture
def sessions(store: AccountStore, clock: Clock) -> Sessions:
    return Sessions(lambda: store, idle=3600, absolute=10_000, clock=clock)


def test_a_session_is_found_by_its_token(sessions: Sessions) -> None:
    session = sessions.find(sessions.start("ada"))
    assert session is not None
    assert session.user == "ada"


def test_tokens_have_256_bits_and_only_their_digest_is_stored(
    sessions: Sessions, store: AccountStore
) -> None:
    first, second = sessions.start("ada"), sessions.start("ada")
    assert first != second
    assert len(first) == 43
    assert store.find_session(digest_of(first)) is not None
    assert store.find_session(first.encode()) is None


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "a" * 44, "ä" * 43, "\ud800" * 43, "' OR 1"])
def test_a_made_up_token_finds_nothing(sessions: Sessions, token: str) -> None:
    sessions.start("ada")
    assert sessions.find(token) is None


def test_a_session_ends_when_it_is_not_used(sessions: Sessions, clock: Clock) -> None:
    token = sessions.start("ada")
    clock.now += 3599
    assert sessions.find(token)
    clock.now += 3599
    assert sessions.find(token)
    clock.now += 3600
    assert sessions.find(token) is None


def test_a_session_ends_however_busy_it_is(sessions: Sessions, clock: Clock) -> None:
    token = sessions.start("ada")
    for _ in range(9):
        clock.now += 1000
        assert sessions.find(token)
    clock.now += 1000
    assert sessions.find(token) is None


def test_reading_notes_the_time_at_most_once_a_minute(
    sessions: Sessions, store: AccountStore, clock: Clock
) -> None:
    token = sessions.start("ada")
    begun = clock.now
    clock.now += 59
    sessions.find(token)
    assert _stored(store, token).seen == begun
    clock.now += 1
    sessions.find(token)
    assert _stored(store, token).seen == begun + 60


def test_an_ended_session_is_gone_and_the_others_stay(sessions: Sessions) -> None:
    first, second = sessions.start("ada"), sessions.start("ada")
    sessions.end(first)
    sessions.end("no token at all")
    assert sessions.find(first) is None
    assert sessions.find(second)


def test_all_sessions_of_a_user_can_be_ended(sessions: Sessions) -> None:
    tokens = [sessions.start("ada") for _ in range(3)]
    sessions.end_all("ada")
    assert [sessions.find(token) for token in tokens] == [None] * 3


def test_starting_one_clears_away_what_is_over(
    sessions: Sessions, store: AccountStore, clock: Clock
) -> None:
    token = sessions.start("ada")
    clock.now += 3601
    sessions.start("ada")
    assert store.find_session(digest_of(token)) is None


def _stored(store: AccountStore, token: str) -> Session:
    session = store.find_session(digest_of(token))
    assert session is not None
    return session


class TestCache:
    def test_the_store_is_asked_once_in_a_while(self, sessions: Sessions, clock: Clock) -> None:
        asked: list[str] = []

        def find(token: str) -> Session | None:
            asked.append(token)
            return sessions.find(token)

        cache = SessionCache(find, clock=clock)
        token = sessions.start("ada")
        assert all(cache.find(token) for _ in range(100))
        assert len(asked) == 1
        clock.now += 0.5
        assert cache.find(token)
        assert len(asked) == 2

    def test_unknown_tokens_are_remembered_too(self, sessions: Sessions, clock: Clock) -> None:
        asked: list[str] = []
        cache = SessionCache(asked.append, clock=clock)
        assert [cache.find("a" * 43) for _ in range(10)] == [None] * 10
        assert len(asked) == 1

    def test_what_cannot_be_a_token_is_not_even_looked_up(self, clock: Clock) -> None:
        asked: list[str] = []
        assert SessionCache(asked.append, clock=clock).find("garbage") is None
        assert asked == []

    def test_a_session_ended_elsewhere_is_refused_within_a_second(
        self, sessions: Sessions, clock: Clock
    ) -> None:
        here, elsewhere = (SessionCache(sessions.find, clock=clock) for _ in range(2))
        token = sessions.start("ada")
        assert here.find(token)
        assert elsewhere.find(token)
        sessions.end(token)
        here.forget()
        assert here.find(token) is None
        clock.now += 0.6
        assert elsewhere.find(token) is None

    def test_a_slow_answer_does_not_live_longer(self, sessions: Sessions, clock: Clock) -> None:
        def slowly(token: str) -> Session | None:
            found = sessions.find(token)
            clock.now += 5
            return found

        cache = SessionCache(slowly, clock=clock)
        token = sessions.start("ada")
        assert cache.find(token)
        sessions.end(token)
        assert cache.find(token) is None

    def test_it_does_not_grow_without_end(self, clock: Clock) -> None:
        asked: list[str] = []
        cache = SessionCache(asked.append, size=10, clock=clock)
        for number in range(1000):
            cache.find(f"{number:043d}")
        assert len(cache._found) <= 10
