"""What batching makes of a slow Python function, beside calling that function directly.

``python -m loadtests.batching [ROUNDS [SECONDS]]`` prints the figures of :func:`measure`.
"""

from __future__ import annotations

import json
import multiprocessing
import runpy
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from loadtests import wrk
from loadtests.server import portico
from loadtests.slow_model import COLUMNS, write_slow_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue

    from portico.serving.tensors import Array

WORKERS: Final = 2

THREADS: Final = 40
"""Of a worker: those that run and those that gather meanwhile, and room for an uneven share."""

MAX_ROWS: Final = 16
"""Half of what 64 connections bring to a worker: as much as can gather while a run goes on."""

CONNECTIONS: Final = 64

PATH: Final = "/v2/models/slow/infer"
BODY: Final = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, COLUMNS], "datatype": "FP64", "data": [1.0] * COLUMNS}]}
).encode()


@dataclass(frozen=True, slots=True)
class Batching:
    """Medians over all rounds.

    Attributes:
        direct_rate: rows a second of full batches, in as many processes as there are workers.
        rate: of requests of one row each.
        batch: rows of a run under that load.
        direct_seconds: of a call with one row.
        seconds: of a request of one row, with nobody else asking.
    """

    direct_rate: float
    rate: float
    batch: float
    direct_seconds: float
    seconds: float

    @property
    def share(self) -> float:
        """Throughput through the gateway, of that of calling the model directly."""
        return self.rate / self.direct_rate

    @property
    def overhead(self) -> float:
        """Seconds that the gateway adds to a lone request."""
        return self.seconds - self.direct_seconds


def measure(rounds: int, seconds: float) -> Batching:
    """Measure the model directly and through the gateway, in turns.

    Args:
        rounds: turns.
        seconds: of load in each turn, at least one.
    """
    found: list[Batching] = []
    with tempfile.TemporaryDirectory() as folder:
        card = f"[batching]\nmax_rows = {MAX_ROWS}\n"
        model = write_slow_model(Path(folder) / "slow", card)
        for _ in range(rounds):
            direct, alone = _direct_rate(model, seconds), _direct_seconds(model)
            settings = {"workers": WORKERS, "threads": THREADS}
            with portico(Path(folder) / "slow", settings=settings, allow=[model]) as server:
                url = server.url + PATH
                wrk.post(url, BODY, CONNECTIONS, 1)
                before = _batches(server.metric)
                load = wrk.post(url, BODY, CONNECTIONS, seconds)
                rows, runs = (b - a for a, b in zip(before, _batches(server.metric), strict=True))
                lone = wrk.post(url, BODY, 1, seconds)
            found.append(Batching(direct, load.rate, rows / runs, alone, lone.p50))
    return Batching(*(median(values) for values in zip(*map(astuple, found), strict=True)))


def _batches(metric: Callable[..., float]) -> tuple[float, float]:
    """Return how many rows have run, and in how many runs."""
    return metric("portico_batch_rows_sum"), metric("portico_batch_rows_count")


def _direct_rate(model: Path, seconds: float) -> float:
    """Return the rows a second of full batches, in as many processes as there are workers."""
    spawn = multiprocessing.get_context("spawn")
    rates: Queue[float] = spawn.Queue()
    processes = [spawn.Process(target=_call, args=(model, seconds, rates)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    total = sum(rates.get(timeout=seconds + 60) for _ in processes)
    for process in processes:
        process.join()
    return total


def _call(model: Path, seconds: float, rates: Queue[float]) -> None:
    """Call the model with full batches, and tell how many rows a second that makes."""
    predict, batch, calls = _function(model), _rows(MAX_ROWS), 0
    started = perf_counter()
    while perf_counter() - started < seconds:
        predict(batch)
        calls += 1
    rates.put(calls * MAX_ROWS / (perf_counter() - started))


def _direct_seconds(model: Path) -> float:
    """Return how long a call with one row takes."""
    predict, row, taken = _function(model), _rows(1), []
    for _ in range(50):
        started = perf_counter()
        predict(row)
        taken.append(perf_counter() - started)
    return median(taken)


def _function(model: Path) -> Callable[[Array], Array]:
    return runpy.run_path(str(model))["predict"]  # type: ignore[no-any-return]


def _rows(count: int) -> Array:
    return np.ones((count, COLUMNS))


def main() -> None:
    """Print the figures."""
    given = [float(argument) for argument in sys.argv[1:]]
    rounds, seconds = int(given[0]) if given else 5, given[1] if len(given) > 1 else 4.0
    found = measure(rounds, seconds)
    sys.stdout.write(
        f"{CONNECTIONS} connections: {found.rate:.0f} rows/s in runs of {found.batch:.1f}, "
        f"{found.share:.2f} of {found.direct_rate:.0f} rows/s with full batches of {MAX_ROWS}\n"
        f"1 connection: {found.seconds * 1e3:.2f} ms, {found.overhead * 1e3:.2f} ms above "
        f"{found.direct_seconds * 1e3:.2f} ms\n"
    )


if __name__ == "__main__":
    main()
