"""Runs the part of an import that opens the file: in a subprocess, alone and within limits.

Two processes are made. The outer one leaves the namespaces of the system, forks the inner one, and
waits; the inner one is the first process of a namespace of its own, so that whatever it starts
ends with it. Both end when the import ends, be it by ``kill -9``.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError
from portico.serving.importing.confinement import (
    Limits,
    end_with,
    hide_processes,
    leave_networks,
    limit_resources,
)
from portico.serving.importing.kinds import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

LOG: Final = "log"
"""File in the sandbox's folder with what the process printed; never shown, it may hold anything."""

ISOLATED: Final = "isolated"
"""File that is there when the system allowed the process to be taken off the network."""

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of errors that say that the disk is full."""

_DISK_FULL: Final = 99
"""Exit code of a process that could not even write that it could not write."""

_KEPT: Final = ("LD_LIBRARY_PATH", "SYSTEMROOT")
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LOOK_SECONDS: Final = 0.02
_DISK_SECONDS: Final = 0.5


def run(module: str, folder: Path, limits: Limits, threads: int) -> bool:
    """Run ``python -m module`` in a folder, and return whether it had no network.

    Args:
        module: calls :func:`confined` at once.
        folder: working directory, where alone it is to write.
        limits: what it may use.
        threads: threads of its numeric libraries.

    Raises:
        ArtefactError: it used more than its limits, crashed, or ended by itself with an error.
        OSError: the disk is full.
    """
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 our own interpreter with our own code
            [sys.executable, "-P", "-m", module],
            cwd=folder,
            env=_environment(folder, limits, threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        code = _wait(process, folder, limits)
    finally:
        if process.poll() is None:
            # The namespace of the inner process ends with the outer one.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code == _DISK_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if code:
        raise ArtefactError(_told(code, limits))
    return (folder / ISOLATED).exists()


def confined(work: Callable[[], None]) -> None:
    """Do the work in a process of its own within the limits that :func:`run` handed over."""
    end_with(int(os.environ.pop("PORTICO_IMPORT_PARENT")))
    limits = Limits(
        seconds=float(os.environ.pop("PORTICO_IMPORT_SECONDS")),
        memory=int(os.environ.pop("PORTICO_IMPORT_MEMORY")),
        disk=int(os.environ.pop("PORTICO_IMPORT_DISK")),
    )
    alone = leave_networks()
    if alone:
        Path(ISOLATED).touch()
    outer = os.getpid()
    inner = os.fork()
    if inner == 0:
        end_with(0 if alone else outer)
        if alone:
            hide_processes()
        limit_resources(limits)
        try:
            work()
        except OSError as error:
            if error.errno in NO_SPACE:
                os._exit(_DISK_FULL)
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        # What a model leaves running at exit, be it a thread or a handler, is not waited for.
        os._exit(0)
    _, status = os.waitpid(inner, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _environment(folder: Path, limits: Limits, threads: int) -> dict[str, str]:
    """Return what the process needs and nothing of the caller's secrets."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONUNBUFFERED": "1",
        "PORTICO_IMPORT_PARENT": str(os.getpid()),
        "PORTICO_IMPORT_SECONDS": str(limits.seconds),
        "PORTICO_IMPORT_MEMORY": str(limits.memory),
        "PORTICO_IMPORT_DISK": str(limits.disk),
    }


def _wait(process: subprocess.Popen[bytes], folder: Path, limits: Limits) -> int:
    started = looked = time.monotonic()
    while (code := process.poll()) is None:
        now = time.monotonic()
        if now - started > limits.seconds:
            raise ArtefactError(
                f"the model was not opened, compiled and checked within {limits.seconds:g} seconds "
                "(setting import_seconds)"
            )
        if now - looked > _DISK_SECONDS:
            looked = now
            if _written(folder) > limits.disk:
                raise ArtefactError(
                    f"opening the model wrote more than {in_words(limits.disk)}, and was ended"
                )
        time.sleep(_LOOK_SECONDS)
    return code


def _written(folder: Path) -> int:
    """Return the bytes that lie in a folder; files may come and go meanwhile."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(where) / name).st_blocks * 512
            except OSError:
                continue
    return total


def _told(code: int, limits: Limits) -> str:
    number = -code if code < 0 else code - 128
    if number == signal.SIGXCPU:
        return f"opening the model used more processor time than {limits.seconds:g} seconds allow"
    if 0 < number < signal.NSIG:
        name = signal.Signals(number).name
        memory = in_words(limits.memory)
        return (
            f"opening the model ended its process by {name}; it crashed, or needs more memory "
            f"than {memory} (setting import_memory_bytes)"
        )
    return f"opening the model ended its process with code {code}"
