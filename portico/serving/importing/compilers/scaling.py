"""Steps that compute columns of numbers from columns of numbers, in double."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils import get_tags

from portico.serving.importing.compilers.arithmetic import finite, interpolated
from portico.serving.importing.compilers.dispatch import transformer
from portico.serving.importing.compilers.graph import DOUBLE
from portico.serving.importing.compilers.tables import numbers, side_by_side
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Table
    from portico.serving.tensors import Array


@transformer(StandardScaler)
def _standard(graph: Graph, scaler: StandardScaler, table: Table) -> Table:
    value = table.numbers(graph)
    if scaler.with_mean:
        value = graph.add("Sub", value, scaler.mean_)
    if scaler.with_std:
        value = graph.add("Div", value, scaler.scale_)
    return numbers(value, table.width)


@transformer(MinMaxScaler)
def _min_max(graph: Graph, scaler: MinMaxScaler, table: Table) -> Table:
    value = graph.add("Mul", table.numbers(graph), scaler.scale_)
    value = graph.add("Add", value, scaler.min_)
    if scaler.clip:
        value = graph.add("Clip", value, *map(float, scaler.feature_range))
    return numbers(value, table.width)


@transformer(MaxAbsScaler)
def _max_abs(graph: Graph, scaler: MaxAbsScaler, table: Table) -> Table:
    value = graph.add("Div", table.numbers(graph), scaler.scale_)
    if getattr(scaler, "clip", False):
        value = graph.add("Clip", value, -1.0, 1.0)
    return numbers(value, table.width)


@transformer(RobustScaler)
def _robust(graph: Graph, scaler: RobustScaler, table: Table) -> Table:
    value = table.numbers(graph)
    if scaler.with_centering:
        value = graph.add("Sub", value, scaler.center_)
    if scaler.with_scaling:
        value = graph.add("Div", value, scaler.scale_)
    return numbers(value, table.width)


@transformer(Normalizer)
def _normalizer(graph: Graph, normalizer: Normalizer, table: Table) -> Table:
    value = finite(graph, table)
    return numbers(unit_rows(graph, value, normalizer.norm), table.width)


def unit_rows(graph: Graph, value: Value, norm: str) -> Value:
    """Divide rows by their norm; rows of zeros stay."""
    if norm == "max":
        length = graph.add("ReduceMax", graph.add("Abs", value), np.array([1]))
    elif norm == "l1":
        length = graph.sum(graph.add("Abs", value), keep=True)
    else:
        length = graph.add("Sqrt", graph.sum(graph.add("Mul", value, value), keep=True))
    zero = graph.add("Equal", length, 0.0)
    return graph.add("Div", value, graph.add("Where", zero, 1.0, length))


@transformer(Binarizer)
def _binarizer(graph: Graph, binarizer: Binarizer, table: Table) -> Table:
    above = graph.add("Greater", finite(graph, table), float(binarizer.threshold))
    return numbers(graph.cast(above, DOUBLE), table.width)


@transformer(PolynomialFeatures)
def _polynomial(graph: Graph, step: PolynomialFeatures, table: Table) -> Table:
    value = finite(graph, table)
    parts = []
    for degree, group in itertools.groupby(step.powers_, key=lambda row: int(row.sum())):
        factors = [np.repeat(np.arange(len(row)), row) for row in group]
        parts.append(_products(graph, value, np.array(factors), degree))
    return numbers(graph.concat(parts), len(step.powers_))


def _products(graph: Graph, value: Value, factors: Array, degree: int) -> Value:
    """Multiply columns of equal degree, from the last factor to the first as scikit-learn does."""
    if degree == 0:
        return graph.add("Add", graph.add("Mul", graph.columns(value, [0]), 0.0), 1.0)
    product = graph.columns(value, factors[:, -1])
    for place in range(degree - 2, -1, -1):
        product = graph.add("Mul", graph.columns(value, factors[:, place]), product)
    return product


@transformer(KBinsDiscretizer)
def _bins(graph: Graph, step: KBinsDiscretizer, table: Table) -> Table:
    value = finite(graph, table)
    parts = []
    for column, edges in enumerate(step.bin_edges_):
        reached = graph.add("GreaterOrEqual", graph.columns(value, [column]), edges[1:-1])
        code = graph.sum(graph.cast(reached, DOUBLE), keep=True)
        if step.encode == "ordinal":
            parts.append(numbers(code, 1))
        else:
            places = np.arange(len(edges) - 1, dtype=np.float64)
            hot = graph.cast(graph.add("Equal", code, places), DOUBLE)
            parts.append(numbers(hot, len(places)))
    return side_by_side(parts)


@transformer(PowerTransformer)
def _power(graph: Graph, step: PowerTransformer, table: Table) -> Table:
    value = table.numbers(graph)
    if step.method == "box-cox":
        bad = graph.add("LessOrEqual", value, 0.0)
        value = graph.refuse_where(bad, "a number is not positive, as it must be here", value)
        value = _box_cox(graph, value, step.lambdas_)
    else:
        up = _box_cox(graph, graph.add("Add", graph.add("Max", value, 0.0), 1.0), step.lambdas_)
        low = graph.add("Sub", 1.0, graph.add("Min", value, 0.0))
        down = graph.add("Neg", _box_cox(graph, low, 2 - step.lambdas_))
        value = graph.add("Where", graph.add("Less", value, 0.0), down, up)
    made = numbers(value, table.width)
    return _standard(graph, step._scaler, made) if step.standardize else made


def _box_cox(graph: Graph, value: Value, powers: Array) -> Value:
    """Return ``(value ** power - 1) / power``, or the logarithm where the power is 0."""
    small = np.abs(powers) < np.spacing(1.0)
    safe = np.where(small, 1.0, powers)
    power = graph.add("Div", graph.add("Sub", graph.add("Pow", value, safe), 1.0), safe)
    if not small.any():
        return power
    return graph.add("Where", small, graph.add("Log", value), power)


@transformer(QuantileTransformer)
def _quantile(graph: Graph, step: QuantileTransformer, table: Table) -> Table:
    if step.output_distribution != "uniform":
        raise CannotCompile(
            "ONNX has no inverse of the normal distribution for QuantileTransformer"
        )
    value = table.numbers(graph)
    parts = []
    for column, quantiles in enumerate(step.quantiles_.T):
        single = graph.columns(value, column)
        known = graph.add("Where", graph.add("IsNaN", single), float(quantiles[0]), single)
        places, first, last = _steps(quantiles)
        rising = interpolated(graph, known, places, step.references_[first])
        falling = interpolated(graph, known, places, step.references_[last])
        raise_ = graph.add("Mul", graph.add("Add", rising, falling), 0.5)
        parts.append(graph.add("Where", graph.add("IsNaN", single), single, raise_))
    return numbers(graph.concat([graph.reshape(p, -1, 1) for p in parts]), table.width)


def _steps(quantiles: Array) -> tuple[Array, Array, Array]:
    places, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    return places, first, first + counts - 1


@transformer(PCA, IncrementalPCA)
def _pca(graph: Graph, step: PCA, table: Table) -> Table:
    value = graph.matmul(finite(graph, table), step.components_.T)
    value = graph.add("Sub", value, step.mean_ @ step.components_.T)
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        value = graph.add("Div", value, np.maximum(scale, np.finfo(scale.dtype).eps))
    return numbers(value, len(step.components_))


@transformer(TruncatedSVD, GaussianRandomProjection, SparseRandomProjection)
def _projection(graph: Graph, step: Any, table: Table) -> Table:
    components = step.components_
    dense = np.asarray(components.toarray() if hasattr(components, "toarray") else components)
    return numbers(graph.matmul(finite(graph, table), dense.T.astype(np.float64)), len(dense))


@transformer(FastICA)
def _ica(graph: Graph, step: FastICA, table: Table) -> Table:
    value = finite(graph, table)
    if step.whiten:
        value = graph.add("Sub", value, step.mean_)
    return numbers(graph.matmul(value, step.components_.T), len(step.components_))


@transformer(LinearDiscriminantAnalysis)
def _discriminant(graph: Graph, step: LinearDiscriminantAnalysis, table: Table) -> Table:
    value = finite(graph, table)
    if step.solver == "svd":
        value = graph.add("Sub", value, step.xbar_)
    scalings = step.scalings_[:, : step._max_components]
    return numbers(graph.matmul(value, scalings), scalings.shape[1])


@transformer(
    SelectKBest,
    SelectPercentile,
    SelectFpr,
    SelectFdr,
    SelectFwe,
    GenericUnivariateSelect,
    SelectFromModel,
    SequentialFeatureSelector,
    VarianceThreshold,
    RFE,
    RFECV,
)
def selected(graph: Graph, step: Any, table: Table) -> Table:
    """Return the columns that a selection keeps; most refuse gaps in those they drop as well."""
    if not get_tags(step).input_tags.allow_nan:
        table = numbers(finite(graph, table), table.width, is_finite=True)
    return table.pick(graph, step.get_support(indices=True).tolist())


_FUNCTIONS: Final[dict[Any, str]] = {
    np.log: "Log",
    np.exp: "Exp",
    np.sqrt: "Sqrt",
    np.abs: "Abs",
    np.tanh: "Tanh",
    np.negative: "Neg",
    np.reciprocal: "Reciprocal",
}
"""Functions of NumPy that ONNX has as well."""


@transformer(FunctionTransformer)
def _function(graph: Graph, step: FunctionTransformer, table: Table) -> Table:
    if step.func is None:
        return table
    return numbers(function(graph, step.func, table.numbers(graph), step.kw_args), table.width)


def function(graph: Graph, func: Any, value: Value, arguments: Any = None) -> Value:
    """Return a function of NumPy of a value.

    Raises:
        CannotCompile: it is the user's own, or ONNX lacks it.
    """
    if not arguments:
        if func in _FUNCTIONS:
            return graph.add(_FUNCTIONS[func], value)
        if func is np.log1p:
            return graph.add("Log", graph.add("Add", value, 1.0))
        if func is np.expm1:
            return graph.add("Sub", graph.add("Exp", value), 1.0)
        if func is np.square:
            return graph.add("Mul", value, value)
        if func is np.log10 or func is np.log2:
            base = 10.0 if func is np.log10 else 2.0
            return graph.add("Div", graph.add("Log", value), float(np.log(base)))
    name = getattr(func, "__name__", type(func).__name__)
    raise CannotCompile(f"a FunctionTransformer calls '{name}', which only Python can run")
