"""What runs in the sandbox is alone, within limits, and ends with it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portico.serving.errors import ArtefactError
from portico.serving.importing import sandbox
from portico.serving.importing.confinement import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

MANY_FILES = """
import time
for i in range(10):
    open(f"{i}", "wb").write(bytes(1 << 20))
time.sleep(9)
"""
LIMITS = Limits(seconds=20, memory=1 << 30, disk=8 << 20)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[bool, Path]]:
    """Runs code in the sandbox; gives whether it was alone, and its folder."""

    def run(code: str, limits: Limits = LIMITS) -> tuple[bool, Path]:
        folder = tmp_path / "sandbox"
        folder.mkdir()
        (folder / "code").write_text(code)
        return sandbox.run("sandboxed_code", folder, limits, 1), folder

    return run


def test_it_runs_in_its_own_folder_as_another_process(
    run: Callable[..., tuple[bool, Path]],
) -> None:
    _, folder = run("import os; open('told', 'w').write(f'{os.getcwd()} {os.getpid()}')")
    where, process = (folder / "told").read_text().split()
    assert Path(where) == folder
    assert int(process) != os.getpid()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(7)", "ended its process with code 7"),
        ("raise ValueError", "ended its process with code 1"),
        ("import ctypes; ctypes.string_at(0)", "ended its process by SIGSEGV"),
        ("x = bytearray(2 << 30)", "ended its process with code 1"),
        ("open('big', 'wb').write(bytes(64 << 20))", "ended its process with code 1"),
        (MANY_FILES, "wrote more than 8.0 MiB"),
    ],
)
def test_what_goes_too_far_is_ended_and_told(
    run: Callable[..., tuple[bool, Path]], code: str, told: str
) -> None:
    with pytest.raises(ArtefactError) as raised:
        run(code)
    assert told in raised.value.message


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)"])
def test_what_takes_too_long_is_ended(run: Callable[..., tuple[bool, Path]], code: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ArtefactError, match=r"within 1 seconds \(setting import_seconds\)"):
        run(code, Limits(seconds=1, memory=1 << 30, disk=8 << 20))
    assert time.monotonic() - begun < 10


def test_it_cannot_hold_more_memory_or_files_than_allowed(
    run: Callable[..., tuple[bool, Path]],
) -> None:
    _, folder = run(
        """
import os
told = []
try:
    bytearray(2 << 30)
except MemoryError:
    told.append("memory")
try:
    [open(os.devnull) for _ in range(5000)]
except OSError:
    told.append("files")
try:
    open("big", "wb").write(bytes(64 << 20))
except OSError:
    told.append("size")
open("told", "w").write(" ".join(told))
"""
    )
    assert (folder / "told").read_text() == "memory files size"
    assert (folder / "big").stat().st_size <= LIMITS.disk // 2


def test_it_has_nothing_of_the_environment_and_no_open_files(
    run: Callable[..., tuple[bool, Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PORTICO_TEST_SECRET", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with (tmp_path / "private").open("w") as private:
        os.set_inheritable(private.fileno(), True)
        _, folder = run(
            """
import os
links = (f"/proc/self/fd/{n}" for n in range(3, 64))
files = [os.readlink(link) for link in links if os.path.lexists(link)]
open("told", "w").write(repr((dict(os.environ), files)))
"""
        )
    told = (folder / "told").read_text()
    assert "hunter2" not in told
    assert "PORTICO_" not in told
    assert "private" not in told
    assert f"'HOME': '{folder}'" in told


def test_it_sees_no_other_process_and_no_network(
    run: Callable[..., tuple[bool, Path]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        alone, folder = run(
            f"""
import os, socket
seen = [name for name in os.listdir("/proc") if name.isdecimal()]
try:
    socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2)
    seen.append("connected")
except OSError:
    pass
open("told", "w").write(" ".join(seen))
"""
        )
    if not alone:
        pytest.skip("the system lets no process have namespaces of its own")
    assert (folder / "told").read_text() == "1"


BEAT = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            open("beat", "a").write(".")
            time.sleep(0.02)
    os._exit(0)
os.wait()
while not os.path.exists("beat"):
    time.sleep(0.02)
"""


@pytest.mark.parametrize("end", ["", "time.sleep(60)"])
def test_what_it_leaves_running_ends_with_it(
    run: Callable[..., tuple[bool, Path]], tmp_path: Path, end: str
) -> None:
    folder = tmp_path / "sandbox"
    if end:
        with pytest.raises(ArtefactError):
            run(BEAT + end, Limits(seconds=2, memory=1 << 30, disk=8 << 20))
    else:
        run(BEAT)
    if not (folder / sandbox.ISOLATED).exists():
        pytest.skip("the system lets no process have namespaces of its own")
    time.sleep(0.1)
    size = (folder / "beat").stat().st_size
    time.sleep(0.3)
    assert (folder / "beat").stat().st_size == size
