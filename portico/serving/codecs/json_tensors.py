"""JSON tensors of the Open Inference Protocol, in and out.

Source: Open Inference Protocol, "Inference Request JSON Object", "Inference Response JSON Object"
and "Tensor Data". Nothing that a client sends is coerced: a string is no number, 1.5 is no
integer. Everything refused is an :class:`InvalidInput` that names the place.
"""

from __future__ import annotations

import json
import math
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import numpy as np
import orjson

from portico.serving.codecs.raw_tensors import array_from_raw
from portico.serving.errors import InvalidInput, Problem
from portico.serving.tensors import (
    Array,
    Datatype,
    Tensors,
    TensorSpec,
    holds,
    limits_of,
    shape_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.signature import Signature

Parameters: TypeAlias = dict[str, Any]

MAX_DIMENSION: Final = 2**64 - 1
"""A dimension must fit an unsigned 64-bit integer (protocol, "Request Input")."""


class InputTensor(msgspec.Struct, gc=False):
    """One member of ``inputs``."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: Parameters | msgspec.UnsetType | None = msgspec.UNSET


class OutputRequest(msgspec.Struct, gc=False):
    """One member of ``outputs``: an output that the client wants."""

    name: str
    parameters: Parameters | msgspec.UnsetType | None = msgspec.UNSET


class InferRequest(msgspec.Struct, gc=False):
    """The body of an infer request. ``model_name`` is what KServe's client adds."""

    inputs: list[InputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET
    outputs: list[OutputRequest] | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | msgspec.UnsetType | None = msgspec.UNSET
    model_name: Any = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(InferRequest)

ANY_JSON: Final = msgspec.json.Decoder()
"""Decodes any JSON value."""


def decode_request(body: bytes) -> InferRequest:
    """Decode and validate the members of an infer request.

    Raises:
        InvalidInput: malformed JSON, a missing member or one of the wrong type, a repeated key.
    """
    request: InferRequest = decode_json(body, _DECODER)
    if body.count(b":") != _known_keys(request):
        # More colons than keys that were kept: unknown members, colons inside strings, or the
        # one thing that must be refused. Only the slow parser can tell.
        refuse_repeated_keys(body)
    return request


def decode_json(body: bytes, decoder: msgspec.json.Decoder[Any], name: str = "body") -> Any:
    """Decode JSON; every way in which it can be wrong is an :class:`InvalidInput`."""
    if not body:
        raise InvalidInput.at(name, "is empty; JSON is expected")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `")
        # Inside a value of any type msgspec gives "[...]" for the keys, which places nothing.
        where = "" if "[...]" in place else place.rstrip("`").removeprefix("$").lstrip(".")
        raise InvalidInput.at(where or name, _lower(message)) from None
    except msgspec.DecodeError as error:
        raise InvalidInput.at(name, _malformed(str(error))) from None
    except RecursionError:
        raise InvalidInput.at(name, "is nested too deeply") from None
    except UnicodeDecodeError:
        raise InvalidInput.at(name, "is not valid UTF-8") from None


def _malformed(message: str) -> str:
    return f"is not valid JSON: {_lower(message.removeprefix('JSON is malformed: '))}"


def refuse_repeated_keys(body: bytes) -> None:
    """Raise :class:`InvalidInput` where an object repeats a key (RFC 8259 section 4).

    Parsers differ in which of the two they keep, so neither is safe to act on.
    """

    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInput.at("body", f"repeats the key '{key[:64]}'")
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=unique, parse_int=str, parse_float=str)
    except RecursionError:
        raise InvalidInput.at("body", "is nested too deeply") from None
    except UnicodeDecodeError:  # In members that nobody reads, and so nobody decoded.
        raise InvalidInput.at("body", "is not valid UTF-8") from None


def _known_keys(request: InferRequest) -> int:
    unset = msgspec.UNSET
    count = 1 + (request.id is not unset) + (request.model_name is not unset)
    for tensor in request.inputs:
        count += 3 + (tensor.data is not unset) + _parameter_keys(tensor.parameters)
    if request.outputs is not unset:
        count += 1
        for output in request.outputs:
            count += 1 + _parameter_keys(output.parameters)
    return count + _parameter_keys(request.parameters)


def _parameter_keys(parameters: Parameters | msgspec.UnsetType | None) -> int:
    if parameters is msgspec.UNSET:
        return 0
    return 1 + len(parameters) if parameters else 1


def tensors_of(request: InferRequest, signature: Signature) -> Tensors:
    """Return the request's inputs as arrays, checked against the signature.

    Raises:
        InvalidInput: unknown, missing or repeated input; wrong datatype, shape or data.
    """
    tensors: Tensors = {}
    for index, tensor in enumerate(request.inputs):
        spec = signature.input_by_name.get(tensor.name)
        if spec is None:
            raise _unknown(f"inputs[{index}].name", tensor.name, "input", signature.input_by_name)
        if tensor.name in tensors:
            raise InvalidInput.at(f"inputs[{index}].name", f"'{tensor.name}' is given twice")
        tensors[tensor.name] = _array(tensor, spec, f"inputs[{index}]")
    if len(tensors) != len(signature.inputs):
        missing = [spec for spec in signature.inputs if spec.name not in tensors]
        raise InvalidInput.of(
            [
                Problem("inputs", f"lacks '{s.name}' ({s.datatype}, shape {list(s.shape)})")
                for s in missing
            ]
        )
    return tensors


def outputs_of(request: InferRequest, signature: Signature) -> tuple[str, ...] | None:
    """Return the names of the outputs asked for, in that order; None when all are.

    Raises:
        InvalidInput: an output that the model lacks, or one asked for twice.
    """
    if request.outputs is msgspec.UNSET or not request.outputs:
        return None
    names: list[str] = []
    for index, output in enumerate(request.outputs):
        if output.name not in signature.output_by_name:
            raise _unknown(
                f"outputs[{index}].name", output.name, "output", signature.output_by_name
            )
        if output.name in names:
            raise InvalidInput.at(f"outputs[{index}].name", f"'{output.name}' is asked for twice")
        names.append(output.name)
    return tuple(names)


def _unknown(where: str, name: str, what: str, known: dict[str, TensorSpec]) -> InvalidInput:
    return InvalidInput.at(where, f"the model has no {what} '{name}'; it has: {', '.join(known)}")


def _array(tensor: InputTensor, spec: TensorSpec, where: str) -> Array:
    if tensor.datatype != spec.datatype:
        raise InvalidInput.at(
            f"{where}.datatype", f"is '{tensor.datatype}'; '{spec.name}' takes {spec.datatype}"
        )
    shape = tuple(tensor.shape)
    if not spec.admits(shape):
        raise InvalidInput.at(
            f"{where}.shape",
            f"is {shape_text(tensor.shape)}; "
            f"'{spec.name}' takes {list(spec.shape)} (-1 is any size)",
        )
    for size in shape:
        if not 0 <= size <= MAX_DIMENSION:
            axis = shape.index(size)
            raise InvalidInput.at(f"{where}.shape[{axis}]", f"is {size}; a size is 0 or more")
    if isinstance(tensor.data, list):
        return array_from_json(tensor.data, spec.datatype, shape, f"{where}.data")
    if isinstance(tensor.data, memoryview):  # JSON gives none: it is a piece of a binary body.
        return array_from_raw(tensor.data, spec.datatype, shape, f"{where}.binary_data")
    if tensor.data is msgspec.UNSET:
        raise InvalidInput.at(f"{where}.data", _missing(tensor))
    raise InvalidInput.at(f"{where}.data", "must be an array")


def _missing(tensor: InputTensor) -> str:
    if tensor.parameters and "binary_data_size" in tensor.parameters:
        return "is missing; binary data needs the header Inference-Header-Content-Length"
    return "is missing"


def array_from_json(
    data: list[Any], datatype: Datatype, shape: tuple[int, ...], where: str
) -> Array:
    """Turn nested or flat JSON data into an array of ``shape``, row-major.

    Raises:
        InvalidInput: ragged data, a count that does not match ``shape``, an element of another
            type or out of the datatype's range.
    """
    flat, nesting = _flatten(data, where)
    if len(flat) != math.prod(shape):
        raise InvalidInput.at(
            where, f"holds {len(flat)} elements; shape {shape_text(shape)} takes {math.prod(shape)}"
        )
    # Below an empty list nothing tells how the nesting would go on.
    if len(nesting) > 1 and nesting != (shape if flat else shape[: len(nesting)]):
        raise InvalidInput.at(
            where, f"is nested as {shape_text(nesting)}; the shape is {shape_text(shape)}"
        )
    if not _ELEMENT_TYPES[datatype].issuperset(map(type, flat)):
        raise _wrong_element(flat, datatype, nesting, where)
    array = _numbers(flat, datatype)
    if array is None:
        raise _out_of_range(flat, datatype, nesting, where)
    try:
        return array.reshape(shape)
    except ValueError:  # No elements, yet dimensions that no memory could hold.
        raise InvalidInput.at(
            where, f"shape {shape_text(shape)} is larger than can be held"
        ) from None


def _numbers(flat: list[Any], datatype: Datatype) -> Array | None:
    """Return the elements as an array, None where one does not fit the datatype."""
    bounds = _FLOAT_BOUNDS.get(datatype)
    # For a row of a table two comparisons cost a fifth of what NumPy's bookkeeping does.
    if bounds and 0 < len(flat) <= _FEW and bounds[0] <= min(flat) and max(flat) <= bounds[1]:
        return np.array(flat, dtype=bounds[2])
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=datatype.dtype)
    except (OverflowError, ValueError):
        return None
    return None if bounds and not np.isfinite(array).all() else array


_FEW: Final = 64
_FLOAT_BOUNDS: Final = {
    datatype: (*limits_of(datatype), datatype.dtype) for datatype in Datatype if datatype.is_float
}
"""Smallest and largest value, and the dtype, of each float datatype."""

_ELEMENT_TYPES: Final[dict[Datatype, frozenset[type]]] = {
    datatype: frozenset(
        {str}
        if datatype is Datatype.BYTES
        else {bool}
        if datatype is Datatype.BOOL
        else {int, float}
        if datatype.is_float
        else {int}
    )
    for datatype in Datatype
}


def _flatten(data: list[Any], where: str) -> tuple[list[Any], tuple[int, ...]]:
    """Return the elements in row-major order and the sizes of the nested lists."""
    nesting: tuple[int, ...] = (len(data),)
    while data and type(data[0]) is list:
        width = len(data[0])
        for index, item in enumerate(data):
            if type(item) is not list:
                raise InvalidInput.at(f"{where}[{index}]", "is no array, but its neighbours are")
            if len(item) != width:
                raise InvalidInput.at(
                    f"{where}[{index}]", f"has {len(item)} elements; its neighbours have {width}"
                )
        data = list(chain.from_iterable(data))
        nesting = (*nesting, width)
    return data, nesting


def _wrong_element(
    flat: list[Any], datatype: Datatype, nesting: tuple[int, ...], where: str
) -> InvalidInput:
    allowed = _ELEMENT_TYPES[datatype]
    index, value = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
    wanted = {"b": "true or false", "O": "a string", "f": "a number"}.get(
        datatype.dtype.kind, "a whole number"
    )
    return InvalidInput.at(
        f"{where}{_place(index, nesting)}", f"is {shown_json(value)}; {datatype} takes {wanted}"
    )


def _out_of_range(
    flat: list[Any], datatype: Datatype, nesting: tuple[int, ...], where: str
) -> InvalidInput:
    index, value = next((i, v) for i, v in enumerate(flat) if not holds(datatype, v))
    return InvalidInput.at(
        f"{where}{_place(index, nesting)}", f"is {shown_json(value)}; that does not fit {datatype}"
    )


def _place(index: int, nesting: tuple[int, ...]) -> str:
    return "".join(f"[{i}]" for i in np.unravel_index(index, nesting))


def shown_json(value: Any) -> str:
    """Show a refused JSON value, cut short; of an array or object, only that it is one."""
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "an object"
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _lower(message: str) -> str:
    return message if message[1:2].isupper() else message[:1].lower() + message[1:]


def output_members(outputs: Tensors) -> list[dict[str, Any]]:
    """Return the ``outputs`` array of a response; NaN and infinities are sent as null.

    JSON has no literal for them (RFC 8259 section 6).
    """
    return [
        {
            "name": name,
            "datatype": Datatype.of(array.dtype),
            "shape": array.shape,
            "data": array.ravel(),
        }
        for name, array in outputs.items()
    ]


def encode_response(
    model: str,
    version: str,
    outputs: Tensors,
    request_id: str | msgspec.UnsetType,
    members_of: Callable[[Tensors], list[dict[str, Any]]] = output_members,
) -> bytes:
    """Encode the body of an infer response, with the members that ``members_of`` gives."""
    members: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id is not msgspec.UNSET:
        members["id"] = request_id
    members["outputs"] = members_of(outputs)
    return orjson.dumps(members, default=_encode_array, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_array(value: Any) -> Any:
    """Encode the arrays that orjson leaves to us: text, and those that are not contiguous."""
    if isinstance(value, np.ndarray):
        return [_text(v) for v in value.tolist()] if value.dtype.kind in "OSU" else value.tolist()
    raise TypeError(f"cannot encode {type(value).__name__}")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
