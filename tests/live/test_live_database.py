"""A gateway whose database is PostgreSQL, and goes away while models answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import small_models
from databases import PostgreSQL, binaries

from loadtests.server import NotStarted, portico

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.server import Answer, Server

pytestmark = pytest.mark.live

INFER = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def database() -> Iterator[PostgreSQL]:
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; on Debian: apt-get install postgresql")
    server = PostgreSQL(programs)
    yield server
    server.remove()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    small_models.write(small_models.identity("FP32"), tmp_path / "models", "same")
    return tmp_path / "models"


def log_in(server: Server, password: str) -> Answer:
    fields = urlencode({"name": "admin", "password": password})
    return server.ask("POST", "/account/login", fields, Accept="text/html", **FORM)


def infer(server: Server, **headers: str) -> Answer:
    return server.ask("POST", "/v2/models/same/infer", INFER, **headers)


def test_models_answer_while_the_database_is_away(database: PostgreSQL, models: Path) -> None:
    with portico(models, settings={"database": database.url(), "workers": 1}) as server:
        entered = log_in(server, server.password)
        assert entered.status == 303
        cookie = entered.headers["Set-Cookie"].partition(";")[0]
        assert server.get("/admin/", Cookie=cookie).status == 200
        database.stop()
        time.sleep(0.6)  # As long as a session is believed without asking.
        assert infer(server).status == infer(server, Cookie=cookie).status == 200
        assert log_in(server, server.password).status == 503
        away = server.get("/admin/", Cookie=cookie)
        assert (away.status, away.json()["code"]) == (503, "storage_unavailable")
        assert away.headers["Retry-After"] == "1"
        database.start()
        time.sleep(1.1)
        assert log_in(server, server.password).status == 303
        assert server.get("/admin/", Cookie=cookie).status == 200
        for line in ("storage_unavailable", "version_store_lost"):
            said = next(said for said in server.err().splitlines() if line in said)
            assert "refused" in said or "terminating connection" in said
        assert "s3cret" not in server.err() + server.out()
        settings = server.get("/admin/settings", Cookie=cookie).body.decode()
        assert "database" in settings
        assert "s3cret" not in settings


def test_a_second_gateway_on_the_database_makes_no_other_login(
    database: PostgreSQL, models: Path
) -> None:
    settings = {"database": database.url(), "workers": 1}
    with portico(models, settings=settings) as first:
        assert first.password
        with portico(models, settings=settings) as second:
            assert second.password == ""
            assert log_in(second, first.password).status == 303


def test_a_start_without_the_database_is_one_sentence(database: PostgreSQL, models: Path) -> None:
    database.stop()
    with (
        pytest.raises(NotStarted) as caught,
        portico(models, settings={"database": database.url()}),
    ):
        pass
    said = str(caught.value)
    assert "portico: database: the gateway's database cannot be used now: " in said
    assert "Traceback" not in said
    assert "s3cret" not in said
    database.start()
