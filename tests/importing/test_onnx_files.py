"""The weights of an ONNX file may lie beside it, and nowhere else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import double, model, node, saved

from portico.serving.errors import ArtefactError
from portico.serving.importing.onnx_files import external_files, is_onnx

if TYPE_CHECKING:
    from pathlib import Path


def external(location: str) -> Any:
    """Make a constant of two numbers whose values lie in another file."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def initialised(location: str) -> Any:
    return model(
        [node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("y", TensorProto.FLOAT, ["n", 2])],
        [external(location)],
    )


def in_an_attribute(location: str) -> Any:
    return model(
        [node("Constant", [], ["w"], value=external(location)), node("Add", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("y", TensorProto.FLOAT, ["n", 2])],
    )


def in_a_branch(location: str) -> Any:
    def branch() -> Any:
        out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])
        return helper.make_graph(
            [node("Identity", ["w"], ["b"])], "g", [], [out], [external(location)]
        )

    return model(
        [node("If", ["c"], ["y"], then_branch=branch(), else_branch=branch())],
        [("c", TensorProto.BOOL, [])],
        [("y", TensorProto.FLOAT, [2])],
    )


PLACES = [initialised, in_an_attribute, in_a_branch]


@pytest.mark.parametrize("make", PLACES)
def test_files_with_weights_are_found_wherever_a_tensor_may_stand(
    tmp_path: Path, make: Any
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(np.ones(2, np.float32).tobytes())
    path = saved(tmp_path / "model.onnx", make("parts/w.bin"))
    assert external_files(path) == ["parts/w.bin"]


@pytest.mark.parametrize("make", PLACES)
@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", "..", "..\\w.bin", "w\0.bin"]
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, make: Any, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    path = saved(tmp_path / "in" / "model.onnx", make(location))
    with pytest.raises(ArtefactError, match=r"outside its folder|which is no file"):
        external_files(path)


def test_a_link_to_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    path = saved(tmp_path / "in" / "model.onnx", initialised("w.bin"))
    (path.parent / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtefactError, match="a link to outside its folder"):
        external_files(path)


def test_weights_that_are_missing_are_told_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", initialised("w.bin"))
    with pytest.raises(ArtefactError, match=r"keeps weights in 'w\.bin', which is not there"):
        external_files(path)


def test_a_model_in_one_file_needs_no_other(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", double())
    assert is_onnx(path)
    assert external_files(path) == []


def test_no_damage_does_more_than_be_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    whole = initialised("w.bin").SerializeToString()
    random.seed(7)
    path = tmp_path / "model.onnx"
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        path.write_bytes(data[: random.randint(1, len(data))])
        if is_onnx(path):
            try:
                assert external_files(path) in ([], ["w.bin"])
            except ArtefactError:
                continue
