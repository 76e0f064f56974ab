"""The one error shape: JSON for programs, a page for browsers."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from markupsafe import escape
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    Details = Sequence[Mapping[str, str]]
    RenderHTML = Callable[[WSGIEnvironment, int, Mapping[str, Any]], str]

# Colours follow the browser's scheme without a style, which a strict policy would forbid.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{error}</p>
{details}<p>Code: <code>{code}</code></p>
<p>Request: <code>{request_id}</code></p>
</main>
</body>
</html>
"""


def error_body(message: str, code: str, request_id: str, details: Details = ()) -> bytes:
    """Write an error in the one shape, as JSON.

    Args:
        message: A sentence for a person.
        code: A stable word for programs.
        request_id: What to quote when asking about it.
        details: Mappings with ``where`` and ``problem``.
    """
    return _dumps(_payload(message, code, request_id, details))


def wants_html(environ: WSGIEnvironment) -> bool:
    """Tell whether the client prefers a page over JSON (RFC 9110, section 12.5.1).

    Only browsers do: no ``Accept`` at all, or ``*/*``, means JSON.
    """
    accept = environ.get("HTTP_ACCEPT", "")
    if "text/" not in accept.lower():
        return False
    try:
        accepted = parse_accept_header(accept, MIMEAccept)
        return accepted.quality("text/html") > accepted.quality("application/json")
    except ValueError:
        return False


def error_response(  # noqa: PLR0913 - an error has that many facts, the last ones by keyword
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: int,
    message: str,
    code: str,
    details: Details = (),
    *,
    headers: Sequence[tuple[str, str]] = (),
    render_html: RenderHTML | None = None,
    exc_info: OptExcInfo | None = None,
) -> list[bytes]:
    """Answer with an error in the one shape: JSON, or a page where a browser asks.

    Args:
        environ: The request.
        start_response: As in PEP 3333.
        status: HTTP status code.
        message: A sentence for a person.
        code: A stable word for programs.
        details: Mappings with ``where`` and ``problem``.
        headers: More headers, such as ``Retry-After``.
        render_html: Draws the page from the environment, the status and the JSON's facts; a plain
            page is used without one, or where it fails.
        exc_info: Handed on to `start_response`; needed where an answer had been begun.

    Returns:
        The body, empty for HEAD.
    """
    payload = _payload(message, code, environ.get("portico.request_id", ""), details)
    if wants_html(environ):
        content = _page(environ, status, payload, render_html).encode("utf-8", "replace")
        content_type = "text/html; charset=utf-8"
    else:
        content, content_type = _dumps(payload), "application/json"
    all_headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept"),
        *headers,
    ]
    line = f"{status} {_phrase(status)}"
    if exc_info is None:
        start_response(line, all_headers)
    else:
        start_response(line, all_headers, exc_info)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [content]


def _payload(message: str, code: str, request_id: str, details: Details) -> dict[str, Any]:
    return {
        "error": message,
        "code": code,
        "request_id": request_id,
        "details": [dict(detail) for detail in details],
    }


def _dumps(payload: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(payload)
    except TypeError:
        # Lone surrogates, as a client can send them in JSON, have no UTF-8.
        return orjson.dumps(_without_surrogates(payload))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return str(value).encode("utf-8", "replace").decode()


def _page(
    environ: WSGIEnvironment, status: int, payload: dict[str, Any], render: RenderHTML | None
) -> str:
    if render is not None:
        try:
            return render(environ, status, payload)
        except Exception:  # noqa: BLE001, RUF100 - a broken template must not hide the error
            structlog.get_logger().exception("error page failed")
    return _PAGE.format(
        title=escape(f"{status} {_phrase(status)}"),
        error=escape(payload["error"]),
        details=_list(payload["details"]),
        code=escape(payload["code"]),
        request_id=escape(payload["request_id"]),
    )


def _list(details: list[dict[str, str]]) -> str:
    items = [
        f"<li><code>{escape(detail.get('where', ''))}</code> "
        f"{escape(detail.get('problem', ''))}</li>\n"
        for detail in details
    ]
    return f"<ul>\n{''.join(items)}</ul>\n" if items else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
