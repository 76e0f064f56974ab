"""The proof that a compiled model answers as the original does.

Both run the same rows: the examples, rows made up within their ranges, missing and unknown values,
and rows one step of floating point beside the thresholds at which trees split. The compiled model
is served only if every label is equal and every number is near enough.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.serving.errors import ModelFailed, ModelRefused, ServingError
from portico.serving.golden import ABSOLUTE, RELATIVE
from portico.serving.importing.rows import (
    count_of,
    example,
    generated,
    picked,
    with_missing,
    with_thresholds,
    with_unknown,
)
from portico.serving.manifest import ParityCheck, ParityReport, Speed
from portico.serving.signature import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from portico.serving.ports import Runtime
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors

ROWS: Final = 512
"""Most rows of one check."""

SECONDS: Final = 0.4
"""What one check may cost the slower of the two, roughly."""

BATCH: Final = 128
"""Rows of the batch whose speed is measured."""

_WORST: Final = 3
_LEAST: Final = 16


def prove(
    native: Runtime,
    compiled: Runtime,
    signature: Signature,
    *,
    examples: Tensors | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> ParityReport:
    """Compare both models and measure both.

    Args:
        native: the original.
        compiled: takes and gives the same tensors.
        signature: of both.
        examples: rows like those the model was trained on; None to make do with what the
            signature tells.
        thresholds: where trees split, by name of the feature.

    Returns:
        the report; nothing is raised where the models differ.
    """
    base = examples or example(signature)
    cost = _seconds(native, picked(base, range(1)), runs=2)
    calls = int(min(64, max(6, SECONDS / max(cost, 1e-6))))
    made = generated(signature, base, ROWS)
    per_row = _seconds(native, picked(made, range(BATCH)), runs=1) / BATCH
    rows = int(min(ROWS, max(_LEAST, SECONDS / max(per_row, 1e-9))))
    sets: list[tuple[str, Iterable[Tensors]]] = [
        ("examples", [picked(base, range(min(rows, count_of(base))))] if examples else []),
        ("generated", [picked(made, range(rows))]),
        ("missing", with_missing(signature, made, calls)),
        ("unknown", with_unknown(signature, made, calls)),
        ("thresholds", [with_thresholds(signature, made, thresholds or {}, 4 * rows)]),
    ]
    checks = [_Comparison(native, compiled, signature, name).over(given) for name, given in sets]
    checks = [check for check in checks if check.rows]
    # Another label is the worst that can be told.
    told = sorted(checks, key=lambda check: -min(check.labels_differ, 1))
    reason = next(filter(None, map(_reason, told)), "")
    return ParityReport(
        compiled=not reason,
        reason=reason,
        checks=checks,
        speeds=list(_speeds(native, compiled, made)),
    )


@dataclass
class _Comparison:
    """Runs rows through both models and keeps the score of one check."""

    native: Runtime
    compiled: Runtime
    signature: Signature
    rows_from: str
    rows: int = 0
    labels_differ: int = 0
    rows_differ: int = 0
    largest: float = 0.0
    largest_relative: float = 0.0
    worst: list[dict[str, Any]] = field(default_factory=list)

    def over(self, batches: Iterable[Tensors]) -> ParityCheck:
        """Compare the answers to each batch."""
        for batch in batches:
            if count_of(batch):
                self._compare(batch)
        return ParityCheck(
            rows_from=self.rows_from,
            rows=self.rows,
            labels_differ=self.labels_differ,
            rows_differ=self.rows_differ,
            largest=self.largest,
            largest_relative=self.largest_relative,
            worst=self.worst,
        )

    def _compare(self, batch: Tensors) -> None:
        """Compare a batch; one that is refused is halved until the rows to blame are alone."""
        count = count_of(batch)
        expected, found = _answer(self.native, batch), _answer(self.compiled, batch)
        if not (isinstance(expected, str) or isinstance(found, str)):
            self.rows += count
            self._score(batch, expected, found)
        elif count > 1:
            half = count // 2
            self._compare(picked(batch, range(half)))
            self._compare(picked(batch, range(half, count)))
        else:
            self.rows += 1
            if not (isinstance(expected, str) and isinstance(found, str)):
                self.rows_differ += 1
                self._keep(batch, 0, expected, found)

    def _score(self, batch: Tensors, expected: Tensors, found: Tensors) -> None:
        count = count_of(batch)
        labels = np.zeros(count, dtype=bool)
        values = np.zeros(count, dtype=bool)
        for spec in self.signature.outputs:
            mine, theirs = expected[spec.name], found[spec.name]
            if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
                values[:] = True
            elif spec.datatype.is_float:
                values |= self._differs(
                    spec.name, mine.reshape(count, -1), theirs.reshape(count, -1)
                )
            else:
                labels |= (mine != theirs).reshape(count, -1).any(axis=1)
        self.labels_differ += int(labels.sum())
        self.rows_differ += int((labels | values).sum())
        worst_first = [*np.flatnonzero(labels), *np.flatnonzero(values & ~labels)]
        for row in worst_first[:_WORST]:
            self._keep(batch, int(row), expected, found)

    def _differs(self, output: str, mine: Array, theirs: Array) -> Array:
        """Tell which rows differ beyond the tolerance."""
        with np.errstate(all="ignore"):
            equal = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
            apart = np.where(equal, 0.0, np.abs(mine - theirs))
            relative = np.where(equal, 0.0, apart / np.abs(mine))
        finite = apart[np.isfinite(apart)]
        self.largest = max(self.largest, float(finite.max(initial=0.0)))
        finite = relative[np.isfinite(relative)]
        self.largest_relative = max(self.largest_relative, float(finite.max(initial=0.0)))
        near = apart <= ABSOLUTE
        if not self._is_probability(output):
            near |= relative <= RELATIVE
        return np.asarray(~near.all(axis=1))

    def _is_probability(self, output: str) -> bool:
        answer = self.signature.answer
        return answer.kind is AnswerKind.CLASSIFICATION and output == answer.scores

    def _keep(
        self, batch: Tensors, row: int, expected: Tensors | str, found: Tensors | str
    ) -> None:
        if len(self.worst) < _WORST:
            self.worst.append(
                {
                    "inputs": _told(batch, row),
                    "native": expected if isinstance(expected, str) else _told(expected, row),
                    "compiled": found if isinstance(found, str) else _told(found, row),
                }
            )


def _answer(runtime: Runtime, batch: Tensors) -> Tensors | str:
    """Return a model's answer, or the sentence with which it refused or failed."""
    try:
        return runtime.run(batch, None)
    except (ModelRefused, ModelFailed) as error:
        return error.message


def _told(tensors: Tensors, row: int) -> dict[str, Any]:
    """Return one row as JSON can hold it; what is no number is None."""
    return {name: _plain(array[row : row + 1].tolist()[0]) for name, array in tensors.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value[:32]]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_NAMES: Final = {
    "examples": "of the examples",
    "generated": "made up within the ranges of the examples",
    "missing": "with missing values",
    "unknown": "with unknown values",
    "thresholds": "beside split thresholds",
}


def _reason(check: ParityCheck) -> str:
    """Return why a check speaks against the compiled model; empty where it does not."""
    if not check.rows_differ:
        return ""
    which = f"{check.rows} rows {_NAMES[check.rows_from]}"
    if check.labels_differ:
        return f"the compiled model gives another label for {check.labels_differ} of {which}"
    told = check.worst[0] if check.worst else {}
    if isinstance(told.get("native"), str):
        return (
            f"the compiled model answers where the original refuses: {check.rows_differ} of {which}"
        )
    if isinstance(told.get("compiled"), str):
        return (
            f"the compiled model refuses what the original answers: {check.rows_differ} of {which}"
        )
    return (
        f"the compiled model differs by up to {check.largest:.2g} "
        f"(relative {check.largest_relative:.2g}) for {check.rows_differ} of {which}"
    )


def _speeds(native: Runtime, compiled: Runtime, rows: Tensors) -> Iterator[Speed]:
    for count in (1, BATCH):
        batch = picked(rows, range(count))
        yield Speed(rows=count, native=_seconds(native, batch), compiled=_seconds(compiled, batch))


def _seconds(runtime: Runtime, batch: Tensors, runs: int = 100) -> float:
    """Return the median seconds of a run; fewer runs of a slow model."""
    taken: list[float] = []
    stop = time.perf_counter() + SECONDS / 4
    while len(taken) < runs and (len(taken) < 2 or time.perf_counter() < stop):
        begun = time.perf_counter()
        with contextlib.suppress(ServingError):  # A refusal takes its time as well.
            runtime.run(batch, None)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))
