from __future__ import annotations

import gzip
import io
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.body_input import read_body
from middleware.content_encoding import ContentEncoding
from middleware.limits import Limits

TEXT = b"tell me, " * 100
ZIPPED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def echo(environ, start_response):
    data = read_body(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [data]


APP = ContentEncoding(echo, 1000)


def assert_refused(answer, status, code):
    assert answer.status == status
    assert orjson.loads(answer.body)["code"] == code


@pytest.mark.parametrize("coding", ZIPPED)
def test_the_app_is_given_the_plain_body(call, coding):
    answer = call(APP, body=ZIPPED[coding](TEXT), HTTP_CONTENT_ENCODING=coding.upper())
    assert answer.body == TEXT
    assert "HTTP_CONTENT_ENCODING" not in answer.environ
    assert answer.environ["CONTENT_LENGTH"] == "900"


def test_a_body_without_a_length_is_read_to_its_end(call):
    answer = call(
        Limits(APP, 1000),
        body=gzip.compress(TEXT),
        HTTP_CONTENT_ENCODING="gzip",
        HTTP_TRANSFER_ENCODING="chunked",
    )
    assert answer.body == TEXT


@pytest.mark.parametrize("coding", ["", "identity", None])
def test_a_plain_body_passes_untouched(call, coding):
    headers = {} if coding is None else {"HTTP_CONTENT_ENCODING": coding}
    answer = call(APP, body=b"\x1f\x8b is no gzip here", **headers)
    assert answer.body == b"\x1f\x8b is no gzip here"


def test_no_body_needs_no_decompression(call):
    assert call(APP, HTTP_CONTENT_ENCODING="gzip").status == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate,gzip", "gzip;q=1"])
def test_another_coding_is_told_which_ones_are_taken(call, coding):
    answer = call(APP, body=b"1234", HTTP_CONTENT_ENCODING=coding)
    assert_refused(answer, 415, "unsupported_content_encoding")
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("coding", ZIPPED)
def test_a_bomb_is_refused_before_it_goes_off(call, coding):
    for size, status in ((1000, 200), (1001, 413), (50_000_000, 413)):
        answer = call(APP, body=ZIPPED[coding](bytes(size)), HTTP_CONTENT_ENCODING=coding)
        assert answer.status == status
    assert_refused(answer, 413, "body_too_large")


@pytest.mark.parametrize("coding", ZIPPED)
def test_a_damaged_body_is_a_bad_request(call, coding):
    whole = ZIPPED[coding](TEXT)
    wrong = [whole[:-1], whole[:5], whole + b"!", whole + whole, TEXT, whole[:-3] + b"\0\0\0"]
    for body in wrong:
        answer = call(APP, body=body, HTTP_CONTENT_ENCODING=coding)
        assert_refused(answer, 400, "malformed_content_encoding")


@given(st.binary(min_size=1), st.sampled_from(sorted(ZIPPED)))
def test_no_bytes_whatever_break_it(body, coding):
    seen = []
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": coding,
        "wsgi.input": io.BytesIO(body),
    }
    b"".join(APP(environ, lambda status, _headers: seen.append(status[:3])))
    assert seen[0] in ("200", "400", "413")
