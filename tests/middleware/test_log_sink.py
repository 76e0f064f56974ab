from __future__ import annotations

import io
import logging
import os
import threading
import time
import warnings

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from middleware.log_format import console_renderer, escape, render_json
from middleware.log_sink import LogSink
from middleware.logging_setup import configure_logging
from middleware.request_context import RequestContext


def shape(values):
    return {"event": "n", "n": values[0]}


def events(text):
    return [orjson.loads(line) for line in text.splitlines()]


def test_lines_appear_by_themselves_and_in_order():
    stream = io.StringIO()
    sink = LogSink(stream, render_json)
    for n in range(10):
        sink.defer(shape, (n,))
    deadline = time.monotonic() + 3
    while stream.getvalue().count("\n") < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    sink.close()
    assert [event["n"] for event in events(stream.getvalue())] == list(range(10))


def test_the_hot_path_neither_writes_nor_renders():
    rendered = []
    sink = LogSink(io.StringIO(), lambda event: rendered.append(event) or "", interval=60)
    sink.defer(shape, (1,))
    assert rendered == []
    sink.close()
    assert len(rendered) == 1


def test_a_full_batch_does_not_wait_for_the_interval():
    written = threading.Event()
    sink = LogSink(io.StringIO(), lambda _event: written.set() or "", interval=60, batch=5)
    for n in range(6):
        sink.defer(shape, (n,))
    assert written.wait(3)
    sink.close()


def test_lines_that_do_not_fit_are_counted_and_reported():
    stream = io.StringIO()
    sink = LogSink(stream, render_json, interval=60, capacity=3)
    for n in range(10):
        sink.defer(shape, (n,))
    sink.flush()
    sink.flush()
    sink.close()
    report, *rest = events(stream.getvalue())
    assert (report["event"], report["count"]) == ("log lines dropped", 7)
    assert [event["n"] for event in rest] == [0, 1, 2]


@pytest.mark.parametrize("error", [BrokenPipeError, OSError(28, "No space left"), ValueError])
def test_a_failing_stream_costs_lines_but_raises_nothing(error):
    class Failing(io.StringIO):
        broken = True

        def write(self, text):
            if self.broken:
                raise error
            return super().write(text)

    stream = Failing()
    sink = LogSink(stream, render_json, interval=60)
    sink.defer(shape, (1,))
    sink.write("an event")
    sink.flush()
    stream.broken = False
    sink.defer(shape, (2,))
    sink.close()
    assert [(event["event"], event.get("count")) for event in events(stream.getvalue())] == [
        ("log lines dropped", 2),
        ("n", None),
    ]


def test_a_closed_pipe_raises_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        sink = LogSink(stream, render_json, interval=60)
        sink.defer(shape, (1,))
        sink.close()


def test_a_closed_stream_is_not_written_through_its_old_descriptor(tmp_path):
    stream = (tmp_path / "log").open("w")
    sink = LogSink(stream, render_json, interval=60)
    stream.close()
    with (tmp_path / "other").open("w"):
        sink.defer(shape, (1,))
        sink.close()
    assert (tmp_path / "other").read_text() == ""


def test_an_entry_that_cannot_be_rendered_does_not_stop_the_others():
    stream = io.StringIO()
    sink = LogSink(stream, render_json, interval=60)
    sink.defer(lambda _values: {}["missing"], ())
    sink.defer(shape, (1,))
    sink.close()
    assert [event["event"] for event in events(stream.getvalue())] == ["log line lost", "n"]


def test_a_forked_child_logs_its_own_lines_and_none_of_the_parents(tmp_path):
    with (tmp_path / "log").open("a") as stream:
        sink = LogSink(stream, render_json)
        sink.defer(shape, (1,))
        pid = os.fork()
        if pid == 0:
            sink.defer(shape, (2,))
            # The child's own thread has to write this, not its exit.
            time.sleep(0.8)
            os._exit(0)
        os.waitpid(pid, 0)
        sink.defer(shape, (3,))
        sink.close()
    assert [event["n"] for event in events((tmp_path / "log").read_text())] == [1, 2, 3]


def test_lines_after_closing_are_still_written():
    stream = io.StringIO()
    sink = LogSink(stream, render_json)
    sink.close()
    sink.write("late")
    assert stream.getvalue() == "late\n"


def test_a_pipe_is_written_in_pieces_that_stay_whole(monkeypatch):
    reader, writer = os.pipe()
    sizes = []
    real_write = os.write

    def write(descriptor, data):
        sizes.append((len(data), data[-1:]))
        return real_write(descriptor, data)

    with os.fdopen(writer, "wb") as stream:
        sink = LogSink(stream, render_json, interval=60)
        for _ in range(100):
            sink.write("x" * 99)
        monkeypatch.setattr(os, "write", write)
        sink.close()
    os.close(reader)
    assert len(sizes) > 1
    assert all(size <= 4096 and end == b"\n" for size, end in sizes)


@given(st.text())
def test_escaped_text_holds_no_control_characters_and_is_stable(text):
    safe = escape(text)
    safe.encode()
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in safe)
    assert escape(safe) == safe


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary()))
def test_a_json_line_is_one_line_of_json_without_control_characters(event):
    line = render_json(event)
    orjson.loads(line)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in line)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_in_json_keeps_the_value(text):
    assert orjson.loads(render_json({"event": text}))["event"] == text


def test_the_console_shows_no_escape_sequences_of_the_client():
    line = console_renderer(colors=False)({"event": "e\x1b[2J", "path": "/\r\nforged"})
    assert "\x1b" not in line
    assert "\n" not in line


def test_lines_of_an_exception_are_indented_on_the_console():
    line = console_renderer(colors=False)({"event": "e", "exception": "Error: a\nforged \x1b"})
    assert "\n    forged \\x1b" in line


@pytest.mark.usefixtures("_restore_logging")
def test_structlog_logging_and_warnings_share_stream_and_format(call):
    stream = io.StringIO()
    sink = configure_logging(stream, json=True)

    def app(_environ, start_response):
        structlog.get_logger().info("model loaded", model="churn")
        logging.getLogger("gunicorn.error").warning("worker %s", 7)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("careful", stacklevel=1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    call(RequestContext(app), HTTP_X_REQUEST_ID="abcdefgh")
    sink.close()
    first, second, third = events(stream.getvalue())
    assert first.items() >= {"event": "model loaded", "model": "churn", "level": "info"}.items()
    assert second.items() >= {"event": "worker 7", "level": "warning"}.items()
    assert "careful" in third["event"]
    assert {event["request_id"] for event in (first, second, third)} == {"abcdefgh"}
    assert all("time" in event for event in (first, second, third))


@pytest.mark.usefixtures("_restore_logging")
def test_tracebacks_are_logged_without_local_variables():
    stream = io.StringIO()
    sink = configure_logging(stream, json=False)
    try:
        password = "hunter2"  # noqa: F841
        raise LookupError("gone")
    except LookupError:
        structlog.get_logger().exception("failed")
    sink.close()
    assert "LookupError: gone" in stream.getvalue()
    assert "hunter2'" not in stream.getvalue()
