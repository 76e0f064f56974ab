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
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError
from portico.serving.manifest import MANIFEST, Manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        target = self._path(digest)
        with _failures_told("be written"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sweep()
            if target.exists():
                return
            manifest = read_manifest(folder, digest)
            with self.new_folder() as new:
                for name in files_of(manifest):
                    _copy(folder / name, new / name)
                read_manifest(new, digest)
                self.take(new, digest)

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the version's files; the caller checks them.

        Raises:
            ArtefactError: it is not there.
        """
        path = self._path(digest)
        if not path.is_dir():
            raise ArtefactError(f"the artefact store holds no version with digest {digest[:12]}")
        return path

    def remove(self, digest: str) -> None:
        """Remove a folder; one that is not there is no error."""
        path = self._path(digest)
        with _failures_told("be written"):
            if path.exists():
                with self.new_folder() as grave, suppress(FileNotFoundError):
                    path.rename(grave / digest)

    def digests(self) -> frozenset[str]:
        """Return the digests of all folders."""
        with _failures_told("be read"), suppress(FileNotFoundError):
            return frozenset(p.name for p in self._folder.iterdir() if _DIGEST.fullmatch(p.name))
        return frozenset()

    def sweep(self) -> None:
        """Remove what killed processes have left behind; what is being written stays."""
        for path in self._folder.glob(f"{_TEMPORARY}*"):
            # Somebody else may write it, or sweep it at the same time.
            with suppress(OSError), _closing(_lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)):
                shutil.rmtree(path)

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """Give a temporary folder that is removed at the end, unless it was taken."""
        path, descriptor = self._make_locked()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)

    def _make_locked(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))
            # Before it is locked, a sweep may take it for one that was left behind.
            with suppress(FileNotFoundError):
                descriptor = _lock(path, fcntl.LOCK_EX)
                if path.exists():
                    return path, descriptor
                os.close(descriptor)

    def take(self, new: Path, digest: str) -> None:
        """Make a temporary folder the one of a version, durably; one that is there stays."""
        for path in [new, *(p for p in new.rglob("*") if p.is_dir())]:
            _sync(path)
        try:
            new.rename(self._path(digest))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _sync(self._folder)

    def _path(self, digest: str) -> Path:
        return self._folder / checked(digest)


def checked(digest: str) -> str:
    """Return a digest that can name a folder.

    Raises:
        ArtefactError: it is no sha256 in hex.
    """
    if not _DIGEST.fullmatch(digest):
        raise ArtefactError(f"'{digest[:80]}' is no digest of a version: a sha256 in hex is")
    return digest


def files_of(manifest: Manifest) -> list[str]:
    """Return the names of a version's files, the manifest last.

    Raises:
        ArtefactError: a name leads out of the version's folder.
    """
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ArtefactError(f"'{name}' in {MANIFEST} is no name of a file of the version")
    return [*(name for name in manifest.files if name != MANIFEST), MANIFEST]


def _copy(source: Path, target: Path) -> None:
    """Copy a file durably; links are not followed, so that nothing else is copied."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reading, target.open("xb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        shutil.copyfileobj(reading, writing, 1024 * 1024)
        writing.flush()
        os.fsync(writing.fileno())


def _sync(folder: Path) -> None:
    with _closing(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(folder: Path, how: int) -> int:
    """Lock a folder until the descriptor that is returned, or the process, ends.

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


@contextmanager
def _failures_told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise ArtefactError("no space left for the version in the artefact store") from error
        raise ArtefactError(f"the artefact store cannot {what}: {error.strerror}") from error
