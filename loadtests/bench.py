"""Measure Portico against a bare WSGI callable on the same server: ``python -m loadtests.bench``.

Throughput is measured in rounds: in each, every application gets a fresh turn with the same load,
one after the other, and what counts is the median over the rounds, as machines are never quiet.
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
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console
from rich.table import Table

from loadtests import wrk
from loadtests.baselines import MODEL_VARIABLE
from loadtests.demos import demo_models
from loadtests.restarts import SteadyLoad, replace_a_worker
from loadtests.server import (
    BIN,
    clean_environment,
    free_port,
    gunicorn,
    portico,
    running,
    wait_until,
)

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from loadtests.server import Server

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
THREADS: Final = 8
CONNECTIONS: Final = (1, 16, 64)
RESTARTS: Final = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and its goal.

    Attributes:
        name: what was measured.
        value: in ``unit``.
        unit: of value and goal.
        goal: the bound, None where there is none.
        at_least: whether the value must reach the goal instead of staying below it.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether there is no goal, or it is reached."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


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
        """Compare requests a second of Portico, a lone function and a constant answer."""
        settings = {"workers": WORKERS, "threads": THREADS}
        os.environ[MODEL_VARIABLE] = str(self._model)
        servers: dict[str, Callable[[], contextlib.AbstractContextManager[Server]]] = {
            "bare": lambda: gunicorn("loadtests.baselines:bare", settings=settings),
            "function": lambda: gunicorn("loadtests.baselines:function", settings=settings),
            "portico": lambda: portico(self._iris, settings=settings),
        }
        loads: dict[tuple[str, int], list[wrk.Load]] = {}
        costs: dict[str, list[float]] = {}
        for _ in range(self._rounds):
            for name, start in servers.items():
                with start() as server:
                    wrk.post(server.url + PATH, BODY, 16, 1)
                    before, answered = _processor_seconds(server), 0
                    for connections in CONNECTIONS:
                        load = wrk.post(server.url + PATH, BODY, connections, self._seconds)
                        loads.setdefault((name, connections), []).append(load)
                        answered += load.requests
                    cost = (_processor_seconds(server) - before) / answered
                    costs.setdefault(name, []).append(cost * 1e6)
        self._show_loads(list(servers), loads)
        for name, found in costs.items():
            # Less shaken than the rates by whatever else the machine does meanwhile.
            self.figures.append(Figure(f"processor time of {name}", median(found), "µs a request"))

    def _show_loads(self, names: list[str], loads: dict[tuple[str, int], list[wrk.Load]]) -> None:
        table = Table(
            title=f"Requests a second, medians of {self._rounds} rounds of {self._seconds:g} s"
        )
        for heading in ("connections", *names, "function / bare", "portico / bare", "p50", "p99"):
            table.add_column(heading, justify="right")
        for connections in CONNECTIONS:
            rates = {name: [run.rate for run in loads[name, connections]] for name in names}
            # Neighbours in time are compared with each other, not with what was minutes before.
            ratios = {
                name: median(a / b for a, b in zip(rates[name], rates["bare"], strict=True))
                for name in names
            }
            own = loads["portico", connections]
            table.add_row(
                str(connections),
                *(f"{median(rates[name]):,.0f}" for name in names),
                f"{ratios['function']:.2f}",
                f"{ratios['portico']:.2f}",
                f"{median(run.p50 for run in own) * 1000:.1f} ms",
                f"{median(run.p99 for run in own) * 1000:.1f} ms",
            )
            goal = 0.55 if connections == 16 else None
            name = f"throughput of the bare callable at {connections} connections"
            self.figures.append(Figure(name, ratios["portico"], "times", goal, at_least=True))
        self._console.print(table)

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
        """Add up the memory of master and workers after some load."""
        resident, proportional = [], []
        for _ in range(min(self._rounds, 3)):
            with portico(self._iris, settings={"workers": WORKERS}) as server:
                wrk.post(server.url + PATH, BODY, 16, 2)
                processes = [psutil.Process(pid) for pid in (server.pid, *server.workers())]
                resident.append(sum(process.memory_info().rss for process in processes))
                proportional.append(sum(p.memory_full_info().pss for p in processes))
        name = f"resident memory, {WORKERS} workers, iris"
        self.figures += [
            Figure(name, median(resident) / 1e6, "MB", 260),
            Figure("the same, shared pages counted once", median(proportional) / 1e6, "MB"),
        ]

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


def _processor_seconds(server: Server) -> float:
    """Return the processor time that the workers have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in server.workers()]
    return sum(time.user + time.system for time in times)


def _seconds_of(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


PARTS: Final = ("throughput", "startup", "memory", "middleware", "scrape")


def show(figures: list[Figure], console: Console) -> None:
    """Print the figures beside their goals."""
    table = Table(title="Figures")
    for heading in ("figure", "value", "goal", ""):
        table.add_column(heading, justify="right" if heading in ("value", "goal") else "left")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        digits = 2 if figure.value < 10 else 1 if figure.value < 100 else 0
        table.add_row(
            figure.name,
            f"{figure.value:.{digits}f} {figure.unit}",
            f"{sign} {figure.goal:g} {figure.unit}" if figure.goal is not None else "",
            "" if figure.goal is None else "met" if figure.is_met else "[bold]missed[/bold]",
        )
    console.print(table)


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each application")
    parser.add_argument("--seconds", type=float, default=4, help="seconds of load in each turn")
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
