"""Send every event of the process through one sink, in one format."""

from __future__ import annotations

import atexit
import logging
from typing import IO, TYPE_CHECKING, Any

import structlog

from middleware.log_format import add_time, console_renderer, render_json
from middleware.log_sink import LogSink
from middleware.request_context import add_request_id

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from middleware.log_format import Render


def configure_logging(stream: IO[Any], json: bool | None = None) -> LogSink:
    """Route structlog and the standard library's logging into one `LogSink`.

    ``structlog.get_logger().info("event", key=value)`` anywhere, ``logging``, ``warnings`` and
    gunicorn's error log then end up in the same stream in the same format, with ``request_id``
    where there is one. gunicorn installs handlers of its own when it sets up, so a server calls
    `adopt_gunicorn_loggers` once more in its ``on_starting`` hook.

    Args:
        stream: Where lines go, usually ``sys.stderr``.
        json: True for lines of JSON, False for a terminal's colours; None asks the stream.

    Returns:
        The sink, for `middleware.access_log.AccessLog` and for ``close()`` at the end. It is also
        closed when the interpreter exits.
    """
    as_json = not stream.isatty() if json is None else json
    render = render_json if as_json else console_renderer(colors=stream.isatty())
    sink = LogSink(stream, render)
    _configure_structlog(sink, render)
    _configure_stdlib(sink, render)
    adopt_gunicorn_loggers()
    atexit.register(sink.close)
    return sink


def adopt_gunicorn_loggers() -> None:
    """Make gunicorn's loggers hand their records to the root logger instead of own handlers."""
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


class _SinkLogger:
    """What structlog calls with a rendered line."""

    def __init__(self, sink: LogSink) -> None:
        self.msg = sink.write

    def __getattr__(self, level: str) -> Any:
        # structlog picks the method by level; every level is written the same way.
        if level.startswith("_"):
            raise AttributeError(level)
        return self.msg


class _SinkHandler(logging.Handler):
    """Hand records of the standard library to the sink."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.write(self.format(record))
        except Exception:  # noqa: BLE001, RUF100 - a log call must not fail its caller
            self.handleError(record)


def _facts() -> list[Processor]:
    """List what every event goes through before it is rendered."""
    return [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.processors.add_log_level,
        add_time,
        structlog.processors.StackInfoRenderer(),
        # Renders the traceback at once: kept, it would keep all its frames alive.
        structlog.processors.format_exc_info,
    ]


def _configure_structlog(sink: LogSink, render: Render) -> None:
    def finish(_logger: Any, _method: str, event: EventDict) -> str:
        return render(dict(event))

    structlog.configure(
        processors=[*_facts(), finish],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_args: _SinkLogger(sink),
        cache_logger_on_first_use=False,
    )


def _configure_stdlib(sink: LogSink, render: Render) -> None:
    def finish(_logger: Any, _method: str, event: EventDict) -> str:
        event.pop("_record", None)
        event.pop("_from_structlog", None)
        return render(dict(event))

    handler = _SinkHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[finish],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_facts()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
