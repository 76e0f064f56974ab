"""Insert a row, or replace what is there under its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection, Insert, Table


def upsert(connection: Connection, table: Table) -> Insert:
    """Return a statement to be executed with rows that give every column of the table.

    Args:
        connection: tells whose words to use.
        table: with a primary key, and other columns beside it.
    """
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table)
    others = [column.name for column in table.columns if not column.primary_key]
    replacing: Insert = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in others},
    )
    return replacing
