"""The Open Inference Protocol (V2, REST): health, metadata, readiness; infer where it is slow.

Source: kserve/open-inference-protocol, specification/protocol. The health bodies carry both
``live`` and ``ready`` where the text and its clients disagree on the member's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Response, request

from apps.api.infer import JSON_LENGTH, InferRoute, infer
from apps.api.json_answer import json_answer
from apps.api.repository import add_repository_routes
from apps.shell.app import new_app
from apps.shell.models import answering, begin_prediction, prediction_headers
from middleware.body_input import read_body
from portico import __version__
from portico.serving.models import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask
    from flask.typing import ResponseReturnValue

    from apps.shell.site import Site
    from portico.serving.catalogue import Catalogue
    from portico.serving.repository import ModelRepository
    from portico.serving.tensors import TensorSpec

EXTENSIONS: Final = ("binary_tensor_data", "model_repository")
"""Protocol extensions that are implemented, for the server's metadata."""


def create_app(site: Site, catalogue: Catalogue, repository: ModelRepository) -> InferRoute:
    """Build the protocol's application, to be mounted at ``/v2``."""
    app = new_app(__name__, site)
    app.url_map.strict_slashes = False  # The protocol's paths answer with and without a slash.
    _add_server_routes(app, catalogue)
    _add_model_routes(app, catalogue)
    add_repository_routes(app, catalogue, repository)
    return InferRoute(catalogue, app)


def _add_server_routes(app: Flask, catalogue: Catalogue) -> None:
    @app.get("/")
    def server_metadata() -> ResponseReturnValue:
        return json_answer(
            {"name": "portico", "version": __version__, "extensions": list(EXTENSIONS)}
        )

    @app.get("/health/live")
    def live() -> ResponseReturnValue:
        return json_answer({"live": True})

    @app.get("/health/ready")
    def ready() -> ResponseReturnValue:
        is_ready = catalogue.is_ready()
        return json_answer({"ready": is_ready, "live": is_ready}, 200 if is_ready else 503)


def _add_model_routes(app: Flask, catalogue: Catalogue) -> None:
    def model_metadata(name: str, version: str | None = None) -> ResponseReturnValue:
        served = catalogue.served(name, version)
        usable = [v.name for v in catalogue.model(name).versions if v.answers]
        return json_answer(
            {
                "name": name,
                "versions": usable[::-1],
                "platform": served.platform,
                "inputs": _tensors(served.signature.inputs),
                "outputs": _tensors(served.signature.outputs),
            }
        )

    def model_ready(name: str, version: str | None = None) -> ResponseReturnValue:
        is_ready = catalogue.version(name, version).state is State.READY
        return json_answer({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    def model_infer(name: str, version: str | None = None) -> ResponseReturnValue:
        served = answering(catalogue, name, version)
        prediction = begin_prediction(served, request.environ)
        environ = request.environ
        body, kind = infer(served, prediction, read_body(environ), environ.get(JSON_LENGTH))
        return Response(body, headers=[*kind, *prediction_headers(prediction)])

    for prefix in ("/models/<name>", "/models/<name>/versions/<version>"):
        app.add_url_rule(prefix, view_func=model_metadata)
        app.add_url_rule(f"{prefix}/ready", view_func=model_ready)
        app.add_url_rule(f"{prefix}/infer", view_func=model_infer, methods=["POST"])


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]
