"""Other projects' clients, each in an environment of its own, as their locks pin other versions."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from loadtests.server import Server

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


def operator_cookie(gateway: Server) -> str:
    """Sign in as the first user, and return the cookie of the session."""
    form = urlencode({"name": "admin", "password": gateway.password})
    kind = "application/x-www-form-urlencoded"
    answer = gateway.ask("POST", "/account/login", form, Content_Type=kind)
    return str(answer.headers["Set-Cookie"].partition(";")[0])


@pytest.mark.parametrize("client", ["tritonclient", "kserve"])
def test_a_real_client_is_content(client, gateway):
    given = [f"127.0.0.1:{gateway.port}"]
    if client == "tritonclient":
        given.append(operator_cookie(gateway))
    done = subprocess.run(
        [environment(client), DRIVERS / f"drive_{client}.py", *given],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
