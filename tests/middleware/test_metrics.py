from __future__ import annotations

import io
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from werkzeug.test import Client

from middleware.metrics import HTTPMetrics
from middleware.metrics_app import metrics_app

TOTAL = "portico_http_requests_total"
COUNT = "portico_http_request_duration_seconds_count"
BUSY = "portico_http_requests_in_progress"


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def samples(registry):
    def read(name):
        return {
            tuple(sample.labels.values()): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == name
        }

    return read


def hello(environ, start_response):
    environ["portico.route"] = "/hello"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def api(_environ):
    return "api"


def test_a_request_is_counted_and_timed(call, registry, samples):
    app = HTTPMetrics(validator(hello), api, registry)
    call(app)
    call(app, REQUEST_METHOD="POST")
    assert samples(TOTAL) == {
        ("api", "GET", "/hello", "200"): 1,
        ("api", "POST", "/hello", "200"): 1,
    }
    assert samples(COUNT)["api", "GET", "/hello"] == 1
    assert samples(BUSY) == {("api",): 0}


def test_unknown_methods_and_routes_fold_into_other(call, registry, samples):
    def app(_environ, start_response):
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return []

    call(HTTPMetrics(app, registry=registry), REQUEST_METHOD="BREW", validated=False)
    assert samples(TOTAL) == {("other", "other", "other", "404"): 1}


def test_the_number_of_series_is_bounded(call, registry, samples):
    def app(environ, start_response):
        environ["portico.route"] = environ["PATH_INFO"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    wrapped = HTTPMetrics(app, api, registry, max_series=3)
    for number in range(20):
        call(wrapped, PATH_INFO=f"/{number}")
    assert len(samples(TOTAL)) == 4
    assert samples(TOTAL)["api", "GET", "other", "200"] == 17


def test_a_stream_is_in_progress_until_it_is_closed(registry, samples):
    def stream(environ, start_response):
        yield from hello(environ, start_response)

    body = HTTPMetrics(stream, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    list(body)
    assert (samples(BUSY), samples(TOTAL)) == ({("api",): 1}, {})
    body.close()
    body.close()
    assert samples(BUSY) == {("api",): 0}
    assert list(samples(TOTAL).values()) == [1]


def test_a_small_whole_answer_is_counted_before_it_is_sent(registry, samples):
    body = HTTPMetrics(hello, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert body == [b"hello"]
    assert samples(TOTAL) == {("api", "GET", "/hello", "200"): 1}
    assert samples(BUSY) == {("api",): 0}


def test_a_large_answer_is_counted_when_it_is_closed(registry, samples):
    def large(_environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 100_000]

    body = HTTPMetrics(large, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert samples(TOTAL) == {}
    body.close()
    assert list(samples(TOTAL).values()) == [1]


def test_an_app_that_raises_counts_once_as_500(registry, samples):
    def failing(_environ, _start_response):
        raise LookupError

    with pytest.raises(LookupError):
        HTTPMetrics(failing, api, registry)({"REQUEST_METHOD": "GET"}, None)
    assert samples(TOTAL) == {("api", "GET", "other", "500"): 1}
    assert samples(BUSY) == {("api",): 0}


def test_an_iterable_that_raises_counts_once_under_its_status(registry, samples):
    def failing(_environ, start_response):
        start_response("200 OK", [])
        raise LookupError
        yield b""

    body = HTTPMetrics(failing, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    with pytest.raises(LookupError):
        list(body)
    body.close()
    assert samples(TOTAL) == {("api", "GET", "other", "200"): 1}


def test_a_client_that_left_before_any_answer_counts_as_499(registry, samples):
    def lazy(_environ, start_response):
        start_response("200 OK", [])
        yield b""

    HTTPMetrics(lazy, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None).close()
    assert samples(TOTAL) == {("api", "GET", "other", "499"): 1}


def test_a_file_wrapper_passes_and_is_counted_at_its_close(registry, samples):
    def app(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO())

    environ = {"REQUEST_METHOD": "GET", "wsgi.file_wrapper": FileWrapper}
    body = HTTPMetrics(app, api, registry)(environ, lambda *_: None)
    assert type(body) is FileWrapper
    body.close()
    assert list(samples(TOTAL).values()) == [1]


def test_nonsense_as_status_folds_into_other(registry, samples):
    def app(_environ, start_response):
        start_response("abc", [])
        return []

    HTTPMetrics(app, api, registry)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert samples(TOTAL) == {("api", "GET", "other", "other"): 1}


@pytest.fixture
def scrape(registry, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    Counter("things_total", "Things.", registry=registry).inc(3)
    return metrics_app(registry)


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain", parse_text),
        ("text/plain;version=0.0.4", "text/plain", parse_text),
        (
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text",
            parse_openmetrics,
        ),
    ],
)
def test_a_scrape_gets_the_format_it_asks_for(call, scrape, accept, content_type, parse):
    answer = call(validator(scrape), HTTP_ACCEPT=accept)
    assert answer.headers["Content-Type"].startswith(content_type)
    values = [
        sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
        if sample.name == "things_total"
    ]
    assert values == [3]


def test_head_has_no_body_and_post_is_refused(call, scrape):
    head = call(scrape, REQUEST_METHOD="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0
    post = call(scrape, REQUEST_METHOD="POST")
    assert (post.status, post.headers["Allow"]) == (405, "GET, HEAD")


def test_it_works_with_werkzeugs_client(registry):
    with Client(HTTPMetrics(hello, api, registry)).get("/") as response:
        assert response.text == "hello"
