"""Which function compiles which class.

A compiler is registered for exact classes: a subclass may compute something else. What a function
is given is the graph, the fitted step and the table that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from portico.serving.importing.compilers.graph import Graph, Value
from portico.serving.importing.compilers.tables import Table
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
    return _found(_TRANSFORMS, step)(graph, step, table)


def classify(graph: Graph, estimator: Any, table: Table) -> Classes:
    """Compile ``predict`` and ``predict_proba`` of a classifier."""
    return _found(_CLASSIFIERS, estimator)(graph, estimator, table)


def predict(graph: Graph, estimator: Any, table: Table) -> Value:
    """Compile ``predict`` of what is no classifier."""
    return _found(_PREDICTORS, estimator)(graph, estimator, table)


def _found(registry: dict[type, Compiler], step: Any) -> Compiler:
    try:
        return registry[type(step)]
    except KeyError:
        raise CannotCompile(f"there is no compiler for {type(step).__name__}") from None
