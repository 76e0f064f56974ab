"""Just enough of protobuf's wire format to look into an ONNX file before anything opens it.

Only the lengths that lead to a field are read; weights are passed over, in a file that is mapped
and not loaded. Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5
_LONGEST_VARINT: Final = 10


class NotProtobuf(Exception):
    """The bytes are no protobuf message, or end in the midst of one."""


def fields(data: mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field whose value has a length; check the others.

    Raises:
        NotProtobuf: a field is malformed or reaches beyond ``end``.
    """
    while start < end:
        key, start = _varint(data, start, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise NotProtobuf("a field has the number 0")
        if kind == _VARINT:
            _, start = _varint(data, start, end)
            continue
        if kind == _LENGTH:
            size, start = _varint(data, start, end)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise NotProtobuf(f"a field is of the unknown kind {kind}")
        if size > end - start:
            raise NotProtobuf("it ends in the midst of a field")
        if kind == _LENGTH:
            yield number, start, start + size
        start += size


def _varint(data: mmap, start: int, end: int) -> tuple[int, int]:
    value = 0
    for position in range(_LONGEST_VARINT):
        if start + position >= end:
            raise NotProtobuf("it ends in the midst of a number")
        byte = data[start + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, start + position + 1
    raise NotProtobuf("a number is too long")
