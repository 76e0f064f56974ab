"""Names of workers in the version store, and which of those that reported still live."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.serving.versions import WorkerReport

HEARTBEAT: Final = 10.0
"""Seconds after which a worker reports again, though nothing has changed."""

SILENCE: Final = 3 * HEARTBEAT
"""Seconds after the last report of a worker until it counts as gone."""


def worker_name() -> str:
    """Return a name for this process that no other process of any machine has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def short_name(worker: str) -> str:
    """Return the machine and process id, for a person to read."""
    return worker.rpartition(":")[0]


def living(reports: Iterable[WorkerReport], now: float) -> list[WorkerReport]:
    """Return the reports of workers that were heard lately and are not known to have ended."""
    return [r for r in reports if now - r.at < SILENCE and not has_ended(r.worker)]


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
