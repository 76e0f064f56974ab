from __future__ import annotations

import os
import re
from wsgiref.validate import validator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client

from middleware.request_context import (
    RequestContext,
    current_request_id,
    new_request_id,
    trace_id_of,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("x-request-id", "from-the-app")])
    return [(current_request_id() or "").encode()]


wrapped = RequestContext(validator(app))


def test_a_sane_id_of_the_client_is_kept_and_sent_back_instead_of_the_apps(call):
    answer = call(wrapped, HTTP_X_REQUEST_ID="client-id:1", HTTP_TRACEPARENT=PARENT)
    assert answer.body == b"client-id:1"
    assert answer.headers["X-Request-ID"] == "client-id:1"
    assert "x-request-id" not in answer.headers
    assert answer.environ["portico.trace_id"] == TRACE


@pytest.mark.parametrize(
    "given_id",
    ["short", "x" * 129, "with space", "line\nfeed1", "abcdefgh\n", "a,b-c-d-e-f", "ümläut-id"],
)
def test_an_insane_id_is_replaced(call, given_id):
    answer = call(wrapped, HTTP_X_REQUEST_ID=given_id)
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_a_trace_id_becomes_the_request_id(call):
    assert call(wrapped, HTTP_TRACEPARENT=PARENT).headers["X-Request-ID"] == TRACE


def test_start_and_outer_root_are_noted(call):
    environ = call(wrapped, SCRIPT_NAME="/ml").environ
    assert environ["portico.root"] == "/ml"
    assert isinstance(environ["portico.started"], float)


@pytest.mark.parametrize(
    "header",
    [
        "",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "\n",
        "ff" + PARENT[2:],
        PARENT[:-1],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-00f067aa0ba902b7-01x",
    ],
)
def test_an_invalid_traceparent_has_no_trace_id(header):
    assert trace_id_of(header) is None


@pytest.mark.parametrize("tail", ["", "-", "-what-the-future-brings"])
def test_later_versions_of_traceparent_may_say_more(tail):
    assert trace_id_of(f"cc-{TRACE}-00f067aa0ba902b7-01{tail}") == TRACE


@given(st.text())
def test_any_header_gives_a_valid_trace_id_or_none(header):
    trace_id = trace_id_of(header)
    assert trace_id is None or re.fullmatch("[0-9a-f]{32}", trace_id)


def test_the_context_is_cleared_when_the_answer_is_closed(call):
    def binding(environ, start_response):
        structlog.contextvars.bind_contextvars(user="alice")
        return app(environ, start_response)

    call(RequestContext(binding))
    assert current_request_id() is None
    assert structlog.contextvars.get_contextvars() == {}


def test_the_context_is_cleared_when_the_app_raises():
    def failing(_environ, _start_response):
        structlog.contextvars.bind_contextvars(user="alice")
        raise LookupError

    with pytest.raises(LookupError):
        RequestContext(failing)({}, None)
    assert current_request_id() is None
    assert structlog.contextvars.get_contextvars() == {}


def test_what_an_unclosed_answer_left_does_not_reach_the_next_request(call):
    structlog.contextvars.bind_contextvars(user="alice")
    seen = {}

    def looking(environ, start_response):
        seen.update(structlog.contextvars.get_contextvars())
        return app(environ, start_response)

    call(RequestContext(looking))
    assert seen == {}


def test_ids_stay_unique_after_a_fork():
    reader, writer = os.pipe()
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"".join(new_request_id().encode() for _ in range(50)))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read().decode()
    ids = [data[at : at + 32] for at in range(0, len(data), 32)]
    ids += [new_request_id() for _ in range(50)]
    assert len(set(ids)) == 150


def test_exc_info_reaches_the_server():
    seen = []

    def restarting(_environ, start_response):
        start_response("200 OK", [])
        try:
            raise LookupError
        except LookupError as error:
            start_response("500 Oops", [], (LookupError, error, None))
        return []

    RequestContext(restarting)({}, lambda *args: seen.append(args))
    assert len(seen[0]) == 2
    assert seen[1][2][0] is LookupError


def test_it_works_with_werkzeugs_client():
    with Client(wrapped).get("/", headers={"X-Request-ID": "abcdefgh"}) as response:
        assert response.text == "abcdefgh"
