"""Shadow: a share of the live requests is run on the candidate as well, aside, and compared.

A request hands its prediction on and is done. One thread of each worker asks the candidate, one
request at a time, and rests after each as long as that took; what finds the queue full is left
out and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from portico.serving.comparison import RowChange, answer, changed_rows, row_change
from portico.serving.errors import ServingError
from portico.serving.traffic import candidate_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Counter

    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Model
    from portico.serving.predictions import Prediction, Recorder
    from portico.serving.service import ServedModel

log = structlog.get_logger(__name__)

OUTCOMES: Final = ("same", "changed", "failed", "dropped")
WORST: Final = 5
"""Rows that are remembered of each candidate."""


@dataclass(slots=True)
class Shadowed:
    """What one worker has compared of a candidate.

    Attributes:
        version: the production version.
        candidate: the candidate's version.
        share: of the requests, from 0 to 1.
        counts: requests by outcome, as :data:`OUTCOMES`.
        worst: the rows with the largest differences, the largest first.
    """

    version: str
    candidate: str
    share: float
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    worst: Sequence[RowChange] = ()

    @property
    def compared(self) -> int:
        """Requests that both versions were asked."""
        return sum(self.counts.values()) - self.counts["dropped"]


@dataclass(slots=True)
class _Tap:
    """What stands at the end of production's predictions while there is a shadow."""

    production: ServedModel
    candidate: ServedModel
    recorder: Recorder | None
    told: Shadowed


class Shadow:
    """Compares candidates with production in one worker.

    Args:
        catalogue: says which models have a shadow; looked at every ``interval`` seconds.
        compared: counts requests by model and outcome.
        interval: seconds.
        waiting: requests that may wait to be compared.
    """

    def __init__(
        self, catalogue: Catalogue, compared: Counter, *, interval: float = 0.25, waiting: int = 64
    ) -> None:
        self._catalogue = catalogue
        self._compared = compared
        self._interval = interval
        self._waiting = waiting
        self._queue: deque[tuple[_Tap, Prediction]] = deque()
        self._taps: dict[str, _Tap] = {}
        self._revision = -1
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin, in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what waits is not compared any more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def of(self, name: str) -> Shadowed | None:
        """Return what was compared of a model's candidate; None where it has no shadow."""
        tap = self._taps.get(name)
        return tap.told if tap else None

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                if self._revision != self._catalogue.revision:
                    self._follow()
                while self._queue and not self._stopped.is_set():
                    self._rest_after(*self._queue.popleft())
            except Exception:
                log.exception("shadow_failed")

    def _follow(self) -> None:
        """Tap the predictions of models that have a shadow now, and of no others."""
        # Read first: a change that comes in meanwhile is followed the next time.
        revision = self._catalogue.revision
        wanted = {model.name: model for model in self._catalogue.models() if model.traffic.shadow}
        for name in self._taps.keys() - wanted.keys():
            self._untap(name)
        for name, model in wanted.items():
            self._tap(name, model)
        self._revision = revision

    def _tap(self, name: str, model: Model) -> None:
        production, candidate, share = (
            model.current.served,
            candidate_of(model),
            model.traffic.shadow,
        )
        old = self._taps.get(name)
        if old and (old.production, old.candidate, old.told.share) == (
            production,
            candidate,
            share,
        ):
            return
        self._untap(name)
        if production is None or candidate is None or production is candidate:
            return
        told = Shadowed(production.version, candidate.version, share)
        tap = _Tap(production, candidate, production.recorder, told)
        production.recorder = self._tapped(tap)
        self._taps = {**self._taps, name: tap}

    def _untap(self, name: str) -> None:
        tap = self._taps.get(name)
        if tap is not None:
            tap.production.recorder = tap.recorder
            self._taps = {other: kept for other, kept in self._taps.items() if other != name}

    def _tapped(self, tap: _Tap) -> Recorder:
        record, share, queue, waiting = tap.recorder, tap.told.share, self._queue, self._waiting

        def take(prediction: Prediction) -> None:
            if record is not None:
                record(prediction)
            if prediction.outcome != "ok" or random() >= share:  # noqa: S311 a sample
                return
            if len(queue) < waiting:
                queue.append((tap, prediction))
            else:
                self._count(tap, "dropped")

        return take

    def _rest_after(self, tap: _Tap, prediction: Prediction) -> None:
        started = perf_counter()
        self._compare(tap, prediction)
        # Half of one thread's time at most goes into comparisons.
        self._stopped.wait(perf_counter() - started)

    def _compare(self, tap: _Tap, prediction: Prediction) -> None:
        inputs, before = prediction.inputs, prediction.outputs
        if inputs is None or before is None:
            return
        try:
            after = answer(tap.candidate, inputs).outputs or {}
        except ServingError:
            self._count(tap, "failed")
            return
        signature = tap.production.signature
        changed, differences = changed_rows(signature, before, after)
        self._count(tap, "changed" if changed.any() else "same")
        rows = np.flatnonzero(changed)
        if len(rows):
            row = int(rows[np.argmax(differences[rows])])
            told = row_change(
                signature, prediction.id, inputs, before, after, row, float(differences[row])
            )
            worst = sorted([*tap.told.worst, told], key=lambda change: -change.difference)
            tap.told.worst = worst[:WORST]

    def _count(self, tap: _Tap, outcome: str) -> None:
        tap.told.counts[outcome] += 1
        self._compared.labels(tap.production.name, outcome).inc()
