"""Open a database so that threads, processes and forks can use it together."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from portico.serving.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection as SQLiteConnection

    from sqlalchemy import URL, Connection, Engine

_BUSY_MILLISECONDS: Final = 5000
_WRITES: Final = "portico_writes"
_TIMEOUTS: Final = {"connect_timeout": 3, "tcp_user_timeout": 5000}
"""For PostgreSQL: seconds to connect, and milliseconds that sent data may stay unacknowledged."""


class Database:
    """A database whose engine is made in the process that uses it.

    A connection must not cross a fork: SQLite's locks belong to a process, PostgreSQL's socket to
    one talker. Engines are therefore kept by process id. The parent's stays referenced in a child,
    where closing it would disturb the parent, and is never used there.

    Args:
        url: as SQLAlchemy writes it.
    """

    def __init__(self, url: str) -> None:
        self._url = _with_driver(make_url(url))
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        pid = os.getpid()
        # Two threads may both make one; an engine opens nothing before it is used.
        return self._engines.get(pid) or self._engines.setdefault(pid, self._make_engine())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements see one state of the database.

        Raises:
            StorageUnavailable: the database cannot be reached or used.
        """
        with _failures_told(), self.engine.connect() as connection:
            if not self._is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is durable once the block is left.

        Writers of SQLite take turns from the first statement on, so what was read inside the
        block stays true until its end. Writers of PostgreSQL lock the row they take turns by.

        Raises:
            StorageUnavailable: the database cannot be reached or used.
        """
        with (
            _failures_told(),
            self.engine.execution_options(**{_WRITES: True}).begin() as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()

    def _make_engine(self) -> Engine:
        if not self._is_sqlite:
            return create_engine(self._url, pool_pre_ping=True, connect_args=_TIMEOUTS)
        if self._url.database:
            _make_private(self._url.database)
        engine = create_engine(self._url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def open_database(url: str) -> Database:
    """Return a database; nothing is opened before its first use.

    Args:
        url: such as ``sqlite:////var/lib/portico/portico.db``.
    """
    return Database(url)


def _with_driver(url: URL) -> URL:
    """Name the driver that Portico brings; left out, SQLAlchemy would take an older one."""
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, NoConnectionFree) as error:
        reason = str(getattr(error, "orig", error)).strip()
        raise StorageUnavailable("the gateway's database cannot be used now", reason) from error


def _make_private(path: str) -> None:
    """Make the file readable for its owner alone; SQLite gives its side files the same mode."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _prepare_sqlite(connection: SQLiteConnection, _record: object) -> None:
    # The driver's own transactions begin at the first write, too late to keep what was read true:
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    # With NORMAL a commit in WAL mode could be lost when the power fails.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes: Any = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
