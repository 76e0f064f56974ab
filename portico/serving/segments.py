"""Many predictions as one record: what the prediction log writes and reads.

Predictions that are alike (model, version, who, outcome, names and shapes of tensors) are stacked,
so that writing one costs a few microseconds and not a row of a table. A segment's data is
MessagePack around little-endian arrays; nothing in it can execute code.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import numpy as np

from portico.serving.predictions import Logged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from portico.serving.predictions import Prediction
    from portico.serving.tensors import Array, Tensors

STAGES: Final = ("decode", "queue", "run", "encode")

_ID: Final = re.compile(r"([0-9a-f]{12})-([0-9a-f]{1,15})")
_KIND: Final = attrgetter("dtype", "shape")
_FORMAT: Final = 1
_TEXT: Final = "O"

_Layout: TypeAlias = tuple[tuple[str, Any, tuple[int, ...], bool], ...] | None


@dataclass(frozen=True, slots=True)
class Segment:
    """Predictions that are alike, with all that a log looks for outside of its data.

    Attributes:
        prefix: of the ids, which names the process.
        first, last: smallest and largest number of the ids.
        began, ended: first and last arrival, in seconds since the epoch.
        predictions: how many there are.
        has_inputs: whether inputs were kept.
        data: see :func:`read`.
    """

    model: str
    version: str
    who: str
    outcome: str
    prefix: str
    first: int
    last: int
    began: float
    ended: float
    predictions: int
    has_inputs: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Stack:
    """Predictions that are alike, their tensors stacked.

    Attributes:
        predictions: at least one.
        rows: of all of them.
        inputs: one array an input, the rows of all predictions on the first axis; where a tensor
            has no axis of rows, its first axis counts the predictions. None where there are none.
        outputs: the same of the outputs.
        input_layout, output_layout: of each tensor of one prediction its name, dtype, shape, and
            whether that leaves out an axis of rows.
    """

    predictions: Sequence[Prediction]
    rows: Array
    inputs: Tensors | None
    outputs: Tensors | None
    input_layout: _Layout
    output_layout: _Layout


class _Tensor(msgspec.Struct, array_like=True, gc=False):
    name: str
    dtype: str
    shape: list[int]
    by_rows: bool
    data: bytes


class _Data(msgspec.Struct, array_like=True, gc=False):
    numbers: bytes
    at: bytes
    rows: bytes
    batch_rows: bytes
    durations: bytes
    inputs: list[_Tensor] | None
    outputs: list[_Tensor] | None
    format: int = _FORMAT


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Data)
_TEXTS: Final = msgspec.msgpack.Decoder(list[Any])


def parse_id(prediction: str) -> tuple[str, int] | None:
    """Split an id into its prefix and number; None where it is none."""
    match = _ID.fullmatch(prediction)
    return (match[1], int(match[2], 16)) if match else None


def stacks_of(predictions: Iterable[Prediction]) -> Iterator[Stack]:
    """Stack the predictions that are alike."""
    exactly: defaultdict[Any, list[Prediction]] = defaultdict(list)
    for p in predictions:
        inputs, outputs = p.inputs, p.outputs
        key = (
            p.model, p.version, p.who, p.outcome, p.id[:12], p.rows,
            inputs is not None and (*inputs, *map(_KIND, inputs.values())),
            outputs is not None and (*outputs, *map(_KIND, outputs.values())),
        )  # fmt: skip
        exactly[key].append(p)
    # Those that differ in the number of rows alone fit together as well.
    alike: defaultdict[Any, list[Prediction]] = defaultdict(list)
    for key, same in exactly.items():
        one = same[0]
        layouts = _layout(one.inputs, one.rows), _layout(one.outputs, one.rows)
        alike[key[:5], layouts] += same
    for (_, (input_layout, output_layout)), same in alike.items():
        yield Stack(
            predictions=same,
            rows=np.array([p.rows for p in same], dtype="<u4"),
            inputs=_stacked(input_layout, [p.inputs for p in same]),
            outputs=_stacked(output_layout, [p.outputs for p in same]),
            input_layout=input_layout,
            output_layout=output_layout,
        )


def segment_of(stack: Stack, *, with_tensors: bool = True) -> Segment:
    """Make the record of a stack.

    Args:
        stack: predictions that are alike.
        with_tensors: whether inputs and outputs are kept.
    """
    alike = stack.predictions
    one = alike[0]
    numbers = np.array([int(p.id[13:], 16) for p in alike], dtype="<u8")
    at = np.array([p.at for p in alike], dtype="<f8")
    durations = [[getattr(p, stage) for p in alike] for stage in STAGES]
    data = _Data(
        numbers=numbers.tobytes(),
        at=at.tobytes(),
        rows=stack.rows.tobytes(),
        batch_rows=np.array([p.batch_rows for p in alike], dtype="<u4").tobytes(),
        durations=np.array(durations, dtype="<f4").tobytes(),
        inputs=_packed(stack.input_layout, stack.inputs) if with_tensors else None,
        outputs=_packed(stack.output_layout, stack.outputs) if with_tensors else None,
    )
    return Segment(
        model=one.model,
        version=one.version,
        who=one.who,
        outcome=one.outcome,
        prefix=one.id[:12],
        first=int(numbers.min()),
        last=int(numbers.max()),
        began=float(at.min()),
        ended=float(at.max()),
        predictions=len(alike),
        has_inputs=data.inputs is not None,
        data=_ENCODER.encode(data),
    )


def read(segment: Segment, number: int | None = None) -> Iterator[Logged]:
    """Yield the predictions of a segment, or only the one with a number, if it is there."""
    data = _DECODER.decode(segment.data)
    numbers, rows = np.frombuffer(data.numbers, "<u8"), np.frombuffer(data.rows, "<u4")
    at, batch_rows = np.frombuffer(data.at, "<f8"), np.frombuffer(data.batch_rows, "<u4")
    durations = np.frombuffer(data.durations, "<f4").reshape(len(STAGES), -1)
    wanted = range(len(numbers)) if number is None else np.flatnonzero(numbers == number).tolist()
    if not wanted:
        return
    ends = rows.cumsum(dtype=np.int64)
    counts = int(ends[-1]), len(numbers)
    inputs, outputs = _unpacked(data.inputs, *counts), _unpacked(data.outputs, *counts)
    for i in wanted:
        end = int(ends[i])
        place = slice(end - int(rows[i]), end)
        yield Logged(
            id=f"{segment.prefix}-{int(numbers[i]):x}",
            at=float(at[i]),
            model=segment.model,
            version=segment.version,
            who=segment.who,
            outcome=segment.outcome,
            rows=int(rows[i]),
            batch_rows=int(batch_rows[i]),
            durations=dict(zip(STAGES, durations[:, i].tolist(), strict=True)),
            inputs=_taken(inputs, i, place),
            outputs=_taken(outputs, i, place),
        )


def _layout(tensors: Tensors | None, rows: int) -> _Layout:
    if tensors is None:
        return None
    layout = []
    for name, array in tensors.items():
        shape = array.shape
        by_rows = bool(shape) and shape[0] == rows
        layout.append((name, array.dtype, shape[1:] if by_rows else shape, by_rows))
    return tuple(layout)


def _stacked(layout: _Layout, tensors: Sequence[Tensors | None]) -> Tensors | None:
    if layout is None:
        return None
    stacked: Tensors = {}
    for name, dtype, shape, by_rows in layout:
        arrays = [each[name] for each in tensors if each is not None]
        if dtype.hasobject:
            stacked[name] = np.concatenate(arrays) if by_rows else np.stack(arrays)
            continue
        # Joining bytes is three times as fast as concatenating small arrays.
        flat = np.frombuffer(b"".join([array.tobytes() for array in arrays]), dtype)
        length = sum(map(len, arrays)) if by_rows else len(arrays)
        stacked[name] = flat.reshape(length, *shape)
    return stacked


def _packed(layout: _Layout, tensors: Tensors | None) -> list[_Tensor] | None:
    if layout is None or tensors is None:
        return None
    packed = []
    for name, dtype, shape, by_rows in layout:
        array = tensors[name]
        if dtype.kind in "OUS":
            kind, data = _TEXT, _ENCODER.encode(array.ravel().tolist())
        else:
            array = array.astype(dtype.newbyteorder("<"), copy=False)
            kind, data = array.dtype.str, array.tobytes()
        packed.append(_Tensor(name, kind, list(shape), by_rows, data))
    return packed


def _unpacked(
    tensors: list[_Tensor] | None, rows: int, predictions: int
) -> dict[str, tuple[Array, bool]] | None:
    if tensors is None:
        return None
    return {t.name: (_array(t, rows if t.by_rows else predictions), t.by_rows) for t in tensors}


def _array(tensor: _Tensor, length: int) -> Array:
    if tensor.dtype == _TEXT:
        texts = _TEXTS.decode(tensor.data)
        flat: Array = np.empty(len(texts), dtype=object)
        flat[:] = texts
    else:
        # A copy, since a runtime may want memory that is aligned and its own.
        flat = np.frombuffer(tensor.data, tensor.dtype).copy()
    return flat.reshape(length, *tensor.shape)


def _taken(
    tensors: dict[str, tuple[Array, bool]] | None, index: int, rows: slice
) -> Tensors | None:
    if tensors is None:
        return None
    return {
        name: array[rows] if by_rows else array[index, ...]
        for name, (array, by_rows) in tensors.items()
    }
