"""The prediction log in the database."""

from __future__ import annotations

import heapq
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, text

from portico.serving.predictions import Feedback
from portico.serving.segments import Segment, parse_id, read
from portico.storage.schema import prepare
from portico.storage.tables import FEEDBACK, PREDICTION_SEGMENTS
from portico.storage.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from portico.serving.predictions import Logged
    from portico.storage.database import Database

ROW_BYTES: Final = 400
"""What a row of the log takes beside its data: its columns, and its place in the indexes."""

_TABLE: Final = PREDICTION_SEGMENTS
_COLUMNS: Final = [_TABLE.c[name] for name in Segment.__slots__]
_AT_ONCE: Final = 500
"""Rows removed in one transaction: writers wait for it."""

_PRUNING: Final = 0x706F_7274_6963_6F01
"""Number of the lock in PostgreSQL that whoever prunes holds."""


class DatabasePredictionStore:
    """The prediction log over a database.

    Args:
        database: tables that are missing are made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def write(self, segments: Sequence[Segment]) -> None:
        """Write predictions in one transaction."""
        if not segments:
            return
        rows = [
            {
                **{name: getattr(segment, name) for name in Segment.__slots__},
                "size": len(segment.data) + ROW_BYTES,
            }
            for segment in segments
        ]
        with self._database.write() as connection:
            connection.execute(insert(_TABLE), rows)

    def find(self, prediction: str) -> Logged | None:
        """Return one prediction by its id."""
        parsed = parse_id(prediction)
        if parsed is None:
            return None
        prefix, number = parsed
        covers = (
            (_TABLE.c.prefix == prefix) & (_TABLE.c.first <= number) & (_TABLE.c.last >= number)
        )
        with self._segments(covers, _TABLE.c.first.desc()) as segments:
            each = (found for segment in segments for found in read(segment, number))
            return next(each, None)

    def last(self, model: str, version: str | None, count: int) -> Iterator[Logged]:
        """Yield answered predictions of a model that kept their inputs, the latest first."""
        wanted = (
            (_TABLE.c.model == model) & (_TABLE.c.outcome == "ok") & _TABLE.c.has_inputs.is_(True)
        )
        if version is not None:
            wanted &= _TABLE.c.version == version
        yield from self._latest(wanted, count)

    def of_user(self, who: str, count: int) -> Sequence[Logged]:
        """Return what somebody asked, the latest first."""
        return list(self._latest(_TABLE.c.who == who, count))

    def add_feedback(self, feedback: Feedback) -> None:
        """Keep feedback, in place of what the same person said before; durable."""
        row = {
            "prediction": feedback.prediction,
            "who": feedback.who,
            "right": feedback.right,
            "label": feedback.label,
            "at": feedback.at,
        }
        with self._database.write() as connection:
            connection.execute(upsert(connection, FEEDBACK), row)

    def feedback_on(self, prediction: str) -> Sequence[Feedback]:
        """Return all feedback on a prediction, the earliest first."""
        query = select(FEEDBACK).where(FEEDBACK.c.prediction == prediction)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(FEEDBACK.c.at)).all()
        return [Feedback(row.prediction, row.right, row.label, row.who, row.at) for row in rows]

    def prune(self, before: float, max_bytes: int) -> int:
        """Remove predictions that are older, and the oldest where the log is larger.

        Returns:
            How many were removed; 0 where another one prunes.
        """
        removed: int = 0
        while True:
            with self._database.write() as connection:
                old = self._old(connection, before, max_bytes) if _may_prune(connection) else []
                if old:
                    ids = [row.id for row in old]
                    connection.execute(delete(_TABLE).where(_TABLE.c.id.in_(ids)))
            removed += sum(int(row.predictions) for row in old)
            if len(old) < _AT_ONCE:
                return removed

    def _old(self, connection: Connection, before: float, max_bytes: int) -> Sequence[Any]:
        """Return the oldest rows that have to go, some at a time."""
        total: int = connection.execute(select(func.sum(_TABLE.c.size))).scalar() or 0
        query = select(_TABLE.c.id, _TABLE.c.ended, _TABLE.c.size, _TABLE.c.predictions)
        old = []
        for row in connection.execute(query.order_by(_TABLE.c.ended).limit(_AT_ONCE)):
            if row.ended >= before and total <= max_bytes:
                break
            old.append(row)
            total -= row.size
        return old

    def _latest(self, wanted: ColumnElement[bool], count: int) -> Iterator[Logged]:
        with self._segments(wanted, _TABLE.c.ended.desc()) as segments:
            yield from islice(_latest_first(segments), count)

    @contextmanager
    def _segments(
        self, wanted: ColumnElement[bool], order: ColumnElement[Any]
    ) -> Iterator[Iterator[Segment]]:
        """Give segments that come a few at a time: their data may be large."""
        query = select(*_COLUMNS).where(wanted).order_by(order)
        with (
            self._database.read() as connection,
            connection.execution_options(yield_per=20).execute(query) as rows,
        ):
            yield (Segment(*row) for row in rows)


def _latest_first(segments: Iterable[Segment]) -> Iterator[Logged]:
    """Merge segments, which overlap in time, where the one that ended last comes first."""
    waiting: list[tuple[float, int, Logged]] = []
    places = iter(range(2**62))
    for segment in segments:
        while waiting and -waiting[0][0] > segment.ended:
            yield heapq.heappop(waiting)[2]
        for found in read(segment):
            heapq.heappush(waiting, (-found.at, next(places), found))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _may_prune(connection: Connection) -> bool:
    """Tell whether nobody else prunes; writers of SQLite take turns anyhow."""
    if connection.dialect.name != "postgresql":
        return True
    query = text("SELECT pg_try_advisory_xact_lock(:number)")
    return bool(connection.execute(query, {"number": _PRUNING}).scalar())
