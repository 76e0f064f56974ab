"""Imputers and encoders of categories.

What a fitted encoder makes of each category it knows is asked of the encoder itself, so that
dropped and infrequent categories come out as scikit-learn has them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import helper
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from portico.serving.importing.compilers.dispatch import transformer
from portico.serving.importing.compilers.graph import DOUBLE, INT64, ML, STRING
from portico.serving.importing.compilers.tables import Numbers, Table, Text, numbers, side_by_side
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Part
    from portico.serving.tensors import Array

_NOWHERE: Final = -1
"""Code of a category that has no column: unknown ones that are ignored, dropped ones."""

_UNKNOWN: Final = -2
"""Code of a category that is refused."""

_REFUSED: Final = "a category is none of those the model was trained on"


def is_missing(value: Any) -> bool:
    """Tell whether a category or a marker stands for a missing value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def looked_up(
    graph: Graph, part: Part, categories: Sequence[Any], values: Array, default: float
) -> Value:
    """Return for each row what stands beside its category, ``[rows, 1]``.

    Args:
        graph: under construction.
        part: one column.
        categories: as the encoder knows them.
        values: int64 or doubles, one a category.
        default: for all other categories, of the type of ``values``.
    """
    kept = [i for i, category in enumerate(categories) if _can_be(part, category)]
    if isinstance(part, Text):
        keys: Any = [b"" if is_missing(categories[i]) else categories[i].encode() for i in kept]
        key_type = STRING
    else:
        keys = [math.nan if is_missing(categories[i]) else float(categories[i]) for i in kept]
        key_type = DOUBLE
    value_type = INT64 if values.dtype.kind == "i" else DOUBLE
    return graph.add(
        "LabelEncoder", part.value, domain=ML,
        keys_tensor=helper.make_tensor("", key_type, [len(kept)], keys),
        values_tensor=helper.make_tensor("", value_type, [len(kept)], values[kept]),
        default_tensor=helper.make_tensor("", value_type, [1], [default]),
    )  # fmt: skip


def _can_be(part: Part, category: Any) -> bool:
    """Tell whether a column can hold a category: an empty text is a missing one."""
    if is_missing(category):
        return True
    return isinstance(category, str) == isinstance(part, Text) and category != ""


def _known(encoder: Any) -> Array:
    """Return what an encoder makes of its categories, the i-th of each column in row i."""
    import pandas as pd

    most = max(len(categories) for categories in encoder.categories_)
    columns = [c[np.arange(most) % len(c)] for c in encoder.categories_]
    names = getattr(encoder, "feature_names_in_", range(len(columns)))
    frame = pd.DataFrame(dict(zip(names, columns, strict=True)))
    made = encoder.transform(frame)
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)


@transformer(OneHotEncoder)
def _one_hot(graph: Graph, encoder: OneHotEncoder, table: Table) -> Table:
    known = _known(encoder)
    widths = list(encoder._n_features_outs)
    starts = np.cumsum([0, *widths])
    codes = []
    for column, part in enumerate(table.columns(graph)):
        categories = encoder.categories_[column]
        hot = known[: len(categories), starts[column] : starts[column + 1]] != 0
        places = np.where(hot.any(axis=1), hot.argmax(axis=1) + starts[column], _NOWHERE)
        default = _place_of_unknown(encoder, column, places)
        codes.append(looked_up(graph, part, list(categories), places, default))
    code = graph.concat(codes)
    owners = np.repeat(np.arange(len(widths)), widths)
    spread = graph.columns(code, owners) if len(codes) > 1 else code
    value = graph.cast(graph.add("Equal", spread, np.arange(len(owners))), DOUBLE)
    if encoder.handle_unknown == "error":
        value = graph.refuse_where(graph.add("Equal", code, _UNKNOWN), _REFUSED, value)
    return numbers(value, len(owners), is_finite=True)


def _place_of_unknown(encoder: OneHotEncoder, column: int, places: Array) -> int:
    if encoder.handle_unknown == "error":
        return _UNKNOWN
    rare = getattr(encoder, "infrequent_categories_", None)
    if encoder.handle_unknown == "ignore" or rare is None or rare[column] is None:
        return _NOWHERE
    return int(places[list(encoder.categories_[column]).index(rare[column][0])])


@transformer(OrdinalEncoder)
def _ordinal(graph: Graph, encoder: OrdinalEncoder, table: Table) -> Table:
    known = _known(encoder)
    refuses = encoder.handle_unknown == "error"
    # No category is infinite, so an infinite code marks the unknown ones.
    default = math.inf if refuses else float(encoder.unknown_value)
    value = graph.concat(
        [
            looked_up(graph, part, list(categories), known[: len(categories), column], default)
            for column, (part, categories) in enumerate(
                zip(table.columns(graph), encoder.categories_, strict=True)
            )
        ]
    )
    if refuses:
        value = graph.refuse_where(graph.add("IsInf", value), _REFUSED, value)
    return numbers(value, table.width)


@transformer(TargetEncoder)
def _target(graph: Graph, encoder: TargetEncoder, table: Table) -> Table:
    means = np.atleast_1d(encoder.target_mean_)
    targets = len(means) if encoder.target_type_ == "multiclass" else 1
    values = [
        looked_up(
            graph, part, list(encoder.categories_[column]),
            np.asarray(encoder.encodings_[column * targets + target], dtype=np.float64),
            float(means[target]),
        )
        for column, part in enumerate(table.columns(graph))
        for target in range(targets)
    ]  # fmt: skip
    return numbers(graph.concat(values), len(values))


@transformer(SimpleImputer)
def _imputer(graph: Graph, imputer: SimpleImputer, table: Table) -> Table:
    statistics = list(imputer.statistics_)
    kept = [
        i
        for i, value in enumerate(statistics)
        if imputer.keep_empty_features or not is_missing(value)
    ]
    if table.is_numbers:
        picked = table.pick(graph, kept).numbers(graph)
        fill = np.array([statistics[i] for i in kept], dtype=np.float64)
        missing = _is_marked(graph, picked, imputer.missing_values)
        made = numbers(graph.add("Where", missing, fill, picked), len(kept))
    else:
        columns = table.columns(graph)
        made = side_by_side(
            Table((_filled(graph, columns[i], imputer.missing_values, statistics[i]),))
            for i in kept
        )
    if imputer.indicator_ is None:
        return made
    return side_by_side([made, _missing(graph, imputer.indicator_, table)])


def _filled(graph: Graph, part: Part, marker: Any, fill: Any) -> Part:
    if isinstance(part, Numbers):
        missing = _is_marked(graph, part.value, marker)
        return Numbers(graph.add("Where", missing, float(fill), part.value), 1)
    if not isinstance(fill, str):
        raise CannotCompile("a SimpleImputer puts something else than a text in a column of texts")
    if not (is_missing(marker) or isinstance(marker, str)):
        raise CannotCompile("a SimpleImputer looks for a marker that no text can be")
    sought = "" if is_missing(marker) else marker
    missing = graph.add("Equal", part.value, np.array([sought], dtype=object))
    return Text(graph.add("Where", missing, np.array([fill], dtype=object), part.value))


def _is_marked(graph: Graph, value: Value, marker: Any) -> Value:
    if is_missing(marker):
        return graph.add("IsNaN", value)
    return graph.add("Equal", value, float(marker))


@transformer(MissingIndicator)
def _missing(graph: Graph, indicator: MissingIndicator, table: Table) -> Table:
    marks = []
    for part in table.columns(graph):
        if isinstance(part, Text):
            mark = graph.add("Equal", part.value, np.array([""], dtype=object))
        else:
            mark = _is_marked(graph, part.value, indicator.missing_values)
        marks.append(graph.cast(mark, DOUBLE))
    value = graph.concat(marks)
    picked = [int(i) for i in indicator.features_]
    return numbers(graph.columns(value, picked), len(picked))
