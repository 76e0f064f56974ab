from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests.bench import BODY, PATH
from loadtests.restarts import SteadyLoad, replace_a_worker
from loadtests.server import portico, wait_until

if TYPE_CHECKING:
    from loadtests.server import Server

pytestmark = pytest.mark.live


@pytest.fixture
def iris_server(demos):
    """A gateway of the test's own, whose workers it may end."""
    with portico(demos[0] / "iris", settings={"workers": 2}) as server:
        yield server


def counted(server: Server) -> float:
    return server.metric("portico_http_requests_total", mount="v2", status="200")


def settle(server: Server) -> None:
    """Wait until nothing but the scrape itself is in progress: then all counts are in."""
    wait_until(lambda: server.metric("portico_http_requests_in_progress") == 1, server, 20)


def all_new(server: Server, old: set[int]) -> bool:
    now = set(server.workers())
    return len(now) == 2 and not now & old


def test_counts_are_exact_under_concurrency(iris_server):
    with SteadyLoad(iris_server, PATH, BODY, threads=16) as load:
        time.sleep(2)
    settle(iris_server)
    assert (load.broken, load.refused) == (0, 0)
    assert load.answered > 100
    assert counted(iris_server) == load.answered
    for metric, labels in {
        "portico_predictions_total": {"model": "iris", "outcome": "ok"},
        "portico_batch_rows_count": {"model": "iris"},
        "portico_http_request_duration_seconds_count": {"mount": "v2"},
    }.items():
        assert iris_server.metric(metric, **labels) == load.answered
    for stage in ("decode", "queue", "run", "encode"):
        name = "portico_prediction_duration_seconds_count"
        assert iris_server.metric(name, stage=stage) == load.answered


def test_an_answered_request_is_counted_even_when_its_worker_is_killed(iris_server):
    with SteadyLoad(iris_server, PATH, BODY, threads=8) as load:
        for _ in range(5):
            replace_a_worker(iris_server, signal.SIGKILL)
    settle(iris_server)
    assert iris_server.metric("portico_worker_restarts_total") == 5
    assert load.refused == 0
    assert load.answered > 500
    # A request that was broken off may have been counted before its worker died.
    assert load.answered <= counted(iris_server) <= load.answered + load.broken


def test_workers_that_end_gracefully_lose_no_count(iris_server):
    with SteadyLoad(iris_server, PATH, BODY, threads=4, pause=0.005) as load:
        for _ in range(3):
            replace_a_worker(iris_server, signal.SIGTERM)
    settle(iris_server)
    assert (load.broken, load.refused) == (0, 0)
    assert counted(iris_server) == load.answered


def test_promtool_finds_nothing_to_object_to(gateway):
    gateway.ask("POST", PATH, BODY)
    gateway.get("/nothing/here")
    text = gateway.get("/metrics").body
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_both_formats_can_be_parsed(gateway):
    families = {
        family.name
        for family in text_string_to_metric_families(gateway.get("/metrics").body.decode())
    }
    assert {"portico_http_requests", "portico_predictions", "portico_model_ready"} <= families
    accept = "application/openmetrics-text; version=1.0.0"
    answer = gateway.get("/metrics", Accept=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_unknown_paths_methods_and_models_make_no_new_series(gateway):
    def series() -> int:
        return gateway.get("/metrics").body.count(b"portico_http_requests_total{")

    def stray(number: int) -> None:
        gateway.get(f"/stray/{number}")
        gateway.ask(f"METHOD{number}", "/v2")
        gateway.get(f"/v2/models/stray{number}")
        gateway.ask("POST", f"/v2/models/stray{number}/infer", BODY)

    stray(0)
    before = series()
    for number in range(1, 20):
        stray(number)
    assert series() == before


def test_a_hangup_loses_no_request_under_light_load(iris_server):
    old = set(iris_server.workers())
    with SteadyLoad(iris_server, PATH, BODY, threads=3, pause=0.02) as load:
        time.sleep(0.3)
        iris_server.signal(signal.SIGHUP)
        wait_until(
            lambda: len(new := set(iris_server.workers())) == 2 and not new & old, iris_server
        )
        time.sleep(0.5)
    assert (load.broken, load.refused) == (0, 0)
    assert load.answered > 50
    settle(iris_server)
    assert counted(iris_server) == load.answered


def test_a_worker_that_dies_is_replaced_and_nobody_else_notices(iris_server):
    # The first may answer before the second is forked.
    wait_until(lambda: len(iris_server.workers()) == 2, iris_server)
    first, second = iris_server.workers()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(set(iris_server.workers()) - {first}) == 2, iris_server)
    assert second in iris_server.workers()
    with contextlib.closing(iris_server.connect()):
        assert iris_server.get("/readyz").status == 200
