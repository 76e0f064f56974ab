"""Estimators whose conversion is skl2onnx's: those that no module here compiles.

Its graphs take doubles where they can; the proof of equal answers decides whether they are good.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx.compose
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.exceptions import MissingShapeCalculator
from sklearn.utils import get_tags

from portico.serving.importing.compilers.arithmetic import finite
from portico.serving.importing.compilers.graph import DOUBLE, FLOAT, INT64
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Table

_OPSETS: Final = {"": 21, "ai.onnx.ml": 3, "com.microsoft": 1}


def borrowed_transform(graph: Graph, step: Any, table: Table) -> Value:
    """Convert a transformer and return its columns."""
    return graph.cast(_converted(graph, step, table, {})[0], DOUBLE)


def borrowed_predict(graph: Graph, step: Any, table: Table) -> Value:
    """Convert what predicts numbers or clusters."""
    return graph.reshape(_converted(graph, step, table, {})[0], -1)


def borrowed_classes(graph: Graph, step: Any, table: Table) -> tuple[Value, Value | None]:
    """Convert a classifier and return the places of the chosen classes, and probabilities."""
    label, *scores = _converted(graph, step, table, {"zipmap": False})
    classes = np.asarray(step.classes_)
    classes = classes.astype(np.int64) if classes.dtype.kind in "iub" else classes
    hit = graph.add("Equal", graph.reshape(label, -1, 1), classes.reshape(1, -1))
    chosen = graph.argmax(graph.cast(hit, INT64))
    has_probabilities = hasattr(step, "predict_proba") and scores
    return chosen, graph.cast(scores[0], DOUBLE) if has_probabilities else None


def _converted(graph: Graph, step: Any, table: Table, options: dict[str, Any]) -> list[Value]:
    takes_missing = get_tags(step).input_tags.allow_nan
    value = table.numbers(graph) if takes_missing else finite(graph, table)
    name = type(step).__name__
    given = {id(step): options} if options else None
    try:
        model = _convert(step, DoubleTensorType([None, table.width]), given)
    except MissingShapeCalculator:
        raise CannotCompile(f"there is no converter for {name}") from None
    except Exception:  # Its converters raise whatever goes wrong in them; some want single ones.
        try:
            model = _convert(step, FloatTensorType([None, table.width]), given)
        except Exception as error:
            told = f"the converter for {name} fails: {_first_line(error)}"
            raise CannotCompile(told) from error
        value = graph.cast(value, FLOAT)
    if model.functions:
        raise CannotCompile(f"the converter for {name} writes functions of its own")
    prefix = f"{graph.fresh()}/"
    inner = onnx.compose.add_prefix_graph(model.graph, prefix)
    graph.adopt(inner, {f"{prefix}X": value})
    return [output.name for output in inner.output]


def _convert(step: Any, kind: Any, options: dict[int, Any] | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_sklearn(
            step, initial_types=[("X", kind)], target_opset=_OPSETS, options=options
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
