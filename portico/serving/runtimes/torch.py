"""PyTorch models: ``torch.export`` archives and TorchScript, run by PyTorch.

Both reach pickle or code of their own when they are opened, so both are opened only when allowed.
An exported program knows its inputs; a TorchScript archive holds them in a file ``inputs.json``
that was saved with it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import torch

from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.signature import Signature, answer_of, features_of
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

INPUTS: Final = "inputs.json"
"""File in a TorchScript archive: from an input's name to its datatype and shape."""

_TRIALS: Final = (3, 5)
"""Sizes of variable axes in two trial runs: an axis of the outputs that follows is variable too."""

_DATATYPES: Final = {
    torch.bool: Datatype.BOOL,
    torch.uint8: Datatype.UINT8,
    torch.int8: Datatype.INT8,
    torch.int16: Datatype.INT16,
    torch.int32: Datatype.INT32,
    torch.int64: Datatype.INT64,
    torch.float16: Datatype.FP16,
    torch.float32: Datatype.FP32,
    torch.float64: Datatype.FP64,
}


class TorchModel:
    """One program.

    Args:
        data: content of an archive that was allowed to execute code.
        name: of the file; ``.pt2`` is an exported program, anything else TorchScript.
        threads: threads that one run may use; PyTorch keeps one number for the whole process.

    Raises:
        ArtefactError: no program that can be served.
    """

    concurrency: int | None = None

    def __init__(self, data: bytes, name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        is_exported = name.endswith(".pt2")
        self.platform = "pytorch_export" if is_exported else "pytorch_torchscript"
        opened = _exported if is_exported else _scripted
        try:
            self.program, self._call, inputs = opened(data)
        except ArtefactError as error:
            raise ArtefactError(f"'{name}': {error.message}") from error
        except Exception as error:
            told = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ArtefactError(f"'{name}' cannot be opened: {told}") from error
        self.signature = Signature(inputs, (), features_of(inputs))
        outputs = self._outputs(name)
        self.signature = Signature(inputs, outputs, features_of(inputs), answer_of(outputs))

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the program; see :class:`portico.serving.ports.Runtime`."""
        try:
            given = self._run(inputs)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            # PyTorch answers shapes and values that it cannot work on with these.
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelRefused(f"the model refused the input: {reason}") from error
        except Exception as error:
            raise ModelFailed("the model failed on this input") from error
        return {name: given[name] for name in outputs} if outputs else given

    def close(self) -> None:
        """Free the program."""
        del self.program, self._call

    def _run(self, inputs: Tensors) -> Tensors:
        tensors = [_to_torch(inputs[spec.name]) for spec in self.signature.inputs]
        with torch.inference_mode():
            return {name: value.numpy() for name, value in _named(self._call(*tensors)).items()}

    def _outputs(self, name: str) -> tuple[TensorSpec, ...]:
        """Run twice with other sizes to see what comes out."""
        trials = []
        for size in _TRIALS:
            try:
                trials.append(self._run(self.blanks(size)))
            except Exception as error:
                told = (str(error).splitlines() or [type(error).__name__])[0][:200]
                raise ArtefactError(f"'{name}': a trial run failed: {told}") from error
        first, second = trials
        return tuple(
            TensorSpec(key, Datatype.of(a.dtype), _shape(a.shape, second[key].shape))
            for key, a in first.items()
        )

    def blanks(self, size: int) -> Tensors:
        """Return blank inputs whose variable axes have this size."""
        return {
            spec.name: np.zeros(
                [size if axis == VARIABLE else axis for axis in spec.shape], spec.datatype.dtype
            )
            for spec in self.signature.inputs
        }


def _exported(data: bytes) -> tuple[Any, Callable[..., Any], tuple[TensorSpec, ...]]:
    program = torch.export.load(io.BytesIO(data))
    wanted = set(program.graph_signature.user_inputs)
    inputs = tuple(
        _input(node.name, node.meta["val"])
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in wanted
    )
    return program, program.module(), inputs


def _input(name: str, value: Any) -> TensorSpec:
    if not isinstance(value, torch.Tensor) or value.dtype not in _DATATYPES:
        raise ArtefactError(f"input '{name}' is no tensor that the protocol has a datatype for")
    shape = tuple(size if isinstance(size, int) else VARIABLE for size in value.shape)
    return TensorSpec(name, _DATATYPES[value.dtype], shape)


def _scripted(data: bytes) -> tuple[Any, Callable[..., Any], tuple[TensorSpec, ...]]:
    extra: dict[str, Any] = {INPUTS: ""}
    program = torch.jit.load(io.BytesIO(data), map_location="cpu", _extra_files=extra)
    program.eval()
    try:
        told = msgspec.json.decode(extra[INPUTS], type=dict[str, tuple[Datatype, list[int]]])
    except msgspec.DecodeError:
        told = {}
    names = [argument.name for argument in program.forward.schema.arguments[1:]]
    if sorted(told) != sorted(names):
        shown = ", ".join(f'"{name}": ["FP32", [-1, 4]]' for name in names)
        raise ArtefactError(
            "TorchScript does not tell what it takes; save it with torch.jit.save(model, PATH, "
            f"_extra_files={{'{INPUTS}': '{{{shown}}}'}}), or use torch.export"
        )
    return program, program, tuple(TensorSpec(n, told[n][0], tuple(told[n][1])) for n in names)


def _to_torch(array: Array) -> torch.Tensor:
    # PyTorch takes no arrays that are views of a request's body: it could write into them.
    whole = np.ascontiguousarray(array)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy())


def _named(value: Any) -> dict[str, torch.Tensor]:
    """Return what a program gave by name; a tuple's members are numbered."""
    if isinstance(value, torch.Tensor):
        return {"output": value}
    if isinstance(value, dict):
        return {str(key): each for key, each in value.items()}
    if len(value) == 1:
        return {"output": value[0]}
    return {f"output_{index}": each for index, each in enumerate(value)}


def _shape(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a if a == b else VARIABLE for a, b in zip(first, second, strict=True))
