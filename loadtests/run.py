"""Run the scenarios headless against a fresh server: ``python -m loadtests.run``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from loadtests.demos import demo_models
from loadtests.server import Server, portico

SCENARIOS: Final = Path(__file__).with_name("locustfile.py")


def locust(server: Server, users: int, seconds: int) -> subprocess.CompletedProcess[str]:
    """Let ``users`` users loose on ``server``; the exit code is 0 when every request was right.

    Args:
        server: with the password of its first user.
        users: at once.
        seconds: how long.
    """
    command = [
        sys.executable, "-m", "locust", "-f", str(SCENARIOS), "--headless", "--only-summary",
        "--host", server.url, "--users", str(users), "--spawn-rate", str(users),
        "--run-time", f"{seconds}s", "--stop-timeout", "15", "--exit-code-on-error", "1",
    ]  # fmt: skip
    environment = {**os.environ, "LOADTEST_PASSWORD": server.password}
    return subprocess.run(
        command, env=environment, cwd=SCENARIOS.parents[1], timeout=seconds + 90,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def main() -> int:
    """Print locust's table and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__)
    parser.add_argument("--users", type=int, default=20, help="users at once")
    parser.add_argument("--seconds", type=int, default=30, help="seconds of load")
    arguments = parser.parse_args()
    models, pickles = demo_models()
    with portico(models, allow=pickles) as server:
        done = locust(server, arguments.users, arguments.seconds)
        sys.stdout.write(done.stdout)
        if done.returncode:
            sys.stdout.write(f"\nThe log of the server ends with:\n{server.err()[-4000:]}\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
