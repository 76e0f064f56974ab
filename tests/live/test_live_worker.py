"""The worker: who answers which connection, and for how long."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import psutil
import pytest

from loadtests.bench import BODY, PATH
from loadtests.restarts import answers
from loadtests.server import ask, portico, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPConnection
    from pathlib import Path

    from loadtests.server import Server

pytestmark = pytest.mark.live
CONNECTIONS = 16


@pytest.fixture(scope="module")
def server(demos: tuple[Path, list[Path]]) -> Iterator[Server]:
    with portico(demos[0] / "iris", settings={"workers": 2, "threads": 4}) as running:
        wait_until(lambda: all(answers(running, worker) for worker in running.workers()), running)
        yield running


def shares(server: Server, connections: list[HTTPConnection]) -> dict[int, int]:
    """Return how many of the connections each worker has."""
    ours = {c.sock.getsockname()[1] for c in connections if c.sock}
    return {
        worker: sum(
            bool(peer.raddr) and peer.raddr.port in ours
            for peer in psutil.Process(worker).net_connections("tcp")
        )
        for worker in server.workers()
    }


def infer(connection: HTTPConnection) -> int:
    return ask(connection, "POST", PATH, BODY).status


def test_connections_are_shared_out_among_the_workers(server: Server) -> None:
    def are_shared_out() -> bool:
        with ExitStack() as stack:
            new = [stack.enter_context(closing(server.connect())) for _ in range(CONNECTIONS)]
            for connection in new:
                assert infer(connection) == 200
            return min(shares(server, new).values()) >= CONNECTIONS // 4

    # A worker that gets no processor for a moment takes none, and that is right.
    wait_until(are_shared_out, server)


def test_a_new_worker_gets_its_share_of_kept_connections(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(CONNECTIONS)]
        for connection in connections:
            infer(connection)
        before = server.workers()
        victim = before[0]
        os.kill(victim, signal.SIGKILL)

        def is_spread() -> bool:
            for connection in connections:
                try:
                    infer(connection)
                except OSError:
                    connection.close()  # It was the victim's.
            found = shares(server, connections)
            return victim not in found and len(found) == 2 and min(found.values()) >= 4

        wait_until(is_spread, server)


def test_a_lone_client_keeps_its_connection(server: Server) -> None:
    with closing(server.connect()) as connection:
        infer(connection)
        port = connection.sock.getsockname()[1]
        for _ in range(300):
            infer(connection)
            assert connection.sock.getsockname()[1] == port


def test_more_connections_than_threads_are_all_answered(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(server.connect())) for _ in range(64)]
        for connection in connections:
            connection.request("POST", PATH, BODY)
        for connection in connections:
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()


def test_idle_connections_take_no_thread(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with closing(server.connect()) as connection:
            assert infer(connection) == 200


def test_requests_sent_without_waiting_are_answered_in_order(server: Server) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for name in ("one", "two", "three"):
            body = json.dumps({"id": name, **json.loads(BODY)}).encode()
            client.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
        told = b""
        while told.count(b'"outputs"') < 3:
            told += client.recv(65536)
    places = [told.index(f'"id":"{name}"'.encode()) for name in ("one", "two", "three")]
    assert places == sorted(places)


def test_a_client_that_closes_is_forgotten(server: Server) -> None:
    workers = [psutil.Process(worker) for worker in server.workers()]

    def open_sockets() -> int:
        return sum(bool(peer.raddr) for worker in workers for peer in worker.net_connections("tcp"))

    wait_until(lambda: open_sockets() == 0, server)
    for _ in range(20):
        with closing(server.connect()) as connection:
            infer(connection)
    wait_until(lambda: open_sockets() == 0, server)


def test_the_arbiter_forks_with_one_thread(server: Server) -> None:
    """A second thread could hold a lock at the fork, which nobody would ever release."""
    assert psutil.Process(server.pid).num_threads() == 1


SLOW_APP = """
import time

def app(environ, start_response):
    time.sleep(0.4)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


def test_slow_requests_run_side_by_side_and_leave_room_for_quick_ones(
    demos: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "slowly.py").write_text(SLOW_APP)
    config = '[[mounts]]\nprefix = "/slow"\napp = "slowly:app"\naccess = "open"\n'
    settings = {"workers": 1, "threads": 16}
    with (
        portico(demos[0] / "iris", settings=settings, config=config, path=[tmp_path]) as server,
        ExitStack() as stack,
    ):
        slow = [stack.enter_context(closing(server.connect())) for _ in range(12)]
        begin = time.monotonic()
        for connection in slow:
            connection.request("GET", "/slow")
        with closing(server.connect()) as quick:
            assert infer(quick) == 200
            quick_took = time.monotonic() - begin
        for connection in slow:
            assert connection.getresponse().read() == b"ok"
        took = time.monotonic() - begin
    # One after the other they would take 4.8 seconds.
    assert took < 2.4
    assert quick_took < 0.4 + 0.2
