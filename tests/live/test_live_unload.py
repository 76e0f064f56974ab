"""Models are unloaded and loaded under load: all workers follow, and the others never notice."""

from __future__ import annotations

import signal
import subprocess
import time
from urllib.parse import urlencode

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from tiny_onnx import double, saved

from loadtests.promotes import BODY, MODEL, CheckedLoad, wait_for_all
from loadtests.server import BIN, portico, wait_until
from loadtests.versions import publish
from portico.storage.opening import database_url, open_artefacts, open_versions

pytestmark = pytest.mark.live

FORM = "application/x-www-form-urlencoded"


class Operator:
    """Somebody who is signed in as the first user."""

    def __init__(self, server, password):
        self.server = server
        form = urlencode({"name": "admin", "password": password})
        answer = server.ask("POST", "/account/login", form, Content_Type=FORM)
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def ask(self, what, body=""):
        return self.server.ask("POST", f"/v2/repository/{what}", body, Cookie=self.cookie)

    def states(self):
        """Return state and reason of each model, as one worker tells them."""
        entries = self.ask("index").json()
        return {entry["name"]: (entry["state"], entry["reason"]) for entry in entries}


def statuses(server, model, requests=20):
    """Ask often enough, on new connections, to meet every worker."""
    path = f"/v2/models/{model}/infer"
    return {server.ask("POST", path, BODY).status for _ in range(requests)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unload")
    saved(folder / "models" / "double" / "1" / "model.onnx", double())
    return folder


@pytest.fixture(scope="module")
def served(folder):
    """A gateway of two workers with a model at a path, and soon one of the catalogue."""
    with portico(folder / "models", folder=folder, settings={"workers": 2}) as server:
        yield server, Operator(server, server.password)


def test_the_first_unload_ever_is_followed_by_workers_that_had_nothing_to_follow(served):
    server, operator = served
    began = time.monotonic()
    assert operator.ask("models/double/unload").status == 200
    took = time.monotonic() - began
    assert statuses(server, "double") == {503}
    assert took < 3, "the workers open the database for it"
    assert operator.ask("models/double/load").status == 200
    assert statuses(server, "double") == {200}


@pytest.fixture(scope="module")
def stored(served, folder):
    versions = open_versions(database_url(folder / "state"))
    publish(versions, open_artefacts("", folder / "state"), MODEL, 101.0)
    wait_for_all(versions, 2)
    return versions


@pytest.mark.parametrize("model", ["double", MODEL])
def test_unloading_one_under_load_leaves_the_other_alone(served, stored, model):
    server, operator = served
    took = []
    other = {"double": MODEL, MODEL: "double"}[model]
    with CheckedLoad(server, 2) as load:
        for _ in range(3):
            began = time.monotonic()
            assert operator.ask(f"models/{model}/unload", {"parameters": {}}).status == 200
            told = time.monotonic()
            took.append(told - began)
            assert statuses(server, model) == {503}
            assert statuses(server, other, 4) == {200}
            assert operator.states()[model] == ("UNAVAILABLE", "unloaded")
            assert operator.states()[other] == ("READY", "")
            for path in ("/readyz", "/v2/health/ready"):
                assert server.get(path).status == 200
            until = time.monotonic()
            assert operator.ask(f"models/{model}/load", {"parameters": {}}).status == 200
            assert statuses(server, model) == {200}
            if model == MODEL:
                # No request that was sent after the unload was told has been answered.
                assert not [sent for sent, _ in load.answers if told < sent < until]
    assert max(took) < 1, took
    words = ("503 {'error': \"model 'constant' was unloaded by an operator\"",
             "503 {'error': \"model 'constant' is loading\"")  # fmt: skip
    assert [text for text in load.failures if not any(word in text for word in words)] == []
    assert bool(load.failures) == (model == MODEL)
    assert len(load.answers) > 50


def test_it_lasts_over_a_reload_and_a_restart_and_the_command_ends_it(served, stored, folder):
    server, operator = served
    command = [BIN / "portico", "models"]
    options = ["--state", folder / "state"]
    for model in ("double", MODEL):
        assert operator.ask(f"models/{model}/unload").status == 200
    before = server.workers()
    server.signal(signal.SIGHUP)
    wait_until(lambda: len(server.workers()) == 2 and not {*before} & {*server.workers()}, server)
    wait_for_all(stored, 2)
    assert statuses(server, "double") == statuses(server, MODEL) == {503}
    server.stop()
    with portico(folder / "models", folder=folder, settings={"workers": 2}) as again:
        assert statuses(again, "double") == statuses(again, MODEL) == {503}
        assert again.get("/readyz").status == 200
        wait_for_all(stored, 2)
        for model in ("double", MODEL):
            done = subprocess.run(
                [*command, "load", model, *options], capture_output=True, text=True, check=True
            )
            assert "taken over by 2 of 2 workers" in done.stdout
            assert statuses(again, model) == {200}
