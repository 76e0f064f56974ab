"""The model repository extension: which versions there are, and loading and unloading models.

Source: triton-inference-server, docs/protocol, "Model Repository Extension". Where Triton answers
400 to a model that nobody knows, this answers 404 as everywhere else. Only operators come here:
``gateway.compose`` has the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from flask import request

from apps.api.json_answer import json_answer
from middleware.body_input import read_body
from portico.serving.codecs.json_tensors import decode_json
from portico.serving.errors import InvalidInput
from portico.serving.models import State

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue

    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Version
    from portico.serving.repository import ModelRepository


class IndexRequest(msgspec.Struct):
    """The body of an index request; ``ready`` leaves out what cannot answer."""

    ready: bool = False


class ChangeRequest(msgspec.Struct):
    """The body of a load or unload request; parameters that are not known do no harm."""

    parameters: dict[str, Any] = {}


_INDEX: Final = msgspec.json.Decoder(IndexRequest)
_CHANGE: Final = msgspec.json.Decoder(ChangeRequest)
_STATES: Final = {State.READY: "READY", State.LOADING: "LOADING"}
_REASONS: Final = {
    State.AVAILABLE: "it is loaded by the first request that names it",
    State.UNLOADED: "unloaded",
}


def add_repository_routes(app: Flask, catalogue: Catalogue, repository: ModelRepository) -> None:
    """Add the extension to the protocol's application."""

    @app.post("/repository/index")
    def index() -> ResponseReturnValue:
        body = read_body(request.environ)
        asked: IndexRequest = decode_json(body, _INDEX) if body else IndexRequest()
        versions = [version for model in catalogue.models() for version in model.versions]
        return json_answer(
            [_entry(v) for v in versions if v.state is State.READY or not asked.ready]
        )

    @app.post("/repository/models/<name>/load")
    def load_model(name: str) -> ResponseReturnValue:
        _refuse_content(_parameters())
        repository.load(name, _who())
        return json_answer({})

    @app.post("/repository/models/<name>/unload")
    def unload_model(name: str) -> ResponseReturnValue:
        _parameters()
        repository.unload(name, _who())
        return json_answer({})


def _entry(version: Version) -> dict[str, str]:
    return {
        "name": version.model,
        "version": version.name,
        "state": _STATES.get(version.state, "UNAVAILABLE"),
        "reason": _REASONS.get(version.state, version.problem),
    }


def _parameters() -> dict[str, Any]:
    body = read_body(request.environ)
    asked: ChangeRequest = decode_json(body, _CHANGE) if body else ChangeRequest()
    return asked.parameters


def _refuse_content(parameters: dict[str, Any]) -> None:
    """Refuse a model or its configuration inside the request.

    Whoever sends them would take what is loaded for what was sent.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            where = f"parameters.{name[:100]}"
            raise InvalidInput.at(where, "is not taken here; models come by 'portico import'")


def _who() -> str:
    identity = request.environ.get("portico.identity")
    return "nobody" if identity is None else str(identity)
