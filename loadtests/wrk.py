"""Drive a server with wrk, posting one body over a number of kept connections."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = Path(__file__).with_suffix(".lua")


class LoadFailed(Exception):
    """wrk did not run, or the server refused or dropped requests."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw.

    Attributes:
        requests: answered ones.
        seconds: how long it ran.
        p50: half of the answers came within so many seconds.
        p99: 99 of a hundred did.
        refused: answers with a status of 400 and up.
        broken: connections that were refused, reset or too slow.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def post(url: str, body: bytes, connections: int, seconds: float) -> Load:
    """Post ``body`` to ``url`` as fast as ``connections`` connections get answers.

    Args:
        url: with the path.
        body: JSON.
        connections: kept open, each with one request in flight.
        seconds: at least one.

    Raises:
        LoadFailed: wrk did not run, or not every request got a good answer.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        done = subprocess.run(
            [
                "wrk", "--threads", "1", "--connections", str(connections),
                "--duration", f"{max(1, round(seconds))}s", "--timeout", "10s", "--latency",
                "--script", str(_SCRIPT), url, "--", file.name,
            ],
            capture_output=True, text=True, check=False, timeout=seconds + 30,
        )  # fmt: skip
    if done.returncode:
        raise LoadFailed(f"wrk: {done.stderr or done.stdout}")
    load = Load(**json.loads(done.stdout.strip().splitlines()[-1]))
    if load.refused or load.broken:
        raise LoadFailed(
            f"{url}: {load.refused} requests refused and {load.broken} connections broken "
            f"of {load.requests}"
        )
    return load
