"""Does a model answer as fast among a hundred others as alone?"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from loadtests import wrk
from loadtests.server import portico

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.server import Server

CONNECTIONS: Final = 4
"""Few enough that waiting for each other does not hide what one more model costs."""


@contextmanager
def gateway(model: Path, count: int) -> Iterator[Server]:
    """Run a gateway with ``count`` models, all copies of one file; the first is called ``iris``."""
    with TemporaryDirectory() as folder:
        for number in range(count):
            name = f"model{number}" if number else "iris"
            version = Path(folder) / name / "1"
            version.mkdir(parents=True)
            shutil.copyfile(model, version / model.name)
        with portico(Path(folder), settings={"workers": 2}) as server:
            yield server


def p99_among(
    model: Path, path: str, body: bytes, *, count: int, rounds: int, seconds: float
) -> tuple[float, float]:
    """Return the p99 of one model alone and among ``count``, in seconds, medians over rounds.

    Both gateways run at once and take turns, so that what else the machine does hits both.
    """
    alone: list[float] = []
    among: list[float] = []
    with gateway(model, 1) as one, gateway(model, count) as many:
        for server in (one, many):
            wrk.post(server.url + path, body, CONNECTIONS, 1)
        for _ in range(rounds):
            alone.append(wrk.post(one.url + path, body, CONNECTIONS, seconds).p99)
            among.append(wrk.post(many.url + path, body, CONNECTIONS, seconds).p99)
    return median(alone), median(among)
