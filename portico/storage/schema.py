"""Bring the tables of a database up to what this release reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import String, func, inspect, literal_column, select, table
from sqlalchemy.exc import DBAPIError, ProgrammingError

from portico.serving.errors import StorageUnavailable
from portico.storage import migrations
from portico.storage.migrations import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from portico.storage.database import Database

_NOTED: Final = select(literal_column("version_num", String)).select_from(table(VERSION_TABLE))
_LOCK: Final = 0x706F727469636F
"""Key of PostgreSQL's advisory lock: the name of this program in hex."""


def prepare(database: Database) -> None:
    """Make the tables that are missing, once, however many processes and machines start together.

    A database that is up to date costs one look-up.

    Raises:
        StorageUnavailable: the database cannot be reached, lets nobody make tables, or was
            written by a newer release.
    """
    if _is_current(database):
        return
    try:
        with database.write() as connection:
            _take_turn(connection)
            _upgrade(connection, _noted(connection))
    except ProgrammingError as error:
        sentence = "the gateway's tables cannot be made in its database"
        raise StorageUnavailable(sentence, str(error.orig).strip()) from error


def _is_current(database: Database) -> bool:
    with database.read() as connection:
        try:
            return connection.execute(_NOTED).scalar() == HEAD
        except DBAPIError:
            # There is no such table yet, or something worse that the next step tells of.
            return False


def _take_turn(connection: Connection) -> None:
    """Wait for others who prepare the database; writers of SQLite take turns anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def _noted(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(_NOTED).scalar()


def _upgrade(connection: Connection, noted: str | None) -> None:
    if noted == HEAD:
        return
    if noted is not None and noted > HEAD:
        raise StorageUnavailable(
            f"the gateway's database was written by a newer release of Portico (schema {noted}; "
            f"this one knows {HEAD}); run that release, or restore a backup from before"
        )
    # It takes as long to import as everything else here takes to run.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, HEAD)
