"""scikit-learn estimators and pipelines as ONNX graphs that take and give the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.base import is_classifier

# Importing these registers what they compile.
from portico.serving.importing.compilers import (  # noqa: F401
    boosted_trees,
    encoding,
    ensembles,
    linear,
    pipelines,
    scaling,
    text,
    trees,
    vectors,
)
from portico.serving.importing.compilers.dispatch import Classes, classify, predict, transform
from portico.serving.importing.compilers.graph import DOUBLE, Graph, Value, element_type
from portico.serving.importing.compilers.tables import Numbers, Table, Text, side_by_side
from portico.serving.importing.errors import CannotCompile
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    import onnx

    from portico.serving.importing.compilers.tables import Part
    from portico.serving.signature import Signature
    from portico.serving.tensors import TensorSpec

_MATRIX: Final = "input"


def compile_sklearn(estimator: Any, signature: Signature) -> onnx.ModelProto:
    """Compile a fitted estimator.

    Args:
        estimator: fitted.
        signature: as :class:`portico.serving.runtimes.sklearn.SklearnModel` reads it; the graph
            has exactly these inputs and outputs.

    Raises:
        CannotCompile: a step has no equal in ONNX.
    """
    names = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    if len(set(names)) < len(names) or "" in names:
        raise CannotCompile("an input and an output have the same name, or an input has none")
    graph = Graph(names)
    made = _answers(graph, estimator, _inputs(graph, estimator, signature))
    values = [_output(graph, made, spec) for spec in signature.outputs]
    return graph.model(signature.inputs, signature.outputs, values)


def _inputs(graph: Graph, estimator: Any, signature: Signature) -> Table:
    """Return the columns that the estimator was fitted on."""
    specs = signature.inputs
    if len(specs) == 1 and len(specs[0].shape) == 1:
        return Table((Text(graph.reshape(specs[0].name, -1, 1)),))
    if len(specs) == 1 and specs[0].name == _MATRIX and specs[0].datatype is Datatype.FP64:
        given = Table((Numbers(_MATRIX, specs[0].row_size),))
        order = [feature.name for feature in signature.features]
    else:
        given = side_by_side(Table((_part(graph, spec),)) for spec in specs)
        order = [spec.name for spec in specs]
    known = getattr(estimator, "feature_names_in_", None)
    if known is None or len(known) == len(order):
        return given
    return _filled_up(graph, given, [str(name) for name in known], order)


def _part(graph: Graph, spec: TensorSpec) -> Part:
    if spec.datatype is Datatype.BYTES:
        return Text(spec.name)
    is_double = spec.datatype is Datatype.FP64
    return Numbers(spec.name if is_double else graph.cast(spec.name, DOUBLE), 1)


def _filled_up(graph: Graph, given: Table, known: list[str], order: list[str]) -> Table:
    """Put columns that no step looks at back in their places, without any value."""
    nothing = graph.add("Mul", given.columns(graph)[0].value, np.nan) if given.is_numbers else None
    columns = given.columns(graph)
    if nothing is None:
        number = next((c for c in columns if isinstance(c, Numbers)), None)
        if number is None:
            empty = graph.add("Equal", columns[0].value, columns[0].value)
            nothing = graph.add("Mul", graph.cast(empty, DOUBLE), np.nan)
        else:
            nothing = graph.add("Mul", number.value, np.nan)
    by_name = dict(zip(order, columns, strict=True))
    return Table(tuple(by_name.get(name, Numbers(nothing, 1)) for name in known))


def _answers(graph: Graph, estimator: Any, table: Table) -> dict[str, Value]:
    if is_classifier(estimator):
        return _told(graph, estimator, classify(graph, estimator, table))
    if hasattr(estimator, "predict"):
        return {"prediction": predict(graph, estimator, table)}
    return {"features": transform(graph, estimator, table).numbers(graph)}


def _told(graph: Graph, estimator: Any, answer: Classes) -> dict[str, Value]:
    made = {"label": _labels(graph, estimator.classes_, answer.chosen)}
    if answer.probabilities is not None:
        made["probabilities"] = answer.probabilities
    return made


def _labels(graph: Graph, classes: Any, chosen: Value) -> Value:
    if not isinstance(classes, list):
        return graph.add("Gather", _plain(classes), chosen)
    columns = [
        graph.add("Gather", _plain(each), graph.columns(chosen, [place]))
        for place, each in enumerate(classes)
    ]
    return graph.concat(columns)


def _plain(classes: Any) -> Any:
    array = np.asarray(classes)
    return array.astype(object) if array.dtype.kind in "US" else array


def _output(graph: Graph, made: dict[str, Value], spec: TensorSpec) -> Value:
    if spec.name not in made:
        raise CannotCompile(f"the original's '{spec.name}' has no compiler")
    if spec.datatype is Datatype.BYTES:
        return made[spec.name]
    return graph.cast(made[spec.name], element_type(spec.datatype))
