"""What tests of several packages share: demo models, a gateway that serves them, databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from databases import PostgreSQL, binaries

from loadtests.demos import demo_models
from loadtests.server import portico

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.server import Server


@pytest.fixture(scope="session")
def demos() -> tuple[Path, list[Path]]:
    """Folder of the demo models, and the pickles in it."""
    return demo_models()


@pytest.fixture(scope="session")
def demo_server(demos: tuple[Path, list[Path]]) -> Iterator[Server]:
    """One gateway with the demo models and two workers, for all tests that only ask it."""
    folder, pickles = demos
    with portico(folder, allow=pickles) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One PostgreSQL server for all tests that do not stop it."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    server = PostgreSQL(programs)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of each kind that the gateway can keep its own data in."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/portico.db"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.new_database()
    yield url
    server.drop_database(url)
