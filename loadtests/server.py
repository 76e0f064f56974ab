"""Start a fresh server on a free loopback port, and end it again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from email.message import Message

BIN: Final = Path(sys.executable).parent
"""Folder of the commands of this environment, such as ``portico`` and ``gunicorn``."""

ROOT: Final = Path(__file__).parents[1]
"""The checkout, whose code the servers run, whatever else is installed."""

GUNICORN_CONFIG: Final = ROOT / "gunicorn.conf.py"

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0


class NotStarted(Exception):
    """The server ended, or gave no answer in time; the message holds what it printed."""


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON holds it."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running server.

    Attributes:
        process: the master; it leads a process group of its own, so that a signal to the group
            is what Ctrl-C in a terminal is.
        port: it listens on, on the loopback address.
        folder: its working directory; what it prints is in ``out`` and ``err`` there.
        password: of the user ``admin``, as printed at the first start; empty where none was.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the master."""
        return self.process.pid

    def out(self) -> str:
        """Return what was printed to standard output so far."""
        return (self.folder / "out").read_text("utf-8", "replace")

    def err(self) -> str:
        """Return what was printed to standard error so far: the log."""
        return (self.folder / "err").read_text("utf-8", "replace")

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live, oldest first."""
        children = psutil.Process(self.pid).children()
        alive: dict[int, float] = {}
        for child in children:
            # One may end between being listed and being asked.
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    alive[child.pid] = child.create_time()
        return sorted(alive, key=alive.__getitem__)

    def connect(self, timeout: float = 10.0) -> HTTPConnection:
        """Return a connection that stays open between requests."""
        return HTTPConnection(LOOPBACK, self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; underscores in header names are dashes."""
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path."""
        return self.ask("GET", path, **headers)

    def metric(self, name: str, **labels: str) -> float:
        """Add up the samples of a metric that carry these labels."""
        return sum_of(self.get("/metrics").body.decode(), name, **labels)

    def signal(self, number: int) -> None:
        """Send a signal to the master alone."""
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Do what Ctrl-C does: send SIGINT to the whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """End the server and return its exit code; what does not end by itself is killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return self.process.wait()


def ask(
    connection: HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> Answer:
    """Send a request on ``connection`` and read the whole answer.

    Args:
        connection: stays usable, unless the server closes it.
        method: such as ``POST``.
        path: with the query, if any.
        body: bytes, text, an iterable that is sent chunked, or a dict or list that is sent as JSON.
        headers: underscores in names are dashes.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict | list):
        body = json.dumps(body)
        named.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, named, encode_chunked=hasattr(body, "__next__"))
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def sum_of(exposition: str, name: str, **labels: str) -> float:
    """Add up the samples called ``name`` that carry ``labels`` in a Prometheus text."""
    total = 0.0
    for line in exposition.splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match:
            found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[1] or ""))
            if labels.items() <= found.items():
                total += float(match[2])
    return total


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def clean_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return the environment without settings of the caller's, and with ``settings`` instead.

    Args:
        settings: from a setting's name in lower case to its value, such as ``{"workers": 2}``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
    kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
    return kept | {f"PORTICO_{name}".upper(): str(value) for name, value in settings.items()}


@contextlib.contextmanager
def portico(
    *models: Path,
    folder: Path | None = None,
    settings: Mapping[str, object] | None = None,
    config: str = "",
    path: Sequence[Path] = (),
    allow: Sequence[Path] = (),
    ready: str = "/readyz",
) -> Iterator[Server]:
    """Run ``portico serve`` with a state folder of its own, and wait until it is ready.

    Args:
        models: model files and folders; named on the command line.
        folder: working directory, also of the state; a temporary one without.
        settings: from name to value, such as ``{"workers": 2}``; handed in by the environment.
        config: text of ``portico.toml``.
        path: folders that modules are imported from beside the installed ones.
        allow: pickles below ``models`` that may be opened.
        ready: path that answers 200 once the server is ready; empty waits for nothing.

    Raises:
        NotStarted: it ended or did not become ready.
    """
    with _working_directory(folder) as here:
        (here / "portico.toml").write_text(config, "utf-8")
        if allow:
            _allow(here / "state", allow)
        port = free_port()
        # Ends are drawn in while requests still come, but never for as long as a default stop.
        given = {"graceful_timeout": 10, "log_format": "json", **(settings or {})}
        environment = clean_environment({**given, "state": here / "state"})
        # What lies here is what runs, wherever the command was installed from.
        environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, *path)))
        command: list[str | Path] = [BIN / "portico", "serve", *models, "--port", str(port)]
        with running(command, here, port, environment, ready) as server:
            found = re.search(r"with password +(\S+)", server.out())
            server.password = found[1] if found else ""
            yield server


@contextlib.contextmanager
def gunicorn(
    app: str, *arguments: str, settings: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """Run another WSGI callable under the gunicorn configuration that Portico has.

    Args:
        app: import string, ``module:name``.
        arguments: of gunicorn, in place of what that configuration says.
        settings: as for `portico`.
    """
    with _working_directory(None) as here:
        port = free_port()
        environment = clean_environment({**(settings or {}), "port": port, "state": here / "state"})
        environment["PYTHONPATH"] = str(ROOT)
        command: list[str | Path] = [BIN / "gunicorn", "--config", GUNICORN_CONFIG, *arguments, app]
        with running(command, here, port, environment, "/") as server:
            yield server


@contextlib.contextmanager
def uvicorn(factory: str, workers: int) -> Iterator[Server]:
    """Run an ASGI application on uvicorn.

    Args:
        factory: import string of what makes it, ``module:name``.
        workers: processes.
    """
    with _working_directory(None) as here:
        port = free_port()
        environment = clean_environment({}) | {"PYTHONPATH": str(ROOT)}
        command: list[str | Path] = [
            BIN / "uvicorn", "--factory", factory, "--port", str(port), "--workers", str(workers),
            "--no-access-log", "--log-level", "warning",
        ]  # fmt: skip
        with running(command, here, port, environment, "/") as server:
            yield server


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    port: int,
    environment: Mapping[str, str],
    ready: str,
) -> Iterator[Server]:
    """Run a command that serves on ``port`` until the block ends.

    Raises:
        NotStarted: it ended or did not become ready.
    """
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip
    server = Server(process, port, folder)
    try:
        if ready:
            wait_until(lambda: _is_ready(server, ready), server)
        yield server
    finally:
        server.stop()


def wait_until(fact: Any, server: Server, seconds: float = START_SECONDS) -> Any:
    """Ask until ``fact`` returns something true, and return that.

    Raises:
        NotStarted: it never did, or the server has ended.
    """
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        if server.process.poll() is not None:
            raise NotStarted(f"exit code {server.process.returncode}\n{server.err()}")
        if time.monotonic() > deadline:
            raise NotStarted(f"nothing after {seconds:g} s\n{server.err()}")
        time.sleep(0.02)
    return found


def _is_ready(server: Server, path: str) -> bool:
    try:
        return server.get(path).status == 200
    except (OSError, HTTPException):
        return False


def _allow(state: Path, files: Sequence[Path]) -> None:
    from portico.serving.allowance import Allowance

    for file in files:
        Allowance.of(state).allow(file)


@contextlib.contextmanager
def _working_directory(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="portico-server-") as temporary:
        yield Path(temporary)
