"""Tensors and datatypes of the Open Inference Protocol, as NumPy arrays.

Source: Open Inference Protocol, "Tensor Data Types". BYTES elements are held as Python ``str`` in
arrays of dtype ``object``: every runtime that takes text takes it so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]

VARIABLE: Final = -1
"""The size of a dimension that may differ from request to request."""


class Datatype(StrEnum):
    """Element types of the protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype that holds this datatype."""
        return _DTYPES[self]

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self.dtype.kind == "f"

    @property
    def is_integer(self) -> bool:
        """Whether elements are whole numbers."""
        return self.dtype.kind in "iu"

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> Datatype:
        """Return the datatype that a NumPy dtype is sent as.

        Raises:
            ValueError: the protocol has no datatype for it.
        """
        if dtype.kind in "OUS":
            return cls.BYTES
        try:
            return _DATATYPES[dtype]
        except KeyError:
            raise ValueError(f"no protocol datatype holds {dtype}") from None


_DTYPES: Final[dict[Datatype, np.dtype[Any]]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype(np.uint16),
    Datatype.UINT32: np.dtype(np.uint32),
    Datatype.UINT64: np.dtype(np.uint64),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype(np.int16),
    Datatype.INT32: np.dtype(np.int32),
    Datatype.INT64: np.dtype(np.int64),
    Datatype.FP16: np.dtype(np.float16),
    Datatype.FP32: np.dtype(np.float32),
    Datatype.FP64: np.dtype(np.float64),
    Datatype.BYTES: np.dtype(np.object_),
}
_DATATYPES: Final = {dtype: datatype for datatype, dtype in _DTYPES.items()}


def limits_of(datatype: Datatype) -> tuple[float, float]:
    """Return the smallest and largest finite value of a number datatype, as Python numbers."""
    if datatype.is_float:
        floats = np.finfo(datatype.dtype)
        return float(floats.min), float(floats.max)
    integers = np.iinfo(datatype.dtype)
    return int(integers.min), int(integers.max)


def holds(datatype: Datatype, value: float) -> bool:
    """Tell whether a number datatype can hold ``value``, rounded where it is a float."""
    smallest, largest = limits_of(datatype)
    if smallest <= value <= largest:
        return True
    if not datatype.is_float:
        return False
    # The shortest text of the largest float lies a little above it, and rounds back to it.
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.array(value, dtype=datatype.dtype)))
    except OverflowError:
        return False


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one input or output; ``-1`` is a variable dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    @property
    def is_batched(self) -> bool:
        """Whether the first axis counts rows, any number of them."""
        return bool(self.shape) and self.shape[0] == VARIABLE

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: without the batch axis, be it variable or fixed at one row."""
        has_batch_axis = self.is_batched or (len(self.shape) > 1 and self.shape[0] == 1)
        return self.shape[1:] if has_batch_axis else self.shape

    @property
    def row_size(self) -> int:
        """Elements in one row; -1 when a dimension is variable."""
        shape = self.row_shape
        return VARIABLE if VARIABLE in shape else math.prod(shape)

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of ``shape`` fits this tensor."""
        if len(shape) != len(self.shape):
            return False
        # A loop: each request comes through here, and a generator costs three times as much.
        for mine, theirs in zip(self.shape, shape, strict=True):
            if mine not in (theirs, VARIABLE):
                return False
        return True


def shape_text(shape: Sequence[int]) -> str:
    """Show a shape in a message, cut short."""
    sizes = [int(size) for size in shape]
    return str(sizes) if len(sizes) <= 8 else f"[{', '.join(map(str, sizes[:8]))}, ...]"
