"""The infer route of the Open Inference Protocol, as a plain WSGI callable.

This is the one place where Flask is not in the way: one dictionary look-up finds the model, and
the same functions as in the views decode, run and encode. What this route cannot answer (unknown
models, wrong methods, models that are loading) goes on to the application behind it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

from apps.shell.errors import serving_error_response
from apps.shell.models import begin_prediction, caller_of, prediction_headers
from middleware.body_input import read_body
from portico.serving.codecs.binary_tensors import (
    HEADER,
    binary_outputs,
    decode_binary_request,
    encode_binary_response,
)
from portico.serving.codecs.json_tensors import (
    decode_request,
    encode_response,
    outputs_of,
    tensors_of,
)
from portico.serving.errors import ServingError
from portico.serving.traffic import tried_by

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from msgspec import UnsetType

    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Model
    from portico.serving.predictions import Prediction
    from portico.serving.service import ServedModel
    from portico.serving.tensors import Tensors

CURRENT: Final = "/models/<name>/infer"
VERSIONED: Final = "/models/<name>/versions/<version>/infer"

JSON_LENGTH: Final = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"
"""Where WSGI puts the header of the binary tensor data extension."""


_JSON: Final = (("Content-Type", "application/json"),)


def infer(
    served: ServedModel, prediction: Prediction, body: bytes, json_length: str | None
) -> tuple[bytes, Iterable[tuple[str, str]]]:
    """Answer the body of an infer request with the body of its response and what tells its kind.

    Source: Open Inference Protocol, "Inference" and "Binary Tensor Data Extension".

    Args:
        served: the version that answers.
        prediction: of this request.
        body: of the request.
        json_length: its ``Inference-Header-Content-Length``, None where it is JSON altogether.

    Raises:
        ServingError: the request does not fit, or the model could not answer.
    """
    started = perf_counter()
    try:
        if json_length is None:
            request = decode_request(body)
        else:
            request = decode_binary_request(body, json_length, served.signature)
        prediction.inputs = tensors_of(request, served.signature)
        outputs = outputs_of(request, served.signature)
        # Only these two can ask for binary outputs; most requests have neither.
        asks = request.parameters or request.outputs
        binary = binary_outputs(request, served.signature) if asks else ()
        prediction.decode = perf_counter() - started
        result = served.infer(prediction, outputs)
        ran = perf_counter()
        if binary:
            answer = _binary(served, result, request.id, binary)
        else:
            answer = encode_response(served.name, served.version, result, request.id), _JSON
        prediction.encode = perf_counter() - ran
    except Exception as error:
        served.fail(prediction, error)
        raise
    served.complete(prediction)
    return answer


def _binary(
    served: ServedModel, result: Tensors, request_id: str | UnsetType, binary: Container[str]
) -> tuple[bytes, Iterable[tuple[str, str]]]:
    body, length = encode_binary_response(served.name, served.version, result, request_id, binary)
    return body, (("Content-Type", "application/octet-stream"), (HEADER, str(length)))


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
        self._canaries: dict[str, Model] = {}
        self._revision = -1
        catalogue.tell_dropped(self._forget)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if self._revision != self._catalogue.revision:
            self._refresh()
        target = self._targets.get(environ["PATH_INFO"])
        if target is None and self._canaries:
            target = self._by_caller(environ)
        if target is None or environ["REQUEST_METHOD"] != "POST":
            return self._fallback(environ, start_response)
        served, environ["portico.route"] = target
        environ["portico.model"] = served.name
        environ["portico.version"] = served.version
        try:
            prediction = begin_prediction(served, environ)
            json_length = environ.get(JSON_LENGTH)
            body, kind = infer(served, prediction, read_body(environ), json_length)
        except ServingError as error:
            return serving_error_response(environ, start_response, error)
        start_response(
            "200 OK",
            [*kind, ("Content-Length", str(len(body))), *prediction_headers(prediction)],
        )
        return [body]

    def _by_caller(self, environ: WSGIEnvironment) -> tuple[ServedModel, str] | None:
        """Return who answers this caller, of a model that has a canary."""
        model = self._canaries.get(environ["PATH_INFO"])
        if model is None:
            return None
        served = tried_by(model, caller_of(environ)) or model.current.served
        return (served, CURRENT) if served else None

    def _forget(self) -> None:
        """Let go of versions that are gone, though nobody asks any more."""
        self._targets = {}
        self._revision = -1

    def _refresh(self) -> None:
        # Read first: a change that comes in meanwhile makes the next request refresh again.
        revision = self._catalogue.revision
        targets: dict[str, tuple[ServedModel, str]] = {}
        canaries: dict[str, Model] = {}
        for model in self._catalogue.models():
            for word, version in model.named().items():
                if served := version.served:
                    targets[f"/models/{model.name}/versions/{word}/infer"] = served, VERSIONED
            path = f"/models/{model.name}/infer"
            if model.traffic.canary:
                canaries[path] = model
            elif served := model.current.served:
                targets[path] = served, CURRENT
        self._targets, self._canaries = targets, canaries
        self._revision = revision
