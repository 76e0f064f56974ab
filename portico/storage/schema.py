"""Bring the tables of a database up to what this release reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from portico.storage.tables import CATALOGUE, METADATA

if TYPE_CHECKING:
    from portico.storage.database import Database


def prepare(database: Database) -> None:
    """Make the tables that are missing."""
    with database.write() as connection:
        METADATA.create_all(connection)
        if connection.execute(select(CATALOGUE.c.id)).first() is None:
            connection.execute(insert(CATALOGUE).values(id=1, revision=0))
