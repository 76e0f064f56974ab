from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import small_models

from loadtests.restarts import answers
from loadtests.server import Answer, ask, portico, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPConnection
    from pathlib import Path

    from loadtests.server import Server


@pytest.fixture(scope="session", params=["gunicorn", "granian"])
def gateway(
    request: pytest.FixtureRequest,
    demos: tuple[Path, list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """One gateway for all tests that only ask: demo models and small ones for every datatype."""
    folder, pickles = demos
    small = small_models.write_all(tmp_path_factory.mktemp("small"))
    settings = {"max_body_bytes": 2_000_000, "server": request.param}
    with portico(folder, small, allow=pickles, settings=settings) as server:
        # A connection from before the last worker began would be given back after one answer.
        wait_until(lambda: len(server.workers()) == 2, server)
        wait_until(lambda: all(answers(server, worker) for worker in server.workers()), server)
        yield server


class Client:
    """One connection that stays open, and what tests ask over it."""

    def __init__(self, connection: HTTPConnection) -> None:
        self.connection = connection

    def get(self, path: str, **headers: str) -> Answer:
        return ask(self.connection, "GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return ask(self.connection, "POST", path, body, **headers)

    def infer(self, model: str, body: Any, **headers: str) -> Answer:
        return self.post(f"/v2/models/{model}/infer", body, **headers)


@pytest.fixture
def client(gateway: Server) -> Iterator[Client]:
    connection = gateway.connect()
    yield Client(connection)
    connection.close()


def _refused(answer: Answer, status: int, *parts: str) -> dict[str, Any]:
    """Check that an answer is an error in the one shape whose text holds all ``parts``."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()
    assert set(error) == {"error", "code", "request_id", "details"}
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert isinstance(error["error"], str)
    assert error["error"]
    assert all(set(detail) == {"where", "problem"} for detail in error["details"])
    text = json.dumps(error, ensure_ascii=False)
    for part in parts:
        assert part in text
    return error  # type: ignore[no-any-return]


@pytest.fixture
def refused() -> Callable[..., dict[str, Any]]:
    return _refused
