from __future__ import annotations

import io
from wsgiref.validate import validator

import orjson
import pytest
from flask import Flask, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client

from middleware.body_input import BodyTooLarge, LimitedInput
from middleware.limits import Limits

CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def echo(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 1 << 20)
    data = environ["wsgi.input"].read(length)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [data]


def assert_refused(answer, code="body_too_large", status=413):
    assert answer.status == status
    assert orjson.loads(answer.body)["code"] == code
    assert "Connection" not in answer.headers


def test_a_body_that_fits_passes_with_its_stream_untouched(call):
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.input"])
        return echo(environ, start_response)

    answer = call(Limits(app, 4), body=b"1234")
    assert answer.body == b"1234"
    assert answer.environ["portico.bytes_in"] == 4
    assert not isinstance(seen[0], LimitedInput)


def test_an_announced_body_that_is_too_large_never_reaches_the_app(call):
    def app(_environ, _start_response):
        raise AssertionError

    assert_refused(call(Limits(app, 4), body=b"12345"))


def test_a_body_a_little_over_is_discarded_and_a_huge_one_not_read():
    for length, left in ((1000, b""), (4 << 20, b"x" * 1000)):
        stream = io.BytesIO(b"x" * 1000)
        environ = {"CONTENT_LENGTH": str(length), "wsgi.input": stream}
        Limits(echo, 10)(environ, lambda *_: None)
        assert stream.read() == left


@pytest.mark.parametrize("length", ["-1", "+5", "1.0", "0x10", "five", "1,1", "²", " 1"])
def test_a_malformed_length_is_a_bad_request(call, length):
    answer = call(Limits(echo, 4), CONTENT_LENGTH=length, validated=False)
    assert_refused(answer, "malformed_content_length", 400)


def test_a_length_of_thousands_of_digits_is_too_large(call):
    assert_refused(call(Limits(echo, 4), CONTENT_LENGTH="9" * 5000, validated=False))


def test_the_limit_may_depend_on_the_request(call):
    app = Limits(echo, 4, max_body_for=lambda environ: 8 if environ["PATH_INFO"] == "/big" else 4)
    assert call(app, body=b"12345", PATH_INFO="/big").status == 200
    assert call(app, body=b"12345").status == 413


def test_no_body_counts_as_none(call):
    assert call(Limits(validator(echo), 4)).environ["portico.bytes_in"] == 0


def test_a_body_without_length_is_counted(call):
    answer = call(Limits(validator(echo), 5), body=b"12345", **CHUNKED)
    assert answer.body == b"12345"
    assert answer.environ["portico.bytes_in"] == 5


def test_a_body_without_length_is_refused_at_the_limit(call):
    assert_refused(call(Limits(validator(echo), 4), body=b"12345", **CHUNKED))


def test_http_2_bodies_without_any_header_are_bounded_too(call):
    assert_refused(
        call(Limits(echo, 4), body=b"1" * 9, CONTENT_LENGTH="", SERVER_PROTOCOL="HTTP/2")
    )


def test_what_a_framework_makes_of_it_is_replaced(call):
    app = Flask("mounted")

    @app.errorhandler(413)
    def own(_error):
        return "my own page", 200

    @app.post("/")
    def view():
        return request.get_data()

    assert_refused(call(Limits(app, 4), body=b"12345", REQUEST_METHOD="POST", **CHUNKED))


def test_an_app_that_swallows_the_error_is_refused_all_the_same(call):
    def app(environ, start_response):
        with pytest.raises(BodyTooLarge):
            environ["wsgi.input"].read(100)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]

    assert_refused(call(Limits(app, 4), body=b"12345", **CHUNKED))


def test_an_app_that_reads_while_answering_is_refused_before_its_first_byte(call):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield environ["wsgi.input"].read(100)

    assert_refused(call(Limits(app, 4), body=b"12345", **CHUNKED))


def test_after_the_first_byte_the_error_reaches_the_server():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        environ["wsgi.input"].read(100)

    environ = {**CHUNKED, "wsgi.input": io.BytesIO(b"12345")}
    chunks = iter(Limits(app, 4)(environ, lambda *_: None))
    assert next(chunks) == b"x"
    with pytest.raises(BodyTooLarge):
        next(chunks)


def test_other_errors_are_not_touched():
    def app(_environ, _start_response):
        raise LookupError

    with pytest.raises(LookupError):
        Limits(app, 4)({**CHUNKED, "wsgi.input": io.BytesIO(b"1")}, None)


def test_the_body_of_a_replaced_answer_is_closed(call):
    closed = []

    class Body(list):
        def close(self):
            closed.append(True)

    def app(environ, start_response):
        with pytest.raises(BodyTooLarge):
            environ["wsgi.input"].read(100)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body([b"fine"])

    call(Limits(app, 4), body=b"12345", **CHUNKED)
    assert closed == [True]


@given(st.binary(max_size=60), st.integers(0, 60), st.lists(st.integers(-1, 20)))
def test_however_it_is_read_no_more_than_the_limit_comes_through(data, limit, sizes):
    environ = {"portico.bytes_in": 0}
    stream = LimitedInput(io.BytesIO(data), environ, limit)
    got = b""
    try:
        for number, size in enumerate([*sizes, -1]):
            got += (stream.read, stream.readline)[number % 2](size)
        got += b"".join(stream.readlines())
    except BodyTooLarge:
        assert len(data) > limit
        assert environ["portico.bytes_in"] == limit + 1
    else:
        assert got == data
    assert len(got) <= limit


def test_it_works_with_werkzeugs_client():
    with Client(Limits(echo, 4)).post("/", data=b"12345") as response:
        assert response.status_code == 413
