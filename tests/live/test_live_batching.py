"""Batching in a running server: rows gather, and who waits in vain is told or forgotten."""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import small_models
from onnx import save_model

from loadtests.server import portico
from loadtests.slow_model import COLUMNS, write_slow_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from loadtests.server import Answer, Server

pytestmark = pytest.mark.live

PATH = "/v2/models/slow/infer"
CARD = "[limits]\nqueue_rows = 30000\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with a slow model, which takes a second for 10,000 rows, and a quick one."""
    folder = tmp_path_factory.mktemp("batching")
    slow = write_slow_model(folder / "slow", CARD)
    quick = folder / "quick" / "1"
    quick.mkdir(parents=True)
    save_model(small_models.doubling(), str(quick / "model.onnx"))
    settings = {"workers": 1, "threads": 24}
    with portico(folder / "slow", folder / "quick", settings=settings, allow=[slow]) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def body(rows: int) -> bytes:
    data = [1] * (rows * COLUMNS)
    tensor = {"name": "x", "shape": [rows, COLUMNS], "datatype": "FP64", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def outcomes(server: Server, outcome: str) -> float:
    return server.metric("portico_predictions_total", model="slow", outcome=outcome)


def hold(server: Server, pool: ThreadPoolExecutor, rows: int) -> Future[Answer]:
    """Keep the model busy, a second for 10,000 rows."""
    asked = pool.submit(server.ask, "POST", PATH, body(rows))
    time.sleep(0.3)  # Sent, decoded and begun.
    return asked


def test_a_lone_request_runs_alone_and_at_once(server: Server) -> None:
    answer = server.ask("POST", PATH, body(1))
    assert answer.status == 200
    assert answer.headers["Server-Timing"].endswith('batch;desc="1 row"')
    assert "queue;dur=0.000" in answer.headers["Server-Timing"]


def test_rows_of_many_connections_run_together(server: Server, pool: ThreadPoolExecutor) -> None:
    requests, connections = 5, 64
    rows, runs = (server.metric(f"portico_batch_rows_{part}") for part in ("sum", "count"))
    sizes: list[int] = []

    def ask(number: int) -> None:
        with closing(server.connect()) as connection:
            for _ in range(requests):
                connection.request("POST", PATH, body(number % 3 + 1))
                response = connection.getresponse()
                answer = json.loads(response.read())
                assert response.status == 200, answer
                assert answer["outputs"][0]["data"] == [COLUMNS] * (number % 3 + 1)
                found = re.search(r'batch;desc="(\d+) rows?"', response.headers["Server-Timing"])
                assert found
                sizes.append(int(found[1]))

    for done in [pool.submit(ask, number) for number in range(connections)]:
        done.result(60)
    asked = requests * sum(number % 3 + 1 for number in range(connections))
    assert server.metric("portico_batch_rows_sum") - rows == asked
    assert server.metric("portico_batch_rows_count") - runs < asked / 4
    assert max(sizes) > 8
    assert server.metric("portico_queue_rows") == 0


def test_a_client_that_leaves_is_not_run(server: Server, pool: ThreadPoolExecutor) -> None:
    before = outcomes(server, "cancelled")
    rows = server.metric("portico_batch_rows_sum")
    held = hold(server, pool, 20_000)
    with socket.create_connection(("127.0.0.1", server.port)) as leaving:
        content = body(7)
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        leaving.sendall(head.encode() + content)
        until(lambda: server.metric("portico_queue_rows", model="slow") == 7)
    until(lambda: outcomes(server, "cancelled") == before + 1, 1.5)
    assert server.metric("portico_shed_total", model="slow", reason="cancelled") == before + 1
    assert server.metric("portico_queue_rows", model="slow") == 0
    assert held.result(20).status == 200
    assert server.metric("portico_batch_rows_sum") == rows + 20_000


def test_a_client_says_how_long_it_waits(server: Server, pool: ThreadPoolExecutor) -> None:
    held = hold(server, pool, 15_000)
    begin = time.monotonic()
    answer = server.ask("POST", PATH, body(1), X_Request_Timeout="0.2")
    assert (answer.status, answer.json()["code"]) == (504, "deadline_exceeded")
    assert 0.15 < time.monotonic() - begin < 1.2
    assert answer.headers["X-Prediction-ID"]
    assert held.result(20).status == 200
    for wrong in ("soon", "-1", "0", "nan", "1e99"):
        answer = server.ask("POST", PATH, body(1), X_Request_Timeout=wrong)
        assert (answer.status, answer.json()["code"]) == (400, "invalid_input")


def test_what_finds_no_room_is_told_when_to_come_back(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    # Two that wait for a third make a run of the line's pace known.
    held = hold(server, pool, 8_000)
    waiting = pool.submit(server.ask, "POST", PATH, body(20_000))
    until(lambda: server.metric("portico_queue_rows", model="slow") == 20_000)
    answer = server.ask("POST", PATH, body(15_000))
    assert (answer.status, answer.json()["code"]) == (503, "queue_full")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert held.result(20).status == waiting.result(20).status == 200


def test_a_model_that_hangs_leaves_a_thread_to_others(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    held = hold(server, pool, 30_000)  # Longer than a model may keep every thread.
    asked = [pool.submit(server.ask, "POST", PATH, body(1)) for _ in range(40)]
    doubled = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    answer = server.ask("POST", "/v2/models/quick/infer", doubled)
    assert answer.json()["outputs"][0]["data"] == [2, 4]
    assert not held.done(), "the quick model answered while the slow one hung"
    statuses = {each.result(30).status for each in asked}
    assert statuses <= {200, 503}
