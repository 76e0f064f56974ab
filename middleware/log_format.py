"""Turn events into lines: JSON for machines, colours for a terminal.

Whatever a client sent ends up in some value, so no value may forge a line or steer a terminal:
control characters (CR, LF, ESC, the C1 set), line separators and bidirectional overrides are
written as escapes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

    Event = dict[str, Any]
    Render = Callable[[Event], str]

_UNSAFE = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_replace_unsafe = re.compile(f"[{_UNSAFE}]").sub
_FIRST = ("time", "level", "event")


def escape(text: str) -> str:
    r"""Replace every character that could break a line or steer a terminal by ``\xNN``/``\uNNNN``.

    The backslash itself stays as it is: a reader sees that something was escaped, not what.
    """
    if text.isascii() and text.isprintable():
        return text
    return _replace_unsafe(_as_python_escape, text)


def _as_python_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _as_json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def timestamp(seconds: float) -> str:
    """Write a Unix time in seconds as ISO 8601 in UTC with microseconds."""
    microseconds = round(seconds * 1e6)
    return f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Write a whole second; thousands of lines share one."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def add_time(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Stamp an event with the present time (structlog processor)."""
    event.setdefault("time", timestamp(time()))
    return event


def render_json(event: Event) -> str:
    """Write an event as one line of JSON; values JSON does not know become their ``repr``."""
    ordered = _ordered(event)
    try:
        line = _dumps(ordered)
    except (TypeError, ValueError, RecursionError):
        # Lone surrogates, integers beyond 64 bits and cycles: the line matters more than types.
        line = _dumps({escape(str(key)): escape(repr(ordered[key])) for key in ordered})
    # JSON escapes the C0 controls itself; the rest are escaped here, which keeps their value.
    return line if line.isascii() and "\x7f" not in line else _replace_unsafe(_as_json_escape, line)


def _dumps(event: Event) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def console_renderer(*, colors: bool = True) -> Render:
    """Make a renderer for people: aligned, coloured, tracebacks indented below their event.

    Args:
        colors: Whether to write ANSI colours around the (escaped) values.
    """
    # The plain traceback shows no local variables, which may hold secrets.
    console = structlog.dev.ConsoleRenderer(
        colors=colors,
        timestamp_key="time",
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(event: Event) -> str:
        safe = {escape(str(key)): _escape_value(value) for key, value in _brief(event).items()}
        exception = event.get("exception")
        if isinstance(exception, str):
            # Indented, the lines of a message with line feeds do not pass for events.
            safe["exception"] = "\n".join("    " + escape(part) for part in exception.split("\n"))
        return console(None, "", safe)

    return render


def _brief(event: Event) -> Event:
    """Say of a request first what a person looks for: what was asked, what came, how fast."""
    brief = {**event, "time": str(event.get("time", ""))[11:19]}
    if event.get("event") != "request":
        return brief
    asked = [brief.pop(key, None) for key in ("method", "path", "status", "duration_ms")]
    brief["event"] = "{} {} {} {} ms".format(*asked)
    return brief


def _escape_value(value: Any) -> Any:
    """Escape a value that will be shown as text; plain numbers keep their type and colour."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return escape(value if isinstance(value, str) else repr(value))


def _ordered(event: Event) -> Event:
    """Put what a reader looks for first at the front of the line."""
    if tuple(islice(event, len(_FIRST))) == _FIRST:
        return event
    ordered = {key: event[key] for key in _FIRST if key in event}
    ordered.update(event)
    return ordered
