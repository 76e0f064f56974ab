"""A database that goes away, cannot be found, or is none."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from databases import PostgreSQL, binaries

from portico.serving.errors import StorageUnavailable
from portico.storage.database import open_database
from portico.storage.versions import DatabaseVersionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from portico.storage.database import Database


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that a test may stop."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    server = PostgreSQL(programs)
    yield server
    server.remove()


def refused(database: Database) -> tuple[StorageUnavailable, float]:
    """Ask, and return how that failed and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught, database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    return caught.value, time.monotonic() - begun


def test_a_database_that_comes_back_is_used_again(own_postgresql: PostgreSQL) -> None:
    with closing(open_database(own_postgresql.url())) as database:
        store = DatabaseVersionStore(database)
        store.reserve("churn", None, "ada")
        own_postgresql.stop()
        error, seconds = refused(database)
        assert error.message == "the gateway's database cannot be used now"
        assert "refused" in error.reason
        assert "s3cret" not in error.reason + str(error.__cause__)
        assert seconds < 5
        with pytest.raises(StorageUnavailable):
            store.reserve("churn", None, "ada")
        own_postgresql.start()
        time.sleep(1.1)
        assert store.reserve("churn", None, "ada").version == 2


def test_a_transaction_that_is_cut_off_leaves_nothing(own_postgresql: PostgreSQL) -> None:
    with closing(open_database(own_postgresql.url())) as database:
        store = DatabaseVersionStore(database)

        def be_cut_off() -> None:
            with database.write() as connection:
                connection.exec_driver_sql("UPDATE catalogue SET revision = 99")
                own_postgresql.stop()

        with pytest.raises(StorageUnavailable):
            be_cut_off()
        own_postgresql.start()
        assert store.revision() == 0


def test_threads_do_not_wait_in_turn_for_a_server_that_is_silent() -> None:
    """It takes connections and says nothing, as a machine behind a broken network."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with closing(open_database(f"postgresql://u:s3cret@127.0.0.1:{port}/db")) as database:
            error, seconds = refused(database)
            assert 1 < seconds < 6
            assert "s3cret" not in error.reason
            with ThreadPoolExecutor(8) as pool:
                assert all(seconds < 1 for _, seconds in pool.map(refused, [database] * 8))
            time.sleep(1.1)
            with ThreadPoolExecutor(8) as pool:
                waited = [seconds for _, seconds in pool.map(refused, [database] * 8)]
            assert sum(seconds > 1 for seconds in waited) == 1, "one finds out for all"


def test_a_wrong_password_is_told_to_the_operator_alone(postgresql: PostgreSQL) -> None:
    url = postgresql.url().replace("portico:", "nobody-here:")
    with closing(open_database(url)) as database:
        error, _ = refused(database)
    assert "nobody-here" in error.reason
    assert "nobody-here" not in error.message
    assert "s3cret" not in error.reason


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@host:port/db", "s3cret"])
def test_an_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(StorageUnavailable, match="URL of the gateway's database") as caught:
        open_database(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_driver_that_is_missing_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from portico.serving.errors import StorageUnavailable\n"
        "from portico.storage.opening import open_versions\n"
        "try: open_versions('postgresql://u:p@h/db')\n"
        "except StorageUnavailable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'portico[postgresql]'" in done.stdout, done.stderr


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "portico.db").write_bytes(b"no database" * 1000)
    with closing(open_database(f"sqlite:///{tmp_path}/portico.db")) as database:
        error, _ = refused(database)
    assert "not a database" in error.reason


def test_a_file_that_cannot_be_made_is_told_without_its_path(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path}/no/such/folder.db")) as database:
        error, _ = refused(database)
    assert str(tmp_path) not in error.message
    assert str(tmp_path) in error.reason
