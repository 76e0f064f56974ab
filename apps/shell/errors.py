"""Errors at the edge of an app: one table from failures to HTTP statuses, one shape for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import Response, render_template, request
from werkzeug.exceptions import HTTPException

from middleware.error_shape import error_response
from portico.serving.errors import (
    ArtefactError,
    ArtefactNotAllowed,
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
    QueueFull,
    ServingError,
    StorageUnavailable,
    UnknownModel,
    UnknownVersion,
    VersionExists,
    VersionInUse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Flask
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Response as BaseResponse

    from middleware.error_shape import RenderHTML

log = structlog.get_logger(__name__)

STATUS: Final[dict[type[ServingError], int]] = {
    InvalidInput: 400,
    ModelRefused: 400,
    UnknownModel: 404,
    UnknownVersion: 404,
    VersionExists: 409,
    VersionInUse: 409,
    ModelUnavailable: 503,
    QueueFull: 503,
    DeadlineExceeded: 504,
    Cancelled: 499,
    ModelFailed: 500,
    StorageUnavailable: 503,
    ArtefactError: 503,
    ArtefactNotAllowed: 503,
}
"""The HTTP status of each failure that serving reports on purpose (RFC 9110, section 15).

499 is in no RFC; the metrics count requests so whose client left before the answer, and nginx does.
"""

_CODES: Final = {
    400: "bad_request",
    401: "login_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    500: "internal_error",
}


def status_of(error: ServingError) -> int:
    """Return the HTTP status that tells of ``error``."""
    return STATUS[type(error)]


def serving_error_response(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    error: ServingError,
    render_html: RenderHTML | None = None,
) -> Iterable[bytes]:
    """Answer a failure of serving in the one error shape; the cause goes to the log alone."""
    if isinstance(error, ModelFailed):
        log.error("model_raised", model=environ.get("portico.model"), exc_info=error.__cause__)
    if isinstance(error, StorageUnavailable):
        log.error("storage_unavailable", reason=error.reason)
    return error_response(
        environ,
        start_response,
        status_of(error),
        error.message,
        error.code,
        [detail._asdict() for detail in error.details],
        headers=[*_retry_after(error), *_prediction_id(environ)],
        render_html=render_html,
    )


def register_errors(app: Flask) -> None:
    """Make an app answer every failure in the one error shape, as JSON or as a page."""

    @app.errorhandler(ServingError)
    def serving_error(error: ServingError) -> ResponseReturnValue:
        return _call(lambda environ, start: serving_error_response(environ, start, error, _page))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> ResponseReturnValue:
        if error.response is not None or (error.code or 500) < 400:
            return error  # A redirect, or an answer that is already complete.
        return http_error_response(error)


def http_error_response(error: HTTPException) -> BaseResponse:
    """Answer werkzeug's error in the one error shape, keeping its headers such as ``Allow``."""
    status = error.code or 500
    kept = ("content-type", "content-length")
    headers = [(k, v) for k, v in error.get_headers() if k.lower() not in kept]
    return _call(
        lambda environ, start: error_response(
            environ,
            start,
            status,
            _sentence(error),
            _CODES.get(status, "http_error"),
            headers=headers,
            render_html=_page,
        )
    )


def _call(answer: Any) -> BaseResponse:
    """Run a small WSGI callable and hand its answer to Flask."""
    return Response.from_app(answer, request.environ)


def page_renderer(app: Flask) -> RenderHTML:
    """Return what draws error pages in the site's look for the middleware around all apps.

    Args:
        app: an app made by :func:`apps.shell.app.new_app`, whose layout is used.
    """

    def render(environ: WSGIEnvironment, status: int, payload: Mapping[str, Any]) -> str:
        with app.request_context(environ):
            return _page(environ, status, payload)

    return render


def _page(_: WSGIEnvironment, status: int, payload: Mapping[str, Any]) -> str:
    return render_template("error.html", status=status, **{"message": payload["error"], **payload})


def _retry_after(error: ServingError) -> list[tuple[str, str]]:
    seconds = getattr(error, "retry_after", None)
    return [("Retry-After", str(seconds))] if seconds else []


def _prediction_id(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    prediction = environ.get("portico.prediction")
    return [] if prediction is None else [("X-Prediction-ID", prediction.id)]


def _sentence(error: HTTPException) -> str:
    if error.code == 404:
        return "There is nothing at this address."
    if error.code == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return f"This address does not take {request.method}; it takes: {allowed}."
    if error.code == 500:
        return "Something went wrong here. It has been logged under the request id."
    return error.description or error.name
