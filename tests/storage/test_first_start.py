from __future__ import annotations

import multiprocessing
import re
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from portico.accounts.identity import Role
from portico.accounts.service import Accounts
from portico.storage.database import open_database
from portico.storage.first_start import bootstrap
from portico.storage.opening import database_url, open_accounts
from portico.storage.schema import prepare

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_login_opens_the_door(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    login = bootstrap(state)
    assert login is not None
    accounts = Accounts(lambda: open_accounts(database_url(state)))
    token = accounts.sign_in(login.name, login.password, "127.0.0.1")
    identity = accounts.identify(token)
    assert identity is not None
    assert (identity.name, identity.role) == ("admin", Role.ADMIN)


def test_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    bootstrap(state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_the_password_is_nowhere_in_the_state(tmp_path: Path) -> None:
    login = bootstrap(tmp_path)
    assert login is not None
    assert all(login.password.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_the_password_is_readable_and_new_each_time(tmp_path: Path) -> None:
    first, second = bootstrap(tmp_path / "a"), bootstrap(tmp_path / "b")
    assert first is not None
    assert second is not None
    assert re.fullmatch(r"([2-9a-hjkmnp-z]{6}-){2}[2-9a-hjkmnp-z]{6}", first.password)
    assert first.password != second.password


def test_later_starts_make_no_user(tmp_path: Path) -> None:
    assert bootstrap(tmp_path)
    assert bootstrap(tmp_path) is None


def test_a_start_that_was_killed_before_the_user_was_made_is_made_good(tmp_path: Path) -> None:
    with closing(open_database(database_url(tmp_path))) as database:
        prepare(database)
    assert bootstrap(tmp_path)


def test_an_empty_file_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "portico.db").touch()
    assert bootstrap(tmp_path)


def test_of_several_starts_at_once_exactly_one_gets_the_password(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        logins = pool.map(bootstrap, [tmp_path] * 4, chunksize=1)
    assert len([login for login in logins if login]) == 1


@pytest.mark.parametrize("module", ["portico.storage.first_start", "portico.accounts.service"])
def test_a_start_imports_no_database_library(module: str) -> None:
    code = f"import sys, {module}; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_later_start_imports_no_database_library(tmp_path: Path) -> None:
    bootstrap(tmp_path)
    code = (
        "import sys; from pathlib import Path; from portico.storage.first_start import bootstrap; "
        "bootstrap(Path(sys.argv[1])); sys.exit('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 0
