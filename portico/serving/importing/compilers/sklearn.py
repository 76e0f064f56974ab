"""scikit-learn estimators and pipelines as ONNX graphs that take and give the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

from portico.serving.importing.compilers import trees  # noqa: F401 registers what it compiles
from portico.serving.importing.compilers.dispatch import classify, predict, transform
from portico.serving.importing.compilers.graph import Graph, Value, element_type
from portico.serving.importing.compilers.tables import Numbers, Table
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    import onnx

    from portico.serving.signature import Signature

INPUT = "input"


def compile_sklearn(estimator: Any, signature: Signature) -> onnx.ModelProto:
    """Compile a fitted estimator.

    Args:
        estimator: fitted.
        signature: as :class:`portico.serving.runtimes.sklearn.SklearnModel` reads it; the graph
            has exactly these inputs and outputs.

    Raises:
        CannotCompile: a step has no equal in ONNX.
    """
    graph = Graph()
    table = Table((Numbers(INPUT, signature.input_by_name[INPUT].row_size),))
    made = _answers(graph, estimator, table)
    values = [
        graph.cast(made[spec.name], element_type(spec.datatype)) for spec in signature.outputs
    ]
    return graph.model(signature.inputs, signature.outputs, values)


def _answers(graph: Graph, estimator: Any, table: Table) -> dict[str, Value]:
    if is_classifier(estimator):
        answer = classify(graph, estimator, table)
        label = graph.add("Gather", np.asarray(estimator.classes_), answer.chosen)
        return {"label": label} | (
            {"probabilities": answer.probabilities} if answer.probabilities else {}
        )
    if hasattr(estimator, "predict"):
        return {"prediction": predict(graph, estimator, table)}
    if not hasattr(estimator, "transform"):
        raise CannotCompile("it does not predict")
    return {"features": transform(graph, estimator, table).numbers(graph)}
