"""scikit-learn estimators and pipelines from joblib, pickle or skops files, run as they are.

What an estimator takes is read from the attributes that fitting leaves behind (scikit-learn's
developer guide, "Estimated Attributes"): names, number and kind of columns, categories, classes.
"""

from __future__ import annotations

import dataclasses
import io
import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import joblib
import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.signature import (
    Choice,
    Feature,
    Kind,
    Scalar,
    Signature,
    answer_of,
    features_of,
)
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INPUT: Final = "input"
"""Name of the matrix input of models without named columns of their own kind."""

_ZIP: Final = b"PK\x03\x04"

# A matrix is as good as a frame where every column is a number, and costs a tenth.
warnings.filterwarnings("ignore", message="X does not have valid feature names")


@dataclasses.dataclass(frozen=True)
class Column:
    """What fitting left behind about one column of a frame.

    Attributes:
        categories: values that an encoder saw, without the missing one.
        closed: whether any other value is refused.
        optional: whether a value may be missing.
        blank: what stands for a missing text.
        is_dropped: whether no step looks at it.
    """

    name: str
    datatype: Datatype = Datatype.FP64
    categories: tuple[Scalar, ...] = ()
    closed: bool = False
    optional: bool = False
    blank: Any = math.nan
    is_dropped: bool = False

    def __or__(self, other: Column) -> Column:
        """Return what two steps that see the same column tell of it together."""
        return Column(
            self.name,
            datatype=self.datatype if other.datatype is Datatype.FP64 else other.datatype,
            categories=self.categories or other.categories,
            closed=self.closed or other.closed,
            optional=self.optional and other.optional,
            blank=self.blank if self.categories else other.blank,
        )


class SklearnModel:
    """One fitted estimator.

    Args:
        data: the content of a joblib, pickle or skops file that was allowed to execute code.
        name: file name for messages.

    Raises:
        ArtefactError: no fitted estimator that predicts.
    """

    platform = "sklearn_joblib"
    concurrency: int | None = 1

    def __init__(self, data: bytes, name: str) -> None:
        self._estimator = _load(data, name)
        columns = _columns(self._estimator)
        self._takes_text = _is_text_model(self._estimator)
        self._frame = columns if _needs_frame(self._estimator, columns) else []
        # A frame is filled up with columns that nothing looks at; a matrix has no names for that.
        asked = [c for c in columns if not (self._frame and c.is_dropped)]
        self._is_matrix = all(column.datatype is Datatype.FP64 for column in asked)
        inputs = self._inputs(asked)
        features = _features(inputs, asked)
        blank = Signature(inputs, (), features)
        outputs = self._outputs(blank)
        classes = _classes(self._estimator)
        self.signature = Signature(
            inputs,
            outputs,
            features,
            answer_of(outputs, classes, regression=is_regressor(self._estimator)),
        )

    @property
    def estimator(self) -> Any:
        """What the file held."""
        return self._estimator

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the estimator; see :class:`portico.serving.ports.Runtime`."""
        wanted = outputs or tuple(spec.name for spec in self.signature.outputs)
        try:
            x = self._matrix(inputs)
            # One request is one thread: a pool for each call costs more than it gains.
            with joblib.parallel_config(backend="sequential"):
                return {name: _tensor(_METHODS[name](self._estimator, x)) for name in wanted}
        except (ValueError, TypeError) as error:
            # scikit-learn answers bad values with these two: an unknown category, a NaN.
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelRefused(f"the model refused the input: {reason}") from error
        except Exception as error:
            raise ModelFailed("the model failed on this input") from error

    def close(self) -> None:
        """Free the estimator."""
        del self._estimator

    def _inputs(self, columns: Sequence[Column]) -> tuple[TensorSpec, ...]:
        if self._takes_text:
            return (TensorSpec("text", Datatype.BYTES, (VARIABLE,)),)
        if not self._is_matrix:
            return tuple(TensorSpec(c.name, c.datatype, (VARIABLE, 1)) for c in columns)
        return (TensorSpec(INPUT, Datatype.FP64, (VARIABLE, len(columns))),)

    def _matrix(self, inputs: Tensors) -> Any:
        if self._takes_text:
            return inputs["text"]
        if not self._frame:
            return inputs[INPUT]
        import pandas as pd

        names = [column.name for column in self._frame]
        if self._is_matrix:
            given = [feature.name for feature in self.signature.features]
            return pd.DataFrame(inputs[INPUT], columns=given).reindex(columns=names)
        blanks = {column.name: column.blank for column in self._frame}
        frame = pd.DataFrame({n: _cells(a, blanks[n]) for n, a in inputs.items()})
        frame = frame.reindex(columns=names)
        return frame if hasattr(self._estimator, "feature_names_in_") else frame.to_numpy()

    def _outputs(self, blank: Signature) -> tuple[TensorSpec, ...]:
        """Run once on an example row to see what comes out."""
        names = _output_names(self._estimator)
        self.signature = dataclasses.replace(
            blank, outputs=tuple(TensorSpec(n, Datatype.FP64, (VARIABLE,)) for n in names)
        )
        try:
            trial = self.run(_trial_row(blank), None)
        except (ModelRefused, ModelFailed) as error:
            raise ArtefactError(f"a trial run failed: {error.__cause__}") from error
        return tuple(
            TensorSpec(n, Datatype.of(a.dtype), (VARIABLE, *a.shape[1:])) for n, a in trial.items()
        )


def _load(data: bytes, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        try:
            estimator = _skops(data) if data.startswith(_ZIP) else joblib.load(io.BytesIO(data))
        except MemoryError:
            raise
        except Exception as error:
            raise ArtefactError(f"'{name}' cannot be opened: {error}") from error
    is_estimator = hasattr(estimator, "__sklearn_tags__") and not isinstance(estimator, type)
    if not is_estimator or not any(hasattr(estimator, m) for m in ("predict", "transform")):
        raise ArtefactError(
            f"'{name}' holds a {type(estimator).__name__}; a fitted estimator is expected"
        )
    return estimator


def _skops(data: bytes) -> Any:
    """Open a skops archive; whoever allowed the file trusts all types that it names."""
    import skops.io

    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def _output_names(estimator: Any) -> tuple[str, ...]:
    if is_classifier(estimator):
        classes = getattr(estimator, "classes_", None)
        # Several labels with different numbers of classes give probabilities that fit no tensor.
        is_ragged = isinstance(classes, list) and len({len(each) for each in classes}) > 1
        has_scores = hasattr(estimator, "predict_proba") and not is_ragged
        return ("label", "probabilities") if has_scores else ("label",)
    return ("prediction",) if hasattr(estimator, "predict") else ("features",)


_METHODS: Final[dict[str, Any]] = {
    "label": lambda estimator, x: estimator.predict(x),
    "probabilities": lambda estimator, x: estimator.predict_proba(x),
    "prediction": lambda estimator, x: estimator.predict(x),
    "features": lambda estimator, x: estimator.transform(x),
}


def _tensor(value: Any) -> Array:
    if isinstance(value, list):  # A multi-output classifier gives one matrix an output.
        value = np.stack(value, axis=1)
    if hasattr(value, "toarray"):
        value = value.toarray()
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _classes(estimator: Any) -> tuple[Scalar, ...]:
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray):
        return ()
    return tuple(classes.tolist())


def _is_text_model(estimator: Any) -> bool:
    first = _steps(_unwrapped(estimator))[0]
    return bool(get_tags(first).input_tags.string and not get_tags(first).input_tags.two_d_array)


def _needs_frame(estimator: Any, columns: Sequence[Column]) -> bool:
    return any(column.datatype is not Datatype.FP64 for column in columns) or (
        hasattr(estimator, "feature_names_in_") and _column_transformer(estimator) is not None
    )


def _columns(estimator: Any) -> list[Column]:
    """Return the columns in the order of fitting.

    Raises:
        ArtefactError: the estimator is not fitted.
    """
    if _is_text_model(estimator):
        return []
    names = getattr(estimator, "feature_names_in_", None)
    count = getattr(estimator, "n_features_in_", None if names is None else len(names))
    if count is None:
        raise ArtefactError(f"the {type(estimator).__name__} is not fitted")
    known = [str(n) for n in names] if names is not None else [f"x{i + 1}" for i in range(count)]
    told: dict[str, Column] = {}
    for step, picked in _first_steps(estimator, known):
        for column in _seen_by(step, picked):
            told[column.name] = told[column.name] | column if column.name in told else column
    dropped = set(_dropped(estimator, known)) - set(told)
    return [told.get(name, Column(name, is_dropped=name in dropped)) for name in known]


def _dropped(estimator: Any, known: list[str]) -> Iterator[str]:
    """Yield the columns that a column transformer leaves out."""
    transformer = _column_transformer(estimator)
    for _, step, selected in transformer.transformers_ if transformer else ():
        if isinstance(step, str) and step == "drop":
            yield from _picked(selected, known)


def _unwrapped(estimator: Any) -> Any:
    """Return the pipeline inside a search, a vote, a calibration and the like, if there is one.

    What wraps a pipeline hands it the columns as they come in, so it is the one to ask about them.
    """
    for attribute in _WRAPPED:
        inner = getattr(estimator, attribute, None)
        if isinstance(inner, list):
            inner = getattr(inner[0], "estimator", inner[0]) if inner else None
        if hasattr(inner, "__sklearn_tags__"):
            found = _unwrapped(inner)
            if isinstance(found, Pipeline | ColumnTransformer):
                return found
    return estimator


_WRAPPED: Final = ("best_estimator_", "regressor_", "calibrated_classifiers_", "estimators_")
"""Where meta-estimators keep what they have fitted."""


def _column_transformer(estimator: Any) -> ColumnTransformer | None:
    """Return the column transformer that sees the columns as they come in, if there is one."""
    first = _steps(_unwrapped(estimator))[0]
    if isinstance(first, Pipeline):
        return _column_transformer(first)
    return first if isinstance(first, ColumnTransformer) else None


def _first_steps(estimator: Any, known: list[str]) -> Iterator[tuple[Any, list[str]]]:
    """Yield what sees columns as they come in, with their names."""
    transformer = _column_transformer(estimator)
    if transformer is None:
        yield estimator, known
        return
    for _, step, selected in transformer.transformers_:
        if not isinstance(step, str):  # "passthrough" and "drop" tell nothing about a column.
            yield step, _picked(selected, known)


def _picked(selected: Any, known: list[str]) -> list[str]:
    """Return the names of the columns that a column transformer was told to give to a step."""
    if isinstance(selected, slice) and any(
        isinstance(s, str) for s in (selected.start, selected.stop)
    ):
        # A slice of names holds its end, unlike one of positions.
        start = known.index(selected.start) if selected.start is not None else 0
        stop = known.index(selected.stop) + 1 if selected.stop is not None else None
        return known[start : stop : selected.step]
    if isinstance(selected, slice):
        return known[selected]
    keys = np.atleast_1d(np.asarray(selected))
    if keys.dtype.kind in "OUT":
        return [str(key) for key in keys]
    return [known[i] for i in np.arange(len(known))[keys]]


def _seen_by(step: Any, picked: list[str]) -> Iterator[Column]:
    categories = _categories(step)
    if len(categories) != len(picked):
        categories = [()] * len(picked)
    closed, optional, is_text = _refuses_unknown(step), _takes_missing(step), _is_text_model(step)
    for name, values in zip(picked, categories, strict=True):
        missing = [v for v in values if _is_missing(v)]
        datatype = _datatype(values, is_text=is_text)
        is_choice = datatype is not Datatype.BOOL
        yield Column(
            name,
            datatype=datatype,
            categories=tuple(v for v in values if v != "" and not _is_missing(v) and is_choice),
            closed=closed,
            optional=optional or bool(missing),
            blank="" if is_text else missing[0] if missing and not optional else math.nan,
        )


def _datatype(values: Sequence[Any], *, is_text: bool) -> Datatype:
    """Return what holds a column of which an encoder saw ``values``."""
    if is_text or any(isinstance(value, str) for value in values):
        return Datatype.BYTES
    if values and all(isinstance(value, bool) for value in values):
        return Datatype.BOOL
    return Datatype.FP64


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 NaN differs from itself


def _steps(step: Any) -> list[Any]:
    return [s for _, s in step.steps] if isinstance(step, Pipeline) else [step]


def _categories(step: Any) -> list[tuple[Any, ...]]:
    """Return what an encoder in ``step`` saw in each column."""
    for inner in _steps(step):
        if hasattr(inner, "categories_"):
            return [tuple(values.tolist()) for values in inner.categories_]
    return []


def _takes_missing(step: Any) -> bool:
    """Tell whether missing values are meant; more estimators bear them than were trained so."""
    first = _steps(step)[0]
    return type(first).__module__.startswith("sklearn.impute") or type(first).__name__.startswith(
        "HistGradientBoosting"
    )


def _refuses_unknown(step: Any) -> bool:
    return any(getattr(inner, "handle_unknown", None) == "error" for inner in _steps(step))


def _features(inputs: tuple[TensorSpec, ...], columns: Sequence[Column]) -> tuple[Feature, ...]:
    names = [c.name for c in columns] if len(inputs) == 1 and columns else []
    features = features_of(inputs, names)
    by_name = {column.name: column for column in columns}
    return tuple(_with_column(f, by_name[f.name]) if f.name in by_name else f for f in features)


def _with_column(feature: Feature, column: Column) -> Feature:
    return dataclasses.replace(
        feature,
        choices=tuple(Choice(value, str(value)) for value in column.categories),
        closed=column.closed,
        optional=column.optional,
    )


def _trial_row(signature: Signature) -> Tensors:
    row: Tensors = {}
    for spec in signature.inputs:
        row[spec.name] = np.zeros((1, *spec.row_shape), dtype=spec.datatype.dtype)
    for feature in signature.features:
        target = row[feature.tensor].reshape(1, -1)
        value = feature.example() if feature.kind is not Kind.TEXT else feature.example() or "text"
        target[0, feature.column or 0] = value
    return row


def _cells(array: Array, blank: Any) -> Array:
    """Return one column of a frame; an empty text is a missing one, as pandas reads CSV files."""
    column = array.reshape(-1)
    if column.dtype == object:
        column = np.array([blank if value == "" else value for value in column], dtype=object)
    return column
