"""The index of the model repository extension: every version, and whether it can answer.

Source: triton-inference-server, docs/protocol, "Model Repository Extension". What is served is
decided by the catalogue's aliases, so there is no load and no unload, and the server's metadata
does not list the extension. Only operators come here: ``gateway.compose`` has the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from flask import request

from apps.api.json_answer import json_answer
from middleware.body_input import read_body
from portico.serving.catalogue import State
from portico.serving.codecs.json_tensors import decode_json

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue

    from portico.serving.catalogue import Catalogue, Version


class IndexRequest(msgspec.Struct):
    """The body of an index request; ``ready`` leaves out what cannot answer."""

    ready: bool = False


_DECODER: Final = msgspec.json.Decoder(IndexRequest)
_STATES: Final = {State.READY: "READY", State.LOADING: "LOADING"}


def add_repository_routes(app: Flask, catalogue: Catalogue) -> None:
    """Add the index to the protocol's application."""

    @app.post("/repository/index")
    def index() -> ResponseReturnValue:
        body = read_body(request.environ)
        asked: IndexRequest = decode_json(body, _DECODER) if body else IndexRequest()
        versions = [version for model in catalogue.models() for version in model.versions]
        return json_answer(
            [_entry(v) for v in versions if v.state is State.READY or not asked.ready]
        )


def _entry(version: Version) -> dict[str, str]:
    reason = version.problem
    if version.state is State.AVAILABLE:
        reason = "it is loaded by the first request that names it"
    return {
        "name": version.model,
        "version": version.name,
        "state": _STATES.get(version.state, "UNAVAILABLE"),
        "reason": reason,
    }
