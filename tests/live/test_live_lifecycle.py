from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
import small_models

from loadtests.restarts import answers
from loadtests.server import (
    BIN,
    NotStarted,
    clean_environment,
    free_port,
    portico,
    wait_until,
)

pytestmark = pytest.mark.live

HERE = Path(__file__).parent


@pytest.fixture
def sluggish(tmp_path):
    """A gateway whose one model takes about a second."""
    small_models.write(small_models.sluggish(), tmp_path / "models", "sluggish")
    with portico(tmp_path / "models", folder=tmp_path / "here") as server:
        yield server


def test_a_request_in_flight_is_completed_at_a_stop(sluggish):
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}]}
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(sluggish.ask("POST", "/v2/models/sluggish/infer", body))
    )
    thread.start()
    busy = {"name": "portico_http_requests_in_progress", "mount": "v2"}
    wait_until(lambda: sluggish.metric(**busy) == 1, sluggish, 10)
    sluggish.signal(signal.SIGTERM)
    thread.join(20)
    assert [answer.status for answer in answers] == [200]
    assert sluggish.process.wait(20) == 0
    assert "Traceback" not in sluggish.err()


def test_ctrl_c_ends_cleanly_and_leaves_nothing(demos, tmp_path, monkeypatch):
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("HOME", str(home))
    with portico(demos[0] / "iris", folder=tmp_path / "here") as server:
        # The first worker may answer before the second is forked.
        wait_until(lambda: len(server.workers()) == 2, server)
        wait_until(lambda: all(answers(server, worker) for worker in server.workers()), server)
        processes = [psutil.Process(pid) for pid in (server.pid, *server.workers())]
        assert len(processes) == 3
        # Nothing in it calls another host, as some libraries do to report their use.
        connections = [c for process in processes for c in process.net_connections()]
        assert all(c.laddr.ip == "127.0.0.1" for c in connections)
        server.interrupt()
        assert server.process.wait(20) == 0
        assert not [process for process in processes if process.is_running()]
        assert list(temporary.iterdir()) == []
        assert list(home.iterdir()) == []
        assert "Traceback" not in server.err()
        with pytest.raises(ConnectionRefusedError):
            server.get("/healthz")


def test_the_password_is_shown_once_and_opens_the_console(demos, tmp_path):
    with portico(demos[0] / "iris", folder=tmp_path) as server:
        assert server.password
        assert server.url in server.out()
        form = f"name=admin&password={server.password}"
        kind = "application/x-www-form-urlencoded"
        login = server.ask("POST", "/account/login", form, Content_Type=kind)
        assert login.status == 303
        cookie = login.headers["Set-Cookie"].partition(";")[0]
        assert server.get("/admin/", Cookie=cookie).status == 200
        assert server.get("/admin/").status == 401
    with portico(demos[0] / "iris", folder=tmp_path) as server:
        assert server.password == ""


def serve(
    folder: Path, *arguments: str | Path, settings: dict[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``portico serve`` where it must not come to serving."""
    environment = clean_environment({"state": folder / "state", **(settings or {})})
    environment["PYTHONPATH"] = str(HERE)
    command: list[str | Path] = [BIN / "portico", "serve", *arguments]
    if os.getuid() == 0:
        # So that access rights mean to root what they mean to everybody.
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Check for one clear sentence on stderr and exit code 2."""
    assert done.returncode == 2, done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("portico: ")
    assert len(sentence) < 800
    for part in parts:
        assert part in sentence
    assert done.stdout == ""


@pytest.fixture
def iris(demos):
    return demos[0] / "iris"


def test_a_port_in_use_is_one_sentence(tmp_path, iris):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(serve(tmp_path, iris, "--port", str(port)), str(port), "in use")


def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "models").mkdir(mode=0)
    assert_refused(serve(tmp_path, "models"), "models")
    (tmp_path / "models").chmod(0o700)
    (tmp_path / "models" / "iris").mkdir(mode=0)
    assert_refused(serve(tmp_path, "models"), "iris")


def test_no_models_is_one_sentence(tmp_path):
    assert_refused(serve(tmp_path), "no models", "portico serve model.onnx")
    (tmp_path / "empty").mkdir()
    assert_refused(serve(tmp_path, "empty"), "holds no models")
    assert_refused(serve(tmp_path, "nowhere"), "nowhere", "does not exist")
    (tmp_path / "notes.txt").write_text("hello")
    done = serve(tmp_path, "notes.txt")
    assert done.returncode == 2
    (sentence,) = done.stderr.strip().splitlines()
    assert "'notes.txt' is damaged, or of no known format" in sentence


def test_a_state_folder_that_cannot_be_made_is_one_sentence(tmp_path, iris):
    (tmp_path / "file").write_text("")
    done = serve(tmp_path, iris, settings={"state": tmp_path / "file", "port": free_port()})
    assert_refused(done, "file")
    (tmp_path / "locked").mkdir(mode=0o500)
    state = tmp_path / "locked" / "state"
    assert_refused(serve(tmp_path, iris, settings={"state": state, "port": free_port()}), "locked")


@pytest.mark.parametrize(
    ("prefix", "app", "part"),
    [
        ("/shop", "nowhere.wsgi:app", "nowhere"),
        ("/shop", "mounted_apps:nothing", "nothing"),
        ("/shop", "mounted_apps:NOT_CALLABLE", "int"),
        ("/shop", "mounted_apps", "module:name"),
        ("/shop/", "mounted_apps:shop", "slash"),
        ("shop", "mounted_apps:shop", "slash"),
        ("/ui/shop", "mounted_apps:shop", "overlaps"),
        ("/admin", "mounted_apps:shop", "overlaps"),
        ("/", "mounted_apps:shop", "/"),
    ],
)
def test_a_bad_mount_is_one_sentence(tmp_path, iris, prefix, app, part):
    text = f'[[mounts]]\nprefix = "{prefix}"\napp = "{app}"\n'
    (tmp_path / "portico.toml").write_text(text)
    assert_refused(serve(tmp_path, iris, "--port", str(free_port())), "mounts", part)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("workrs = 2", ("workrs",)),
        ("workers = 0", ("workers", "1")),
        ('workers = "many"', ("workers", "integer")),
        ("port = 99999", ("port", "65535")),
        ("[access]\nadmin = 'open'", ("access.admin", "role:operator")),
        ('trusted_proxies = ["everyone"]', ("trusted_proxies", "everyone")),
        ("workers = ", ("portico.toml",)),
    ],
)
def test_a_bad_setting_is_one_sentence(tmp_path, iris, text, parts):
    (tmp_path / "portico.toml").write_text(text)
    assert_refused(serve(tmp_path, iris), *parts)


def test_a_bad_variable_or_option_is_one_sentence(tmp_path, iris):
    assert_refused(serve(tmp_path, iris, settings={"workrs": 2}), "PORTICO_WORKRS")
    assert_refused(serve(tmp_path, iris, settings={"threads": "x"}), "threads")
    assert_refused(serve(tmp_path, iris, "--config", "missing.toml"), "missing.toml")


def test_broken_models_are_shown_as_failed_and_the_others_serve(tmp_path, iris):
    models = tmp_path / "models"
    small_models.write(small_models.identity("FP32"), models, "good")
    small_models.write(small_models.identity("FP32"), models, "bad-card", card="titel = 'x'")
    shutil.copytree(iris, models / "truncated")
    file = models / "truncated" / "1" / "model.onnx"
    file.write_bytes(file.read_bytes()[:300])
    for name, content in {"not-allowed": b"\x80\x04.", "empty": b""}.items():
        suffix = "joblib" if name == "not-allowed" else "onnx"
        (models / name / "1").mkdir(parents=True)
        (models / name / "1" / f"model.{suffix}").write_bytes(content)
    with portico(models, folder=tmp_path / "here") as server:
        found = {model["name"]: model for model in server.get("/api/models").json()["models"]}
        states = {name: model["state"] for name, model in found.items()}
        assert states.pop("good") == "ready"
        assert set(states.values()) == {"failed"}
        problems = {name: found[name]["versions"][0]["problem"] for name in states}
        assert "titel" in problems["bad-card"]
        assert "portico models allow" in problems["not-allowed"]
        assert all(problems.values())
        assert not any(str(tmp_path) in problem for problem in problems.values())
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
        assert server.ask("POST", "/v2/models/good/infer", body).status == 200
        gallery = server.get("/ui/").body.decode()
        assert all(name in gallery for name in found)
        assert server.metric("portico_model_ready", model="good") == 1
        assert server.metric("portico_model_ready", model="truncated") == 0


def test_a_server_that_cannot_start_says_so(tmp_path):
    with pytest.raises(NotStarted, match="exit code 2"), portico(tmp_path / "nowhere"):
        pass
