"""One tensor as plain bytes: little-endian and row-major, as the binary extension sends it.

A BOOL is one byte, a BYTES element its length in four bytes and then its content.

Source: Open Inference Protocol, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.errors import InvalidInput
from portico.serving.tensors import Array, Datatype, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH: Final = struct.Struct("<I")


def array_from_raw(
    data: memoryview, datatype: Datatype, shape: tuple[int, ...], where: str
) -> Array:
    """Return ``data`` as an array of ``shape``, without copying it where that is safe.

    The array is read-only where it is a view. Floats come bit by bit, NaN and infinities included:
    that is how a missing value reaches a model that knows them.

    Args:
        data: exactly the bytes of the tensor.
        datatype: of its elements.
        shape: checked against the model by the caller.
        where: stands in the errors.

    Raises:
        InvalidInput: too few or too many bytes, a BOOL other than 0 and 1, a BYTES element that
            is cut off or no UTF-8.
    """
    if datatype is Datatype.BYTES:
        array = _texts(data, math.prod(shape), where)
    else:
        array = _numbers(data, datatype, shape, where)
    try:
        return array.reshape(shape)
    except ValueError:  # No elements, yet dimensions that no memory could hold.
        raise InvalidInput.at(
            where, f"shape {shape_text(shape)} is larger than can be held"
        ) from None


def raw_from_array(array: Array) -> Array:
    """Return an array whose memory is what the tensor is sent as; often it is the same array.

    Raises:
        ValueError: the protocol has no datatype for it.
    """
    datatype = Datatype.of(array.dtype)
    if datatype is Datatype.BYTES:
        return np.frombuffer(b"".join(_prefixed(array)), dtype=np.uint8)
    return np.ascontiguousarray(array, dtype=_LITTLE[datatype])


_LITTLE: Final[dict[Datatype, np.dtype[Any]]] = {
    datatype: datatype.dtype.newbyteorder("<")
    for datatype in Datatype
    if datatype is not Datatype.BYTES
}


def _numbers(data: memoryview, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    size = math.prod(shape) * datatype.dtype.itemsize
    if len(data) != size:
        raise InvalidInput.at(
            where, f"is {len(data)} bytes; {datatype} of shape {shape_text(shape)} takes {size}"
        )
    if datatype is Datatype.BOOL:
        _refuse_other_than_0_and_1(np.frombuffer(data, dtype=np.uint8), where)
    array = np.frombuffer(data, dtype=_LITTLE[datatype])
    # The JSON before it may end anywhere, and compiled kernels count on aligned numbers.
    return np.require(array, datatype.dtype, "A")


def _refuse_other_than_0_and_1(values: Array, where: str) -> None:
    wrong = np.flatnonzero(values > 1)
    if wrong.size:
        first = wrong[0]
        raise InvalidInput.at(where, f"byte {first} is {values[first]}; BOOL is 0 or 1")


def _texts(data: memoryview, count: int, where: str) -> Array:
    end, start = len(data), 0
    texts: list[str] = []
    # Each takes four bytes at least, so this ends however large a count the shape claims.
    while len(texts) < count and start + _LENGTH.size <= end:
        begin = start + _LENGTH.size
        start = begin + _LENGTH.unpack_from(data, begin - _LENGTH.size)[0]
        if start > end:
            raise InvalidInput.at(
                where, f"element {len(texts)} is {start - begin} bytes long; {end - begin} are left"
            )
        try:
            texts.append(str(data[begin:start], "utf-8"))
        except UnicodeDecodeError:
            raise InvalidInput.at(
                where, f"element {len(texts)} is not valid UTF-8; models here take text"
            ) from None
    if len(texts) != count:
        raise InvalidInput.at(where, f"ends after {len(texts)} elements; the shape takes {count}")
    if start != end:
        raise InvalidInput.at(where, f"has {end - start} bytes after its last element")
    array = np.empty(count, dtype=np.object_)
    array[:] = texts
    return array


def _prefixed(array: Array) -> Iterator[bytes]:
    for value in array.ravel().tolist():
        content = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        yield _LENGTH.pack(len(content))
        yield content
