"""Versions whose answers tell which one they are, published without the work of an import."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from portico.serving.artefacts import sha256_of
from portico.serving.golden import Golden
from portico.serving.manifest import GOLDEN, Manifest, Source, write_manifest
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.signature_json import signature_to_json

if TYPE_CHECKING:
    from portico.serving.versions import ArtefactStore, VersionStore

_FILE: Final = "model.onnx"


def write_constant(path: Path, value: float) -> None:
    """Write a model that answers each row of two numbers with ``value``, twice."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("value", TensorProto.FLOAT, [1], [value]),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "constant", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def write_version(folder: Path, model: str, value: float, *, answers: float | None = None) -> str:
    """Write the folder of a version that answers with ``value``, and return its digest.

    Args:
        folder: made.
        model: name.
        value: of each answer.
        answers: what its golden rows say; ``value`` without.
    """
    folder.mkdir(parents=True)
    write_constant(folder / _FILE, value)
    golden = value if answers is None else answers
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    Golden({"x": rows}, {"y": np.full((4, 2), golden, np.float32)}).save(folder / GOLDEN)
    manifest = Manifest(
        model=model,
        platform=ONNXModel.platform,
        entry=_FILE,
        files={name: sha256_of(folder / name) for name in (_FILE, GOLDEN)},
        signature=signature_to_json(ONNXModel(folder / _FILE, 1).signature),
        source=Source(kind="onnx", file=_FILE, sha256=sha256_of(folder / _FILE)),
    )
    return write_manifest(folder, manifest)


def publish(
    versions: VersionStore,
    artefacts: ArtefactStore,
    model: str,
    value: float,
    *,
    answers: float | None = None,
    promote: bool = False,
) -> int:
    """Publish a version that answers with ``value``, and return its number."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "version"
        digest = write_version(folder, model, value, answers=answers)
        artefacts.put(digest, folder)
    number = versions.reserve(model, None, "test").version
    versions.publish(model, number, digest, promote=promote)
    return number
