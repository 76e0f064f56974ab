"""How a gateway fares while workers die or are replaced under load.

Clients keep their connections, as real ones do, and open a new one only where theirs was closed.
"""

from __future__ import annotations

import os
import signal
import time
from http.client import HTTPException
from statistics import median
from typing import TYPE_CHECKING, Final

from loadtests.load import Load
from loadtests.server import ask, wait_until

if TYPE_CHECKING:
    from loadtests.server import Server

SETTLE: Final = 2.0
"""Seconds that are measured before and after."""


class TimedLoad(Load):
    """Asks over and over, and notes when each answer came and how long it took.

    Attributes:
        answers: time of each good answer, and the seconds that it took.
        failed: answers with another status than 200.
        broken: requests that were sent and got no answer.
    """

    def __init__(self, server: Server, path: str, body: bytes, threads: int = 16) -> None:
        super().__init__(threads)
        self._server = server
        self._path = path
        self._body = body
        self.answers: list[tuple[float, float]] = []
        self.failed = self.broken = 0

    def rate(self, begin: float, end: float) -> float:
        """Return the answers a second between two times."""
        return sum(begin <= at < end for at, _ in self.answers) / (end - begin)

    def p50(self, begin: float, end: float) -> float:
        """Return the median latency in seconds of the answers between two times."""
        return median(seconds for at, seconds in self.answers if begin <= at < end)

    def ask_until_stopped(self) -> None:
        """Ask, and note what came."""
        connection = self._server.connect()
        while not self.stopped.is_set():
            begin = time.monotonic()
            try:
                status = ask(connection, "POST", self._path, self._body).status
            except (OSError, HTTPException):
                connection.close()
                self.broken += 1
                time.sleep(0.005)
                continue
            end = time.monotonic()
            if status == 200:
                self.answers.append((end, end - begin))
            else:
                self.failed += 1
        connection.close()


def rate_after_kill(server: Server, path: str, body: bytes, within: float) -> float:
    """Kill one worker and return the rate from ``within`` seconds later on, relative to before."""
    with TimedLoad(server, path, body) as load:
        time.sleep(SETTLE)
        killed = time.monotonic()
        os.kill(server.workers()[0], signal.SIGKILL)
        time.sleep(within + SETTLE)
    before = load.rate(killed - SETTLE / 2, killed)
    return load.rate(killed + within, killed + within + SETTLE) / before


def reload_under_load(server: Server, path: str, body: bytes) -> tuple[int, float]:
    """Reload by SIGHUP.

    Returns:
        Requests that failed, and the p50 meanwhile relative to the one before.
    """
    with TimedLoad(server, path, body) as load:
        time.sleep(SETTLE)
        old = set(server.workers())
        begin = time.monotonic()
        server.signal(signal.SIGHUP)
        wait_until(lambda: len(new := set(server.workers())) == len(old) and not new & old, server)
        end = time.monotonic()
        time.sleep(0.2)
    before = load.p50(begin - SETTLE / 2, begin)
    return load.failed + load.broken, load.p50(begin, end) / before
