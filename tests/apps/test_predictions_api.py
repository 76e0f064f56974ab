"""A prediction is found again by those who may see it, and feedback on it is kept."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis")

import jsonschema_rs
from api_models import SITE, client_of

from apps.api import create_app
from apps.api.openapi_predictions import prediction_paths
from portico.accounts.identity import Identity, Role
from portico.serving.predictions import Prediction
from portico.serving.segments import segment_of, stacks_of
from portico.storage.database import open_database
from portico.storage.predictions import DatabasePredictionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from werkzeug.test import Client

ADA = Identity("ada", Role.VIEWER)
BOB = Identity("bob", Role.VIEWER)
OPERATOR = Identity("olga", Role.OPERATOR)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DatabasePredictionStore]:
    with closing(open_database(f"sqlite:///{tmp_path}/portico.db")) as database:
        yield DatabasePredictionStore(database)


@pytest.fixture
def client(store: DatabasePredictionStore) -> Client:
    return client_of(create_app(SITE, NO_MODELS, lambda: store, nobody_is_known=False))


NO_MODELS: Any = None
"""These routes look at no model."""


def logged(store: DatabasePredictionStore, who: str = "ada") -> str:
    made = Prediction("iris", "2", who)
    made.rows = 1
    made.inputs = {"x": np.array([[1.5, np.nan]], np.float32)}
    made.outputs = {"label": np.array(["setosa"], dtype=object)}
    store.write([segment_of(stack) for stack in stacks_of([made])])
    return made.id


def as_who(identity: Identity | None) -> dict[str, Any]:
    return {"portico.identity": identity} if identity else {}


def get(client: Client, prediction: str, identity: Identity | None = ADA) -> Any:
    return client.get(f"/predictions/{prediction}", environ_overrides=as_who(identity))


def test_a_prediction_is_shown_as_it_was_asked_and_answered(
    client: Client, store: DatabasePredictionStore
) -> None:
    made = logged(store)
    shown = get(client, made).json
    assert shown["id"] == made
    assert (shown["model"], shown["version"], shown["who"], shown["rows"]) == (
        "iris",
        "2",
        "ada",
        1,
    )
    assert shown["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, None]}
    ]
    assert shown["outputs"][0]["data"] == ["setosa"]
    assert set(shown["seconds"]) == {"decode", "queue", "run", "encode"}
    assert shown["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("asked_by", "identity", "may"),
    [
        ("ada", ADA, True),
        ("ada", BOB, False),
        ("ada", OPERATOR, True),
        ("ada", None, False),
        ("", ADA, False),
        ("", None, False),
        ("", OPERATOR, True),
    ],
)
def test_a_prediction_is_for_who_asked_and_for_operators(
    client: Client,
    store: DatabasePredictionStore,
    asked_by: str,
    identity: Identity | None,
    may: bool,
) -> None:
    made = logged(store, asked_by)
    assert get(client, made, identity).status_code == (200 if may else 404)
    answer = client.post(
        f"/predictions/{made}/feedback", json={"right": True}, environ_overrides=as_who(identity)
    )
    assert answer.status_code == (201 if may else 404)
    assert len(store.feedback_on(made)) == may


def test_where_there_is_one_person_alone_she_needs_no_name(store: DatabasePredictionStore) -> None:
    client = client_of(create_app(SITE, NO_MODELS, lambda: store, nobody_is_known=True))
    assert get(client, logged(store, ""), None).status_code == 200
    assert get(client, logged(store, "ada"), None).status_code == 404


def test_feedback_is_shown_with_the_prediction(
    client: Client, store: DatabasePredictionStore
) -> None:
    made = logged(store)
    path = f"/predictions/{made}/feedback"
    for said in ({"right": True}, {"right": False, "label": "versicolor"}):
        client.post(path, json=said, environ_overrides=as_who(ADA))
    (shown,) = get(client, made).json["feedback"]
    assert (shown["right"], shown["label"], shown["who"]) == (False, "versicolor", "ada")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"right": "yes"}', "right"),
        (b'{"label": "a"}', "body"),
        (b'{"right": true, "lable": "a"}', "body"),
        (b'{"right": true, "label": {}}', "label"),
        (b'{"right": true, "right": false}', "body"),
        (b'{"right": true, "label": 9007199254740993}', "label"),
        (b'{"right": true, "label": 1e300}', "label"),
        (b'{"right": true, "label": "' + b"a" * 1001 + b'"}', "label"),
    ],
)
def test_what_is_no_feedback_is_refused(
    client: Client, store: DatabasePredictionStore, body: bytes, where: str
) -> None:
    made = logged(store)
    answer = client.post(f"/predictions/{made}/feedback", data=body, environ_overrides=as_who(ADA))
    assert answer.status_code == 400, answer.text
    assert answer.json is not None
    assert answer.json["details"][0]["where"] == where
    assert not store.feedback_on(made)


@pytest.mark.parametrize("unknown", ["1", "0123456789ab-1", "..", "%00", "ü"])
def test_an_unknown_prediction_is_404(client: Client, unknown: str) -> None:
    assert get(client, unknown, OPERATOR).status_code == 404


def test_answers_are_as_described(client: Client, store: DatabasePredictionStore) -> None:
    made, paths = logged(store), prediction_paths("log")
    path = f"/predictions/{made}/feedback"
    said = client.post(path, json={"right": False, "label": 3.5}, environ_overrides=as_who(ADA))
    shown, feedback = paths.values()
    for answer, operation in ((said, feedback["post"]), (get(client, made), shown["get"])):
        described = operation["responses"][str(answer.status_code)]["content"]
        schema = described["application/json"]["schema"]
        jsonschema_rs.Draft202012Validator(schema).validate(answer.json)
