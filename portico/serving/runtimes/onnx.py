"""ONNX models, run by ONNX Runtime.

The declared shapes of a file are hints that converters get wrong, so a trial run at load tells
the true ones. ``seq(map(...))`` outputs, which scikit-learn converters add as "ZipMap", become a
matrix with one column a class.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.signature import Scalar, Signature, answer_of, features_of
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TENSOR: Final = re.compile(r"tensor\((\w+)\)")
_ZIPMAP: Final = re.compile(r"seq\(map\((?:int64|string),tensor\((float|double)\)\)\)")
_DATATYPES: Final = {
    "bool": Datatype.BOOL,
    "uint8": Datatype.UINT8,
    "uint16": Datatype.UINT16,
    "uint32": Datatype.UINT32,
    "uint64": Datatype.UINT64,
    "int8": Datatype.INT8,
    "int16": Datatype.INT16,
    "int32": Datatype.INT32,
    "int64": Datatype.INT64,
    "float16": Datatype.FP16,
    "float": Datatype.FP32,
    "double": Datatype.FP64,
    "string": Datatype.BYTES,
}
REFUSAL: Final = "refuses: "
"""What the name of a node begins with that fails on purpose; the rest is a sentence for people."""

_REFUSAL: Final = re.compile(rf"Name:'{REFUSAL}([^']*) \[#\d+\]'")

_TRIAL_ROWS: Final = 3
"""Rows of the trial run: no axis that counts rows is mistaken for one that is fixed at 1 or 2."""


class ONNXModel:
    """One ``.onnx`` file in a session of its own.

    Args:
        path: the file; external data is looked for beside it.
        threads: threads that one run may use.

    Raises:
        ArtefactError: not a model that can be served; the message says why.
    """

    platform = "onnx_onnxv1"
    concurrency: int | None = None

    def __init__(self, path: Path, threads: int) -> None:
        self._session = _open(path, threads)
        inputs = tuple(_input_spec(node) for node in self._session.get_inputs())
        if not inputs:
            raise ArtefactError(f"'{path.name}' has no inputs, so there is nothing to ask it")
        # The session's own method looks at the names once more, for a fifth of a small run.
        self._run = getattr(self._session, "_sess", self._session).run
        self._names = tuple(node.name for node in self._session.get_outputs())
        declared = tuple(_output_spec(node) for node in self._session.get_outputs())
        zipmaps = [n.name for n in self._session.get_outputs() if _ZIPMAP.fullmatch(n.type)]
        trial = self._try_out(inputs)
        self._zipmaps = {name: _classes(name, trial) for name in zipmaps}
        rows = _TRIAL_ROWS if any(spec.is_batched for spec in inputs) else None
        outputs = tuple(_mended(spec, trial, self._zipmaps, rows) for spec in declared)
        classes = next(iter(self._zipmaps.values()), ())
        self.signature = Signature(
            inputs, outputs, features_of(inputs), answer_of(outputs, classes)
        )

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the session; see :class:`portico.serving.ports.Runtime`."""
        names = outputs or self._names
        try:
            values = self._run(names, inputs, None)
        except (state.InvalidArgument, state.Fail) as error:
            # Kernels answer values and shapes that they cannot work on with these two.
            reason = _uneven(inputs) or _reason(error)
            raise ModelRefused(f"the model refused the input: {reason}") from error
        except Exception as error:
            raise ModelFailed("the model failed on this input") from error
        if self._zipmaps:
            values = [self._as_tensor(n, v) for n, v in zip(names, values, strict=True)]
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Free the session."""
        del self._session, self._run

    def _as_tensor(self, name: str, value: Any) -> Array:
        classes = self._zipmaps.get(name)
        if classes is None:
            return value  # type: ignore[no-any-return]
        return np.array([[row[c] for c in classes] for row in value], dtype=np.float32)

    def _try_out(self, inputs: Sequence[TensorSpec]) -> dict[str, Any]:
        """Run once on blank input; a model that refuses blanks keeps its declared shapes."""
        blanks = {
            spec.name: np.full(
                [
                    _TRIAL_ROWS if axis == 0 and size == VARIABLE else abs(size)
                    for axis, size in enumerate(spec.shape)
                ],
                "" if spec.datatype is Datatype.BYTES else 0,
                dtype=spec.datatype.dtype,
            )
            for spec in inputs
        }
        try:
            return dict(zip(self._names, self._session.run(self._names, blanks), strict=True))
        except Exception:
            return {}


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool steals the cores of the other workers while it waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The default warns at each run where a declared shape is wrong, and writes a line for each
    # input that the model refuses; both are told where they belong.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = _reason(error, path)
        raise ArtefactError(f"'{path.name}' cannot be opened as ONNX: {reason}") from error


def _input_spec(node: Any) -> TensorSpec:
    return TensorSpec(node.name, _datatype(node, "input"), _shape(node))


def _output_spec(node: Any) -> TensorSpec:
    zipmap = _ZIPMAP.fullmatch(node.type)
    if zipmap:
        return TensorSpec(node.name, Datatype.FP32, (VARIABLE, VARIABLE))
    return TensorSpec(node.name, _datatype(node, "output"), _shape(node))


def _datatype(node: Any, what: str) -> Datatype:
    match = _TENSOR.fullmatch(node.type)
    if match is None:
        raise ArtefactError(f"{what} '{node.name}' is a {node.type}; only tensors can be served")
    try:
        return _DATATYPES[match[1]]
    except KeyError:
        raise ArtefactError(
            f"{what} '{node.name}' holds {match[1]}, which the protocol has no datatype for"
        ) from None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(s if isinstance(s, int) and s >= 0 else VARIABLE for s in node.shape or ())


def _classes(name: str, trial: dict[str, Any]) -> tuple[Scalar, ...]:
    if not trial.get(name):
        raise ArtefactError(
            f"output '{name}' is a map from class to probability, and a trial run did not tell "
            "the classes; convert the model with zipmap=False"
        )
    return tuple(trial[name][0])


def _mended(
    spec: TensorSpec,
    trial: dict[str, Any],
    zipmaps: dict[str, tuple[Scalar, ...]],
    rows: int | None,
) -> TensorSpec:
    """Correct a declared shape by what the trial run gave; ``rows`` of it, if the model batches."""
    if spec.name in zipmaps:
        return dataclasses.replace(spec, shape=(VARIABLE, len(zipmaps[spec.name])))
    if spec.name not in trial:
        return spec
    true = trial[spec.name].shape
    declared = spec.shape if len(spec.shape) == len(true) else true
    shape = tuple(
        VARIABLE if said != is_ or (axis == 0 and is_ == rows) else is_
        for axis, (said, is_) in enumerate(zip(declared, true, strict=True))
    )
    return dataclasses.replace(spec, shape=shape)


def _uneven(inputs: Tensors) -> str:
    """Tell how many rows each input has, where they differ; some models want it so."""
    rows = {name: len(array) for name, array in inputs.items() if array.ndim}
    if len(set(rows.values())) < 2:
        return ""
    told = ", ".join(f"'{name}' has {count}" for name, count in rows.items())
    return f"the inputs hold different numbers of rows: {told}"


def _reason(error: Exception, path: Path | None = None) -> str:
    """Return ONNX Runtime's message without its code, source lines and folders."""
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    refusal = _REFUSAL.search(message)
    if refusal is not None:
        return refusal[1]
    message = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", message)
    if path is not None:
        # It names files beside the model with their folder, as it was given or resolved.
        folder = path.resolve().parent
        for told in (str(path.parent), str(folder), folder.name):
            message = re.sub(rf"(?<![\w.-]){re.escape(told)}/", "", message)
    message = re.sub(r"(?<![\w.-])(?:/[\w.+\-]+)+/([\w.+\-]+)(?::\d+)?", r"\1", message)
    return message[:300]
