"""Drift of what one worker serves, added up with what all other workers count.

The thread that writes the prediction log hands over what was predicted. A part of the rows is
counted into the bins of the version's reference; now and then the counts go to the database, where
those of all workers and machines add up.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from portico.serving.drift import Reference
from portico.serving.drift_report import Level, compare
from portico.serving.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from portico.serving.drift_report import DriftReport
    from portico.serving.metrics import DriftMetrics
    from portico.serving.segments import Stack
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors

WINDOW: Final = 24 * 3600
"""Seconds that drift is told of."""

STRETCH: Final = 600
"""Seconds that one row of counts in the database stands for."""

FIRST_ROWS: Final = 1000
"""Rows served that become the reference of a version whose import had no examples."""

RETELL: Final = 60.0
"""Seconds after which a worker without requests looks again at what the others count: a scrape
shows the largest of what the workers tell."""

SHOWN_FEATURES: Final = 50
"""Features of a version that have a metric of their own, the first ones."""

_MOST_ROWS: Final = 500
"""Rows that are counted of all those that come between two looks."""


class DriftStore(Protocol):
    """Keeps references and counts for all workers."""

    def reference(self, model: str, version: str, artefact: str) -> bytes | None:
        """Return the reference that was made of the first rows served, if there is one."""
        ...

    def add_reference(self, model: str, version: str, artefact: str, data: bytes) -> bytes:
        """Keep a reference, unless there is one; return the one that is there now."""
        ...

    def set_counts(
        self, model: str, version: str, reference: str, began: int, worker: str, counts: bytes
    ) -> None:
        """Keep what a worker has counted in a stretch of time, in place of what it had."""
        ...

    def counts(self, model: str, version: str, reference: str, since: int) -> Sequence[bytes]:
        """Return the counts of all workers of stretches that began at a time or later."""
        ...

    def prune(self, before: int) -> None:
        """Remove counts of stretches that began before a time."""
        ...


@dataclass(slots=True)
class _Version:
    """What is known of one version; without the version itself, which may be freed meanwhile."""

    name: str
    version: str
    artefact: str
    signature: Signature
    reference: Reference | None = None
    digest: str = ""
    began: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    sent: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    is_new: bool = False
    told: float = 0.0
    room: int = _MOST_ROWS
    first: list[tuple[Tensors, Tensors]] = field(default_factory=list)
    first_rows: int = 0

    def refer_to(self, reference: Reference) -> None:
        self.reference = reference
        self.digest = hashlib.sha256(reference.to_json()).hexdigest()
        self.counts = np.zeros(reference.size, np.int64)
        self.began = 0
        self.first, self.first_rows = [], 0


class DriftWatch:
    """Watches all versions of one worker.

    Args:
        open_store: returns the store; it may fail, and is asked again.
        metrics: are set to what all workers have counted together.
        interval: seconds between two looks into the database.
    """

    def __init__(
        self, open_store: Callable[[], DriftStore], metrics: DriftMetrics, *, interval: float = 10.0
    ) -> None:
        self._open_store = open_store
        self._metrics = metrics
        self._interval = interval
        self._next = 0.0
        self._next_prune = 0.0
        self._versions: dict[tuple[str, str], _Version] = {}
        self._worker = ""

    def add(self, served: ServedModel) -> None:
        """Watch a version, from its loading on."""
        known = _Version(served.name, served.version, served.sha256, served.signature)
        if served.reference is not None:
            known.refer_to(served.reference)
        self._versions[served.name, served.version] = known

    def observe(self, stacks: Iterable[Stack]) -> None:
        """Count rows that were answered, up to so many between two looks."""
        for stack in stacks:
            one = stack.predictions[0]
            known = self._versions.get((one.model, one.version))
            if known is None or one.outcome != "ok" or not known.room:
                continue
            taken = _sample(stack, known.room)
            if taken is None:
                continue
            inputs, outputs, rows = taken
            known.room -= rows
            if known.reference is None:
                known.first.append((inputs, outputs))
                known.first_rows += rows
            else:
                known.counts += known.reference.count(inputs, outputs, rows)
                known.is_new = True

    def tick(self) -> None:
        """Exchange counts with the other workers, where it is time."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + self._interval
        # The prediction log, which writes into the same database, tells that it is away.
        with suppress(StorageUnavailable):
            self._exchange()

    def report(self, name: str, version: str) -> DriftReport | None:
        """Compare what all workers have counted with the reference.

        Returns:
            None where there is no reference yet.

        Raises:
            StorageUnavailable: the database cannot be read now.
        """
        known = self._versions.get((name, version))
        return self._report(self._open_store(), known) if known and known.reference else None

    def _exchange(self) -> None:
        stretch = int(time()) // STRETCH * STRETCH
        for known in list(self._versions.values()):
            known.room = _MOST_ROWS
            if known.first_rows:
                self._refer(known)
            if known.reference is None:
                continue
            store = self._open_store()
            if known.is_new:
                self._send(store, known, stretch)
            elif not known.told or monotonic() < known.told + RETELL:
                continue
            self._tell(known, self._report(store, known))
            known.told = monotonic()
        if stretch > self._next_prune and self._worker:
            self._next_prune = stretch + STRETCH
            self._open_store().prune(stretch - WINDOW)

    def _refer(self, known: _Version) -> None:
        """Make a reference of the first rows, or take the one that another worker has made."""
        store = self._open_store()
        key = known.name, known.version, known.artefact
        found = store.reference(*key)
        if found is None and known.first_rows >= FIRST_ROWS:
            made = _reference_of(known)
            found = store.add_reference(*key, made.to_json()) if made else None
            known.first, known.first_rows = [], 0
        if found is not None:
            known.refer_to(Reference.from_json(found))

    def _send(self, store: DriftStore, known: _Version, stretch: int) -> None:
        """Write what was counted in this stretch, the last look's part of it included."""
        if known.began != stretch:
            known.began, known.sent = stretch, np.zeros_like(known.counts)
        known.sent = known.sent + known.counts
        known.counts = np.zeros_like(known.counts)
        known.is_new = False
        self._worker = self._worker or os.urandom(6).hex()
        store.set_counts(
            known.name, known.version, known.digest, stretch, self._worker,
            known.sent.astype("<i8").tobytes(),
        )  # fmt: skip

    def _report(self, store: DriftStore, known: _Version) -> DriftReport:
        reference = known.reference
        if reference is None:
            raise TypeError("a version without a reference has no report")
        since = int(time()) - WINDOW
        parts = store.counts(known.name, known.version, known.digest, since)
        total = np.zeros(reference.size, np.int64)
        for part in parts:
            counts = np.frombuffer(part, "<i8")
            if len(counts) == len(total):
                total += counts
        return compare(reference, total)

    def _tell(self, known: _Version, report: DriftReport) -> None:
        labels = known.name, known.version
        shown = report.columns[:SHOWN_FEATURES]
        for drift in (*shown, report.prediction) if report.prediction else shown:
            self._metrics.psi.labels(*labels, drift.column.name).set(drift.psi)
            self._metrics.strange.labels(*labels, drift.column.name).set(drift.strange)
        for level in Level:
            moved = sum(drift.level is level for drift in report.watched)
            self._metrics.columns.labels(*labels, level.value).set(moved)
        self._metrics.rows.labels(*labels).set(report.rows)


def _sample(stack: Stack, most: int) -> tuple[Tensors, Tensors, int] | None:
    """Return inputs and outputs of some rows of a stack, evenly taken, and how many they are.

    Where a tensor has no axis of rows, each prediction is one row.
    """
    if stack.inputs is None or stack.outputs is None:
        return None
    lengths = {len(array) for array in (*stack.inputs.values(), *stack.outputs.values())}
    if len(lengths) != 1 or lengths == {0}:
        return None
    step = -(-lengths.pop() // most)
    inputs = {name: array[::step] for name, array in stack.inputs.items()}
    outputs = {name: array[::step] for name, array in stack.outputs.items()}
    return inputs, outputs, len(next(iter(inputs.values())))


def _reference_of(known: _Version) -> Reference | None:
    """Make the reference of the first rows; None where they have nothing in common."""
    wanted = known.signature.output_by_name.keys()
    whole = [(inputs, outputs) for inputs, outputs in known.first if outputs.keys() == wanted]
    try:
        inputs = {n: np.concatenate([i[n] for i, _ in whole]) for n in whole[0][0]}
        outputs = {n: np.concatenate([o[n] for _, o in whole]) for n in wanted}
    except (IndexError, ValueError):  # No request wanted all outputs, or their shapes differ.
        return None
    return Reference.of(known.signature, inputs, outputs)
