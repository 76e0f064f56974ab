"""PyTorch models as ONNX, by PyTorch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import onnx
import torch

from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.runtimes.torch import TorchModel

_ROWS = 3


def compile_torch(native: TorchModel) -> onnx.ModelProto:
    """Return the ONNX model with the inputs and outputs of the native runtime.

    Raises:
        CannotCompile: the exporter does not know something that the program does.
    """
    inputs = [spec.name for spec in native.signature.inputs]
    outputs = [spec.name for spec in native.signature.outputs]
    # The exporter prints its steps, and warns of its own plans.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            if isinstance(native.program, torch.export.ExportedProgram):
                return _exported(native.program, inputs, outputs)
            return _scripted(native, inputs, outputs)
        except ImportError:
            raise
        except Exception as error:
            told = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CannotCompile(f"PyTorch cannot write it as ONNX: {told}") from error


def _exported(program: Any, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    made = torch.onnx.export(
        program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False
    )
    return made.model_proto


def _scripted(native: TorchModel, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """Write TorchScript, which the newer exporter does not take."""
    file = io.BytesIO()
    specs = [*native.signature.inputs, *native.signature.outputs]
    axes = {
        spec.name: {
            axis: f"{spec.name}_{axis}" if axis else "rows"
            for axis, size in enumerate(spec.shape)
            if size < 0
        }
        for spec in specs
    }
    blanks = native.blanks(_ROWS)
    torch.onnx.export(
        native.program,
        tuple(torch.from_numpy(blanks[name]) for name in inputs),
        file,
        dynamo=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=axes,
    )
    return onnx.load_from_string(file.getvalue())
