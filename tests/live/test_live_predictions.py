"""Predictions made over HTTP are found again by any worker, and survive what ends one."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.bench import BODY, PATH
from loadtests.server import portico, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.server import Server

pytestmark = pytest.mark.live


@pytest.fixture
def server(demos: tuple[Path, list[Path]]) -> Iterator[Server]:
    with portico(demos[0] / "iris", settings={"workers": 2}) as running:
        yield running


def predict(server: Server, count: int) -> list[str]:
    """Ask on a new connection each time, so that either worker answers; return the ids."""
    ids = []
    for _ in range(count):
        answer = server.ask("POST", PATH, BODY)
        assert answer.status == 200
        ids.append(str(answer.headers["X-Prediction-ID"]))
    return ids


def found(server: Server, prediction: str) -> Any:
    answer = server.get(f"/api/predictions/{prediction}")
    return answer.json() if answer.status == 200 else None


def test_each_prediction_is_found_whichever_worker_made_it(server: Server) -> None:
    ids = predict(server, 40)
    while len({prediction.partition("-")[0] for prediction in ids}) < 2:
        ids += predict(server, 10)
        assert len(ids) < 2000
    for prediction in ids[-40:] + ids[:40]:
        shown = wait_until(lambda p=prediction: found(server, p), server, 10)
        assert shown["model"] == "iris"
        assert shown["inputs"]
        assert shown["outputs"]
    answer = server.ask("POST", f"/api/predictions/{ids[0]}/feedback", {"right": False, "label": 2})
    assert answer.status == 201
    assert found(server, ids[0])["feedback"][0]["label"] == 2


def test_predictions_of_every_door_are_logged(server: Server) -> None:
    row = server.get("/api/models/iris").json()["example"]
    api = server.ask("POST", "/api/models/iris/predict", row)
    form = {"as": "form", **{name: str(value) for name, value in row["rows"][0].items()}}
    encoded = "&".join(f"{name.replace(' ', '+')}={value}" for name, value in form.items())
    page = server.ask(
        "POST", "/ui/models/iris", encoded, Content_Type="application/x-www-form-urlencoded"
    )
    for answer in (api, page):
        assert answer.status == 200
        prediction = answer.headers["X-Prediction-ID"]
        assert wait_until(lambda p=prediction: found(server, p), server, 10)["rows"] == 1


def test_a_stop_loses_nothing(demos: tuple[Path, list[Path]], tmp_path: Path) -> None:
    with portico(demos[0] / "iris", folder=tmp_path) as first:
        ids = predict(first, 20)
        first.stop()
    with portico(demos[0] / "iris", folder=tmp_path) as second:
        assert all(found(second, prediction) for prediction in ids)


def test_a_kill_loses_nothing_older_than_a_moment(server: Server) -> None:
    early = predict(server, 20)
    time.sleep(1.0)  # Four times the interval in which the log is written.
    predict(server, 5)
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: found(server, early[0]), server, 30)
    assert all(found(server, prediction) for prediction in early)
    assert server.metric("portico_predictions_dropped_total") == 0
