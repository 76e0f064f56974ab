"""Folders in which imports are prepared, and what is done about those whose process has died.

An import holds a lock on its folder for as long as it lives, so a folder whose lock is free has
been left behind. Its journal tells what the import had begun outside of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from portico.serving.errors import ServingError
from portico.serving.locked_folders import lock, make_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from portico.serving.versions import ArtefactStore, VersionStore

_JOURNAL: Final = "journal.json"


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """What an import has begun outside of its folder.

    Attributes:
        model: name.
        digest: of the manifest; a folder of the artefact store may have this name.
        version: that was reserved; None before.
    """

    model: str
    digest: str
    version: int | None = None

    def write(self, folder: Path) -> None:
        """Keep it in the import's folder; durable, so that no step outruns it."""
        partial = folder / f"{_JOURNAL}.part"
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(self))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / _JOURNAL)


@contextmanager
def staged(state: Path, versions: VersionStore, artefacts: ArtefactStore) -> Iterator[Path]:
    """Give a locked folder for one import; it is gone afterwards.

    Where the import fails, what its journal tells is undone. Should that fail as well, the folder
    stays, and the next start tries again.

    Args:
        state: the state folder.
        versions: reservations are given back there.
        artefacts: a folder that no version names is removed there.
    """
    home = _home(state)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder, descriptor = make_locked(home)
    try:
        try:
            yield folder
        except BaseException:
            with suppress(ServingError, OSError):
                _undo(folder, versions, artefacts)
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def has_leftovers(state: Path) -> bool:
    """Tell whether there may be something to clean; cheap enough for every start."""
    home = _home(state)
    return home.is_dir() and any(home.iterdir())


def clean(state: Path, versions: VersionStore, artefacts: ArtefactStore, seconds: float) -> int:
    """Undo what imports have left behind that died, and return how many did.

    Args:
        state: the state folder.
        versions: reservations are given back there.
        artefacts: folders that no version names are removed there.
        seconds: how long an import may take; older reservations are dead on any machine.
    """
    cleaned = 0
    for folder in sorted(_home(state).glob("*")):
        with suppress(OSError):
            descriptor = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _undo(folder, versions, artefacts)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
            cleaned += 1
    versions.sweep(time.time() - seconds)
    return cleaned


def _undo(folder: Path, versions: VersionStore, artefacts: ArtefactStore) -> None:
    try:
        journal = msgspec.json.decode((folder / _JOURNAL).read_bytes(), type=Journal)
    except (FileNotFoundError, msgspec.DecodeError):
        return
    if journal.version is not None:
        versions.abandon(journal.model, journal.version)  # Leaves a published one alone.
    if journal.digest not in {record.digest for record in versions.state().versions}:
        artefacts.remove(journal.digest)


def _home(state: Path) -> Path:
    return state / "staging"
