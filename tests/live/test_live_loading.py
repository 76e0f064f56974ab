"""What a gateway answers while a model loads, and when a model has more to do than it can."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
import small_models
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from slow_steps import Slow

from loadtests.server import portico, wait_until

if TYPE_CHECKING:
    from loadtests.server import Answer, Server

pytestmark = pytest.mark.live

HERE = Path(__file__).parent


def write_slow(folder: Path, card: str = "", **seconds: float) -> Path:
    """Write a slow pipeline as a model called ``slow`` and return its file."""
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    steps = make_pipeline(Slow(), LogisticRegression()).fit(rows, [0, 1])
    steps[0].set_params(**seconds)
    (folder / "slow" / "1").mkdir(parents=True)
    (folder / "slow" / "model.toml").write_text(card)
    file = folder / "slow" / "1" / "model.joblib"
    joblib.dump(steps, file)
    return file


def test_a_loading_model_keeps_the_gateway_alive_and_unready(tmp_path, refused):
    small_models.write(small_models.identity("FP32"), tmp_path / "models", "fast")
    file = write_slow(tmp_path / "models", opening=4)
    settings = {"startup_wait": 0, "workers": 1}
    with portico(
        tmp_path / "models", folder=tmp_path / "here", settings=settings, path=[HERE],
        allow=[file], ready="/healthz",
    ) as server:  # fmt: skip
        assert server.get("/v2/health/live").status == 200
        for path in ("/v2/health/ready", "/readyz"):
            answer = server.get(path)
            assert (answer.status, answer.json()["ready"]) == (503, False)
        assert server.get("/v2/models/slow/ready").status == 503
        state = {m["name"]: m["state"] for m in server.get("/api/models").json()["models"]}
        assert state["slow"] == "loading"
        answer = server.ask("POST", "/v2/models/slow/infer", {"inputs": []})
        refused(answer, 503, "loading")
        assert int(answer.headers["Retry-After"]) >= 1
        assert server.get("/ui/").status == 200
        assert server.get("/ui/models/slow").status in (200, 503)
        wait_until(lambda: server.get("/readyz").status == 200, server, 20)
        assert server.get("/v2/health/ready").json()["ready"] is True
        assert server.get("/v2/models/slow/ready").status == 200


def test_by_default_a_worker_takes_no_request_before_its_models_are_loaded(tmp_path):
    file = write_slow(tmp_path / "models", opening=1.5)
    with portico(
        tmp_path / "models", folder=tmp_path / "here", path=[HERE], allow=[file],
        settings={"workers": 1}, ready="/v2",
    ) as server:  # fmt: skip
        assert server.get("/v2/health/ready").status == 200


LIMITS = "[limits]\nqueue_rows = 2\nconcurrency = 1\ndeadline = 0.5\n"


@pytest.fixture
def busy(tmp_path):
    """A gateway with one slow model: one row runs, and two may wait."""
    file = write_slow(tmp_path / "models", LIMITS, running=1.5)
    with portico(
        tmp_path / "models", folder=tmp_path / "here", path=[HERE], allow=[file],
        settings={"workers": 1},
    ) as server:  # fmt: skip
        yield server


def ask_at_once(server: Server, count: int) -> list[tuple[Answer, float]]:
    """Ask so many times, a tenth of a second apart; return answers with their seconds."""
    answers: list[Any] = [None] * count
    row = {"rows": [{"x1": 1, "x2": 0}]}

    def ask(index: int) -> None:
        begin = time.perf_counter()
        answer = server.ask("POST", "/api/models/slow/predict", row)
        answers[index] = (answer, time.perf_counter() - begin)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(20)
    return answers


def test_a_full_queue_refuses_at_once_and_a_late_turn_is_a_timeout(busy, refused):
    # One runs, two rows may wait, and the fourth finds no room.
    (runs, _), *waiting, (shed, shed_after) = ask_at_once(busy, 4)
    assert runs.status == 200, runs
    for waits, waited in waiting:
        refused(waits, 504, "no turn")
        assert 0.4 < waited < 1.4
    refused(shed, 503, "full")
    assert int(shed.headers["Retry-After"]) >= 1
    assert shed_after < 0.3
    assert busy.metric("portico_shed_total", model="slow", reason="queue_full") == 1
    for outcome, count in (("ok", 1), ("deadline", 2), ("shed", 1)):
        assert busy.metric("portico_predictions_total", model="slow", outcome=outcome) == count
    # What was refused took no room: the next one runs.
    assert ask_at_once(busy, 1)[0][0].status == 200


def test_more_rows_than_the_queue_ever_holds_are_the_clients_mistake(busy, refused):
    answer = busy.ask("POST", "/api/models/slow/predict", {"rows": [{"x1": 0, "x2": 0}] * 3})
    refused(answer, 400, "3 rows", "at most 2")


def test_other_requests_go_on_while_a_model_is_busy(busy):
    thread = threading.Thread(target=ask_at_once, args=(busy, 2))
    thread.start()
    time.sleep(0.3)
    begin = time.perf_counter()
    assert busy.get("/v2/health/live").status == 200
    assert time.perf_counter() - begin < 0.5
    thread.join(20)
