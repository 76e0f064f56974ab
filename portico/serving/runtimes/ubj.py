"""Reads UBJSON, the binary JSON that XGBoost writes.

Source: Universal Binary JSON Specification, Draft 12. Counts are believed only as far as the data
goes, so that a header cannot ask for more memory than the file has bytes.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

_MAX_DEPTH: Final = 64
_LENGTHS: Final = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_SCALARS: Final = {**_LENGTHS, b"d": ">f", b"D": ">d"}
_FIXED: Final = {b"Z": None, b"T": True, b"F": False}


class NotUBJSON(ValueError):
    """The bytes are no UBJSON, or end too early."""


def decode_ubj(data: bytes) -> Any:
    """Return what UBJSON holds; arrays of one number type become NumPy arrays.

    Raises:
        NotUBJSON: the bytes are no UBJSON, or end too early.
    """
    return _Decoder(data).value(0)


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self, depth: int, marker: bytes = b"") -> Any:
        if depth > _MAX_DEPTH:
            raise NotUBJSON(f"nested deeper than {_MAX_DEPTH} levels")
        marker = marker or self._take(1)
        if marker in _SCALARS:
            return self._number(_SCALARS[marker])
        if marker in _FIXED:
            return _FIXED[marker]
        if marker == b"S":
            return self._text()
        if marker == b"[":
            return self._array(depth + 1)
        if marker == b"{":
            return self._object(depth + 1)
        raise NotUBJSON(f"no value begins with byte {marker.hex()} (at {self._at - 1})")

    def _array(self, depth: int) -> Any:
        kind, count = self._header()
        if kind is not None:
            if kind not in _SCALARS or count is None:
                raise NotUBJSON(f"an array of byte {kind.hex()} without numbers or count")
            dtype = np.dtype(_SCALARS[kind])
            values = np.frombuffer(self._take(count * dtype.itemsize), dtype)
            return values.astype(dtype.newbyteorder("="))
        items: list[Any] = []
        while len(items) != count and (count is not None or not self._skip(b"]")):
            items.append(self.value(depth))
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        members: dict[str, Any] = {}
        done = 0
        while done != count and (count is not None or not self._skip(b"}")):
            key = self._text()
            members[key] = self.value(depth, kind or b"")
            done += 1
        return members

    def _header(self) -> tuple[bytes | None, int | None]:
        """Return the type and count of a container, where it tells them."""
        kind = self._take(1) if self._skip(b"$") else None
        count = self._length() if self._skip(b"#") else None
        if count is not None and count > len(self._data) - self._at:
            raise NotUBJSON(f"{count} values are announced, but the data ends before")
        return kind, count

    def _length(self) -> int:
        marker = self._take(1)
        if marker not in _LENGTHS:
            raise NotUBJSON(f"byte {marker.hex()} begins no length")
        length = int(self._number(_LENGTHS[marker]))
        if length < 0:
            raise NotUBJSON("a length below 0")
        return length

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self) -> str:
        try:
            return self._take(self._length()).decode("utf-8")
        except UnicodeDecodeError:
            raise NotUBJSON("a text that is no UTF-8") from None

    def _skip(self, marker: bytes) -> bool:
        if self._data[self._at : self._at + 1] != marker:
            return False
        self._at += 1
        return True

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise NotUBJSON("the data is cut short")
        self._at += count
        return taken
