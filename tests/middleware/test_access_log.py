from __future__ import annotations

import io
import wsgiref.util
from wsgiref.validate import validator

import orjson
import pytest

from middleware.access_log import AccessLog
from middleware.log_format import render_json
from middleware.log_sink import LogSink
from middleware.request_context import RequestContext


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def sink(stream):
    sink = LogSink(stream, render_json)
    yield sink
    sink.close()


@pytest.fixture
def lines(stream, sink):
    def read():
        sink.flush()
        return [orjson.loads(line) for line in stream.getvalue().splitlines()]

    return read


def hello(environ, start_response):
    environ["portico.route"] = "/hello/<name>"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello ", b"world"]


def test_one_line_tells_the_facts_of_a_request(call, sink, lines):
    app = RequestContext(AccessLog(validator(hello), sink))
    call(
        app,
        PATH_INFO="/hello/caf\xc3\xa9",
        SCRIPT_NAME="/ml",
        QUERY_STRING="token=secret",
        HTTP_X_REQUEST_ID="abcdefgh",
        REMOTE_ADDR="10.0.0.9",
        **{"portico.model": "churn", "portico.version": "3"},
    )
    (line,) = lines()
    assert line.pop("duration_ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "method": "GET",
        "path": "/ml/hello/café",
        "route": "/hello/<name>",
        "status": 200,
        "bytes_out": 11,
        "request_id": "abcdefgh",
        "model": "churn",
        "version": "3",
        "remote": "10.0.0.9",
    }


def test_the_path_is_the_one_before_dispatch(call, sink, lines):
    def dispatcher(environ, start_response):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/api", "/x"
        environ["REQUEST_METHOD"] = "GET"
        return hello(environ, start_response)

    call(AccessLog(dispatcher, sink), validated=False, PATH_INFO="/api/x", REQUEST_METHOD="POST")
    assert (lines()[0]["path"], lines()[0]["method"]) == ("/api/x", "POST")


def test_control_characters_cannot_forge_a_line(call, sink, stream):
    forged = '/x\r\n{"event": "forged"}\x1b[2J\x7f\xc2\x9b'
    call(AccessLog(hello, sink), PATH_INFO=forged)
    sink.flush()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert all(" " <= char <= "~" for char in text[:-1])


def streaming(environ, start_response):
    yield from hello(environ, start_response)


def test_a_small_answer_is_logged_before_anybody_can_have_it(sink, lines):
    AccessLog(hello, sink)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    (line,) = lines()
    assert (line["status"], line["bytes_out"]) == (200, 11)


def test_a_client_that_leaves_early_is_marked(sink, lines):
    body = AccessLog(streaming, sink)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    next(iter(body))
    body.close()
    assert lines()[0]["aborted"] is True
    assert lines()[0]["bytes_out"] == 6


def test_asking_twice_for_the_iterator_does_not_begin_anew(sink):
    body = AccessLog(streaming, sink)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert next(iter(body)) == b"hello "
    assert list(body) == [b"world"]
    body.close()


def test_closing_twice_logs_once(sink, lines):
    body = AccessLog(streaming, sink)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    body.close()
    body.close()
    assert len(lines()) == 1


def test_the_status_of_a_lazy_app_is_known_at_the_end(call, sink, lines):
    def lazy(_environ, start_response):
        start_response("202 Accepted", [("Content-Type", "text/plain")])
        yield b"later"

    call(AccessLog(validator(lazy), sink))
    assert lines()[0]["status"] == 202


def test_bytes_written_by_the_write_callable_are_counted(call, sink, lines):
    def writing(_environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"123")
        return [b"45"]

    answer = call(AccessLog(validator(writing), sink))
    assert answer.body.endswith(b"45")
    assert lines()[0]["bytes_out"] == 5


def test_an_exception_is_logged_once_and_passed_on(sink, lines):
    def failing(_environ, _start_response):
        raise LookupError

    with pytest.raises(LookupError):
        AccessLog(failing, sink)({"REQUEST_METHOD": "GET"}, None)
    (line,) = lines()
    assert line["failed"] is True
    assert "status" not in line


def test_a_failing_iterable_is_no_fault_of_the_client(sink, lines):
    def failing(_environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        raise LookupError

    body = AccessLog(failing, sink)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    assert lines()[0]["failed"] is True
    assert "aborted" not in lines()[0]


def test_a_file_wrapper_reaches_the_server_as_it_is_and_is_closed(sink, lines):
    file = io.BytesIO(b"12345")

    def sending(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return environ["wsgi.file_wrapper"](file)

    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": wsgiref.util.FileWrapper}
    body = AccessLog(AccessLog(sending, sink), sink)(environ, lambda *_: None)
    assert type(body) is wsgiref.util.FileWrapper
    body.close()
    assert file.closed
    assert [line["bytes_out"] for line in lines()] == [5, 5]


def test_a_file_whose_sending_broke_is_marked_aborted(sink, lines):
    def sending(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"12345"))

    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": wsgiref.util.FileWrapper}
    body = AccessLog(sending, sink)(environ, lambda *_: None)
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        # As a server does, which closes in the clause that handles the broken connection.
        body.close()
    assert lines()[0]["aborted"] is True


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body_are_logged(call, sink, lines, status):
    def empty(_environ, start_response):
        start_response(status, [])
        return []

    assert call(AccessLog(validator(empty), sink)).status == int(status[:3])
    assert lines()[0]["bytes_out"] == 0
    assert "aborted" not in lines()[0]
