"""The contract of the version store, over each kind of database."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from portico.serving.errors import UnknownModel, UnknownVersion, VersionExists, VersionInUse
from portico.serving.versions import CANDIDATE, PRODUCTION, Traffic, VersionState, WorkerReport
from portico.storage.database import open_database
from portico.storage.versions import DatabaseVersionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portico.serving.versions import VersionStore
    from portico.storage.database import Database

DIGEST = "d" * 64


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(open_database(database_url)) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> VersionStore:
    return DatabaseVersionStore(database)


def publish(store: VersionStore, model: str = "churn", *, promote: bool = False) -> int:
    number = store.reserve(model, None, "ada").version
    store.publish(model, number, f"{number:064x}", promote=promote)
    return number


def aliases(store: VersionStore) -> tuple[int | None, int | None]:
    """Return where production and candidate of the model stand."""
    found = store.state().aliases.get("churn", {})
    return found.get(PRODUCTION), found.get(CANDIDATE)


def productions(store: VersionStore) -> list[int | None]:
    """Return the versions that were in production, the first one first."""
    return [c.version for c in reversed(store.history("churn")) if c.alias == PRODUCTION]


def test_an_empty_catalogue_has_nothing_to_follow(store: VersionStore) -> None:
    state = store.state()
    assert store.revision() == state.revision == 0
    assert (state.versions, state.aliases, state.traffic) == ((), {}, {})
    assert store.history("churn") == []
    assert store.reports(0.0) == []


def test_a_reservation_is_seen_by_nobody(store: VersionStore) -> None:
    record = store.reserve("churn", None, "ada")
    assert (record.model, record.version, record.state) == ("churn", 1, VersionState.IMPORTING)
    assert abs(record.created - time.time()) < 60
    assert store.state().versions == ()
    assert store.revision() == 0


def test_numbers_count_from_one_for_each_model(store: VersionStore) -> None:
    assert [store.reserve("churn", None, "ada").version for _ in range(3)] == [1, 2, 3]
    assert store.reserve("fraud", None, "ada").version == 1


def test_a_number_can_be_chosen_and_the_next_one_follows_it(store: VersionStore) -> None:
    assert store.reserve("churn", 202611221930, "ada").version == 202611221930
    assert store.reserve("churn", None, "ada").version == 202611221931


def test_a_number_is_given_once_be_it_reserved_published_or_retired(store: VersionStore) -> None:
    publish(store)
    publish(store, promote=True)
    store.retire("churn", 1, "ada")
    store.reserve("churn", 3, "ada")
    for number in (1, 2, 3):
        with pytest.raises(VersionExists, match=f"has a version {number} already"):
            store.reserve("churn", number, "bob")


def test_a_published_version_is_as_it_was_imported(store: VersionStore) -> None:
    reserved = store.reserve("churn", None, "ada")
    store.publish("churn", 1, DIGEST, promote=False)
    (found,) = store.state().versions
    assert (found.model, found.version, found.by) == ("churn", 1, "ada")
    assert (found.digest, found.state) == (DIGEST, VersionState.AVAILABLE)
    assert found.created == reserved.created


def test_the_first_version_is_production_and_later_ones_candidates(store: VersionStore) -> None:
    publish(store)
    assert aliases(store) == (1, None)
    publish(store)
    assert aliases(store) == (1, 2)
    publish(store, promote=True)
    assert aliases(store) == (3, 2)


def test_only_what_is_reserved_can_be_published(store: VersionStore) -> None:
    with pytest.raises(UnknownVersion):
        store.publish("churn", 1, DIGEST, promote=False)
    publish(store)
    with pytest.raises(UnknownVersion):
        store.publish("churn", 1, "e" * 64, promote=False)
    assert store.state().versions[0].digest == f"{1:064x}"


def test_an_abandoned_number_is_free_again(store: VersionStore) -> None:
    store.reserve("churn", None, "ada")
    store.abandon("churn", 1)
    store.abandon("churn", 1)
    with pytest.raises(UnknownVersion):
        store.publish("churn", 1, DIGEST, promote=False)
    assert store.reserve("churn", 1, "ada").version == 1


def test_what_is_published_cannot_be_abandoned(store: VersionStore) -> None:
    publish(store)
    store.abandon("churn", 1)
    assert len(store.state().versions) == 1


def test_reservations_of_dead_imports_are_swept(store: VersionStore) -> None:
    publish(store)
    dead = store.reserve("churn", None, "ada")
    time.sleep(0.01)
    between = time.time()
    time.sleep(0.01)
    store.reserve("churn", None, "ada")
    assert store.sweep(between) == [dead]
    assert store.sweep(between) == []
    with pytest.raises(UnknownVersion):
        store.publish("churn", dead.version, DIGEST, promote=False)
    store.publish("churn", 3, DIGEST, promote=False)
    assert [record.version for record in store.state().versions] == [1, 3]


def test_promoting_moves_the_alias_and_tells_where_it_stood(store: VersionStore) -> None:
    publish(store)
    publish(store)
    assert store.set_alias("churn", PRODUCTION, 2, "bob") == 1
    assert aliases(store) == (2, None)
    assert store.set_alias("churn", CANDIDATE, 1, "bob") is None
    assert aliases(store) == (2, 1)


def test_each_visible_change_raises_the_revision(store: VersionStore) -> None:
    publish(store)
    publish(store)
    changes: list[Callable[[], object]] = [
        lambda: store.set_alias("churn", PRODUCTION, 2, "bob"),
        lambda: store.set_alias("churn", CANDIDATE, 1, "bob"),
        lambda: store.set_traffic("churn", Traffic(canary=0.1), "bob"),
        lambda: store.remove_alias("churn", CANDIDATE, "bob"),
        lambda: store.rollback("churn", "bob"),
        lambda: store.retire("churn", 2, "bob"),
        lambda: publish(store),
    ]
    before = store.revision()
    for change in changes:
        change()
        after = store.revision()
        assert after > before
        assert store.state().revision == after
        before = after


def test_what_changes_nothing_leaves_the_revision(store: VersionStore) -> None:
    publish(store)
    before = (store.state(), store.history("churn"))
    store.set_alias("churn", PRODUCTION, 1, "bob")
    store.remove_alias("churn", CANDIDATE, "bob")
    store.remove_alias("other", PRODUCTION, "bob")
    store.reserve("churn", None, "bob")
    store.abandon("churn", 2)
    store.report(WorkerReport("w", 1, {}, 1.0))
    with pytest.raises(UnknownVersion):
        store.set_alias("churn", PRODUCTION, 9, "bob")
    assert (store.state(), store.history("churn")) == before


def test_aliases_stand_on_available_versions_only(store: VersionStore) -> None:
    with pytest.raises(UnknownModel, match="no model 'churn'"):
        store.set_alias("churn", PRODUCTION, 1, "bob")
    store.reserve("churn", None, "ada")
    with pytest.raises(UnknownModel):
        store.set_alias("churn", PRODUCTION, 1, "bob")
    publish(store)
    with pytest.raises(UnknownVersion, match="no version 1"):
        store.set_alias("churn", PRODUCTION, 1, "bob")
    publish(store, promote=True)
    store.retire("churn", 2, "bob")
    with pytest.raises(UnknownVersion, match="version 2 of model 'churn' is retired"):
        store.set_alias("churn", PRODUCTION, 2, "bob")


def test_the_history_tells_who_moved_what_the_latest_first(store: VersionStore) -> None:
    publish(store)
    publish(store)
    store.set_alias("churn", PRODUCTION, 2, "bob")
    publish(store, "fraud")
    told = [(change.alias, change.version, change.by) for change in store.history("churn")]
    assert told == [
        (CANDIDATE, None, "bob"),
        (PRODUCTION, 2, "bob"),
        (CANDIDATE, 2, "ada"),
        (PRODUCTION, 1, "ada"),
    ]
    assert all(abs(change.at - time.time()) < 60 for change in store.history("churn"))


def test_a_second_rollback_goes_further_back_never_forth(store: VersionStore) -> None:
    for _ in range(3):
        publish(store, promote=True)
    assert store.rollback("churn", "bob") == 2
    assert store.rollback("churn", "bob") == 1
    with pytest.raises(UnknownVersion, match="no other version in production before"):
        store.rollback("churn", "bob")
    assert productions(store) == [1, 2, 3, 2, 1]


def test_a_promote_after_a_rollback_starts_from_where_production_stands(
    store: VersionStore,
) -> None:
    for _ in range(3):
        publish(store, promote=True)
    store.rollback("churn", "bob")
    publish(store, promote=True)
    assert [store.rollback("churn", "bob") for _ in range(2)] == [2, 1]


def test_a_version_promoted_twice_is_passed_twice(store: VersionStore) -> None:
    publish(store, promote=True)
    publish(store, promote=True)
    store.set_alias("churn", PRODUCTION, 1, "bob")
    assert [store.rollback("churn", "bob") for _ in range(2)] == [2, 1]


def test_a_rollback_brings_back_a_removed_production(store: VersionStore) -> None:
    publish(store, promote=True)
    publish(store, promote=True)
    store.remove_alias("churn", PRODUCTION, "bob")
    assert aliases(store) == (None, None)
    assert [store.rollback("churn", "bob") for _ in range(2)] == [2, 1]


def test_an_alias_put_back_where_it_was_is_no_version_to_go_back_to(store: VersionStore) -> None:
    publish(store, promote=True)
    publish(store, promote=True)
    store.remove_alias("churn", PRODUCTION, "bob")
    store.set_alias("churn", PRODUCTION, 2, "bob")
    assert store.rollback("churn", "bob") == 1


def test_a_rollback_does_not_guess_past_a_retired_version(store: VersionStore) -> None:
    for _ in range(3):
        publish(store, promote=True)
    store.retire("churn", 2, "bob")
    with pytest.raises(UnknownVersion, match=r"version 2.* is retired; promote another"):
        store.rollback("churn", "bob")
    assert aliases(store) == (3, None)


def test_a_rollback_needs_a_model(store: VersionStore) -> None:
    with pytest.raises(UnknownModel):
        store.rollback("churn", "bob")


def test_a_rollback_to_the_candidate_ends_its_candidacy(store: VersionStore) -> None:
    publish(store)
    publish(store, promote=True)
    store.set_alias("churn", CANDIDATE, 1, "bob")
    assert store.rollback("churn", "bob") == 1
    assert aliases(store) == (1, None)


def test_a_version_in_use_is_not_retired(store: VersionStore) -> None:
    publish(store)
    publish(store)
    for number, alias in ((1, PRODUCTION), (2, CANDIDATE)):
        with pytest.raises(VersionInUse, match=f"is its {alias}"):
            store.retire("churn", number, "bob")


def test_a_retired_version_stays_in_the_books(store: VersionStore) -> None:
    publish(store)
    publish(store, promote=True)
    store.retire("churn", 1, "bob")
    first = store.state().versions[0]
    assert (first.version, first.state) == (1, VersionState.RETIRED)
    with pytest.raises(UnknownVersion, match="is retired"):
        store.retire("churn", 1, "bob")
    with pytest.raises(UnknownVersion, match="no version 7"):
        store.retire("churn", 7, "bob")
    with pytest.raises(UnknownModel):
        store.retire("fraud", 1, "bob")


def test_traffic_needs_a_candidate(store: VersionStore) -> None:
    with pytest.raises(UnknownModel):
        store.set_traffic("churn", Traffic(canary=0.1), "bob")
    publish(store)
    with pytest.raises(UnknownVersion, match="no candidate"):
        store.set_traffic("churn", Traffic(canary=0.1), "bob")
    store.set_traffic("churn", Traffic(), "bob")
    assert store.state().traffic == {}


def test_traffic_is_set_in_place_of_what_was_set(store: VersionStore) -> None:
    publish(store)
    publish(store)
    store.set_traffic("churn", Traffic(canary=0.1, shadow=0.5), "bob")
    store.set_traffic("churn", Traffic(canary=0.25), "bob")
    assert store.state().traffic == {"churn": Traffic(canary=0.25)}
    store.set_traffic("churn", Traffic(), "bob")
    assert store.state().traffic == {}


def test_traffic_ends_with_the_candidate_it_was_given_to(store: VersionStore) -> None:
    publish(store)
    ends: list[Callable[[], object]] = [
        lambda: publish(store),
        lambda: store.remove_alias("churn", CANDIDATE, "bob"),
        lambda: store.set_alias("churn", PRODUCTION, aliases(store)[1] or 0, "bob"),
    ]
    for end in ends:
        publish(store)
        store.set_traffic("churn", Traffic(canary=0.1), "bob")
        end()
        assert store.state().traffic == {}


def test_a_promote_of_another_version_leaves_the_candidate_its_traffic(
    store: VersionStore,
) -> None:
    publish(store)
    publish(store)
    store.set_traffic("churn", Traffic(canary=0.1), "bob")
    publish(store, promote=True)
    assert store.state().traffic == {"churn": Traffic(canary=0.1)}


def test_the_last_word_of_each_worker_is_kept(store: VersionStore) -> None:
    store.report(WorkerReport("host/1", 1, {"churn/2": "does not load: \N{BUG}"}, 100.0))
    store.report(WorkerReport("host/2", 1, {}, 101.0))
    assert store.reports(0.0)[0].problems == {"churn/2": "does not load: \N{BUG}"}
    last = WorkerReport("host/1", 2, {}, 102.0)
    store.report(last)
    assert store.reports(0.0) == [last, WorkerReport("host/2", 1, {}, 101.0)]
    assert store.reports(101.5) == [last]
    store.forget_worker("host/2")
    store.forget_worker("host/3")
    assert store.reports(0.0) == [last]


def test_words_of_workers_that_were_killed_do_not_pile_up(store: VersionStore) -> None:
    store.report(WorkerReport("dead", 1, {}, 100.0))
    store.report(WorkerReport("live", 1, {}, 100.0 + 2 * 86400))
    assert [report.worker for report in store.reports(0.0)] == ["live"]


def test_imports_at_once_get_numbers_of_their_own(database: Database) -> None:
    stores = [DatabaseVersionStore(database) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda store: store.reserve("churn", None, "ada"), stores * 4))
    assert sorted(record.version for record in records) == list(range(1, 33))


def test_of_several_who_want_one_number_exactly_one_gets_it(database: Database) -> None:
    def reserve(store: VersionStore) -> bool:
        try:
            store.reserve("churn", 7, "ada")
        except VersionExists:
            return False
        return True

    stores = [DatabaseVersionStore(database) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reserve, stores)).count(True) == 1


def test_promotes_and_rollbacks_at_once_take_turns(database: Database) -> None:
    """The history is one chain: replayed by the rules, it ends where the alias stands."""
    stores = [DatabaseVersionStore(database) for _ in range(6)]
    for _ in range(6):
        publish(stores[0])

    def go(number: int) -> None:
        for turn in range(6):
            version = 1 + (number + turn) % 6
            stores[number].set_alias("churn", PRODUCTION, version, "promote")
            if turn % 2:
                stores[number].rollback("churn", "rollback")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(go, range(6)))
    stack: list[int | None] = []
    for change in reversed(stores[0].history("churn")):
        if change.alias == PRODUCTION and change.by == "rollback":
            stack.pop()
            assert stack[-1] == change.version
        elif change.alias == PRODUCTION:
            stack.append(change.version)
    assert aliases(stores[0])[0] == stack[-1]


def test_a_state_read_while_versions_are_promoted_is_one_state(database: Database) -> None:
    """Promoting the candidate unsets it: no reader may see both aliases on one version."""
    writer, reader = DatabaseVersionStore(database), DatabaseVersionStore(database)
    publish(writer)

    def write() -> None:
        for _ in range(40):
            writer.set_alias("churn", PRODUCTION, publish(writer), "bob")

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            state = reader.state()
            found = state.aliases["churn"]
            assert found[PRODUCTION] != found.get(CANDIDATE)
            assert {*found.values()} <= {record.version for record in state.versions}
            seen.add(state.revision)
        writing.result()
    assert len(seen) > 1


def test_what_was_changed_is_there_after_opening_again(database: Database) -> None:
    store = DatabaseVersionStore(database)
    publish(store)
    before = store.state()
    database.close()
    assert DatabaseVersionStore(database).state() == before


def test_a_model_is_unloaded_until_it_is_loaded_be_it_here_or_only_at_a_path(
    store: VersionStore,
) -> None:
    publish(store)
    for name in ("churn", "at a path"):
        before = store.revision()
        store.unload(name, "ada")
        state = store.state()
        assert state.is_unloaded(name)
        assert state.revision > before
        assert (state.service[name].by, state.service[name].revision) == ("ada", state.revision)
        assert abs(state.service[name].at - time.time()) < 60
        store.load(name, "bob")
        assert not store.state().is_unloaded(name)
        assert store.state().service[name].by == "bob"
    assert not store.state().is_unloaded("nobody")


def test_what_is_said_again_of_a_model_is_news_to_workers(store: VersionStore) -> None:
    store.load("churn", "ada")
    first = store.state()
    store.load("churn", "ada")
    again = store.state()
    assert again.revision > first.revision
    assert again.service["churn"] != first.service["churn"]


def test_an_unloaded_model_keeps_its_versions_and_aliases(store: VersionStore) -> None:
    publish(store)
    before = store.state()
    store.unload("churn", "ada")
    publish(store, promote=True)
    state = store.state()
    assert state.is_unloaded("churn")
    assert state.versions[:1] == before.versions
    assert aliases(store) == (2, None)
