"""Predictions in plain words: rows, a table or a picture in; labels and values out."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from apps.shell.models import fail_prediction
from middleware.body_input import read_body
from portico.serving.answers import Answer, answers_of
from portico.serving.codecs.json_tensors import ANY_JSON, decode_json, refuse_repeated_keys
from portico.serving.codecs.rows import tensors_from_csv, tensors_from_form, tensors_from_rows
from portico.serving.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.serving.predictions import Prediction
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors

JSON: Final = "application/json"
CSV: Final = "text/csv"
FORM: Final = "multipart/form-data"
IMAGES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")


@dataclass(frozen=True, slots=True)
class PredictResponse:
    """Answer to a predict request: one prediction a row, and who gave it."""

    model: str
    version: str
    request_id: str
    predictions: list[Answer]


def predict(served: ServedModel, prediction: Prediction) -> PredictResponse:
    """Answer the current request with ``served``.

    Raises:
        ServingError: the request does not fit, or the model could not answer.
        UnsupportedMediaType: nothing that a model could be asked with.
    """
    started = perf_counter()
    try:
        prediction.inputs = _tensors(served)
        prediction.decode = perf_counter() - started
        outputs = served.infer_rows(prediction)
        ran = perf_counter()
        answers = answers_of(served.signature, outputs)
        prediction.encode = perf_counter() - ran
    except Exception as error:
        fail_prediction(served, prediction, error)
        raise
    served.complete(prediction)
    request_id = request.environ.get("portico.request_id", "")
    return PredictResponse(served.name, served.version, request_id, answers)


def _tensors(served: ServedModel) -> Tensors:
    """Decode the body by its content type; without one it is JSON, as programs often send none."""
    kind = request.mimetype
    takes_picture = served.signature.image is not None
    if kind == FORM:
        return _picture(served, _uploaded() if takes_picture else b"", request.form)
    if kind in IMAGES or (kind == "application/octet-stream" and takes_picture):
        return _picture(served, read_body(request.environ))
    is_json = kind in ("", JSON) or kind.endswith("+json")
    if takes_picture and (is_json or kind == CSV):
        raise InvalidInput.at(
            "body",
            f"is {'JSON' if is_json else 'a table'}; this model takes a picture, "
            "as the body or in a form field 'image'",
        )
    if kind == CSV:
        return tensors_from_csv(served.signature, _text(read_body(request.environ)))
    if is_json:
        return _from_json(served, read_body(request.environ))
    raise UnsupportedMediaType(
        f"Content-Type '{kind[:80]}' cannot be read; send {JSON}, {CSV}, {FORM} or a picture."
    )


def _from_json(served: ServedModel, body: bytes) -> Tensors:
    payload = decode_json(body, ANY_JSON)
    rows = _rows(payload, served)
    if body.count(b":") != _keys(payload):
        refuse_repeated_keys(body)
    return tensors_from_rows(served.signature, rows)


def takes_many(signature: Signature) -> bool:
    """Tell whether ``{"rows": [...]}`` means rows; a feature called so leaves the bare row."""
    return "rows" not in signature.feature_by_name


def _rows(payload: Any, served: ServedModel) -> list[dict[str, Any]]:
    """Return the rows of ``{"rows": [...]}`` or of a bare row."""
    if not isinstance(payload, dict):
        raise InvalidInput.at("body", 'must be an object: {"rows": [...]} or one row')
    if "rows" not in payload or not takes_many(served.signature):
        return [payload]
    unknown = [name for name in payload if name != "rows"]
    if unknown:
        raise InvalidInput.at("body", f"has an unknown member '{unknown[0][:64]}'")
    rows = payload["rows"]
    if not isinstance(rows, list):
        raise InvalidInput.at("rows", "must be an array of rows")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput.at(f"rows[{index}]", "must be an object from feature to value")
    return rows


def _keys(payload: dict[str, Any]) -> int:
    """Count the keys of the object and of the rows in it."""
    rows = payload.get("rows")
    inner = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return len(payload) + sum(map(len, inner))


def _picture(served: ServedModel, data: bytes, fields: Mapping[str, str] | None = None) -> Tensors:
    from portico.serving.codecs.images import tensor_from_image

    signature, card = served.signature, served.card.image
    if signature.image is None or card is None:
        raise InvalidInput.at("body", "is a picture; this model takes rows as JSON or CSV")
    name = signature.image.tensor
    picture = tensor_from_image(data, signature.input_by_name[name], card)
    return {**tensors_from_form(signature, fields or {}), name: picture}


def _uploaded() -> bytes:
    for upload in request.files.values():
        data: bytes = upload.read()
        return data
    raise InvalidInput.at("image", "is missing; send the picture as a file field named 'image'")


def _text(body: bytes) -> str:
    charset = request.mimetype_params.get("charset", "utf-8")
    try:
        return body.decode(charset)
    except (LookupError, UnicodeDecodeError):
        raise InvalidInput.at("body", f"is not {charset[:40]} text") from None
