"""Finding the model that a view asks."""

from __future__ import annotations

from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING

from flask import request
from werkzeug.exceptions import HTTPException

from portico.serving.errors import InvalidInput
from portico.serving.predictions import Prediction
from portico.serving.traffic import tried_by

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from portico.serving.catalogue import Catalogue
    from portico.serving.service import ServedModel


def answering(catalogue: Catalogue, name: str, version: str | None = None) -> ServedModel:
    """Return the version that will answer, and note it for the access log.

    Where none is named, it is the candidate's turn with some callers.

    Raises:
        UnknownModel, UnknownVersion, ModelUnavailable: as :meth:`Catalogue.served`.
    """
    tried = tried_by(catalogue.model(name), caller_of(request.environ)) if version is None else None
    served = tried or catalogue.served(name, version)
    request.environ["portico.model"] = served.name
    request.environ["portico.version"] = served.version
    return served


def caller_of(environ: WSGIEnvironment) -> str:
    """Return the name of who asks, or the address where there is none."""
    identity = environ.get("portico.identity")
    return str(identity if identity is not None else environ.get("REMOTE_ADDR", ""))


def begin_prediction(served: ServedModel, environ: WSGIEnvironment) -> Prediction:
    """Begin the prediction of a request, and note it for what is written about the request.

    Whoever begins it sees that it is completed or failed.

    Raises:
        InvalidInput: ``X-Request-Timeout`` is no number of seconds.
    """
    identity = environ.get("portico.identity")
    who = "" if identity is None else str(identity)
    prediction = Prediction(served.name, served.version, who)
    environ["portico.prediction"] = prediction
    prediction.client = environ.get("gunicorn.socket")
    if "HTTP_X_REQUEST_TIMEOUT" in environ:
        try:
            prediction.timeout = _timeout(environ["HTTP_X_REQUEST_TIMEOUT"])
        except InvalidInput as error:
            served.fail(prediction, error)
            raise
    return prediction


def fail_prediction(served: ServedModel, prediction: Prediction, error: Exception) -> None:
    """Complete a prediction that ``error`` has ended, be it one of HTTP: a body that is none."""
    if isinstance(error, HTTPException):
        prediction.outcome = "invalid"
        served.complete(prediction)
    else:
        served.fail(prediction, error)


def _timeout(text: str) -> float:
    """Read the seconds that a client gives its request to come to its turn."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_MAX:
        raise InvalidInput.at("X-Request-Timeout", "must be a number of seconds above 0")
    return seconds


def prediction_headers(prediction: Prediction) -> list[tuple[str, str]]:
    """Return the headers that tell a prediction's id and how long each stage took.

    Source: W3C Server Timing; durations are milliseconds.
    """
    rows = prediction.batch_rows
    timing = (
        f"decode;dur={prediction.decode * 1e3:.3f}, queue;dur={prediction.queue * 1e3:.3f}, "
        f"run;dur={prediction.run * 1e3:.3f}, encode;dur={prediction.encode * 1e3:.3f}, "
        f'batch;desc="{rows} {"row" if rows == 1 else "rows"}"'
    )
    return [("X-Prediction-ID", prediction.id), ("Server-Timing", timing)]
