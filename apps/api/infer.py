"""The infer route of the Open Inference Protocol, as a plain WSGI callable.

This is the one place where Flask is not in the way: one dictionary look-up finds the model, and
the same functions as in the views decode, run and encode. What this route cannot answer (unknown
models, wrong methods, models that are loading) goes on to the application behind it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

from apps.shell.errors import serving_error_response
from apps.shell.models import begin_prediction, prediction_headers
from portico.serving.codecs.json_tensors import (
    decode_request,
    encode_response,
    outputs_of,
    tensors_of,
)
from portico.serving.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from portico.serving.catalogue import Catalogue
    from portico.serving.predictions import Prediction
    from portico.serving.service import ServedModel

CURRENT: Final = "/models/<name>/infer"
VERSIONED: Final = "/models/<name>/versions/<version>/infer"


def infer(served: ServedModel, prediction: Prediction, body: bytes) -> bytes:
    """Answer the body of an infer request with the body of its response.

    Source: Open Inference Protocol, "Inference".

    Raises:
        ServingError: the request does not fit, or the model could not answer.
    """
    started = perf_counter()
    try:
        request = decode_request(body)
        prediction.inputs = tensors_of(request, served.signature)
        outputs = outputs_of(request, served.signature)
        prediction.decode = perf_counter() - started
        result = served.infer(prediction, outputs)
        ran = perf_counter()
        response = encode_response(served.name, served.version, result, request.id)
        prediction.encode = perf_counter() - ran
    except Exception as error:
        served.fail(prediction, error)
        raise
    served.complete(prediction)
    return response


class InferRoute:
    """Answers ``POST /models/NAME[/versions/VERSION]/infer`` for every version that is ready.

    Args:
        catalogue: the models.
        fallback: answers everything else.
    """

    def __init__(self, catalogue: Catalogue, fallback: WSGIApplication) -> None:
        self._catalogue = catalogue
        self._fallback = fallback
        self._targets: dict[str, tuple[ServedModel, str]] = {}
        self._revision = -1

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if self._revision != self._catalogue.revision:
            self._refresh()
        target = self._targets.get(environ["PATH_INFO"])
        if target is None or environ["REQUEST_METHOD"] != "POST":
            return self._fallback(environ, start_response)
        served, environ["portico.route"] = target
        environ["portico.model"] = served.name
        environ["portico.version"] = served.version
        try:
            prediction = begin_prediction(served, environ)
            body = infer(served, prediction, read_body(environ))
        except ServingError as error:
            return serving_error_response(environ, start_response, error)
        start_response(
            "200 OK",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                *prediction_headers(prediction),
            ],
        )
        return [body]

    def _refresh(self) -> None:
        # Read first: a change that comes in meanwhile makes the next request refresh again.
        revision = self._catalogue.revision
        targets: dict[str, tuple[ServedModel, str]] = {}
        for model in self._catalogue.models():
            for word, version in model.named().items():
                if served := version.served:
                    targets[f"/models/{model.name}/versions/{word}/infer"] = served, VERSIONED
            if served := model.current.served:
                targets[f"/models/{model.name}/infer"] = served, CURRENT
        self._targets = targets
        self._revision = revision


def read_body(environ: WSGIEnvironment) -> bytes:
    """Read the whole request body; the limits around the gateway bound its size."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        return environ["wsgi.input"].read(int(length))  # type: ignore[no-any-return]
    if environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ:
        return environ["wsgi.input"].read()  # type: ignore[no-any-return]
    return b""
