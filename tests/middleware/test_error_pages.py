from __future__ import annotations

import logging
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import orjson
import pytest
import structlog
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from werkzeug.test import Client

from middleware.errors import ErrorPages, error_body, error_response, wants_html

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def failing(_environ, _start_response):
    raise LookupError("secret of /path?query")


def test_an_exception_becomes_the_one_shape_and_tells_nothing(call):
    with capture_logs() as logs:
        answer = call(ErrorPages(validator(failing)), **{"portico.request_id": "abcdefgh"})
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/json"
    body = orjson.loads(answer.body)
    assert list(body) == ["error", "code", "request_id", "details"]
    assert (body["code"], body["request_id"], body["details"]) == ("internal_error", "abcdefgh", [])
    assert b"secret" not in answer.body
    assert logs[0]["exc_info"]
    assert logs[0]["log_level"] == "error"


def test_a_browser_gets_a_page_without_script_or_style(call):
    with capture_logs():
        answer = call(ErrorPages(failing), HTTP_ACCEPT=BROWSER)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'content="light dark"' in answer.body
    assert b"<script" not in answer.body
    assert b"style" not in answer.body


def test_head_has_the_length_but_no_body(call):
    with capture_logs():
        answer = call(ErrorPages(failing), REQUEST_METHOD="HEAD")
    assert answer.body == b""
    assert int(answer.headers["Content-Length"]) > 0


def test_an_iterable_that_fails_before_the_first_byte_becomes_the_error(call):
    def lazy(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise LookupError
        yield b""

    with capture_logs():
        assert call(ErrorPages(validator(lazy))).status == 500


def test_an_iterable_that_fails_before_it_began_works_with_werkzeugs_client():
    def lazy(_environ, _start_response):
        raise LookupError
        yield b""

    with capture_logs(), Client(ErrorPages(lazy)).get("/") as response:
        assert response.status_code == 500


def test_after_the_first_byte_the_exception_is_logged_and_raised():
    closed = []

    class Body:
        def __iter__(self):
            yield b"x"
            raise LookupError

        def close(self):
            closed.append(True)

    def app(_environ, start_response):
        start_response("200 OK", [])
        return Body()

    body = ErrorPages(app)({}, lambda *_: None)
    chunks = iter(body)
    assert next(chunks) == b"x"
    with capture_logs() as logs, pytest.raises(LookupError):
        next(chunks)
    body.close()
    assert len(logs) == 1
    assert closed == [True]


def test_what_the_server_raises_about_a_connection_stays_the_servers():
    class NoMoreData(OSError):
        __module__ = "gunicorn.http.errors"

    def app(_environ, _start_response):
        raise NoMoreData

    with pytest.raises(NoMoreData), capture_logs():
        ErrorPages(app)({"SERVER_SOFTWARE": "gunicorn/27"}, None)


def test_answers_of_the_app_are_left_alone(call):
    app = Flask("mounted")
    answer = call(ErrorPages(app), PATH_INFO="/missing")
    assert answer.status == 404
    assert b"<!doctype html>" in answer.body


def test_a_file_wrapper_passes_as_it_is(tmp_path):
    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](None)

    body = ErrorPages(app)({"wsgi.file_wrapper": FileWrapper}, lambda *_: None)
    assert type(body) is FileWrapper


def test_the_given_renderer_draws_the_page(call):
    def render(_environ, status, payload):
        return f"{status} {payload['code']}"

    with capture_logs():
        assert call(ErrorPages(failing, render), HTTP_ACCEPT=BROWSER).body == b"500 internal_error"


def test_a_renderer_that_fails_falls_back_to_the_plain_page(call):
    def render(_environ, _status, _payload):
        raise KeyError

    with capture_logs():
        answer = call(ErrorPages(failing, render), HTTP_ACCEPT=BROWSER)
    assert b"internal_error" in answer.body


def test_a_page_escapes_what_it_shows(call):
    def app(environ, start_response):
        details = [{"where": "<b>", "problem": "<script>"}]
        return error_response(environ, start_response, 422, "<i>", "bad", details)

    answer = call(validator(app), HTTP_ACCEPT=BROWSER)
    assert answer.status == 422
    assert b"<script>" not in answer.body
    assert b"&lt;script&gt;" in answer.body


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        (BROWSER, True),
        ("application/json, text/html", False),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/plain", False),
        ("text/html;q=nonsense", False),
    ],
)
def test_only_who_prefers_html_gets_it(accept, html):
    assert wants_html({"HTTP_ACCEPT": accept}) is html


@given(
    st.text() | st.lists(st.sampled_from(["text/html", ";q=", "0.5", ",", "*/*", "="])).map("".join)
)
def test_no_accept_header_raises(accept):
    assert wants_html({"HTTP_ACCEPT": accept}) in {True, False}


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_valid_error(message, where, problem):
    body = orjson.loads(error_body(message, "bad", "id", [{"where": where, "problem": problem}]))
    assert set(body["details"][0]) == {"where", "problem"}


def test_logging_needs_no_configuration(capsys):
    structlog.reset_defaults()
    logging.getLogger()
    ErrorPages(failing)({}, lambda *_: None)
    assert "request failed" in capsys.readouterr().out


def test_an_application_that_exits_is_answered_with_500() -> None:
    def leaving(_environ, _start_response):
        raise SystemExit(3)

    def leaving_late(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        raise SystemExit(3)
        yield b""

    started = []
    for app in (leaving, leaving_late):
        body = ErrorPages(app)({"REQUEST_METHOD": "GET"}, lambda *args: started.append(args))
        assert b"internal_error" in b"".join(body)
        assert started[-1][0].startswith("500 ")


def test_an_application_that_exits_in_its_answer_breaks_off_without_ending_the_server() -> None:
    def leaving(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"half"
        raise SystemExit(3)

    body = iter(ErrorPages(leaving)({"REQUEST_METHOD": "GET"}, lambda *_args: None))
    assert next(body) == b"half"
    with pytest.raises(RuntimeError, match="ended itself"):
        next(body)


def test_a_failure_that_is_no_bug_is_answered_by_who_knows_it(call):
    def away(environ, start_response, error, render_html):
        return error_response(
            environ, start_response, 503, str(error), "away", render_html=render_html
        )

    def app(_environ, _start_response):
        raise ConnectionError("later")

    with capture_logs() as logs:
        answer = call(ErrorPages(app, known={ConnectionError: away}))
        other = call(ErrorPages(failing, known={ConnectionError: away}))
    assert (answer.status, orjson.loads(answer.body)["code"]) == (503, "away")
    assert other.status == 500
    assert len(logs) == 1
