"""The life of a server that granian runs; what it answers is tested beside gunicorn."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from loadtests.bench import BODY, PATH
from loadtests.restarts import SteadyLoad
from loadtests.server import portico, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.server import Server

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(demos: tuple[Path, list[Path]]) -> Iterator[Server]:
    with portico(demos[0] / "iris", settings={"workers": 2, "server": "granian"}) as running:
        wait_until(lambda: len(running.workers()) == 2, running)
        yield running


def test_every_worker_counts_into_the_same_metrics(server: Server) -> None:
    before = server.metric("portico_http_requests_total", mount="v2")
    with SteadyLoad(server, PATH, BODY, threads=8) as load:
        wait_until(lambda: server.metric("portico_http_requests_total", mount="v2") > 300, server)
    assert (load.broken, load.refused) == (0, 0)
    wait_until(lambda: server.metric("portico_http_requests_in_progress") == 1, server)
    assert server.metric("portico_http_requests_total", mount="v2") - before == load.answered


def test_a_killed_worker_is_replaced_and_its_counts_stay(server: Server) -> None:
    before = server.metric("portico_http_requests_total", mount="v2")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(set(server.workers()) - {victim}) == 2, server)
    wait_until(lambda: server.metric("portico_worker_restarts_total") == 1, server)
    assert server.ask("POST", PATH, BODY).status == 200
    assert server.metric("portico_http_requests_total", mount="v2") == before + 1


def test_a_stop_ends_cleanly_and_writes_the_log_out(server: Server) -> None:
    answer = server.ask("POST", PATH, BODY)
    assert server.stop() == 0
    assert answer.headers["X-Request-ID"] in server.err()
