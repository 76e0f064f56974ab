"""What is watched of the rows of a model, to see whether they drift.

A :class:`Reference` is made once, from the examples of an import or from the first rows served,
and cuts each column into bins. What is served is only counted into these bins, so that it costs
little, holds no row, and can be added up over workers and hours.
:mod:`portico.serving.drift_report` tells what the counts mean.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from portico.serving.errors import ArtefactError
from portico.serving.signature import AnswerKind, Kind
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portico.serving.signature import Feature, Signature
    from portico.serving.tensors import Array, Tensors

BINS: Final = 10
"""Bins of a column of numbers; ten is what the usual thresholds of the PSI are meant for."""

ROWS_A_BIN: Final = 10
"""Rows of reference for each bin; where there are few, the bins are fewer."""

MAX_CATEGORIES: Final = 200
"""Different texts of a column; where there are more, their length is watched instead."""

_LONGEST: Final = 200
"""Characters of a category; the rest of a longer text does not count."""


class Measure(StrEnum):
    """What is watched of a column."""

    VALUE = "value"
    CATEGORY = "category"
    LENGTH = "length"
    MEAN = "mean"
    BEST = "best"

    @property
    def is_number(self) -> bool:
        """Whether the bins are ranges of numbers, not categories."""
        return self in (Measure.VALUE, Measure.LENGTH, Measure.MEAN)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is watched, and how the rows of reference spread over its bins.

    Attributes:
        name: of the feature, or ``prediction``.
        tensor: the input or output that holds it.
        column: on the last axis of that; None where it is the whole row.
        measure: what is taken of it: the value itself, a category, the length of a text, the mean
            of an array, or the class with the best score.
        cuts: of numbers: where one bin ends and the next begins, which holds the cut itself.
        low, high: smallest and largest number of reference; None where there was none.
        categories: the bins of categories; one more bin takes all others.
        counts: rows in each bin.
        missing: rows without a value (NaN, or an empty text).
    """

    name: str
    tensor: str
    measure: Measure
    column: int | None = None
    cuts: list[float] = []
    low: float | None = None
    high: float | None = None
    categories: list[str] = []
    counts: list[int] = []
    missing: int = 0

    @property
    def size(self) -> int:
        """Length of what :meth:`count` returns."""
        return len(self.counts) + 2

    def count(self, tensors: Tensors, rows: int) -> Array:
        """Count rows into the bins.

        Args:
            tensors: that hold this column's, the first axis being the rows.
            rows: how many there are.

        Returns:
            Whole numbers: the rows in each bin, without a value, and unlike any of reference
            (outside their range, or of an unknown category; these are in a bin as well).
        """
        values = _values(self, tensors[self.tensor].reshape(rows, -1))
        if self.measure.is_number:
            return self._count_numbers(values)
        return self._count_categories(values)

    def _count_numbers(self, values: Array) -> Array:
        numbers = values[~np.isnan(values)]
        bins = np.bincount(
            np.searchsorted(self.cuts, numbers, side="right"), minlength=len(self.counts)
        )
        strange = 0
        if self.low is not None and self.high is not None:
            strange = int(np.count_nonzero((numbers < self.low) | (numbers > self.high)))
        return np.array([*bins, len(values) - len(numbers), strange], dtype=np.int64)

    def _count_categories(self, values: Iterable[str]) -> Array:
        place = {category: index for index, category in enumerate(self.categories)}
        others = len(self.categories)
        found = np.zeros(self.size, dtype=np.int64)
        for value, times in Counter(values).items():
            found[place.get(value, others) if value else others + 1] += times
        found[-1] = found[others]
        return found


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What rows of reference look like, column by column, and what was answered to them.

    Attributes:
        rows: how many there were.
        columns: one a feature.
        prediction: of the answers; None where the model gives tensors that are no class or value.
    """

    rows: int
    columns: list[Column]
    prediction: Column | None = None

    @classmethod
    def of(cls, signature: Signature, inputs: Tensors, outputs: Tensors) -> Reference:
        """Make the reference of some rows.

        Args:
            signature: of the model.
            inputs: one array an input, the first axis being the rows; at least one row.
            outputs: what the model answered to them, all outputs.
        """
        rows = len(next(iter(inputs.values())))
        columns = [
            _fitted(column, inputs, rows) for column in map(_watched, signature.features) if column
        ]
        answer = _answer(signature)
        prediction = _fitted(answer, outputs, rows) if answer and answer.tensor in outputs else None
        return cls(rows=rows, columns=columns, prediction=prediction)

    @classmethod
    def from_json(cls, data: bytes) -> Reference:
        """Read what :meth:`to_json` wrote.

        Raises:
            ArtefactError: it is none.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ArtefactError(f"the reference for drift cannot be read: {error}") from error

    def to_json(self) -> bytes:
        """Write it as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @property
    def watched(self) -> Sequence[Column]:
        """All columns, the prediction last."""
        return [*self.columns, self.prediction] if self.prediction else self.columns

    @property
    def size(self) -> int:
        """Length of what :meth:`count` returns."""
        return sum(column.size for column in self.watched)

    def count(self, inputs: Tensors, outputs: Tensors, rows: int) -> Array:
        """Count rows into the bins of all columns, one column's counts behind the other's.

        Args:
            inputs: one array an input, the first axis being the rows.
            outputs: some or all outputs for them.
            rows: how many there are; at least one.
        """
        parts = [column.count(inputs, rows) for column in self.columns]
        if self.prediction:
            has_answer = self.prediction.tensor in outputs
            parts.append(
                self.prediction.count(outputs, rows)
                if has_answer
                else np.zeros(self.prediction.size, dtype=np.int64)
            )
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def split(self, counts: Array) -> list[tuple[Column, Array]]:
        """Give each column its part of what :meth:`count` returned."""
        ends = list(accumulate(column.size for column in self.watched))[:-1]
        return list(zip(self.watched, np.split(counts, ends), strict=True)) if self.watched else []


def _watched(feature: Feature) -> Column | None:
    """Say what is watched of a feature, as yet without bins."""
    is_text = feature.datatype is Datatype.BYTES
    match feature.kind:
        case Kind.NUMBER | Kind.INTEGER:
            measure = Measure.VALUE
        case Kind.BOOLEAN | Kind.TEXT:
            measure = Measure.CATEGORY
        case _ if is_text:
            return None
        case _:
            measure = Measure.MEAN
    return Column(name=feature.name, tensor=feature.tensor, column=feature.column, measure=measure)


def _answer(signature: Signature) -> Column | None:
    """Say what is watched of the answers, as yet without bins."""
    answer = signature.answer
    match answer.kind:
        case AnswerKind.CLASSIFICATION if answer.label:
            return Column(name="prediction", tensor=answer.label, measure=Measure.CATEGORY)
        case AnswerKind.CLASSIFICATION if answer.scores:
            return Column(name="prediction", tensor=answer.scores, measure=Measure.BEST)
        case AnswerKind.REGRESSION if answer.value:
            return Column(name="prediction", tensor=answer.value, measure=Measure.VALUE)
    return None


def _fitted(column: Column, tensors: Tensors, rows: int) -> Column:
    """Cut the column into bins that fit the rows, and count these."""
    values = _values(column, tensors[column.tensor].reshape(rows, -1))
    if column.measure is Measure.CATEGORY and len(set(values)) > MAX_CATEGORIES:
        column = msgspec.structs.replace(column, measure=Measure.LENGTH)
        values = _values(column, tensors[column.tensor].reshape(rows, -1))
    if column.measure.is_number:
        numbers = values[np.isfinite(values)]
        cuts = _cuts(numbers)
        column = msgspec.structs.replace(
            column,
            cuts=cuts,
            low=float(numbers.min()) if len(numbers) else None,
            high=float(numbers.max()) if len(numbers) else None,
            counts=[0] * (len(cuts) + 1),
        )
    else:
        categories = [category for category, _ in Counter(values).most_common() if category]
        column = msgspec.structs.replace(
            column, categories=categories, counts=[0] * (len(categories) + 1)
        )
    *counts, missing, _ = column.count(tensors, rows).tolist()
    return msgspec.structs.replace(column, counts=counts, missing=missing)


def _values(column: Column, array: Array) -> Any:
    """Return what is watched of each row: an array of FP64, or a list of categories."""
    place = column.column or 0
    match column.measure:
        case Measure.VALUE:
            return array[:, place].astype(np.float64)
        case Measure.MEAN:
            return array.mean(axis=1, dtype=np.float64)
        case Measure.LENGTH:
            lengths = [len(_text(value)) for value in array[:, place].tolist()]
            return np.array([float(length) if length else np.nan for length in lengths])
        case Measure.BEST:
            return [str(index) for index in array.argmax(axis=1).tolist()]
        case _:
            return [_text(value)[:_LONGEST] for value in array[:, place].tolist()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _cuts(numbers: Array) -> list[float]:
    """Cut numbers so that each bin holds about as many; one that is frequent has its own bin."""
    if not len(numbers):
        return []
    bins = int(np.clip(len(numbers) // ROWS_A_BIN, 2, BINS))
    # Cuts that are values, so that whole numbers stay whole.
    quantiles = np.quantile(numbers, np.linspace(0, 1, bins + 1), method="inverted_cdf")
    values, times = np.unique(quantiles, return_counts=True)
    frequent = values[times > 1]
    between = values[(values > values[0]) & (values < values[-1])]
    after = np.nextafter(frequent, np.inf)
    return np.unique(np.concatenate([between, frequent, after])).tolist()  # type: ignore[no-any-return]
