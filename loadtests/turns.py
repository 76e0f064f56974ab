"""Compare servers in turns: in each round every one gets a fresh start and the same load.

Machines are never quiet, so neighbours in time are compared with each other, and what counts is
the median over the rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import psutil
from rich.table import Table

from loadtests import wrk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from loadtests.server import Server

    Starts: TypeAlias = Mapping[str, Callable[[], AbstractContextManager[Server]]]


@dataclass
class Turns:
    """What was seen of each server, round by round.

    Attributes:
        loads: by the server's name and the number of connections.
        processor: seconds of processor time a request, by the server's name.
    """

    loads: dict[tuple[str, int], list[wrk.Load]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str, connections: int) -> float:
        """Return the median of requests a second."""
        return median(load.rate for load in self.loads[name, connections])

    def ratio(self, name: str, other: str, connections: int) -> float:
        """Return the median over the rounds of one rate divided by the other's."""
        pairs = zip(self.loads[name, connections], self.loads[other, connections], strict=True)
        return median(one.rate / another.rate for one, another in pairs)

    def p50(self, name: str, connections: int) -> float:
        """Return the median latency in seconds."""
        return median(load.p50 for load in self.loads[name, connections])

    def p99(self, name: str, connections: int) -> float:
        """Return the latency in seconds that 99 of a hundred answers stay below."""
        return median(load.p99 for load in self.loads[name, connections])


def take_turns(
    starts: Starts,
    path: str,
    body: bytes,
    connections: Sequence[int],
    *,
    rounds: int,
    seconds: float,
) -> Turns:
    """Load each server in each round.

    Args:
        starts: what starts each server, by its name; all answer the same request.
        path: of the request.
        body: of the request.
        connections: one load after the other.
        rounds: turns of each server.
        seconds: of each load.
    """
    turns = Turns()
    for _ in range(rounds):
        for name, start in starts.items():
            with start() as server:
                wrk.post(server.url + path, body, max(connections), 1)
                before, answered = processor_seconds(server), 0
                for count in connections:
                    load = wrk.post(server.url + path, body, count, seconds)
                    turns.loads.setdefault((name, count), []).append(load)
                    answered += load.requests
                spent = processor_seconds(server) - before
                turns.processor.setdefault(name, []).append(spent / answered)
    return turns


def table_of(turns: Turns, title: str) -> Table:
    """Show requests a second and latencies, a row for each server and number of connections."""
    table = Table(title=title)
    for heading in ("server", "connections", "requests/s", "p50", "p99"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    last = ""
    for name, count in turns.loads:
        if last and name != last:
            table.add_section()
        table.add_row(
            name if name != last else "",
            str(count),
            f"{turns.rate(name, count):,.0f}",
            f"{turns.p50(name, count) * 1000:.2f} ms",
            f"{turns.p99(name, count) * 1000:.1f} ms",
        )
        last = name
    return table


def processor_seconds(server: Server) -> float:
    """Return the processor time that the workers have used so far."""
    times = [psutil.Process(pid).cpu_times() for pid in server.workers()]
    return sum(time.user + time.system for time in times)
