"""A small builder of ONNX graphs.

Numbers are doubles throughout: scikit-learn computes in double, and rounds to single precision
only where a step of its own does so.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from portico.serving.runtimes.onnx import REFUSAL
from portico.serving.tensors import VARIABLE, Datatype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from portico.serving.tensors import TensorSpec

OPSETS: Final = {"": 21, "ai.onnx.ml": 5, "com.microsoft": 1}
"""What the graphs are written in: the oldest operator sets that hold all that is used."""

IR_VERSION: Final = 10
ML: Final = "ai.onnx.ml"

FLOAT: Final = TensorProto.FLOAT
DOUBLE: Final = TensorProto.DOUBLE
INT64: Final = TensorProto.INT64
BOOL: Final = TensorProto.BOOL
STRING: Final = TensorProto.STRING

Value: TypeAlias = str
"""Name of a value in the graph."""

Operand: TypeAlias = "str | float | int | Sequence[float] | np.ndarray[Any, Any]"
"""A value of the graph, or a constant: float means double and int means a 64-bit integer."""

_TYPES: Final = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}


def element_type(datatype: Datatype) -> int:
    """Return ONNX's element type for a datatype of the protocol."""
    return int(_TYPES[datatype])


class Graph:
    """Nodes and constants of one model under construction.

    Args:
        reserved: names of inputs and outputs.
        outer: the graph around a branch, whose values and constants the branch may use.
    """

    def __init__(self, reserved: Sequence[str] = (), outer: Graph | None = None) -> None:
        self._nodes: list[Any] = []
        self._made: dict[Any, Value] = {}
        self._constants: dict[tuple[Any, ...], Any] = outer._constants if outer else {}
        self._names: Iterator[str] = (
            outer._names if outer else (f"#{i}" for i in count() if f"#{i}" not in set(reserved))
        )

    def add(
        self, op: str, *inputs: Operand, name: str = "", domain: str = "", **attributes: Any
    ) -> Value:
        """Add a node with one output and return the output.

        Args:
            op: operator of :data:`OPSETS`.
            inputs: values and constants; an empty text leaves an optional input out.
            name: of the node, for messages.
            domain: of the operator.
            attributes: as ``onnx.helper.make_node`` takes them.
        """
        return self.add_many(op, 1, *inputs, name=name, domain=domain, **attributes)[0]

    def add_many(
        self,
        op: str,
        outputs: int,
        *inputs: Operand,
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        """Add a node with so many outputs and return them."""
        made = [self.fresh() for _ in range(outputs)]
        given = [self.value(each) for each in inputs]
        self._nodes.append(
            helper.make_node(op, given, made, name=name, domain=domain, **attributes)
        )
        return made

    def value(self, operand: Operand) -> Value:
        """Return the operand as a value; constants with the same content are kept once."""
        if isinstance(operand, str):
            return operand
        array = np.asarray(operand)
        if array.dtype.kind in "UO":
            content: Any = tuple(array.reshape(-1).tolist())
            array = array.astype(object)
        else:
            content = array.tobytes()
        key = (str(array.dtype), array.shape, content)
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(
                np.ascontiguousarray(array).reshape(array.shape), self.fresh()
            )
        return str(self._constants[key].name)

    def fresh(self) -> Value:
        """Return a name that nothing bears yet."""
        return next(self._names)

    def once(self, key: Any, build: Callable[[], Value]) -> Value:
        """Return what was built for a key before, or build it."""
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def adopt(self, graph: Any, inputs: dict[Value, Value]) -> None:
        """Take over nodes and constants of another graph, whose names must be fresh.

        Args:
            graph: as a model of another converter holds it.
            inputs: what each input of it stands for.
        """
        for name, value in inputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._nodes.extend(graph.node)
        for constant in graph.initializer:
            self._constants[(constant.name,)] = constant

    def cast(self, value: Operand, to: int) -> Value:
        """Return the value in another element type."""
        return self.add("Cast", value, to=to)

    def rounded(self, value: Value) -> Value:
        """Round doubles to single precision, as a step that works in it would, and back."""
        return self.cast(self.cast(value, FLOAT), DOUBLE)

    def matmul(self, left: Operand, right: Operand) -> Value:
        """Return the matrix product."""
        return self.add("MatMul", left, right)

    def reshape(self, value: Operand, *shape: int) -> Value:
        """Return the value in another shape; 0 keeps a dimension and -1 is found out."""
        return self.add("Reshape", value, np.array(shape, dtype=np.int64))

    def columns(self, value: Operand, picked: Sequence[int] | int | np.ndarray[Any, Any]) -> Value:
        """Return some columns of a matrix, or one of them as a vector."""
        return self.add("Gather", value, np.array(picked, dtype=np.int64), axis=1)

    def sum(self, value: Operand, axis: int = 1, *, keep: bool = False) -> Value:
        """Return the sums along an axis."""
        return self.add("ReduceSum", value, np.array([axis]), keepdims=int(keep))

    def argmax(self, value: Operand, axis: int = 1) -> Value:
        """Return the index of the largest; the first of equals, as NumPy does."""
        return self.add("ArgMax", value, axis=axis, keepdims=0)

    def concat(self, values: Sequence[Operand], axis: int = 1) -> Value:
        """Join values along an axis."""
        if len(values) == 1:
            return self.value(values[0])
        return self.add("Concat", *values, axis=axis)

    def refuse_where(self, bad: Value, sentence: str, value: Value) -> Value:
        """Return a matrix of numbers as it is, unless ``bad`` holds a true: then the run fails.

        ONNX has no operator that raises, but one that is asked for a place outside of its data
        does; its name carries the sentence to whoever reads the error.
        """
        any_bad = self.add("ReduceMax", self.cast(bad, INT64), keepdims=0)
        # Names of nodes must differ, so this one ends in a number.
        name = f"{REFUSAL}{sentence} [{self.fresh()}]"
        nothing = self.add("Gather", np.zeros(1), any_bad, name=name)
        return self.add("Add", value, nothing)

    def either(
        self, condition: Value, then: Callable[[Graph], Value], other: Callable[[Graph], Value]
    ) -> Value:
        """Return what one of two branches makes; the other one is not run.

        Args:
            condition: a single truth value.
            then: builds the branch for true on the graph it is given.
            other: builds the branch for false.
        """
        return self.add(
            "If",
            condition,
            then_branch=self._branch("then", then),
            else_branch=self._branch("else", other),
        )

    def _branch(self, name: str, build: Callable[[Graph], Value]) -> Any:
        branch = Graph(outer=self)
        made = helper.make_empty_tensor_value_info(build(branch))
        return helper.make_graph(branch._nodes, name, [], [made])

    def joined_texts(self, texts: Value, empty: Value) -> Value:
        """Join the texts of each row of a matrix; ``empty`` holds an empty text for each row."""
        body = Graph(outer=self)
        step, going, before = body.fresh(), body.fresh(), body.fresh()
        column = body.add("Gather", texts, step, axis=1)
        made = body.add("StringConcat", before, column)
        loop = helper.make_graph(
            [*body._nodes, helper.make_node("Identity", [going], [next_going := body.fresh()])],
            "join",
            [
                helper.make_tensor_value_info(step, INT64, []),
                helper.make_tensor_value_info(going, BOOL, []),
                helper.make_tensor_value_info(before, STRING, ["texts"]),
            ],
            [
                helper.make_tensor_value_info(next_going, BOOL, []),
                helper.make_tensor_value_info(made, STRING, ["texts"]),
            ],
        )
        columns = self.reshape(self.add("Shape", texts, start=1, end=2))
        return self.add("Loop", columns, np.array(True), empty, body=loop)

    def model(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], made: Sequence[Value]
    ) -> onnx.ModelProto:
        """Return the model with exactly these inputs and outputs.

        Args:
            inputs: nodes refer to them by name.
            outputs: names, datatypes and shapes.
            made: the value for each output.
        """
        for spec, value in zip(outputs, made, strict=True):
            self._nodes.append(helper.make_node("Identity", [value], [spec.name]))
        self._prune({spec.name for spec in outputs})
        graph = helper.make_graph(
            self._nodes,
            "portico",
            [_port(spec) for spec in inputs],
            [_port(spec) for spec in outputs],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="portico"
        )

    def _prune(self, wanted: set[Value]) -> None:
        """Leave out what no output needs."""
        kept = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted |= _uses(node)
        self._nodes = kept[::-1]
        self._constants = {
            key: each for key, each in self._constants.items() if each.name in wanted
        }


def _uses(node: Any) -> set[Value]:
    """Return the values that a node and the graphs inside it refer to."""
    used = set(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            used |= {output.name for output in attribute.g.output}
            used = used.union(*(_uses(inner) for inner in attribute.g.node))
    return used


def _port(spec: TensorSpec) -> Any:
    shape = [
        f"{'rows' if axis == 0 else f'size{axis}'}" if size == VARIABLE else size
        for axis, size in enumerate(spec.shape)
    ]
    return helper.make_tensor_value_info(spec.name, element_type(spec.datatype), shape)
