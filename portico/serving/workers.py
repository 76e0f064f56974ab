"""Names of workers in the version store, and which of those that reported still live."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portico.serving.versions import VersionStore, WorkerReport

HEARTBEAT: Final = 10.0
"""Seconds after which a worker reports again, though nothing has changed."""

SILENCE: Final = 3 * HEARTBEAT
"""Seconds after the last report of a worker until it counts as gone."""


FIRST_REPORT: Final = 3.0
"""Seconds that a worker may take to its first report, once there is something to follow."""


def worker_name() -> str:
    """Return a name for this process that no other process of any machine has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def short_name(worker: str) -> str:
    """Return the machine and process id, for a person to read."""
    return worker.rpartition(":")[0]


def living(reports: Iterable[WorkerReport], now: float) -> list[WorkerReport]:
    """Return the reports of workers that were heard lately and are not known to have ended."""
    return [r for r in reports if now - r.at < SILENCE and not has_ended(r.worker)]


@dataclass(frozen=True, slots=True)
class Takeover:
    """What the living workers have made of a revision.

    Attributes:
        done: the words of those that have taken it over, or found that they cannot.
        waiting: of those that have not come so far.
        seconds: that it took.
    """

    done: Sequence[WorkerReport]
    waiting: Sequence[WorkerReport]
    seconds: float

    def refusals(self, model: str, version: int) -> dict[str, str]:
        """Return why workers do not serve a version, by worker."""
        key = f"{model}/{version}"
        return {r.worker: r.problems[key] for r in self.done if key in r.problems}


def await_takeover(versions: VersionStore, seconds: float, expected: int = 0) -> Takeover:
    """Wait until every living worker has taken the store's present revision over.

    Args:
        versions: where workers report.
        seconds: to wait at most.
        expected: workers that ought to report. Those that have had nothing to follow so far have
            never done so, and are given :data:`FIRST_REPORT` seconds.
    """
    revision = versions.revision()
    began = time.monotonic()
    while True:
        now = time.time()
        reports = living(versions.reports(now - SILENCE), now)
        done = [report for report in reports if report.revision >= revision]
        waiting = [report for report in reports if report.revision < revision]
        taken = time.monotonic() - began
        is_expecting = len(reports) < expected and taken < FIRST_REPORT
        if (not waiting and not is_expecting) or taken >= seconds:
            return Takeover(done, waiting, taken)
        time.sleep(0.02)


def has_ended(worker: str) -> bool:
    """Tell whether a worker is a process of this machine that is no longer there."""
    machine, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if machine != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
