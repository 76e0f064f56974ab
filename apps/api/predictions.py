"""One logged prediction, and what somebody who knows better says of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from flask import request
from werkzeug.exceptions import NotFound

from apps.api.json_answer import json_answer
from middleware.body_input import read_body
from portico.serving.codecs.json_tensors import decode_json, refuse_repeated_keys
from portico.serving.predictions import Feedback
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.typing import ResponseReturnValue

    from portico.serving.predictions import Logged, PredictionStore
    from portico.serving.tensors import Tensors

LONGEST_LABEL: Final = 1000
"""Characters of a label in feedback."""


LARGEST_LABEL: Final = 2**53 - 1
"""Of a label that is a number: no program reads it as another one (RFC 7493, section 2.2)."""

_BOUNDS: Final = msgspec.Meta(ge=-LARGEST_LABEL, le=LARGEST_LABEL)


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """What feedback says; ``label`` is what would have been right."""

    right: bool
    label: (
        Annotated[str, msgspec.Meta(max_length=LONGEST_LABEL)]
        | Annotated[int, _BOUNDS]
        | Annotated[float, _BOUNDS]
        | bool
        | None
    ) = None


_DECODER: Final = msgspec.json.Decoder(FeedbackBody)


def add_prediction_routes(
    app: Flask, open_store: Callable[[], PredictionStore], *, nobody_is_known: bool
) -> None:
    """Add the routes of logged predictions.

    Args:
        app: the API's.
        open_store: returns the prediction log.
        nobody_is_known: whether whoever asks without a name is the one person that can, as on a
            loopback address; else what nobody asked is for operators alone.
    """

    def find(prediction: str) -> Logged:
        found = open_store().find(prediction)
        if found is None or not _may_see(found, nobody_is_known=nobody_is_known):
            raise NotFound(
                "There is no such prediction; one that was made just now is there in a second."
            )
        return found

    @app.get("/predictions/<prediction>")
    def show(prediction: str) -> ResponseReturnValue:
        found = find(prediction)
        return json_answer(_described(found, open_store().feedback_on(prediction)))

    @app.post("/predictions/<prediction>/feedback")
    def feedback(prediction: str) -> ResponseReturnValue:
        sent = read_body(request.environ)
        body: FeedbackBody = decode_json(sent, _DECODER)
        refuse_repeated_keys(sent)
        found = find(prediction)
        given = Feedback(found.id, body.right, body.label, _who(), time.time())
        open_store().add_feedback(given)
        return json_answer(_feedback(given), 201)


def _may_see(found: Logged, *, nobody_is_known: bool) -> bool:
    identity = request.environ.get("portico.identity")
    if identity is not None and (identity.may("operator") or (found.who and found.who == _who())):
        return True
    return not found.who and nobody_is_known


def _who() -> str:
    identity = request.environ.get("portico.identity")
    return "" if identity is None else str(identity)


def _described(found: Logged, feedback: Any) -> dict[str, Any]:
    return {
        "id": found.id,
        "time": _time(found.at),
        "model": found.model,
        "version": found.version,
        "who": found.who,
        "outcome": found.outcome,
        "rows": found.rows,
        "batch_rows": found.batch_rows,
        "seconds": found.durations,
        "inputs": _tensors(found.inputs),
        "outputs": _tensors(found.outputs),
        "feedback": [_feedback(given) for given in feedback],
    }


def _feedback(given: Feedback) -> dict[str, Any]:
    return {
        "right": given.right,
        "label": given.label,
        "who": given.who,
        "time": _time(given.at),
    }


def _tensors(tensors: Tensors | None) -> list[dict[str, Any]] | None:
    """Write tensors as the Open Inference Protocol does."""
    if tensors is None:
        return None
    return [
        {
            "name": name,
            "datatype": Datatype.of(array.dtype),
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in tensors.items()
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
