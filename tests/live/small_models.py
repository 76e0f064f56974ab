"""Small ONNX models, each for one thing that a model can be or do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import TensorProto, helper, save_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def tensor(name: str, datatype: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], list(shape))


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "small", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def identity(datatype: str) -> Any:
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [tensor("x", datatype, "N", 2)], [tensor("y", datatype, "N", 2)])


def doubling() -> Any:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return model([node], [tensor("x", "FP32", "N", 2)], [tensor("y", "FP32", "N", 2)])


def several() -> Any:
    """Three inputs of three datatypes; two outputs."""
    nodes = [
        helper.make_node("Cast", ["whole"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["real", "as_float"], ["sum"]),
        helper.make_node("Identity", ["text"], ["same_text"]),
    ]
    inputs = [
        tensor("real", "FP32", "N"),
        tensor("whole", "INT64", "N"),
        tensor("text", "BYTES", "N"),
    ]
    return model(nodes, inputs, [tensor("sum", "FP32", "N"), tensor("same_text", "BYTES", "N")])


def logarithm() -> Any:
    """The logarithm: not a number below zero, minus infinity at zero."""
    node = helper.make_node("Log", ["x"], ["y"])
    return model([node], [tensor("x", "FP32", "N")], [tensor("y", "FP32", "N")])


def wrongly_declared() -> Any:
    """A label that is declared as one row, as converters write it, and comes for every row."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["label"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1]),
    ][::-1]
    return model(nodes, [tensor("x", "INT64", "N", 1)], [tensor("label", "INT64", 1)])


def scalar() -> Any:
    node = helper.make_node("Neg", ["x"], ["y"])
    return model([node], [tensor("x", "FP32")], [tensor("y", "FP32")])


def zipmap() -> Any:
    """Maps from class to probability, as scikit-learn converters add them."""
    node = helper.make_node(
        "ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]
    )
    values = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    output = helper.make_value_info("probabilities", helper.make_sequence_type_proto(values))
    return model([node], [tensor("x", "FP32", "N", 2)], [output])


def sequence() -> Any:
    """Takes a sequence, which the protocol has no way to send."""
    sequence = helper.make_tensor_sequence_value_info("xs", TensorProto.FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["xs"], ["y"], axis=0)
    return model([node], [sequence], [tensor("y", "FP32", "N")])


def sluggish(size: int = 1200, steps: int = 40) -> Any:
    """Multiplies large matrices for a second or so, without holding anything else up."""
    nodes = [
        helper.make_node("Reshape", ["x", "one"], ["scalar"]),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Constant", [], ["shape"], value_ints=[size, size]),
        helper.make_node("Expand", ["scalar", "shape"], ["m0"]),
    ]
    nodes = [nodes[1], nodes[0], *nodes[2:]]
    nodes += [
        helper.make_node("MatMul", [f"m{step}", "m0"], [f"m{step + 1}"]) for step in range(steps)
    ]
    nodes.append(helper.make_node("ReduceMean", [f"m{steps}"], ["y"], keepdims=0))
    return model(nodes, [tensor("x", "FP32", 1)], [tensor("y", "FP32")])


OTHERS: dict[str, Callable[[], Any]] = {
    "several": several,
    "logarithm": logarithm,
    "wrongly-declared": wrongly_declared,
    "scalar": scalar,
    "zipmap": zipmap,
}


def write(model: Any, folder: Path, name: str, version: str = "1", card: str = "") -> None:
    """Write a model as a version of ``name`` into a models folder."""
    home = folder / name / version
    home.mkdir(parents=True)
    save_model(model, home / "model.onnx")
    if card:
        (folder / name / "model.toml").write_text(card)


def write_all(folder: Path) -> Path:
    """Write a model for each datatype, and the others."""
    for datatype in ELEMENT_TYPES:
        write(identity(datatype), folder, f"identity-{datatype.lower()}")
    for name, build in OTHERS.items():
        write(build(), folder, name)
    write(identity("FP32"), folder, "two versions", "1")
    write(doubling(), folder, "two versions", "2")
    return folder
