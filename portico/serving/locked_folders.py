"""Folders that belong to whoever holds a lock on them, and to nobody once that process ended."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def make_locked(home: Path, prefix: str | None = None) -> tuple[Path, int]:
    """Make a new folder and lock it.

    Args:
        home: where it is made.
        prefix: of its name.

    Returns:
        The folder, and the descriptor that holds the lock while it is open.
    """
    while True:
        folder = Path(tempfile.mkdtemp(dir=home, prefix=prefix))
        # Before it is locked, a start beside may take it for one that was left behind.
        with suppress(FileNotFoundError):
            descriptor = lock(folder, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def lock(folder: Path, how: int) -> int:
    """Lock a folder for as long as the descriptor that is returned is open.

    Args:
        folder: to be locked.
        how: as `fcntl.flock` takes it.

    Raises:
        OSError: the folder is gone, or somebody else holds the lock and ``how`` does not wait.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
