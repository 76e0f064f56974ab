from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database

if TYPE_CHECKING:
    from pathlib import Path


def test_opening_touches_nothing_before_the_first_use(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/none.db").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, 0o644])
def test_every_file_is_its_owners_alone(tmp_path: Path, before: int | None) -> None:
    file = tmp_path / "portico.db"
    if before:
        file.touch(before)
    with closing(open_database(f"sqlite:///{file}")) as database:
        DatabaseAccountStore(database)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.keys() >= {"portico.db", "portico.db-wal"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
def test_sqlite_is_set_up_for_several_processes(tmp_path: Path, pragma: str, value: object) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/p.db")) as database, database.read() as c:
        assert c.execute(text(f"PRAGMA {pragma}")).scalar() == value


def test_a_session_needs_its_user(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/p.db")) as database:
        store = DatabaseAccountStore(database)
        with pytest.raises(IntegrityError):
            store.add_session(b"d" * 32, "nobody", 1.0)


def test_an_engine_does_not_cross_a_fork(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/p.db")) as database:
        store = DatabaseAccountStore(database)
        parents = database.engine
        child = os.fork()
        if child == 0:
            good = database.engine is not parents and store.find_user("ada") is None
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert database.engine is parents
        assert store.find_user("ada") is None


def test_a_writer_is_not_stopped_by_a_reader(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/p.db")) as database:
        store = DatabaseAccountStore(database)
        with database.read() as reader:
            reader.execute(text("SELECT * FROM users")).all()
            store.add_failure(b"k" * 32, None, 1.0)
        assert store.failures(b"k" * 32) is not None


def test_another_opening_in_one_process_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """Else the next process to come would take itself for the last and delete the log."""
    file = tmp_path / "portico.db"
    first, second = (open_database(f"sqlite:///{file}") for _ in range(2))
    with first.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    log = (tmp_path / "portico.db-wal").stat().st_ino
    with second.read() as connection:
        connection.exec_driver_sql("SELECT * FROM t")
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "list(c.execute('SELECT * FROM t')); c.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    assert (tmp_path / "portico.db-wal").stat().st_ino == log
    with first.write() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (7)")
    first.close()
    second.close()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(7,)]
