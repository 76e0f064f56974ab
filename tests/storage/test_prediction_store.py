"""The contract of the prediction log, over each kind of database."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from portico.serving.predictions import Feedback, Prediction
from portico.serving.segments import segment_of, stacks_of
from portico.storage.database import open_database
from portico.storage.predictions import ROW_BYTES, DatabasePredictionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.predictions import PredictionStore


@pytest.fixture
def store(database_url: str) -> Iterator[PredictionStore]:
    with closing(open_database(database_url)) as database:
        yield DatabasePredictionStore(database)


def made(at: float, model: str = "iris", version: str = "1", who: str = "") -> Prediction:
    """Make a prediction at a time that its input and output tell again."""
    prediction = Prediction(model, version, who)
    prediction.at = at
    prediction.rows = 1
    prediction.inputs = {"x": np.array([[at]])}
    prediction.outputs = {"label": np.array([int(at)])}
    return prediction


def write(store: PredictionStore, *predictions: Prediction, with_tensors: bool = True) -> None:
    store.write([segment_of(s, with_tensors=with_tensors) for s in stacks_of(predictions)])


def test_a_prediction_is_found_by_its_id(store: PredictionStore) -> None:
    first = [made(at, who=who) for at in range(5) for who in ("", "ada")]
    later = [made(at) for at in range(5, 10)]
    # A slow one has a small number, and is written with those that came after it.
    write(store, *first[1:])
    write(store, first[0], *later)
    for asked in first + later:
        found = store.find(asked.id)
        assert found is not None
        assert (found.id, found.at, found.who) == (asked.id, asked.at, asked.who)
        assert found.inputs is not None
        assert found.inputs["x"].tolist() == [[asked.at]]


@pytest.mark.parametrize(
    "unknown", ["", "nonsense", "0123456789ab-1", "0123456789ab-fffffffffffffff"]
)
def test_what_was_never_written_is_not_found(store: PredictionStore, unknown: str) -> None:
    write(store, made(1))
    assert store.find(unknown) is None


def test_a_number_between_those_of_a_segment_is_not_found(store: PredictionStore) -> None:
    first, between, last = made(1), made(2), made(3)
    write(store, first, last)
    assert store.find(between.id) is None


def test_the_last_ones_of_a_model_come_latest_first(store: PredictionStore) -> None:
    write(store, *[made(at) for at in (1, 4, 9)], made(8, model="other"))
    write(store, *[made(at) for at in (2, 3, 10)], made(5, version="2"))
    assert [found.at for found in store.last("iris", None, 100)] == [10, 9, 5, 4, 3, 2, 1]
    assert [found.at for found in store.last("iris", "1", 3)] == [10, 9, 4]
    assert list(store.last("iris", "7", 3)) == []


def test_the_last_ones_have_answers_and_inputs(store: PredictionStore) -> None:
    failed = made(1)
    failed.outcome = "failed"
    write(store, failed)
    write(store, made(2), with_tensors=False)
    write(store, made(3))
    assert [found.at for found in store.last("iris", None, 100)] == [3]


def test_a_user_finds_what_she_asked_of_all_models(store: PredictionStore) -> None:
    mine = [made(1, who="ada"), made(3, model="other", who="ada")]
    mine[1].outcome = "failed"
    write(store, *mine, made(2, who="bob"), made(4))
    assert [found.at for found in store.of_user("ada", 10)] == [3, 1]
    assert [found.at for found in store.of_user("ada", 1)] == [3]


def test_feedback_is_kept_and_the_same_person_may_change_it(store: PredictionStore) -> None:
    asked = made(1)
    write(store, asked)
    store.add_feedback(Feedback(asked.id, right=True, label=None, who="ada", at=5.0))
    store.add_feedback(Feedback(asked.id, right=False, label={"a": [1]}, who="bob", at=6.0))
    changed = Feedback(asked.id, right=False, label="setosa", who="ada", at=7.0)
    store.add_feedback(changed)
    assert [f.who for f in store.feedback_on(asked.id)] == ["bob", "ada"]
    assert store.feedback_on(asked.id)[1] == changed
    assert store.feedback_on(made(2).id) == []


def test_what_is_old_is_removed(store: PredictionStore) -> None:
    old, new = [made(at) for at in (1, 2, 3)], made(10)
    write(store, *old)
    write(store, new)
    assert store.prune(before=5, max_bytes=10**9) == 3
    assert store.find(old[0].id) is None
    assert store.find(new.id) is not None
    assert store.prune(before=5, max_bytes=10**9) == 0


def test_the_oldest_are_removed_where_the_log_is_too_large(store: PredictionStore) -> None:
    asked = [made(at) for at in range(1200)]
    segments = [segment_of(stack) for each in asked for stack in stacks_of([each])]
    store.write(segments)
    size = len(segments[0].data) + ROW_BYTES
    assert store.prune(before=0, max_bytes=100 * size + size // 2) == 1100
    assert [found.at for found in store.last("iris", None, 200)] == list(range(1199, 1099, -1))


def test_nothing_is_written_where_there_is_nothing(store: PredictionStore) -> None:
    store.write([])
    assert list(store.last("iris", None, 1)) == []


def test_only_one_prunes_at_a_time(postgresql_url: str) -> None:
    """PostgreSQL's writers do not take turns by themselves."""
    with closing(open_database(postgresql_url)) as database:
        store = DatabasePredictionStore(database)
        write(store, made(1))
        with database.write() as other:
            other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({0x706F_7274_6963_6F01})")
            assert store.prune(before=5, max_bytes=0) == 0
        assert store.prune(before=5, max_bytes=0) == 1


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = request.getfixturevalue("postgresql")
    url = server.new_database()
    yield url
    server.drop_database(url)
