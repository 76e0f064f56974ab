"""``portico models`` on a version store: what it shows, moves and refuses, and what workers say."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from version_shop import Shop

from gateway.cli import main as cli
from portico.serving.versions import PRODUCTION, WorkerReport

if TYPE_CHECKING:
    from collections.abc import Iterator


class Told:
    """What a command wrote, and with which code it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def row(self, *begin: str) -> str:
        """Return the one line of a table that begins with these words."""
        (line,) = (
            line for line in self.out.splitlines() if line.split()[: len(begin)] == list(begin)
        )
        return " ".join(line.split())


class Commands:
    """Runs ``portico models`` on a shop's state folder."""

    def __init__(self, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
        self._state = str(shop.folder)
        self._capsys = capsys

    def __call__(self, command: str, *arguments: Any) -> Told:
        code = 0
        try:
            cli.main(["models", command, *map(str, arguments), "--state", self._state])
        except SystemExit as end:
            code = int(end.code or 0)
        return Told(code, *self._capsys.readouterr())


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    kept = os.environ.copy()
    monkeypatch.setenv("COLUMNS", "200")
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    state = tmp_path / "state"
    state.mkdir()
    with closing(Shop(state)) as made:
        for value in (10, 20, 30):
            made.publish(value)
        yield made


@pytest.fixture
def models(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(shop, capsys)


def test_list_shows_each_version_and_who_serves_it(shop: Shop, models: Commands) -> None:
    assert models("list").row("m", "1").endswith("the file itself no server runs")
    shop.worker()
    shop.worker()
    shop.agree()
    told = models("list")
    assert told.row("model") == "model version alias state runtime parity workers"
    assert told.row("m", "1") == (
        "m 1 production available onnx_onnxv1 the file itself ready on 2 of 2"
    )
    assert told.row("m", "2") == "m 2 available onnx_onnxv1 the file itself loaded when asked"
    assert told.row("m", "3").startswith("m 3 candidate available")


def test_list_shows_paths_beside_the_catalogue(shop: Shop, models: Commands) -> None:
    from tiny_onnx import double, saved

    told = models("list", saved(shop.folder / "twice.onnx", double()))
    assert told.row("m", "1")
    assert told.row("twice", "1") == "twice 1 ready onnx_onnxv1 x1, x2"


def test_show_tells_all_about_the_version_in_production(shop: Shop, models: Commands) -> None:
    told = models("show", "m")
    assert told.code == 0
    assert told.out.startswith("m version 1\n")
    assert told.row("inputs") == "inputs x FP32 [any, 2]"
    assert told.row("features") == "features x1 (number), x2 (number)"
    assert len(told.row("sha256", "of", "model.onnx").split()[-1]) == 64
    assert f"version 1 {getpass.getuser()}" not in told.out, "the shop published it, as test"
    assert "candidate version 3 test" in " ".join(told.out.split())
    assert models("show", "m", "candidate").out.startswith("m version 3\n")


def test_diff_shows_only_what_differs(models: Commands) -> None:
    told = models("diff", "m", "1", "candidate")
    assert told.code == 0
    assert told.out.splitlines()[0].split() == ["version", "1", "version", "3"]
    assert told.row("sha256", "of", "golden.npz")
    assert "inputs" not in told.out
    assert models("diff", "m", 2, 2).out == "versions 2 and 2 are the same\n"


def test_a_promote_without_a_server_waits_for_nobody(shop: Shop, models: Commands) -> None:
    told = models("promote", "m", "candidate")
    assert told.code == 0
    assert told.out == (
        "m: version 3 is in production now, version 1 was before\n"
        "no server runs now; the next one serves it from its start\n"
    )
    assert shop.versions.state().aliases["m"] == {PRODUCTION: 3}
    (move, *_) = (c for c in shop.versions.history("m") if c.alias == PRODUCTION)
    assert move.by == getpass.getuser()
    assert "in production already" in models("promote", "m", 3).out
    assert models("rollback", "m").out.startswith("m: version 1 is back in production\n")


def test_a_promote_waits_until_every_worker_has_taken_it_over(shop: Shop, models: Commands) -> None:
    workers = [shop.worker(), shop.worker()]
    told = models("promote", "m", 2)
    assert told.code == 0
    assert "taken over by 2 of 2 workers in 0." in told.out
    assert [worker.says() for worker in workers] == [20, 20]
    assert "taken over by 2 of 2" in models("rollback", "m").out
    assert [worker.says() for worker in workers] == [10, 10]


def test_a_promote_that_the_workers_refuse_says_why_and_ends_with_1(
    shop: Shop, models: Commands
) -> None:
    worker = shop.worker()
    shop.file(2).write_bytes(b"changed")
    told = models("promote", "m", 2)
    assert told.code == 1
    assert "taken over by 0 of 1 worker " in told.out
    assert "goes on with the version before: 'model.onnx' was changed after the import" in told.out
    assert worker.says() == 10
    assert "fails on 1 of 1: 'model.onnx' was changed" in models("list").row("m", "2")


def test_a_worker_that_does_not_come_is_named_after_the_wait(shop: Shop, models: Commands) -> None:
    shop.versions.report(WorkerReport("elsewhere:7:aa", 1, {}, time.time()))
    began = time.monotonic()
    told = models("promote", "m", 2, "--wait", "0.3")
    assert 0.3 <= time.monotonic() - began < 5
    assert told.code == 1
    assert "taken over by 0 of 1 worker in 0.3 s\nelsewhere:7 is not there yet" in told.out


def test_retire_takes_a_version_out_of_service(shop: Shop, models: Commands) -> None:
    assert models("retire", "m", 2).out == "m: version 2 is retired\n"
    assert models("list").row("m", "2").startswith("m 2 retired")
    assert models("promote", "m", 2).code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "n"), "the catalogue has no model 'n'; it has: m"),
        (("show", "m", 9), "model 'm' has no version '9'; it has: 1, 2, 3, production, candidate"),
        (("promote", "m", "x"), "model 'm' has no version 'x'"),
        (("rollback", "m"), "model 'm' had no other version in production before"),
        (("rollback", "n"), "no model 'n'"),
        (("retire", "m", 1), "version 1 of model 'm' is its production; move the alias first"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    models: Commands, arguments: tuple[Any, ...], sentence: str
) -> None:
    told = models(*arguments)
    assert told.code == 2
    assert sentence in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


def test_a_state_folder_without_versions_is_one_sentence_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        cli.main(["models", "promote", "m", "2", "--state", "empty"])
    assert end.value.code == 2
    assert "'empty' holds no versions" in capsys.readouterr().err
    assert list((tmp_path / "empty").iterdir()) == []


def test_nothing_heavy_is_imported_to_move_an_alias(shop: Shop) -> None:
    code = (
        "import sys; from gateway.cli.main import main\n"
        f"main(['models', 'promote', 'm', '2', '--state', {str(shop.folder)!r}])\n"
        "assert not {'onnxruntime', 'onnx', 'flask', 'sklearn'} & {*sys.modules}, sys.modules\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_model_is_unloaded_and_loaded_by_command(shop: Shop, models: Commands) -> None:
    worker = shop.worker()
    told = models("unload", "m")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines()[0] == "m: out of service until it is loaded"
    assert "taken over by 1 of 1 worker in" in told.out
    assert worker.catalogue.model("m").current.state == "unloaded"
    assert models("list").row("m", "1").endswith(f"unloaded by {getpass.getuser()}")
    who = getpass.getuser()
    assert models("list").out.splitlines()[-1] == f"m: out of service, unloaded by {who}"
    told = models("load", "m")
    assert (told.code, told.err) == (0, "")
    assert worker.says() == 10
    assert "out of service" not in models("list").out
    assert "ready on" in models("list").row("m", "1")


def test_loading_what_cannot_be_loaded_says_why(shop: Shop, models: Commands) -> None:
    shop.file(1).write_bytes(b"no model")
    shop.worker()
    told = models("load", "m")
    assert told.code == 1
    assert "cannot serve m/1: 'model.onnx' was changed after the import" in told.out


def test_unloading_what_the_catalogue_does_not_have_says_for_whom_it_counts(
    models: Commands,
) -> None:
    told = models("unload", "other")
    assert told.code == 0
    assert "no server runs now" in told.out
    assert "have: m; this counts for a 'other' that a server was given" in told.err
