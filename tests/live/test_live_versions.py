"""Versions change under load, and workers die meanwhile: nobody who asks is to notice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from loadtests.promotes import (
    MODEL,
    CheckedLoad,
    constant_gateway,
    promote_to_and_fro,
    value_of,
    wait_for_all,
)
from loadtests.server import BIN, ROOT, clean_environment, wait_until
from loadtests.versions import publish
from portico.serving.versions import PRODUCTION
from portico.storage.opening import open_artefacts

pytestmark = pytest.mark.live


@pytest.mark.parametrize("idle", [0, 60], ids=["freed at once", "kept for a while"])
def test_promotes_and_rollbacks_under_load_fail_no_request(idle):
    with constant_gateway(version_idle=idle) as (server, versions):
        outcome = promote_to_and_fro(server, versions, moves=20)
        assert not outcome.failures
        assert outcome.answered > 500
        assert max(outcome.agreed) < 1, outcome.told()
        assert max(outcome.late) < 1, outcome.told()


@pytest.fixture(scope="module")
def gateway():
    with constant_gateway() as made:
        yield made


def test_aliases_stand_in_every_address_and_the_answer_names_the_number(gateway):
    server, versions = gateway
    versions.set_alias(MODEL, "candidate", 2, "test")
    wait_for_all(versions, 2)
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}
    for word, number in {"candidate": "2", "production": "1", "1": "1"}.items():
        path = f"/v2/models/{MODEL}/versions/{word}"
        answer = server.ask("POST", f"{path}/infer", body).json()
        assert (answer["model_version"], answer["outputs"][0]["data"][0]) == (
            number, value_of(int(number)),
        )  # fmt: skip
        assert server.get(f"{path}/ready").status == 200
        assert server.get(path).json()["versions"] == ["1", "2"]
        predict = server.ask(
            "POST", f"/api/models/{MODEL}/versions/{word}/predict", {"x1": 0, "x2": 0}
        )
        assert predict.json()["version"] == number
        page = server.get(f"/ui/models/{MODEL}/versions/{word}", Accept="text/html")
        assert page.status == 200
    assert server.get(f"/v2/models/{MODEL}/versions/9/ready").status == 404


def test_a_changed_version_is_refused_everywhere_and_the_old_one_goes_on(gateway):
    server, versions = gateway
    artefacts = open_artefacts("", server.folder / "state")
    number = publish(versions, artefacts, MODEL, value_of(3))
    (digest,) = (r.digest for r in versions.state().versions if r.version == number)
    file = artefacts.fetch(digest) / "model.onnx"
    with CheckedLoad(server, 4) as load:
        file.write_bytes(file.read_bytes() + b" ")
        versions.set_alias(MODEL, PRODUCTION, number, "test")
        reports = wait_for_all(versions, 2)
        time.sleep(0.3)
    assert not load.failures
    assert {version for _, version in load.answers} == {1}
    for report in reports:
        assert "was changed after the import" in report.problems[f"{MODEL}/{number}"]
    assert server.get("/readyz").json()["models"][MODEL][str(number)] == "failed"
    assert server.get("/readyz").status == 200
    assert server.get("/v2/health/ready").status == 503
    assert server.get(f"/v2/models/{MODEL}/versions/{number}/ready").status == 503
    page = server.get(f"/ui/models/{MODEL}", Accept="text/html").body.decode()
    assert f"Version {number} failed to load" in page
    assert "was changed after the import" in server.err()
    assert server.metric("portico_model_ready", model=MODEL, version=str(number)) == 0
    versions.rollback(MODEL, "test")
    wait_for_all(versions, 2)


def is_replaced(server, worker):
    workers = server.workers()
    return len(workers) == 2 and worker not in workers


def test_a_worker_that_is_killed_while_it_takes_over_is_replaced_by_one_that_does():
    with constant_gateway(version_idle=0) as (server, versions):
        for number in range(4):
            worker = server.workers()[number % 2]
            # The kill comes at any moment of taking over, which lasts some hundredths of a second.
            kill = threading.Timer(0.1 * number, os.kill, (worker, signal.SIGKILL))
            kill.start()
            versions.set_alias(MODEL, PRODUCTION, 2 - number % 2, "test")
            kill.join()
            wait_until(lambda gone=worker: is_replaced(server, gone), server)
            wait_for_all(versions, 2)
            answer = server.get(f"/api/models/{MODEL}").json()
            assert answer["version"] == str(2 - number % 2)


PAGE = Path(__file__).parents[2] / "docs" / "versions.md"


def examples():
    """Return the commands of the page, each with what it prints."""
    text = "\n".join(line.removeprefix("  ") for line in PAGE.read_text("utf-8").splitlines())
    return re.findall(r"^\$ portico (models .+)\n((?:(?!\$|```).+\n)+)", text, re.MULTILINE)


def as_on_the_page(text):
    """Leave out what differs from run to run: times, machines and processes; and the name."""
    text = re.sub(r"in \d+\.\d s", "in 0.3 s", text.replace(MODEL, "iris"))
    return re.sub(r"^\S+:\d+ ", "vm:1 ", text, flags=re.MULTILINE)


def test_the_commands_of_the_page_print_what_the_page_says():
    with constant_gateway() as (server, versions):
        state = server.folder / "state"
        environment = clean_environment({"state": state}) | {"PYTHONPATH": str(ROOT)}

        def run(command):
            command = command.replace("iris", MODEL).split()
            done = subprocess.run(
                [BIN / "portico", *command], env=environment, cwd=server.folder,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.returncode, as_on_the_page(done.stdout)

        promote, rollback, refused = examples()
        assert run(promote[0]) == (0, as_on_the_page(promote[1]))
        assert run(rollback[0]) == (0, as_on_the_page(rollback[1]))
        number = publish(versions, open_artefacts("", state), MODEL, value_of(3))
        (digest,) = (r.digest for r in versions.state().versions if r.version == number)
        file = open_artefacts("", state).fetch(digest) / "model.onnx"
        file.write_bytes(file.read_bytes() + b" ")
        run("models promote iris 2")
        assert run(refused[0]) == (1, as_on_the_page(refused[1]))
