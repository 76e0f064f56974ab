"""The table from failures to statuses, and the one shape that all of them are told in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from flask import Flask, abort
from structlog.testing import capture_logs
from werkzeug.test import Client
from werkzeug.wrappers import Response

from apps.shell.app import new_app
from apps.shell.errors import STATUS, serving_error_response, status_of
from apps.shell.site import Site
from portico.serving.errors import (
    InvalidInput,
    ModelFailed,
    ModelUnavailable,
    Problem,
    QueueFull,
    ServingError,
    UnknownModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.test import TestResponse


def kinds(root: type[ServingError] = ServingError) -> list[type[ServingError]]:
    return [k for child in root.__subclasses__() for k in (child, *kinds(child))]


def asked(error: Exception, accept: str = "*/*") -> TestResponse:
    app = new_app(__name__, Site())

    @app.get("/")
    def fail() -> str:
        raise error

    return Client(app).get(
        "/", headers={"Accept": accept}, environ_overrides={"portico.request_id": "the-id"}
    )


def test_every_failure_has_a_status() -> None:
    assert set(STATUS) == set(kinds())
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.parametrize("kind", kinds())
def test_every_failure_is_told_in_the_one_shape(kind: type[ServingError]) -> None:
    details = (Problem("here", "is wrong"),)
    error = kind("it is so", details) if issubclass(kind, InvalidInput) else kind("it is so")
    answer = asked(error)
    assert answer.status_code == STATUS[kind] == status_of(error)
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.data) == {
        "error": "it is so",
        "code": kind.code,
        "request_id": "the-id",
        "details": [detail._asdict() for detail in error.details],
    }


def test_a_browser_gets_the_same_facts_as_a_page() -> None:
    answer = asked(UnknownModel("there is no <b>model</b>"), "text/html,*/*;q=0.8")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "there is no &lt;b&gt;model&lt;/b&gt;" in answer.text
    assert "the-id" in answer.text
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (QueueFull("full"), "1"),
        (ModelUnavailable("loading", retry_after=3), "3"),
        (ModelUnavailable("failed"), None),
        (UnknownModel("none"), None),
    ],
)
def test_what_passes_says_when_to_come_back(error: ServingError, seconds: str | None) -> None:
    assert asked(error).headers.get("Retry-After") == seconds


def test_why_a_model_failed_goes_to_the_log_alone() -> None:
    def fail() -> None:
        try:
            raise RuntimeError("/secret/place")
        except RuntimeError as cause:
            raise ModelFailed("the model failed on this input") from cause

    with pytest.raises(ModelFailed) as caught:
        fail()
    with capture_logs() as told:
        answer = asked(caught.value)
    assert "secret" not in answer.text
    assert [line["event"] for line in told] == ["model_raised"]
    assert isinstance(told[0]["exc_info"], RuntimeError)


def test_a_plain_wsgi_callable_answers_the_same() -> None:
    def app(environ: object, start_response: object) -> object:
        return serving_error_response(environ, start_response, QueueFull("full"))  # type: ignore[arg-type]

    answer = Client(app).get("/")  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json == {"error": "full", "code": "queue_full", "request_id": "", "details": []}


@pytest.fixture
def failing() -> Callable[[int], TestResponse]:
    def ask(status: int) -> TestResponse:
        app: Flask = new_app(__name__, Site())
        app.add_url_rule("/", view_func=lambda: abort(status))
        return Client(app).get("/")

    return ask


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "login_required"),
        (403, "forbidden"),
        (404, "not_found"),
        (413, "body_too_large"),
        (415, "unsupported_media_type"),
        (418, "http_error"),
        (500, "internal_error"),
        (503, "http_error"),
    ],
)
def test_what_flask_refuses_is_told_in_the_one_shape(
    failing: Callable[[int], TestResponse], status: int, code: str
) -> None:
    answer = failing(status)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json is not None
    assert list(answer.json) == ["error", "code", "request_id", "details"]
    assert answer.json["code"] == code
    assert answer.json["error"]
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_a_wrong_method_says_which_are_right() -> None:
    app = new_app(__name__, Site())
    app.add_url_rule("/", view_func=lambda: "", methods=["PUT", "PATCH"])
    answer = Client(app).get("/")
    assert answer.status_code == 405
    assert answer.json is not None
    assert answer.json["code"] == "method_not_allowed"
    assert "it takes: OPTIONS, PATCH, PUT" in answer.json["error"]
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "PATCH", "PUT"}


def test_redirects_and_finished_answers_are_left_alone() -> None:
    app = new_app(__name__, Site())
    app.add_url_rule("/a/", view_func=lambda: "")
    app.add_url_rule("/b", "b", lambda: abort(Response("mine", 409)))
    assert Client(app).get("/a").headers["Location"] == "/a/"
    answer = Client(app).get("/b")
    assert (answer.status_code, answer.text) == (409, "mine")
