"""The folders of versions, kept in an object store or anything else that fsspec reaches.

There is no rename there, so ``manifest.json`` is written last and removed first: a folder without
it does not exist. What is fetched is kept in a folder of this machine.
"""

from __future__ import annotations

import glob
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs

from portico.serving.errors import ArtefactError
from portico.serving.manifest import MANIFEST, file_names, peek_manifest, read_manifest
from portico.storage.artefacts import (
    LocalArtefacts,
    checked,
    failure,
    is_digest,
    not_held,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RemoteArtefacts:
    """An artefact store behind a URL.

    Args:
        url: as fsspec writes it, such as ``s3://bucket/prefix``.
        cache: folder of this machine for what was fetched.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._url = url
        self._cache = LocalArtefacts(cache)

    def put(self, digest: str, folder: Path) -> None:
        """Store a folder whose ``manifest.json`` has this sha256; one that is there stays.

        What the manifest names is uploaded; other files are left out.

        Raises:
            ArtefactError: no room, a file that is not what the manifest says, or the store cannot
                be reached.
        """
        with self._reached() as (files, root):
            if files.exists(f"{root}/{checked(digest)}/{MANIFEST}"):
                return
            for name in (*file_names(read_manifest(folder, digest)), MANIFEST):
                if (folder / name).is_symlink():
                    raise ArtefactError(f"'{name}' of the version is a link, not a file")
                files.put_file(str(folder / name), f"{root}/{digest}/{name}")

    def fetch(self, digest: str) -> Path:
        """Return a local folder with the version's files, downloaded where it is not there yet.

        Of the processes of a machine that ask at once, one downloads. What is there is checked, and
        downloaded anew where it was changed.

        Raises:
            ArtefactError: it is not in the store, what came is not what was stored, no room, or the
                store cannot be reached.
        """
        with self._cache.alone(digest):
            if not self._is_cached(digest):
                with self._reached() as (files, root), self._cache.filling(digest) as new:
                    _download(files, f"{root}/{digest}", digest, new)
            return self._cache.fetch(digest)

    def remove(self, digest: str) -> None:
        """Remove a folder; one that is not there is no error."""
        with self._reached() as (files, root):
            path = f"{root}/{checked(digest)}"
            for name, whole in ((f"{path}/{MANIFEST}", False), (path, True)):
                if files.exists(name):
                    files.rm(name, recursive=whole)
        self._cache.remove(digest)

    def digests(self) -> frozenset[str]:
        """Return the digests of all folders."""
        with self._reached() as (files, root):
            found = files.glob(f"{glob.escape(root)}/*/{MANIFEST}")
        names = (path.split("/")[-2] for path in found)
        return frozenset(filter(is_digest, names))

    def _is_cached(self, digest: str) -> bool:
        if not self._cache.holds(digest):
            return False
        try:
            read_manifest(self._cache.fetch(digest), digest)
        except ArtefactError:
            self._cache.remove(digest)
            return False
        return True

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Give the file system and the path in it, and tell what goes wrong there."""
        try:
            files, root = url_to_fs(self._url)
            files.invalidate_cache()  # Another machine may have written meanwhile.
            yield files, root.rstrip("/")
        except ArtefactError:
            raise
        except ImportError as error:
            raise ArtefactError(f"the artefact store needs a package: {error}") from error
        except OSError as error:
            raise failure(error) from error
        except Exception as error:
            # Each backend has exceptions of its own, whose texts may hold what the URL holds.
            kind = type(error).__name__
            raise ArtefactError(f"the artefact store cannot be used: {kind}") from error


def _download(files: Any, path: str, digest: str, folder: Path) -> None:
    """Fetch what the manifest names; whether all of it is right is checked afterwards."""
    try:
        (folder / MANIFEST).write_bytes(files.cat_file(f"{path}/{MANIFEST}"))
    except FileNotFoundError:
        raise not_held(digest) from None
    for name in file_names(peek_manifest(folder, digest)):
        (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.get_file(f"{path}/{name}", str(folder / name))
