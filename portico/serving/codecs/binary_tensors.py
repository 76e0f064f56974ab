"""Requests and responses of the binary tensor data extension: JSON first, then tensors as bytes.

Source: Open Inference Protocol, "Binary Tensor Data Extension" and its "Raw Binary Request". What
the bytes of one tensor mean is in :mod:`portico.serving.codecs.raw_tensors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from portico.serving.codecs.json_tensors import (
    InferRequest,
    InputTensor,
    Parameters,
    decode_request,
    encode_response,
    output_members,
)
from portico.serving.codecs.raw_tensors import raw_from_array
from portico.serving.errors import InvalidInput
from portico.serving.tensors import VARIABLE, Datatype, shape_text

if TYPE_CHECKING:
    from collections.abc import Collection, Container

    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors, TensorSpec

HEADER: Final = "Inference-Header-Content-Length"
"""Tells how many bytes of a body are JSON; the tensors follow."""

_LONGEST: Final = 18
"""Digits of a length; no body is longer, and Python converts no endless rows of digits."""


def decode_binary_request(body: bytes, header: str, signature: Signature) -> InferRequest:
    """Decode a request whose JSON ends after ``header`` bytes.

    Each input that gives a ``binary_data_size`` gets that piece of the body as its ``data``, in
    the order of the inputs; nothing is copied. A length of 0 says that the whole body is the one
    input of the model.

    Args:
        body: JSON and tensors.
        header: the value of :data:`HEADER`, as it came.
        signature: of the model that is asked.

    Raises:
        InvalidInput: a length or size that does not fit the body, or JSON that is refused.
    """
    length = _length(header, body)
    if length == 0:
        return _raw_request(body, signature)
    request = decode_request(body[:length])
    _hand_out(request, memoryview(body)[length:])
    return request


def _length(header: str, body: bytes) -> int:
    if not (header.isascii() and header.isdecimal()):
        raise InvalidInput.at(HEADER, f"is '{header[:40]}'; it is the length of the JSON in bytes")
    length = int(header) if len(header) <= _LONGEST else len(body) + 1
    if length > len(body):
        raise InvalidInput.at(HEADER, f"is {header[:40]}; the body is {len(body)} bytes")
    return length


def _hand_out(request: InferRequest, tail: memoryview) -> None:
    """Give each binary input its piece of what follows the JSON."""
    start = 0
    for index, tensor in enumerate(request.inputs):
        parameters = tensor.parameters
        if not parameters or "binary_data_size" not in parameters:
            continue
        where = f"inputs[{index}].parameters.binary_data_size"
        size = parameters["binary_data_size"]
        if type(size) is not int or size < 0:
            raise InvalidInput.at(where, "must be a whole number of bytes, 0 or more")
        if size > len(tail) - start:
            raise InvalidInput.at(
                where, f"is {size}; {len(tail) - start} bytes of the body are left"
            )
        if tensor.data is not msgspec.UNSET:
            raise InvalidInput.at(f"inputs[{index}].data", "is given, and binary data as well")
        tensor.data = tail[start : start + size]
        start += size
    if start != len(tail):
        raise InvalidInput.at("body", f"has {len(tail) - start} bytes that belong to no input")


def _raw_request(body: bytes, signature: Signature) -> InferRequest:
    """Make the request that a body without any JSON stands for: one row, all outputs binary."""
    if len(signature.inputs) != 1:
        raise InvalidInput.at(
            HEADER, f"is 0, which needs a model of one input; this one has {len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    data = memoryview(body)
    if spec.datatype is Datatype.BYTES:
        # The body is the one element; what is behind this reads elements with their lengths.
        data = memoryview(len(body).to_bytes(4, "little") + body)
    tensor = InputTensor(spec.name, _raw_shape(spec, len(body)), spec.datatype, data)
    return InferRequest([tensor], parameters={"binary_data_output": True})


def _raw_shape(spec: TensorSpec, size: int) -> list[int]:
    """Deduce the one size that may be left open, after a batch of one, from the number of bytes."""
    shape = [1, *spec.shape[1:]] if spec.is_batched else [*spec.shape]
    if spec.datatype is Datatype.BYTES:
        return [1 if length == VARIABLE else length for length in shape]
    if shape.count(VARIABLE) > 1:
        raise InvalidInput.at(
            HEADER,
            f"is 0, and '{spec.name}' takes {shape_text(spec.shape)}: several sizes are left open; "
            "send them as JSON",
        )
    if VARIABLE in shape:
        rest = spec.datatype.dtype.itemsize
        for length in shape:
            rest *= 1 if length == VARIABLE else length
        shape[shape.index(VARIABLE)] = size // rest if rest else 0
    return shape


def binary_outputs(request: InferRequest, signature: Signature) -> Collection[str]:
    """Return the names of the outputs that the client wants as bytes.

    Raises:
        InvalidInput: a parameter that must be true or false is something else.
    """
    everything = _flag(request.parameters, "binary_data_output", "parameters", False)
    if request.outputs is msgspec.UNSET or not request.outputs:
        return signature.output_by_name if everything else ()
    return {
        output.name
        for index, output in enumerate(request.outputs)
        if _flag(output.parameters, "binary_data", f"outputs[{index}].parameters", everything)
    }


def _flag(
    parameters: Parameters | msgspec.UnsetType | None, name: str, where: str, default: bool
) -> bool:
    if not parameters or name not in parameters:
        return default
    value = parameters[name]
    if not isinstance(value, bool):
        raise InvalidInput.at(f"{where}.{name}", "must be true or false")
    return value


def encode_binary_response(
    model: str,
    version: str,
    outputs: Tensors,
    request_id: str | msgspec.UnsetType,
    binary: Container[str],
) -> tuple[bytes, int]:
    """Encode a response some of whose outputs are bytes; NaN and infinities stay what they are.

    Args:
        model: name.
        version: that answered.
        outputs: of the model.
        request_id: of the client, if it gave one.
        binary: names of the outputs that are sent as bytes.

    Returns:
        The body, and how many bytes of it are JSON.
    """
    raws = {name: raw_from_array(array) for name, array in outputs.items() if name in binary}

    def members(outputs: Tensors) -> list[dict[str, Any]]:
        found = output_members(outputs)
        for member in found:
            raw = raws.get(member["name"])
            if raw is not None:
                del member["data"]
                member["parameters"] = {"binary_data_size": raw.nbytes}
        return found

    head = encode_response(model, version, outputs, request_id, members)
    return b"".join([head, *(raw.data for raw in raws.values())]), len(head)
