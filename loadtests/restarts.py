"""Load that never stops while workers come and go, and counts what it was answered."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from http.client import HTTPException
from typing import TYPE_CHECKING

import psutil

from loadtests.load import Load
from loadtests.server import ask, wait_until

if TYPE_CHECKING:
    from loadtests.server import Server


class SteadyLoad(Load):
    """Threads that post one body over and over; a connection that breaks is opened anew.

    Attributes:
        answered: requests that got a whole answer with status 200.
        broken: requests that were sent, or begun, and got no answer.
        refused: answers with any other status.

    Args:
        server: where to.
        path: of the request.
        body: bytes of the request.
        threads: connections at once.
        pause: seconds between two requests of a connection; 0 asks as fast as answers come.
    """

    def __init__(
        self, server: Server, path: str, body: bytes, *, threads: int = 8, pause: float = 0.0
    ) -> None:
        super().__init__(threads)
        self._server = server
        self._path = path
        self._body = body
        self._pause = pause
        self._lock = threading.Lock()
        self.answered = self.broken = self.refused = 0

    def ask_until_stopped(self) -> None:
        """Ask, and add up what came."""
        answered = broken = refused = 0
        connection = self._server.connect()
        while not self.stopped.is_set():
            try:
                status = ask(connection, "POST", self._path, self._body).status
            except (OSError, HTTPException):
                connection.close()
                broken += 1
                time.sleep(0.01)
                continue
            answered += status == 200
            refused += status != 200
            time.sleep(self._pause)
        connection.close()
        with self._lock:
            self.answered += answered
            self.broken += broken
            self.refused += refused


def replace_a_worker(server: Server, how: int = signal.SIGTERM) -> None:
    """End the oldest worker by a signal and wait until another answers in its place.

    Raises:
        NotStarted: none came in its place.
    """
    workers = server.workers()
    os.kill(workers[0], how)

    def newcomers() -> set[int]:
        now = server.workers()
        return set(now) - set(workers) if len(now) == len(workers) else set()

    (newcomer,) = wait_until(newcomers, server)
    wait_until(lambda: answers(server, newcomer), server)


def answers(server: Server, worker: int) -> bool:
    """Open a connection and tell whether it is this worker that took it."""
    with contextlib.closing(server.connect()) as connection:
        try:
            ask(connection, "GET", "/healthz")
            port = connection.sock.getsockname()[1]
            held = psutil.Process(worker).net_connections("tcp")
        except (OSError, HTTPException, AttributeError, psutil.Error):
            return False
        return any(peer.raddr and peer.raddr.port == port for peer in held)
