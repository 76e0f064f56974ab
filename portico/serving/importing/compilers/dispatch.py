"""Which function compiles which class.

A compiler is registered for exact classes: a subclass may compute something else. What a function
is given is the graph, the fitted step and the table that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from portico.serving.importing.compilers.graph import Graph, Value
from portico.serving.importing.compilers.tables import Table, numbers
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Iterable


class Classes(NamedTuple):
    """What a classifier answers.

    Attributes:
        chosen: place of the chosen class in ``classes_``, int64 ``[rows]``; for a classifier of
            several labels ``[rows, labels]``.
        probabilities: doubles ``[rows, classes]``, for several labels ``[rows, labels, classes]``;
            None where the classifier has none.
        scores: what ``decision_function`` gives, as a matrix, where somebody may ask for it.
    """

    chosen: Value
    probabilities: Value | None = None
    scores: Value | None = None


Transform: TypeAlias = Callable[[Graph, Any, Table], Table]
Classify: TypeAlias = Callable[[Graph, Any, Table], Classes]
Predict: TypeAlias = Callable[[Graph, Any, Table], Value]
Compiler = TypeVar("Compiler", Transform, Classify, Predict)

_TRANSFORMS: dict[type, Transform] = {}
_CLASSIFIERS: dict[type, Classify] = {}
_PREDICTORS: dict[type, Predict] = {}


def transformer(*classes: type) -> Callable[[Transform], Transform]:
    """Register what compiles the ``transform`` of these classes."""
    return lambda compiler: _registered(_TRANSFORMS, classes, compiler)


def classifier(*classes: type) -> Callable[[Classify], Classify]:
    """Register what compiles the ``predict`` and ``predict_proba`` of these classifiers."""
    return lambda compiler: _registered(_CLASSIFIERS, classes, compiler)


def predictor(*classes: type) -> Callable[[Predict], Predict]:
    """Register what compiles the ``predict`` of these classes, which gives ``[rows, ...]``."""
    return lambda compiler: _registered(_PREDICTORS, classes, compiler)


def _registered(
    registry: dict[type, Compiler], classes: Iterable[type], compiler: Compiler
) -> Compiler:
    for each in classes:
        registry[each] = compiler
    return compiler


def transform(graph: Graph, step: Any, table: Table) -> Table:
    """Compile ``step.transform(table)``."""
    own = _own(_TRANSFORMS, step)
    if own is not None:
        return own(graph, step, table)
    from portico.serving.importing.compilers.borrowed import borrowed_transform

    return numbers(borrowed_transform(graph, step, table), len(step.get_feature_names_out()))


def classify(graph: Graph, estimator: Any, table: Table) -> Classes:
    """Compile ``predict`` and ``predict_proba`` of a classifier."""
    own = _own(_CLASSIFIERS, estimator)
    if own is not None:
        return own(graph, estimator, table)
    from portico.serving.importing.compilers.borrowed import borrowed_classes

    return Classes(*borrowed_classes(graph, estimator, table))


def predict(graph: Graph, estimator: Any, table: Table) -> Value:
    """Compile ``predict`` of what is no classifier."""
    own = _own(_PREDICTORS, estimator)
    if own is not None:
        return own(graph, estimator, table)
    from portico.serving.importing.compilers.borrowed import borrowed_predict

    return borrowed_predict(graph, estimator, table)


def _own(registry: dict[type, Compiler], step: Any) -> Compiler | None:
    """Return the registered compiler, or None where skl2onnx may know the class.

    Raises:
        CannotCompile: the class is not one of scikit-learn's.
    """
    library = type(step).__module__.partition(".")[0]
    if library in ("xgboost", "lightgbm") and type(step) not in registry:
        from portico.serving.importing.compilers.wrapped_boosters import register

        register(type(step))
    own = registry.get(type(step))
    if own is None and library != "sklearn":
        raise CannotCompile(f"there is no compiler for {type(step).__name__}")
    return own
