"""What all workers count to see drift, in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from portico.storage.schema import prepare
from portico.storage.tables import DRIFT_COUNTS, DRIFT_REFERENCES
from portico.storage.upsert import upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from portico.storage.database import Database


class DatabaseDriftStore:
    """References and counts over a database.

    Args:
        database: tables that are missing are made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def reference(self, model: str, version: str, artefact: str) -> bytes | None:
        """Return the reference that was made of the first rows served, if there is one."""
        query = select(DRIFT_REFERENCES.c.reference).where(_is(model, version, artefact))
        with self._database.read() as connection:
            found: bytes | None = connection.execute(query).scalar()
        return found

    def add_reference(self, model: str, version: str, artefact: str, data: bytes) -> bytes:
        """Keep a reference, unless there is one; return the one that is there now."""
        row = {"model": model, "version": version, "artefact": artefact, "reference": data}
        try:
            with self._database.write() as connection:
                connection.execute(insert(DRIFT_REFERENCES), row)
        except IntegrityError:
            return self.reference(model, version, artefact) or data
        return data

    def set_counts(
        self, model: str, version: str, reference: str, began: int, worker: str, counts: bytes
    ) -> None:
        """Keep what a worker has counted in a stretch of time, in place of what it had."""
        row: dict[str, Any] = {
            "model": model,
            "version": version,
            "reference": reference,
            "began": began,
            "worker": worker,
            "counts": counts,
        }
        with self._database.write() as connection:
            connection.execute(upsert(connection, DRIFT_COUNTS), row)

    def counts(self, model: str, version: str, reference: str, since: int) -> Sequence[bytes]:
        """Return the counts of all workers of stretches that began at a time or later."""
        table = DRIFT_COUNTS
        query = select(table.c.counts).where(
            table.c.model == model,
            table.c.version == version,
            table.c.reference == reference,
            table.c.began >= since,
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def prune(self, before: int) -> None:
        """Remove counts of stretches that began before a time."""
        with self._database.write() as connection:
            connection.execute(delete(DRIFT_COUNTS).where(DRIFT_COUNTS.c.began < before))


def _is(model: str, version: str, artefact: str) -> ColumnElement[bool]:
    table = DRIFT_REFERENCES
    return (table.c.model == model) & (table.c.version == version) & (table.c.artefact == artefact)
