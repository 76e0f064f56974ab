"""Move a model's production to and fro under load, and hold every answer against what it says.

Two versions answer with different constants, so each answer tells from which version it is.
``python -m loadtests.promotes [MOVES]`` prints what came of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loadtests.load import Load
from loadtests.server import ask, portico
from loadtests.versions import publish
from portico.serving.versions import PRODUCTION
from portico.serving.workers import living
from portico.storage.opening import database_url, open_artefacts, open_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.server import Server
    from portico.serving.versions import VersionStore, WorkerReport

MODEL: Final = "constant"
ROWS: Final = 3
BODY: Final = json.dumps(
    {"inputs": [{"name": "x", "shape": [ROWS, 2], "datatype": "FP32", "data": [0.0] * (2 * ROWS)}]}
).encode()
AGREE_SECONDS: Final = 10.0


def value_of(version: int) -> float:
    """Return what a version answers with."""
    return 100.0 + version


@dataclass
class Outcome:
    """What came of the moves.

    Attributes:
        moves: promotes and rollbacks made.
        answered: requests with a whole answer of one version.
        failures: what was wrong with every other one.
        agreed: for each move, seconds until every worker had told that it took it over.
        late: for each move, seconds after it at which the last request was sent that an old
            version answered; 0 where there was none.
    """

    moves: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    agreed: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def told(self) -> str:
        """Say it in a line."""
        return (
            f"{self.moves} moves, {self.answered} answers, {len(self.failures)} failed; "
            f"all workers agreed after {max(self.agreed):.2f} s at most, "
            f"no old answer to a request sent later than {max(self.late):.2f} s after a move"
        )


class CheckedLoad(Load):
    """Threads that ask without a pause, each on a connection of its own, and check each answer.

    Args:
        server: serves :data:`MODEL`.
        threads: connections at once.
    """

    def __init__(self, server: Server, threads: int) -> None:
        super().__init__(threads)
        self._server = server
        self.answers: list[tuple[float, int]] = []
        """When each request was sent, and the version that answered it."""
        self.failures: list[str] = []

    def ask_until_stopped(self) -> None:
        """Ask, and hold each answer against what it says."""
        connection = self._server.connect()
        while not self.stopped.is_set():
            sent = time.monotonic()
            try:
                answer = ask(connection, "POST", f"/v2/models/{MODEL}/infer", BODY)
                self.answers.append((sent, _version_of(answer.status, answer.json())))
            except (OSError, HTTPException, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()


def _version_of(status: int, answer: Any) -> int:
    """Return the one version that an answer is from.

    Raises:
        ValueError: it is none, or one that does not fit the content.
    """
    if status != 200:
        raise ValueError(f"{status} {answer}")
    version = int(answer["model_version"])
    if answer["outputs"][0]["data"] != [value_of(version)] * (2 * ROWS):
        raise ValueError(f"not the answer of version {version}: {answer}")
    return version


@contextmanager
def constant_gateway(workers: int = 2, **settings: object) -> Iterator[tuple[Server, VersionStore]]:
    """Run a gateway with versions 1 and 2 of :data:`MODEL`, of which 1 is in production.

    Args:
        workers: of the gateway.
        settings: of the gateway, from name to value.
    """
    with tempfile.TemporaryDirectory(prefix="portico-promotes-") as temporary:
        folder = Path(temporary)
        state = folder / "state"
        state.mkdir(mode=0o700)
        versions = open_versions(database_url(state))
        for number in (1, 2):
            publish(versions, open_artefacts("", state), MODEL, value_of(number))
        with portico(folder=folder, settings={"workers": workers, **settings}) as server:
            wait_for_all(versions, workers)
            yield server, versions


def wait_for_all(versions: VersionStore, workers: int) -> Sequence[WorkerReport]:
    """Wait until so many workers live and have taken the present revision over.

    Raises:
        TimeoutError: they have not.
    """
    revision = versions.revision()
    deadline = time.monotonic() + AGREE_SECONDS
    while time.monotonic() < deadline:
        reports = living(versions.reports(0), time.time())
        if [report.revision for report in reports] == [revision] * workers:
            return reports
        time.sleep(0.01)
    raise TimeoutError(f"{workers} workers should be at revision {revision}: {reports}")


def promote_to_and_fro(
    server: Server, versions: VersionStore, *, moves: int, workers: int = 2, threads: int = 8
) -> Outcome:
    """Promote version 2 and roll back to 1, in turns, under load."""
    outcome = Outcome()
    moved: list[tuple[float, int]] = []
    with CheckedLoad(server, threads) as load:
        for number in range(moves):
            time.sleep(0.05)
            began = time.monotonic()
            if number % 2:
                version = versions.rollback(MODEL, "load")
            else:
                versions.set_alias(MODEL, PRODUCTION, version := 2, "load")
            done = time.monotonic()
            moved.append((done, version))
            outcome.moves += 1
            wait_for_all(versions, workers)
            outcome.agreed.append(time.monotonic() - began)
    outcome.answered, outcome.failures = len(load.answers), load.failures
    ends = [at for at, _ in moved[1:]] + [time.monotonic()]
    outcome.late = [
        max(
            (sent - at for sent, by in load.answers if at < sent < end and by != version), default=0
        )
        for (at, version), end in zip(moved, ends, strict=True)
    ]
    return outcome


if __name__ == "__main__":
    with constant_gateway() as (running, store):
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
        print(promote_to_and_fro(running, store, moves=count).told())
