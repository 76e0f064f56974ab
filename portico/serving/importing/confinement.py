"""What a process does to itself before it opens a file that nobody has vouched for but one person.

These are limits against accidents and a hurdle for harm, not a prison: the process stays the user
that it was, and reads what that user may read. What the system refuses is left out, and told.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_APART: Final = _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000
_MOST_PROCESSES: Final = 512
_MOST_FILES: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one import may use.

    Attributes:
        seconds: from its start to its end.
        memory: bytes of address space of each of its processes.
        disk: bytes that it may write, at most half of them into one file.
        source: bytes of the file that is imported, and of what an archive unpacks to.
    """

    seconds: float = 600.0
    memory: int = 16 << 30
    disk: int = 8 << 30
    source: int = 4 << 30


def end_with(parent: int) -> None:
    """End this process when its parent ends, however that ends.

    Args:
        parent: its process id; 0 where it lives in another process namespace.
    """
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It ended before it was asked to take us along.
        os._exit(1)


def leave_networks() -> bool:
    """Leave network, process and IPC namespaces; the next fork is alone, and dies as one.

    Returns:
        Whether the system allowed it.
    """
    if sys.platform != "linux":
        return False
    user, group = os.geteuid(), os.getegid()
    libc = _libc()
    # Root needs no user namespace, and would lose the right to read other users' files in one.
    if user == 0 and libc.unshare(_APART) == 0:
        return True
    if libc.unshare(_APART | _CLONE_NEWUSER) != 0:
        return False
    with contextlib.suppress(OSError):  # Without a name the process goes on as nobody.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    # Here the count of processes is this namespace's own; elsewhere it is the user's.
    resource.setrlimit(resource.RLIMIT_NPROC, (_MOST_PROCESSES, _MOST_PROCESSES))
    return True


def hide_processes() -> None:
    """Show only the processes of this namespace under /proc: others' environments hold secrets."""
    libc = _libc()
    if libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0:
        libc.mount(b"proc", b"/proc", b"proc", 0, None)


def limit_resources(limits: Limits) -> None:
    """Limit memory, processor time, the size of a file and the number of open files."""
    processor = int(limits.seconds * (os.cpu_count() or 1)) + 1
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, processor),
        (resource.RLIMIT_FSIZE, limits.disk // 2),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, allowed))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
