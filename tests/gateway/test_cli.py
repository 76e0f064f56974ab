"""The command line: what each command does, and one sentence where it cannot."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from tiny_onnx import classifier, double, saved

from gateway import process
from gateway.cli import main as cli
from gateway.cli import serve
from gateway.settings import load_settings
from portico import __version__
from portico.accounts.passwords import Passwords
from portico.serving.allowance import Allowance
from portico.serving.artefacts import sha256_of
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database
from portico.storage.first_start import bootstrap
from portico.storage.opening import database_url, open_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.settings import Settings

COMMANDS = ["serve", "import", "check", "models", "demos", "reset-password"]


class Told:
    """What a command wrote, and with which code it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def sentence(self) -> str:
        """The one line on stderr of a command that could not do it."""
        assert self.code == 2, self.out + self.err
        assert "Traceback" not in self.err
        (line,) = self.err.strip().splitlines()
        assert line.startswith("portico: ")
        return line.removeprefix("portico: ")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start in an empty folder; options go into the environment and must not stay there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    kept = os.environ.copy()
    for name in kept:
        if name.startswith("PORTICO_"):
            del os.environ[name]
    monkeypatch.setenv("COLUMNS", "200")
    yield
    os.environ.clear()
    os.environ.update(kept)
    structlog.reset_defaults()


@pytest.fixture
def portico(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(*arguments: str | Path) -> Told:
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        return Told(code, *capsys.readouterr())

    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Collects the settings of each server that would have been started."""
    seen: list[Settings] = []
    monkeypatch.setattr(serve, "_run_gunicorn", lambda: seen.append(load_settings()))
    monkeypatch.setattr(process, "prepare_state", lambda _: None)
    return seen


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "here" / "double.onnx", double())


# Help.


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands_in_the_order_of_need(
    portico: Callable[..., Told], flag: str
) -> None:
    told = portico(flag)
    assert told.code == 0
    places = [told.out.index(f"  {command} ") for command in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(portico: Callable[..., Told], command: str) -> None:
    told = portico(command, "--help")
    assert told.code == 0
    assert told.out.startswith(f"Usage: portico {command}")


def test_the_version_is_told(portico: Callable[..., Told]) -> None:
    assert portico("--version").out == f"portico, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("fly",), ("serve", "--fly"), ("serve", "--port", "http"), ("models", "allow")]
)
def test_what_click_refuses_ends_with_2(
    portico: Callable[..., Told], arguments: tuple[str, ...]
) -> None:
    told = portico(*arguments)
    assert told.code == 2
    assert "Usage: portico" in told.err
    assert "Traceback" not in told.err


# serve


def test_serve_checks_and_becomes_the_server(
    portico: Callable[..., Told], started: list[Settings], model: Path, free_port: int
) -> None:
    told = portico("serve", model, "--port", free_port, "--workers", 3, "--threads", 5,
                   "--state", "there", "--host", "127.0.0.1")  # fmt: skip
    assert (told.code, told.err) == (0, "")
    (settings,) = started
    assert (settings.port, settings.workers, settings.threads) == (free_port, 3, 5)
    assert settings.models == (model,)
    assert settings.state == Path("there")


def test_options_win_over_environment_and_file(
    portico: Callable[..., Told], started: list[Settings], model: Path, free_port: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "other.toml").write_text("port = 1\nthreads = 2\nworkers = 3")
    os.environ["PORTICO_PORT"] = "2"
    os.environ["PORTICO_THREADS"] = "4"
    portico("serve", model, "--config", tmp_path / "other.toml", "--port", free_port)
    (settings,) = started
    assert (settings.port, settings.threads, settings.workers) == (free_port, 4, 3)


def test_paths_are_kept_from_where_the_command_was_given(
    portico: Callable[..., Told], started: list[Settings], model: Path, free_port: int
) -> None:
    portico("serve", "here/double.onnx", "--port", free_port)
    assert started[0].models == (model,)


def test_a_models_folder_beside_is_served_where_none_is_named(
    portico: Callable[..., Told], started: list[Settings], tmp_path: Path, free_port: int
) -> None:
    saved(tmp_path / "models" / "iris" / "1" / "model.onnx", classifier())
    assert portico("serve", "--port", free_port).code == 0
    assert started[0].models == (tmp_path / "models",)


def test_a_pickle_in_a_named_folder_is_not_allowed(
    portico: Callable[..., Told], started: list[Settings], tmp_path: Path, free_port: int
) -> None:
    file = tmp_path / "models" / "forest" / "1" / "model.joblib"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a pickle")
    assert portico("serve", tmp_path / "models", "--port", free_port).code == 0
    assert not (started[0].state / "allowed.json").exists()


def test_serve_without_models_says_how(
    portico: Callable[..., Told], started: list[Settings]
) -> None:
    assert portico("serve").sentence == (
        "no models: name a model file or a folder of models, such as portico serve model.onnx"
    )
    assert started == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "'.*gone' does not exist"),
        ("empty", "'.*empty' holds no models"),
        ("notes.txt", r"'notes\.txt' is an empty file; a file with the ending .txt must be"),
        ("ünï.onnx", "cannot be a model's name"),
    ],
)
def test_a_path_that_holds_no_models_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path, path: str, reason: str
) -> None:
    import re

    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "ünï.onnx"):
        (tmp_path / name).touch()
    assert re.search(reason, portico("serve", path).sentence)


def test_a_port_in_use_is_one_sentence(portico: Callable[..., Told], model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = portico("serve", model, "--port", port)
    assert told.sentence == f"cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_one_sentence(
    portico: Callable[..., Told], model: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is asked: a resolver may answer for what does not exist.
    def getaddrinfo(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    told = portico("serve", model, "--host", host, "--port", "18999")
    assert told.sentence.startswith(f"cannot listen on {host}:18999: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("application = 5", "'cli_mount:application' is a int, no WSGI callable"),
        ("import nothing_there", "No module named 'nothing_there'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(3)", "'cli_mount:application' ended its process with code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended its process with code -9"),
        ("raise ValueError('one\\ntwo')", "ValueError: one two"),
    ],
)
def test_a_mount_that_cannot_be_imported_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path, model: Path, free_port: int,
    text: str, reason: str,
) -> None:  # fmt: skip
    (tmp_path / "cli_mount.py").write_text(text)
    (tmp_path / "portico.toml").write_text(
        '[[mounts]]\nprefix = "/shop"\napp = "cli_mount:application"\n'
    )
    sentence = portico("serve", model, "--port", free_port).sentence
    assert sentence.startswith("mounts: 'cli_mount:application' ")
    assert reason in sentence


def test_mounts_are_imported_from_where_the_command_is_given(
    portico: Callable[..., Told], started: list[Settings], tmp_path: Path, model: Path,
    free_port: int,
) -> None:  # fmt: skip
    (tmp_path / "cli_good_mount.py").write_text("def application(e, s): return []")
    (tmp_path / "portico.toml").write_text(
        '[[mounts]]\nprefix = "/shop"\napp = "cli_good_mount:application"\n'
    )
    assert portico("serve", model, "--port", free_port).code == 0
    assert "cli_good_mount" not in sys.modules, "what it starts would be carried over the fork"
    assert started


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "0"), "port: Input should be greater than or equal to 1"),
        (("--workers", "-1"), "workers: Input should be greater than or equal to 1"),
        (("--config", "gone.toml"), "PORTICO_CONFIG: 'gone.toml' does not exist"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    portico: Callable[..., Told], model: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    assert portico("serve", model, *arguments).sentence == sentence


def test_ctrl_c_is_no_failure_to_explain(
    portico: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, model: Path, free_port: int
) -> None:
    def interrupted(_: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "prepare_state", interrupted)
    told = portico("serve", model, "--port", free_port)
    assert (told.code, told.out, told.err.strip()) == (130, "", "")


# check and models


@pytest.fixture
def some(tmp_path: Path) -> Path:
    folder = tmp_path / "some"
    saved(folder / "iris" / "1" / "model.onnx", classifier())
    saved(folder / "iris" / "2" / "model.onnx", double())
    (folder / "iris" / "2" / "model.onnx").write_bytes(b"no model")
    saved(folder / "wide" / "1" / "model.onnx", double(shape=("n", 9)))
    return folder


def test_check_says_that_all_is_fine(portico: Callable[..., Told], model: Path) -> None:
    told = portico("check", model)
    assert told.code == 0
    assert told.out.startswith("settings: fine\n")
    assert "double" in told.out
    assert "ready" in told.out


def test_check_fails_where_one_version_does(portico: Callable[..., Told], some: Path) -> None:
    told = portico("check", some)
    assert told.code == 2
    lines = told.out.splitlines()
    (failed,) = (line for line in lines if "failed" in line)
    assert "cannot be opened as ONNX" in " ".join(lines[lines.index(failed) :])
    assert "Traceback" not in told.out + told.err


def test_check_imports_the_mounts(
    portico: Callable[..., Told], tmp_path: Path, model: Path
) -> None:
    (tmp_path / "cli_checked.py").write_text("def app(e, s): return []")
    config = tmp_path / "portico.toml"
    config.write_text('[[mounts]]\nprefix = "/shop"\napp = "cli_checked:app"\n')
    assert "mount /shop: cli_checked:app is fine" in portico("check", model).out
    config.write_text('[[mounts]]\nprefix = "/shop"\napp = "cli_checked:gone"\n')
    assert "cannot be imported" in portico("check", model).sentence


def test_check_without_models_says_how(portico: Callable[..., Told]) -> None:
    assert portico("check").sentence.startswith("no models: ")


def test_models_shows_each_version_and_what_it_takes(
    portico: Callable[..., Told], some: Path
) -> None:
    told = portico("models", "list", some)
    assert told.code == 0
    rows = [line.split() for line in told.out.splitlines()]
    assert rows[0] == ["model", "version", "state", "runtime", "takes"]
    assert ["iris", "1", "ready", "onnx_onnxv1", "x1,", "x2"] in rows
    assert any(row[:3] == ["iris", "2", "failed"] for row in rows)
    wide = next(" ".join(row) for row in rows if row[:1] == ["wide"])
    assert wide.endswith("x1, x2, x3, x4, x5 and 4 more")


def test_models_alone_lists_those_of_the_settings(
    portico: Callable[..., Told], some: Path, tmp_path: Path
) -> None:
    (tmp_path / "portico.toml").write_text(f"models = {json.dumps([str(some)])}")
    told = portico("models")
    assert told.code == 0
    assert "iris" in told.out


def test_allow_writes_down_the_content_of_each_file(
    portico: Callable[..., Told], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.joblib", "b.joblib")]
    for file in files:
        file.write_text(file.name)
    told = portico("models", "allow", *files, "--state", "there")
    assert told.code == 0
    for file in files:
        assert f"allowed {file} (sha256 {sha256_of(file)})" in told.out
        assert Allowance.of(tmp_path / "there").read(file)


def test_allow_of_what_is_no_file_is_refused(portico: Callable[..., Told], tmp_path: Path) -> None:
    assert portico("models", "allow", tmp_path / "gone.joblib").code == 2
    (tmp_path / "folder").mkdir()
    told = portico("models", "allow", tmp_path / "folder")
    assert told.code == 2
    assert "Traceback" not in told.err


def test_a_damaged_list_of_allowed_files_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path
) -> None:
    (tmp_path / ".portico").mkdir()
    (tmp_path / ".portico" / "allowed.json").write_text("{")
    (tmp_path / "a.joblib").touch()
    assert "cannot be read" in portico("models", "allow", "a.joblib").sentence


# demos


@pytest.fixture
def few_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train one model of each kind, those that take no time."""
    training = pytest.importorskip("portico.demos.training")
    quick = [recipe for recipe in training.RECIPES if recipe.name in ("diabetes", "wine")]
    monkeypatch.setattr(training, "RECIPES", quick)


@pytest.mark.usefixtures("few_recipes")
def test_demos_are_trained_once_and_can_be_served(
    portico: Callable[..., Told], tmp_path: Path
) -> None:
    pytest.importorskip("skl2onnx", reason="the demo models are converted by skl2onnx")
    told = portico("demos", "--state", "there")
    assert told.code == 0
    assert [line.split(":")[0] for line in told.out.splitlines()] == ["diabetes", "wine"]
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o700
    assert "is there already" in portico("demos", "--state", "there").out
    checked = portico("check", "there/demos", "--state", "there")
    assert checked.code == 0, checked.out
    assert checked.out.count("ready") == 2


def test_demos_without_scikit_learn_name_the_extra(
    portico: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("portico.demos.training.version", version)
    assert "pip install 'portico[sklearn]'" in portico("demos").sentence


# reset-password


def test_a_password_is_made_anew(portico: Callable[..., Told], tmp_path: Path) -> None:
    first = bootstrap(tmp_path / "there")
    assert first is not None
    told = portico("reset-password", "--state", "there")
    name, _, password = told.out.strip().rpartition(": ")
    assert (told.code, name) == (0, "password of admin")
    user = open_accounts(database_url(tmp_path / "there")).find_user("admin")
    assert user is not None
    assert Passwords().verify(user.password_hash, password)
    assert not Passwords().verify(user.password_hash, first.password)


def test_a_password_is_made_anew_in_any_database(
    portico: Callable[..., Told],
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORTICO_DATABASE", database_url)
    bootstrap(tmp_path / "there", database_url)
    told = portico("reset-password", "--state", "there")
    assert told.code == 0
    with closing(open_database(database_url)) as database:
        user = DatabaseAccountStore(database).find_user("admin")
    assert user is not None
    assert Passwords().verify(user.password_hash, told.out.strip().rpartition(": ")[2])


def test_a_user_that_is_not_there_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path
) -> None:
    bootstrap(tmp_path / "there")
    told = portico("reset-password", "nobody", "--state", "there")
    assert told.sentence == "there is no user 'nobody'"


@pytest.mark.parametrize("state", ["nowhere", "empty", "file"])
def test_a_state_that_is_none_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path, state: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert state in portico("reset-password", "--state", state).sentence
    assert sorted(tmp_path.rglob("*")) == before
