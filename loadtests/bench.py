"""Measure Portico against its goals: ``python -m loadtests.bench``; ``--only PART`` for a part.

What serves the same request is compared in turns, see :mod:`loadtests.turns`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console
from rich.table import Table

from loadtests import batching, binary, neighbours, promotes, recovery, wrk
from loadtests.baselines import MODEL_VARIABLE
from loadtests.demos import demo_models
from loadtests.figures import Figure, show
from loadtests.forest import BODY as FOREST_BODY
from loadtests.forest import write_forest
from loadtests.restarts import SteadyLoad, replace_a_worker
from loadtests.server import (
    BIN,
    clean_environment,
    free_port,
    gunicorn,
    portico,
    running,
    uvicorn,
    wait_until,
)
from loadtests.turns import table_of, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.server import Server
    from loadtests.turns import Starts

BODY: Final = json.dumps(
    {
        "inputs": [
            {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
        ]
    }
).encode()
"""An infer request of one row for the iris model."""

PATH: Final = "/v2/models/iris/infer"
WORKERS: Final = 2
CONNECTIONS: Final = (1, 16, 64)
RESTARTS: Final = 50
MODELS: Final = 100
PROMOTES: Final = 100


class Bench:
    """One run of the benchmark.

    Args:
        rounds: turns that each application gets, and runs that a median is taken over.
        seconds: of load in each turn.
        console: where tables go.
    """

    def __init__(self, rounds: int, seconds: float, console: Console) -> None:
        models, _ = demo_models()
        self._iris = models / "iris"
        self._model = self._iris / "1" / "model.onnx"
        self._rounds = rounds
        self._seconds = seconds
        self._console = console
        self.figures: list[Figure] = []

    def throughput(self) -> None:
        """Compare requests a second with constant answers and with FastAPI."""
        os.environ[MODEL_VARIABLE] = str(self._model)
        own = {"workers": WORKERS}
        starts: Starts = {
            "bare": lambda: gunicorn("loadtests.baselines:bare", settings=own),
            "bare, gthread": lambda: gunicorn(
                "loadtests.baselines:bare", "--worker-class", "gthread", settings=own
            ),
            "function": lambda: gunicorn("loadtests.baselines:function", settings=own),
            "FastAPI": lambda: uvicorn("loadtests.fastapi_apps:onnx", WORKERS),
            "portico": lambda: portico(self._iris, settings=own),
            "portico, granian": lambda: portico(self._iris, settings={**own, "server": "granian"}),
        }
        turns = take_turns(
            starts, PATH, BODY, CONNECTIONS, rounds=self._rounds, seconds=self._seconds
        )
        title = f"One row of iris, medians of {self._rounds} rounds of {self._seconds:g} s"
        self._console.print(table_of(turns, title))
        compared = (
            ("portico", "bare", 0.8),
            ("portico", "bare, gthread", None),
            ("portico", "FastAPI", 1.3),
            ("portico, granian", "FastAPI", 4.0),
        )
        for name, other, goal in compared:
            for count in CONNECTIONS:
                self.figures.append(
                    Figure(
                        f"{name} / {other}, {count} connections",
                        turns.ratio(name, other, count),
                        "times",
                        goal if count > 1 else None,
                        at_least=True,
                    )
                )
        for name, seconds in turns.processor.items():
            # Less shaken than the rates by whatever else the machine does meanwhile.
            self.figures.append(
                Figure(f"processor time of {name}", median(seconds) * 1e6, "µs a request")
            )

    def forest(self) -> None:
        """Compare a forest served from its joblib file with FastAPI and joblib."""
        path = "/v2/models/forest/infer"
        with tempfile.TemporaryDirectory() as folder:
            file = write_forest(Path(folder) / "forest.joblib")
            os.environ[MODEL_VARIABLE] = str(file)
            state = Path(folder) / "run"
            state.mkdir()
            starts: Starts = {
                "FastAPI": lambda: uvicorn("loadtests.fastapi_apps:joblib", WORKERS),
                # The import is made at the first start and found at the next ones.
                "portico": lambda: portico(file, folder=state, settings={"workers": WORKERS}),
            }
            turns = take_turns(
                starts, path, FOREST_BODY, (16,), rounds=self._rounds, seconds=self._seconds
            )
        self._console.print(table_of(turns, "A forest of 300 trees from its joblib file"))
        ratio = turns.ratio("portico", "FastAPI", 16)
        self.figures.append(
            Figure("forest: portico / FastAPI and joblib", ratio, "times", 25, at_least=True)
        )

    def binary(self) -> None:
        """Time what a picture-sized request costs beside the model's own run."""
        costs = [binary.over_a_socket(20) for _ in range(self._rounds)]
        as_bytes = [cost.binary for cost in costs]
        self.figures += [
            Figure("1x3x224x224 as bytes, beside the run", median(as_bytes), "ms", 2.0),
            Figure("the same as JSON", median(cost.json for cost in costs), "ms"),
        ]

    def batching(self) -> None:
        """Compare a function that batches pay off for with calling it directly."""
        outcome = batching.measure(self._rounds, self._seconds)
        self.figures += [
            Figure(
                "slow function, 64 connections / full batches directly", outcome.share, "times",
                0.8, at_least=True,
            ),
            Figure(
                "slow function, 1 connection, above calling it", outcome.overhead * 1e3, "ms", 1.0
            ),
        ]  # fmt: skip

    def neighbours(self) -> None:
        """Compare the p99 of a model among many with its p99 alone."""
        alone, among = neighbours.p99_among(
            self._model, PATH, BODY, count=MODELS, rounds=self._rounds, seconds=self._seconds
        )
        self.figures += [
            Figure(f"p99 among {MODELS} models / alone", among / alone, "times", 1.2),
            Figure("p99 alone", alone * 1e3, "ms"),
        ]

    def recovery(self) -> None:
        """Kill a worker, and reload, under the load of clients that keep their connections."""
        rates, ratios, failures = [], [], 0
        for _ in range(self._rounds):
            with portico(self._iris, settings={"workers": WORKERS}) as server:
                wait_until(lambda: len(server.workers()) == WORKERS, server)
                rates.append(recovery.rate_after_kill(server, PATH, BODY, within=3.0))
                failed, ratio = recovery.reload_under_load(server, PATH, BODY)
                failures += failed
                ratios.append(ratio)
        self.figures += [
            Figure("rate 3 s after a kill -9 / before", median(rates), "times", 0.9, at_least=True),
            Figure("requests that failed in reloads", failures, "requests", 0),
            Figure("p50 in a reload / before", median(ratios), "times", 3.0),
        ]

    def promotes(self) -> None:
        """Promote and roll back under full load."""
        with promotes.constant_gateway(WORKERS) as (server, versions):
            outcome = promotes.promote_to_and_fro(server, versions, moves=PROMOTES)
        self._console.print(outcome.told())
        moved = f"of {outcome.moves} promotes and rollbacks, {outcome.answered:,} answers"
        self.figures += [
            Figure(f"failed or mixed {moved}", len(outcome.failures), "requests", 0),
            Figure("all workers agree after at most", max(outcome.agreed), "s", 1.0),
        ]

    def startup(self) -> None:
        """Time ``portico serve model.onnx`` from the command to the first answer."""
        runs = [self._first_answer() for _ in range(self._rounds)]
        self.figures.append(Figure("first answer after the command", median(runs), "s", 2.0))

    def _first_answer(self) -> float:
        """Start with nothing there but the model: database and password are made as well."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "iris.onnx"
            shutil.copyfile(self._model, file)
            port = free_port()
            command: list[str | Path] = [BIN / "portico", "serve", file, "--port", str(port)]
            begin = time.perf_counter()
            with running(command, Path(folder), port, clean_environment({}), "") as server:
                wait_until(lambda: _answers(server), server)
                return time.perf_counter() - begin

    def memory(self) -> None:
        """Add up the memory of master and workers after some load, and see what one more costs."""
        resident, proportional, further = [], [], []
        for _ in range(min(self._rounds, 3)):
            few = self._memory(WORKERS)
            resident.append(few[0])
            proportional.append(few[1])
            further.append((self._memory(WORKERS + 2)[1] - few[1]) / 2)
        name = f"resident memory, {WORKERS} workers, iris"
        self.figures += [
            Figure(name, median(resident) / 1e6, "MB", 260),
            Figure("the same, shared pages counted once", median(proportional) / 1e6, "MB"),
            Figure("each further worker (PSS)", median(further) / 1e6, "MB", 70),
        ]

    def _memory(self, workers: int) -> tuple[float, float]:
        """Return resident and proportional bytes of a whole gateway."""
        with portico(self._iris, settings={"workers": workers}) as server:
            wait_until(lambda: len(server.workers()) == workers, server)
            wrk.post(server.url + PATH, BODY, 16, 2)
            processes = [psutil.Process(pid) for pid in (server.pid, *server.workers())]
            return (
                sum(process.memory_info().rss for process in processes),
                sum(process.memory_full_info().pss for process in processes),
            )

    def middleware(self) -> None:
        """Show what each middleware costs a request in one process."""
        with tempfile.TemporaryDirectory() as folder:
            settings = {"state": folder, "models": json.dumps([str(self._iris)])}
            done = subprocess.run(
                [sys.executable, "-m", "loadtests.stack_cost", str(self._rounds), "20000"],
                env=clean_environment(settings), cwd=folder,
                stdout=subprocess.PIPE, text=True, check=True, timeout=600,
            )  # fmt: skip
        costs = {
            name: {what: seconds * 1e6 for what, seconds in cost.items()}
            for name, cost in json.loads(done.stdout).items()
        }
        table = Table(title="Processor time of the middleware, µs a request")
        for heading in ("layer", "own thread", "with the log's thread"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for name, cost in reversed(costs.items()):
            table.add_row(name, f"{cost['own']:.1f}", f"{cost['all']:.1f}")
        total = {what: sum(cost[what] for cost in costs.values()) for what in ("own", "all")}
        table.add_section()
        table.add_row("all", f"{total['own']:.1f}", f"{total['all']:.1f}")
        self._console.print(table)
        self.figures += [
            Figure("the middleware's cost of a request", total["own"], "µs", 40),
            Figure("the same, with the thread that writes the log", total["all"], "µs"),
        ]

    def scrape(self) -> None:
        """Replace workers under load; then time a scrape and compare its count with the load's."""
        with portico(self._iris, settings={"workers": WORKERS}) as server:
            with SteadyLoad(server, PATH, BODY) as load:
                for _ in range(RESTARTS):
                    replace_a_worker(server, signal.SIGTERM)
            wait_until(lambda: server.metric("portico_http_requests_in_progress") == 1, server)
            counted = server.metric("portico_http_requests_total", mount="v2", status="200")
            restarts = server.metric("portico_worker_restarts_total")
            times = [_seconds_of(lambda: server.get("/metrics")) for _ in range(20)]
        after = f"a scrape after {restarts:.0f} restarts under load"
        wrong = f"requests answered and not counted, or the reverse, of {load.answered:,}"
        self.figures += [
            Figure(after, median(times) * 1000, "ms", 50),
            Figure("the slowest of 20 scrapes", max(times) * 1000, "ms"),
            Figure(wrong, abs(counted - load.answered), "requests", 0),
        ]


def _answers(server: Server) -> bool:
    try:
        return server.ask("POST", PATH, BODY).status == 200
    except (OSError, HTTPException):
        return False


def _seconds_of(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


PARTS: Final = (
    "throughput", "forest", "batching", "binary", "neighbours", "startup", "memory", "middleware",
    "scrape", "recovery", "promotes",
)  # fmt: skip


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each application")
    parser.add_argument("--seconds", type=float, default=3, help="seconds of load in each turn")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 110)
    bench = Bench(arguments.rounds, arguments.seconds, console)
    for part in arguments.only or PARTS:
        with console.status(f"measuring {part} ..."):
            getattr(bench, part)()
    show(bench.figures, console)


if __name__ == "__main__":
    main()
