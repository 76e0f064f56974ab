"""Replay: logged requests run again through the present version and through a candidate."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from portico.serving.comparison import TOLERANCE, RowChange, answer, changed_rows, row_change
from portico.serving.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portico.serving.predictions import Logged
    from portico.serving.service import ServedModel

WORST: Final = 5
"""Rows of the report that are shown side by side."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of a request: the median, and what 99 of 100 stay below; 0 where there was none."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of logged requests.

    Attributes:
        requests: that both versions were asked.
        rows: of these.
        changed: rows to which the candidate gives another answer, or none.
        failed: requests that the present version answers and the candidate does not.
        skipped: requests that the present version does not answer any more.
        problem: why the candidate failed, for one of them; empty where it never did.
        present, candidate: how long each took.
        worst: the rows with the largest differences.
    """

    requests: int
    rows: int
    changed: int
    failed: int
    skipped: int
    problem: str
    present: Latency
    candidate: Latency
    worst: Sequence[RowChange]

    @property
    def share(self) -> float:
        """The share of rows that changed; 0 where there were none."""
        return self.changed / self.rows if self.rows else 0.0


def replay(
    logged: Iterable[Logged],
    present: ServedModel,
    candidate: ServedModel,
    tolerance: float = TOLERANCE,
) -> ReplayReport:
    """Ask both versions what was asked before, and compare.

    Args:
        logged: answered requests that kept their inputs.
        present: the version that answers now.
        candidate: the one that is to answer in its place.
        tolerance: see :func:`portico.serving.comparison.changed_rows`.
    """
    requests = rows = changed = failed = skipped = 0
    problem = ""
    times: tuple[list[float], list[float]] = ([], [])
    worst: list[tuple[float, int, RowChange]] = []
    places = count()
    for each in logged:
        inputs = each.inputs or {}
        started = perf_counter()
        try:
            before = answer(present, inputs).outputs or {}
        except ServingError:
            skipped += 1
            continue
        times[0].append(perf_counter() - started)
        requests += 1
        rows += each.rows
        started = perf_counter()
        try:
            after = answer(candidate, inputs).outputs or {}
        except ServingError as error:
            failed += 1
            changed += each.rows
            problem = problem or error.message
            continue
        times[1].append(perf_counter() - started)
        is_changed, differences = changed_rows(present.signature, before, after, tolerance)
        changed += int(is_changed.sum())
        for row in np.flatnonzero(is_changed).tolist():
            difference = float(differences[row])
            if len(worst) < WORST or difference > worst[0][0]:
                told = row_change(
                    present.signature, each.id, inputs, before, after, row, difference
                )
                push = heapq.heappush if len(worst) < WORST else heapq.heappushpop
                push(worst, (difference, next(places), told))
    return ReplayReport(
        requests=requests,
        rows=rows,
        changed=changed,
        failed=failed,
        skipped=skipped,
        problem=problem,
        present=_latency(times[0]),
        candidate=_latency(times[1]),
        worst=[told for _, _, told in sorted(worst, reverse=True)],
    )


def _latency(seconds: list[float]) -> Latency:
    if not seconds:
        return Latency(0.0, 0.0)
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    return Latency(p50, p99)
