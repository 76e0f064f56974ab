"""An import that is killed at any step leaves the catalogue as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

pytest.importorskip("onnx", reason="import compiles with onnx")
pytest.importorskip("sklearn", reason="the models are of scikit-learn")

from tiny_onnx import double, saved
from trick_pickles import running

from portico.serving.importing.staging import has_leftovers

if TYPE_CHECKING:
    from house import House

pytestmark = pytest.mark.live

SCRIPT = Path(__file__).with_name("killed_import.py")


def start(house: House, file: Path, step: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT, house.state, file, step],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def killed(house: House, file: Path, step: str) -> None:
    with start(house, file, step) as process:
        assert process.wait(60) == -signal.SIGKILL


BEFORE = [
    "copying", "opening", "writing", "reserving", "versions.reserve", "storing",
    "artefacts.put", "publishing",
]  # fmt: skip


@pytest.mark.parametrize("step", BEFORE)
def test_a_kill_before_the_version_is_published_leaves_nothing(
    house: House, tmp_path: Path, step: str
) -> None:
    file = saved(tmp_path / "double.onnx", double())
    killed(house, file, step)
    assert house.versions.state().versions == ()
    assert house.versions.state().aliases == {}
    assert has_leftovers(house.state)
    house.importer.clean()
    if step == "versions.reserve":
        # Nobody knows of that number but the catalogue, which gives it back when its time is up.
        house.versions.sweep(time.time())
    assert house.leftovers() == []
    assert not has_leftovers(house.state)
    assert house.run(file).version == 1


@pytest.mark.parametrize("step", ["versions.publish", "published"])
def test_a_kill_after_it_was_published_leaves_a_whole_version(
    house: House, tmp_path: Path, step: str
) -> None:
    file = saved(tmp_path / "double.onnx", double())
    killed(house, file, step)
    assert house.versions.state().aliases == {"double": {"production": 1}}
    house.importer.clean()
    assert house.leftovers() == []
    again = house.run(file)
    assert (again.version, again.is_new) == (1, False)
    house.folder(again)


def test_a_reservation_that_nobody_knows_of_is_given_back_in_time(
    house: House, tmp_path: Path
) -> None:
    file = saved(tmp_path / "double.onnx", double())
    killed(house, file, "versions.reserve")
    house.limits = replace(house.limits, seconds=0)
    house.importer.clean()
    assert house.versions.reserve("double", None, "").version == 1


def test_an_import_that_is_alive_is_left_alone(house: House, tmp_path: Path, iris: Any) -> None:
    slow, go = tmp_path / "slow.pkl", tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    slow.write_bytes(running(wait, iris))
    with start(house, slow, "never") as process:
        assert process.stdout
        while process.stdout.readline().strip() != "opening":
            assert process.poll() is None
        other = house.run(saved(tmp_path / "double.onnx", double()))
        assert other.version == 1
        go.touch()
        assert process.wait(60) == 0
    assert [(r.model, r.version) for r in house.versions.state().versions] == [
        ("double", 1), ("slow", 1),
    ]  # fmt: skip


def test_the_sandbox_ends_with_an_import_that_is_killed(house: House, tmp_path: Path) -> None:
    hang, beat = tmp_path / "hang.pkl", tmp_path / "beat"
    code = f"import time\nwhile True:\n open({str(beat)!r}, 'a').write('.')\n time.sleep(0.02)"
    hang.write_bytes(running(code))
    with start(house, hang, "never") as process:
        deadline = time.monotonic() + 30
        while not beat.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    size = beat.stat().st_size
    time.sleep(0.2)
    assert beat.stat().st_size == size
    house.importer.clean()
    assert house.leftovers() == []


def test_ctrl_c_cleans_up_at_once(house: House, tmp_path: Path) -> None:
    hang = tmp_path / "hang.pkl"
    hang.write_bytes(running("import time; time.sleep(60)"))
    with start(house, hang, "never") as process:
        assert process.stdout
        while process.stdout.readline().strip() != "opening":
            assert process.poll() is None
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    assert house.leftovers() == []


def test_a_journal_that_was_cut_short_is_no_reason_to_stay(house: House) -> None:
    dead = house.state / "staging" / "dead"
    dead.mkdir(parents=True)
    (dead / "journal.json").write_bytes(b'{"model":"x","dig')
    house.importer.clean()
    assert house.leftovers() == []
