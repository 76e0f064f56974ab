"""Give workers reusable slots, so that metric files neither pile up nor lose counts.

prometheus-client keeps one file per kind of metric and process, named by process id. Files of dead
workers have to stay, or their counts would be lost, so every restart would make each scrape slower.
Here a worker writes to the files of a slot instead, and the next worker in the slot goes on from
the values it finds there.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import struct
from pathlib import Path
from typing import Any, Protocol

import structlog
from prometheus_client import Counter, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from middleware.slot_values import SlotFiles

_ARBITER = "arbiter"
_ATTRIBUTE = "portico_worker_slots"
_CORRUPT = (struct.error, RuntimeError, ValueError)


class Worker(Protocol):
    """What is asked of gunicorn's worker: its process id, not an int before the fork."""

    pid: Any


class WorkerSlots:
    """The slots of one arbiter; its methods belong into gunicorn's server hooks.

    ``prepare`` before any metric is made, `assign` in ``pre_fork``, `enter` in ``post_fork``,
    `release` in ``child_exit``. The arbiter runs its hooks one after the other, so there is no
    lock.

    A reload (SIGHUP) runs the configuration file anew while old workers live on: get the instance
    by `of`, so that they keep their slots.
    """

    def __init__(self) -> None:
        self._workers: dict[int, Worker] = {}
        self._files: SlotFiles | None = None
        self._directory: Path | None = None
        self._restarts: Counter | None = None
        self._lock: int | None = None

    @classmethod
    def of(cls, arbiter: object) -> WorkerSlots:
        """Return the slots of `arbiter`, the same ones for as long as it lives."""
        slots = getattr(arbiter, _ATTRIBUTE, None)
        if not isinstance(slots, cls):
            slots = cls()
            setattr(arbiter, _ATTRIBUTE, slots)
        return slots

    def prepare(self, directory: str | os.PathLike[str]) -> None:
        """Empty the directory and make all metrics of this process and its children use it.

        To be called once at start, before any metric is made.

        Args:
            directory: Where the files go; made if it is missing. Two running servers must not
                share one.

        Raises:
            OSError: The directory cannot be made or written.
        """
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        for file in self._directory.glob("*.db"):
            file.unlink()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._directory)
        self._files = SlotFiles(self._directory, _ARBITER)
        values.ValueClass = self._files.value_class()
        self._restarts = Counter(
            "portico_worker_restarts_total",
            "Workers that ended while the server ran.",
            registry=None,
        )

    def assign(self, worker: Worker) -> int:
        """Give `worker`, not yet forked, the lowest free slot.

        A slot is free once the worker in it was reaped: the arbiter forgets a worker only then.
        Half-written files that a killed worker left are removed first.
        """
        self._free_vanished()
        slot = next(n for n in range(len(self._workers) + 1) if n not in self._workers)
        self._workers[slot] = worker
        self._clean(slot)
        return slot

    def enter(self, slot: int) -> None:
        """Make this process, a child just forked, write to the files of `slot`."""
        if self._files is not None:
            self._files.move(str(slot))

    def claim(self) -> int:
        """Enter the lowest slot that no living process holds, and return it.

        For servers without hooks around the fork: each worker calls it once, in place of `assign`
        and `enter`. The slot is held by a lock on a file, which ends with the process.
        """
        if self._directory is None:
            raise LookupError("claim before prepare")
        for slot in itertools.count():
            lock = os.open(self._directory / f"{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            break
        self._lock = lock
        was_held = os.fstat(lock).st_size > 0
        os.write(lock, b"held")
        self._clean(slot)
        self.enter(slot)
        if was_held and self._restarts is not None:
            self._restarts.inc()
        return slot

    def slot_of(self, worker: Worker) -> int:
        """Return the slot that `worker` was given.

        Raises:
            LookupError: It was given none.
        """
        for slot, known in self._workers.items():
            if known is worker:
                return slot
        raise LookupError("worker has no slot")

    def release(self, pid: int) -> None:
        """Free the slot of the reaped worker `pid`, and count it as a restart.

        What it held in live gauges, such as requests in progress, died with it.
        """
        for slot, worker in list(self._workers.items()):
            if worker.pid == pid:
                del self._workers[slot]
                self._clean(slot)
                if self._restarts is not None:
                    self._restarts.inc()

    def _free_vanished(self) -> None:
        """Free slots whose worker never came to be, or is gone without a ``child_exit``."""
        for slot, worker in list(self._workers.items()):
            if not isinstance(worker.pid, int):
                # The fork failed: the arbiter does nothing else between the hook and the fork.
                del self._workers[slot]
            elif not _exists(worker.pid):
                self.release(worker.pid)

    def _clean(self, slot: int) -> None:
        if self._directory is None:
            return
        mark_process_dead(str(slot), str(self._directory))  # type: ignore[no-untyped-call]
        for file in self._directory.glob(f"*_{slot}.db"):
            if not _is_whole(file):
                file.unlink()
                structlog.get_logger().warning("metric file removed", file=file.name)


def _exists(pid: int) -> bool:
    """Tell whether a child lives or waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_whole(file: Path) -> bool:
    """Tell whether every entry of a metric file can be read."""
    try:
        for key, _value, _time, _position in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            json.loads(key)
    except _CORRUPT:
        return False
    return True
