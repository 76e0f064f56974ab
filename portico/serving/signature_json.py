"""A signature as plain JSON, as manifests keep it, and back without any loss.

JSON has no word for NaN and infinities, and most readers round whole numbers beyond 64 bits. Where
a class, a choice or a limit is such a number, an object stands for it: ``{"float": "nan"}`` or
``{"int": "18446744073709551616"}``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from portico.serving.errors import ArtefactError
from portico.serving.signature import AnswerSpec, Feature, Signature
from portico.serving.tensors import TensorSpec  # noqa: TC001 msgspec reads the annotations

_LARGEST: Final = 2**63


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a signature that are given; what it derives from them is not written."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[Feature, ...]
    answer: AnswerSpec


def signature_to_json(signature: Signature) -> dict[str, Any]:
    """Return a signature as dicts, lists, texts, numbers and null."""
    plain = _Plain(signature.inputs, signature.outputs, signature.features, signature.answer)
    # Classes and choices may be NumPy scalars, which know the Python value that they hold.
    built = msgspec.to_builtins(plain, enc_hook=lambda scalar: scalar.item())
    return _written(built)  # type: ignore[no-any-return]


def signature_from_json(data: dict[str, Any]) -> Signature:
    """Return the signature that :func:`signature_to_json` wrote.

    Raises:
        ArtefactError: a key is missing or unknown, or a value of the wrong type.
    """
    try:
        plain = msgspec.convert(_read(data), _Plain)
    except (msgspec.ValidationError, ValueError) as error:
        raise ArtefactError(f"the signature cannot be read: {error}") from None
    return Signature(plain.inputs, plain.outputs, plain.features, plain.answer)


def _written(value: Any) -> Any:
    match value:
        case dict():
            return {key: _written(each) for key, each in value.items()}
        case list() | tuple():
            return [_written(each) for each in value]
        case float() if not math.isfinite(value):
            return {"float": repr(value)}
        case int() if not -_LARGEST <= value < _LARGEST:
            return {"int": str(value)}
        case _:
            return value


def _read(value: Any) -> Any:
    match value:
        case {"float": str(text), **rest} if not rest:
            return float(text)
        case {"int": str(text), **rest} if not rest:
            return int(text)
        case dict():
            return {key: _read(each) for key, each in value.items()}
        case list():
            return [_read(each) for each in value]
        case _:
            return value
