"""What the console is told about the process around it; the composition hands it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process.

    Attributes:
        pid: process id.
        started: seconds since the epoch; None where it cannot be read.
        rss: resident memory in bytes.
        pss: resident memory in bytes, with what workers share divided among them.
        requests: requests it answered; None where nobody counts them by worker.
    """

    pid: int
    started: float | None = None
    rss: int | None = None
    pss: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting in force.

    Attributes:
        key: as written in the settings file.
        value: in force; for a secret whatever stands for it, never the secret.
        default: what it is when nobody sets it.
        source: where the value comes from, such as ``environment``, ``file`` or ``default``.
        description: a sentence.
    """

    key: str
    value: str
    default: str
    source: str
    description: str


@dataclass(frozen=True, slots=True)
class OperatorView:
    """Where the console looks.

    Attributes:
        collect: reads the metrics of all workers; may raise while a worker starts.
        workers: lists the worker processes.
        settings: lists the settings in force.
    """

    collect: Callable[[], Iterable[Metric]]
    workers: Callable[[], Sequence[WorkerInfo]]
    settings: Sequence[SettingRow] = ()


def inspect_worker(pid: int, requests: int | None = None) -> WorkerInfo:
    """Read what the operating system knows about a worker; it may be gone.

    Args:
        pid: process id.
        requests: requests it answered, if known.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory = process.memory_full_info()
            pss = getattr(memory, "pss", None)  # Linux only.
            return WorkerInfo(pid, process.create_time(), memory.rss, pss, requests)
    except psutil.Error:
        return WorkerInfo(pid, requests=requests)
