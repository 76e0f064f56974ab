"""Open a database so that threads, processes and forks can use it together."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from portico.serving.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection as SQLiteConnection

    from sqlalchemy import URL, Connection, Engine

_BUSY_MILLISECONDS: Final = 5000
_WRITES: Final = "portico_writes"
_CONNECT_SECONDS: Final = 3
_TIMEOUTS: Final = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": 5000}
"""Of PostgreSQL's client, in seconds and milliseconds, where the URL says nothing else."""

_RETRY_SECONDS: Final = 1.0
_UNAVAILABLE: Final = "the gateway's database cannot be used now"


class Database:
    """A database whose engine is made in the process that uses it.

    A connection must not cross a fork: SQLite's locks belong to a process, PostgreSQL's socket to
    one talker. Engines are therefore kept by process id. The parent's stays referenced in a child,
    where closing it would disturb the parent, and is never used there.

    Args:
        url: as SQLAlchemy writes it.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._engines: dict[int, Engine] = {}
        self._outage = Outage()

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
        with self._connected() as connection:
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
            self._connected() as connection,
            connection.execution_options(**{_WRITES: True}).begin(),
        ):
            yield connection

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with _failures_told():
            with self._outage.met():
                connection = self.engine.connect()
            with connection:
                yield connection

    def _make_engine(self) -> Engine:
        if not self._is_sqlite:
            return _postgresql(self._url)
        if self._url.database:
            _make_private(self._url.database)
        engine = create_engine(self._url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


class Outage:
    """Keeps threads from waiting, one after the other, for a server that does not answer.

    After a failure to connect everybody fails at once for a second; then one tries while the others
    still go on without.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._reason = ""

    @contextmanager
    def met(self) -> Iterator[None]:
        """Watch an attempt to connect.

        Raises:
            StorageUnavailable: it would come too early.
        """
        now = time.monotonic()
        if now < self._until:
            raise StorageUnavailable(_UNAVAILABLE, self._reason)
        if self._until:
            self._until = now + _CONNECT_SECONDS
        try:
            yield
        except Exception as error:
            self._reason = _reason(error)
            self._until = time.monotonic() + _RETRY_SECONDS
            raise
        self._until = 0.0


def open_database(url: str) -> Database:
    """Return a database; nothing is opened before its first use.

    Args:
        url: such as ``sqlite:////var/lib/portico/portico.db``.
    """
    return Database(url)


def _parse(text: str) -> URL:
    """Read a URL, and name the driver that Portico brings where it names none."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # What went wrong stays untold: a password stands in the URL.
        raise StorageUnavailable("the URL of the gateway's database cannot be read") from None
    is_plain = url.drivername in ("postgres", "postgresql")
    return url.set(drivername="postgresql+psycopg") if is_plain else url


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, InterfaceError, NoConnectionFree) as error:
        if isinstance(error, DataError | IntegrityError | ProgrammingError):
            raise  # The statement is wrong, not the database.
        raise StorageUnavailable(_UNAVAILABLE, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Return what the driver said, without SQLAlchemy's words about it."""
    if isinstance(error, StorageUnavailable):
        return error.reason
    return str(getattr(error, "orig", error)).strip()


def _postgresql(url: URL) -> Engine:
    timeouts = {name: value for name, value in _TIMEOUTS.items() if name not in url.query}
    try:
        return create_engine(
            url, pool_pre_ping=True, pool_timeout=_CONNECT_SECONDS, connect_args=timeouts
        )
    except ImportError:
        sentence = "PostgreSQL needs another package: pip install 'portico[postgresql]'"
        raise StorageUnavailable(sentence) from None


def _make_private(path: str) -> None:
    """Make the file readable for its owner alone; SQLite gives its side files the same mode.

    A file that is there is never opened: whoever closes a file gives up all locks that its process
    holds on it (POSIX, `fcntl`), those of SQLite's other connections too, and the next process to
    come would then delete the log that they still write to.
    """
    try:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            Path(path).chmod(0o600)
    except OSError as error:
        sentence = "the file of the gateway's database cannot be opened"
        raise StorageUnavailable(sentence, str(error)) from error


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
