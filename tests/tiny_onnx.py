"""ONNX models of a few nodes, made for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from pathlib import Path

Port: TypeAlias = tuple[str, int, Sequence[int | str] | None]
"""Name, element type and shape of an input or output; a text is a dynamic axis."""

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Port | Any],
    outputs: Sequence[Port | Any],
    constants: Sequence[Any] = (),
    opset: int = 17,
) -> Any:
    """Build a model; a port that is no tuple is taken as it is."""

    def port(given: Port | Any) -> Any:
        return helper.make_tensor_value_info(*given) if isinstance(given, tuple) else given

    graph = helper.make_graph(
        nodes, "tiny", [port(p) for p in inputs], [port(p) for p in outputs], constants
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """Make a node of the standard's operators, or of those for classic models."""
    return helper.make_node(kind, inputs, outputs, **attributes)


def constant(name: str, kind: int, shape: Sequence[int], values: Sequence[Any]) -> Any:
    """Make a constant of the graph."""
    return helper.make_tensor(name, kind, shape, values)


def saved(path: Path, made: Any) -> Path:
    """Write a model and return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)
    return path


def double(kind: int = FLOAT, shape: Sequence[int | str] = ("n", 2)) -> Any:
    """Build a model that adds ``x`` to itself."""
    return model([node("Add", ["x", "x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


def classifier(
    classes: Sequence[int] | Sequence[str] = (0, 1),
    *,
    zipmap: bool = True,
    label_shape: Sequence[int | str] = ("n",),
) -> Any:
    """Build a linear classifier over two columns, with as many scores as classes.

    The scores are the softmax of ``[a, b, b, ...]``: the first class wins where a is larger.
    """
    texts = isinstance(classes[0], str)
    names: list[Any] = [c.encode() if isinstance(c, str) else c for c in classes]
    key = "classlabels_strings" if texts else "classlabels_ints"
    weights = [1.0, 0.0] + [0.0, 1.0] * (len(classes) - 1)
    nodes = [
        node(
            "LinearClassifier", ["x"], ["label", "scores"],
            coefficients=weights, intercepts=[0.0] * len(classes), post_transform="SOFTMAX",
            domain="ai.onnx.ml", **{key: names},
        )
    ]  # fmt: skip
    label = ("label", STRING if texts else INT64, label_shape)
    if not zipmap:
        scores: Any = ("scores", FLOAT, ["n", len(classes)])
        return model(nodes, [("x", FLOAT, ["n", 2])], [label, scores])
    keys = "classlabels_strings" if texts else "classlabels_int64s"
    nodes.append(
        node(
            "ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml",
            **{keys: names},
        )
    )  # fmt: skip
    value = helper.make_tensor_type_proto(FLOAT, [])
    one = helper.make_map_type_proto(STRING if texts else INT64, value)
    many = helper.make_sequence_type_proto(one)
    return model(
        nodes, [("x", FLOAT, ["n", 2])], [label, helper.make_value_info("probabilities", many)]
    )
