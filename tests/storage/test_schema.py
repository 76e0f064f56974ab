"""How the tables come to be: anew, from an earlier release, and not from a later one."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, text

from portico.accounts.identity import Identity, Role
from portico.accounts.ports import Failures, User
from portico.serving.errors import StorageUnavailable
from portico.storage import migrations
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database
from portico.storage.migrations import HEAD, VERSION_TABLE
from portico.storage.schema import prepare
from portico.storage.tables import METADATA
from portico.storage.versions import DatabaseVersionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import PostgreSQL
    from sqlalchemy import Connection

    from portico.storage.database import Database

FIRST_RELEASE = """
CREATE TABLE users (
    name VARCHAR(100) NOT NULL, role VARCHAR(20) NOT NULL, password_hash VARCHAR(200) NOT NULL,
    created {double} NOT NULL, PRIMARY KEY (name)
);
CREATE TABLE sign_in_failures (
    "key" {bytes} NOT NULL, count INTEGER NOT NULL, last {double} NOT NULL, PRIMARY KEY ("key")
);
CREATE INDEX ix_sign_in_failures_last ON sign_in_failures (last);
CREATE TABLE sessions (
    digest {bytes} NOT NULL, "user" VARCHAR(100) NOT NULL, started {double} NOT NULL,
    seen {double} NOT NULL, PRIMARY KEY (digest),
    FOREIGN KEY("user") REFERENCES users (name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX ix_sessions_started ON sessions (started);
CREATE INDEX ix_sessions_seen ON sessions (seen);
CREATE INDEX ix_sessions_user ON sessions ("user");
INSERT INTO users VALUES ('ada', 'operator', 'hash-of-ada', 1000.5);
INSERT INTO sign_in_failures VALUES ({key}, 3, 5.5);
INSERT INTO sessions VALUES ({key}, 'ada', 1.5, 2.5);
"""
"""What the first release wrote into an empty database, and a row of each kind."""

KEY = b"k" * 32


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(open_database(database_url)) as opened:
        yield opened


def make_first_release(database: Database) -> None:
    words = {"double": "DOUBLE", "bytes": "BLOB", "key": f"x'{KEY.hex()}'"}
    if database.engine.dialect.name == "postgresql":
        words = {"double": "DOUBLE PRECISION", "bytes": "BYTEA", "key": f"'\\x{KEY.hex()}'"}
    with database.write() as connection:
        for statement in FIRST_RELEASE.format(**words).split(";\n")[:-1]:
            connection.execute(text(statement))


def differences(connection: Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, METADATA))


def noted(database: Database) -> str:
    with database.read() as connection:
        return str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())


def test_the_steps_make_what_the_tables_say(database: Database) -> None:
    prepare(database)
    with database.read() as connection:
        assert differences(connection) == []


def test_a_difference_would_be_found(database: Database) -> None:
    prepare(database)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE traffic ADD COLUMN other INTEGER"))
    with database.read() as connection:
        assert len(differences(connection)) == 1


def test_the_last_step_is_the_one_that_the_code_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]
    steps = [step.revision for step in script.walk_revisions()][::-1]
    assert steps == [f"{number:04}" for number in range(1, len(steps) + 1)]


def test_a_database_of_the_first_release_loses_nothing(database: Database) -> None:
    make_first_release(database)
    store = DatabaseAccountStore(database)
    assert store.find_user("ada") == User("ada", Role.OPERATOR, "hash-of-ada", 1000.5)
    session = store.find_session(KEY)
    assert session is not None
    assert session.identity == Identity("ada", Role.OPERATOR)
    assert store.failures(KEY) == Failures(3, 5.5)
    assert DatabaseVersionStore(database).revision() == 0
    with database.read() as connection:
        assert differences(connection) == []


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    prepare(database)
    with database.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StorageUnavailable, match=rf"newer release.*9999.*knows {HEAD}"):
        DatabaseVersionStore(database)
    assert noted(database) == "9999"


def test_a_database_that_is_up_to_date_costs_one_statement(database: Database) -> None:
    prepare(database)
    said = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: said.append(told[2]))
    prepare(database)
    assert [statement for statement in said if not statement.startswith("BEGIN")] == [
        f"SELECT version_num \nFROM {VERSION_TABLE}"
    ]


def test_a_database_that_is_up_to_date_needs_no_alembic(database_url: str) -> None:
    with closing(open_database(database_url)) as database:
        prepare(database)
    code = (
        "import sys; from portico.storage.opening import open_versions; "
        "open_versions(sys.argv[1]).revision(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, database_url], check=False).returncode == 0


def prepare_in_a_process(url: str) -> int:
    with closing(open_database(url)) as database:
        return DatabaseVersionStore(database).revision()


def test_several_processes_that_start_together_make_the_tables_once(database_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(prepare_in_a_process, [database_url] * 4, chunksize=1) == [0] * 4


def test_a_start_that_is_killed_half_way_leaves_nothing_half_made(tmp_path: Path) -> None:
    code = """
import os, sys
from sqlalchemy import event
from portico.storage.database import open_database
from portico.storage.schema import prepare

database = open_database(sys.argv[1])
def die(connection, cursor, statement, *rest):
    if "worker_reports" in statement:
        os.kill(os.getpid(), 9)
event.listen(database.engine, "before_cursor_execute", die)
prepare(database)
"""
    url = f"sqlite:///{tmp_path}/portico.db"
    assert subprocess.run([sys.executable, "-c", code, url], check=False).returncode == -9
    with closing(sqlite3.connect(tmp_path / "portico.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    with closing(open_database(url)) as database:
        prepare(database)
        assert noted(database) == HEAD


def test_a_database_that_lets_nobody_make_tables_says_so(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    with closing(open_database(url)) as database, database.write() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
    guests = url.replace("portico:s3cret", "guest:guest")
    with closing(open_database(guests)) as database:
        with pytest.raises(StorageUnavailable, match="tables cannot be made") as caught:
            prepare(database)
        assert "permission denied" in caught.value.reason
    postgresql.drop_database(url)


def test_the_alembic_of_another_application_is_not_disturbed(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    prepare(database)
    with database.read() as connection:
        theirs = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        assert theirs.all() == ["theirs"]
