"""The folders of versions, kept in a folder of this machine (or of a file system it shares).

A folder is written under a temporary name, made durable, and renamed: it is there wholly or not at
all, whenever the process is killed or the disk is full. Who writes holds a lock on the temporary
folder, so what a killed process left behind is told from what is being written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError
from portico.serving.locked_folders import lock, make_locked
from portico.serving.manifest import MANIFEST, file_names, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEMPORARY: Final = ".new-"
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class LocalArtefacts:
    """An artefact store in a folder.

    Args:
        folder: made, for its owner alone, when the first version is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, digest: str, folder: Path) -> None:
        """Store a folder whose ``manifest.json`` has this sha256; one that is there stays.

        What the manifest names is copied, made durable and checked; other files are left out.

        Raises:
            ArtefactError: no room, a file that is not what the manifest says, or the store's
                folder cannot be written.
        """
        if self.holds(digest):
            return
        manifest = read_manifest(folder, digest)
        with self.filling(digest) as new:
            for name in (*file_names(manifest), MANIFEST):
                _copy(folder / name, new / name)

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the version's files; the caller checks them.

        Raises:
            ArtefactError: it is not there.
        """
        if not self.holds(digest):
            raise not_held(digest)
        return self._folder / digest

    def remove(self, digest: str) -> None:
        """Remove a folder; one that is not there is no error."""
        if self.holds(digest):
            with _failures_told(), self._new_folder() as grave, suppress(FileNotFoundError):
                (self._folder / digest).rename(grave / digest)

    def digests(self) -> frozenset[str]:
        """Return the digests of all folders."""
        with _failures_told(), suppress(FileNotFoundError):
            return frozenset(path.name for path in self._folder.iterdir() if is_digest(path.name))
        return frozenset()

    def sweep(self) -> None:
        """Remove what killed processes have left behind; what is being written stays."""
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            # Somebody else may write it, or sweep it at the same time.
            with suppress(OSError), _closing(lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)):
                shutil.rmtree(path)

    def holds(self, digest: str) -> bool:
        """Tell whether a folder is there."""
        return (self._folder / checked(digest)).is_dir()

    @contextmanager
    def filling(self, digest: str) -> Iterator[Path]:
        """Give a folder for the files of a version; at the end they are checked, and there.

        Raises:
            ArtefactError: no room, what was written is not what the manifest says, or the store's
                folder cannot be written.
        """
        with _failures_told():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sweep()
            with self._new_folder() as new:
                yield new
                read_manifest(new, digest)
                self._take(new, digest)

    @contextmanager
    def alone(self, digest: str) -> Iterator[None]:
        """Wait until nobody else on this machine is here with this digest."""
        with _failures_told():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = self._folder / f".lock-{checked(digest)}"
            with _closing(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    @contextmanager
    def _new_folder(self) -> Iterator[Path]:
        """Give a temporary folder that is removed at the end, unless it was renamed."""
        path, descriptor = make_locked(self._folder, _TEMPORARY)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _take(self, new: Path, digest: str) -> None:
        """Make a temporary folder the one of a version, durably; one that is there stays."""
        for path in [*new.rglob("*"), new]:
            _sync(path)
        try:
            new.rename(self._folder / digest)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _sync(self._folder)


def not_held(digest: str) -> ArtefactError:
    """Return the error of a store that lacks a folder."""
    return ArtefactError(f"the artefact store holds no version with digest {digest[:12]}")


def is_digest(name: str) -> bool:
    """Tell whether a name is a sha256 in hex."""
    return _DIGEST.fullmatch(name) is not None


def checked(digest: str) -> str:
    """Return a digest that can name a folder.

    Raises:
        ArtefactError: it is no sha256 in hex.
    """
    if not is_digest(digest):
        raise ArtefactError(f"'{digest[:80]}' is no digest of a version: a sha256 in hex is")
    return digest


def _copy(source: Path, target: Path) -> None:
    """Copy a file; links are not followed, so that nothing else is copied."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reading, target.open("xb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        shutil.copyfileobj(reading, writing, 1024 * 1024)


def _sync(path: Path) -> None:
    """Make a file or folder durable."""
    with _closing(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise failure(error) from error


def failure(error: OSError) -> ArtefactError:
    """Return what tells of a failure of the system, without its paths."""
    if error.errno in _NO_SPACE:
        return ArtefactError("no space left for the version in the artefact store")
    return ArtefactError(
        f"the artefact store cannot be used: {error.strerror or type(error).__name__}"
    )
