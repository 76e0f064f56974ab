"""Other projects' clients, each in an environment of its own, as their locks pin other versions."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "clients"


def environment(client: str) -> Path:
    """Return the Python of the client's environment, built from its lock unless it is there."""
    lock = ROOT / "requirements" / f"{client}.txt"
    # Kept beside the packages of this environment, so that a clean-up takes both.
    home = Path(sys.prefix) / "clients" / client
    mark = home / "lock.sha256"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    python = home / "bin" / "python"
    if mark.is_file() and mark.read_text() == digest and python.exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--require-hashes", "-r", lock],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, f"the environment of {client} cannot be built:\n{done.stderr}"
    mark.write_text(digest)
    return python


@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_a_real_client_is_content(client, gateway):
    done = subprocess.run(
        [environment(client), DRIVERS / f"drive_{client}.py", f"127.0.0.1:{gateway.port}"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
