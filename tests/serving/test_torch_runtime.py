"""PyTorch archives: what they tell and answer, shut unless allowed, and the same as ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not there: pip install 'portico[torch]'")

import torch
from tiny_torch import Net, exported, scripted

from portico.serving.allowance import Allowance
from portico.serving.errors import ArtefactError, ArtefactNotAllowed, ModelRefused
from portico.serving.importing.compilers.torch import compile_torch
from portico.serving.importing.parity import prove
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.runtimes.registry import open_runtime
from portico.serving.runtimes.torch import TorchModel
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
GAIN = np.full((5, 1), 2, dtype=np.float32)

both = pytest.mark.parametrize(
    ("write", "file"), [(exported, "model.pt2"), (scripted, "model.pt")], ids=["export", "script"]
)


@both
def test_it_answers_as_the_module_does(
    tmp_path: Path, write: Callable[[Path], Path], file: str
) -> None:
    model = TorchModel(write(tmp_path / file).read_bytes(), file, 1)
    assert [(s.name, s.datatype, s.shape) for s in model.signature.inputs] == [
        ("x", Datatype.FP32, (-1, 4)),
        ("gain", Datatype.FP32, (-1, 1)),
    ]
    assert [(s.name, s.datatype, s.shape) for s in model.signature.outputs] == [
        ("output_0", Datatype.FP32, (-1, 3)),
        ("output_1", Datatype.FP32, (-1,)),
    ]
    given = model.run({"x": X, "gain": GAIN}, ("output_1", "output_0"))
    assert list(given) == ["output_1", "output_0"]
    with torch.inference_mode():
        expected = Net()(torch.from_numpy(X), torch.from_numpy(GAIN))
    np.testing.assert_allclose(given["output_0"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(given["output_1"], expected[1], rtol=1e-6)
    assert len(model.run({"x": X[:1], "gain": GAIN[:1]}, None)["output_0"]) == 1
    with pytest.raises(ModelRefused):
        model.run({"x": X[:, :3], "gain": GAIN}, None)


@both
def test_it_is_compiled_to_the_same_answers(
    tmp_path: Path, write: Callable[[Path], Path], file: str
) -> None:
    pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript")
    native = TorchModel(write(tmp_path / file).read_bytes(), file, 1)
    path = tmp_path / "model.onnx"
    path.write_bytes(compile_torch(native).SerializeToString())
    compiled = ONNXModel(path, 1)
    assert compiled.signature.inputs == native.signature.inputs
    assert compiled.signature.outputs == native.signature.outputs
    report = prove(native, compiled, native.signature, examples={"x": X, "gain": GAIN})
    assert report.compiled, report.reason


@both
def test_it_stays_shut_unless_it_is_allowed(
    tmp_path: Path, write: Callable[[Path], Path], file: str
) -> None:
    path = write(tmp_path / file)
    allowance = Allowance.of(tmp_path)
    with pytest.raises(ArtefactNotAllowed, match="executes code when it is opened"):
        open_runtime(path, 1, allowance)
    allowance.allow(path)
    assert open_runtime(path, 1, allowance).signature.is_batched


def test_torchscript_that_tells_no_inputs_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = scripted(tmp_path / "model.pt", told=False).read_bytes()
    with pytest.raises(
        ArtefactError, match=r"_extra_files=.*\"x\": \[\"FP32\".*\"gain\""
    ) as caught:
        TorchModel(data, "model.pt", 1)
    assert "torch.export" in caught.value.message


@both
def test_what_is_cut_short_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], file: str
) -> None:
    data = write(tmp_path / file).read_bytes()
    for part in (b"", data[:100], data[: len(data) // 2], data[:-1], b"no archive"):
        with pytest.raises(ArtefactError, match="cannot be opened"):
            TorchModel(part, file, 1)
