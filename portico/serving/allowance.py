"""Which files that execute code may be opened: those that the operator allowed, by hash.

A pickle runs whatever its author wrote the moment it is opened (Python documentation, "pickle",
first warning). Naming a file on the command line allows that very content, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import msgspec

from portico.serving.artefacts import sha256_of
from portico.serving.errors import ArtefactError, ArtefactNotAllowed


class Allowance:
    """The list of allowed hashes in the state folder.

    Args:
        path: the JSON file of the list, an object from sha256 in hex to the file's name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, state: Path) -> Allowance:
        """Return the list that a state folder holds."""
        return cls(state / "allowed.json")

    def read(self, artefact: Path) -> bytes:
        """Return the content of an allowed file; what was checked is what is returned.

        Raises:
            ArtefactNotAllowed: this content was never allowed.
            ArtefactError: the list cannot be read.
        """
        data = artefact.read_bytes()
        if hashlib.sha256(data).hexdigest() not in self._hashes():
            in_folder = artefact.parent.name.isdecimal()
            short = "/".join(artefact.parts[-3:]) if in_folder else artefact.name
            raise ArtefactNotAllowed(
                f"'{short}' executes code when it is opened, and its content was not "
                "allowed; if you trust it, allow it with: portico models allow PATH"
            )
        return data

    def has(self, artefact: Path) -> bool:
        """Tell whether the file's present content is allowed.

        Raises:
            ArtefactError: the list cannot be read.
        """
        hashes = self._hashes()
        return bool(hashes) and sha256_of(artefact) in hashes

    def allow(self, artefact: Path) -> str:
        """Allow the file's present content and return its sha256 in hex.

        Raises:
            ArtefactError: the list cannot be read.
        """
        digest = sha256_of(artefact)
        hashes = self._hashes()
        if digest not in hashes:
            self._write({**hashes, digest: artefact.name})
        return digest

    def _hashes(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ArtefactError(
                f"the list of allowed files, '{self._path.name}' in the state folder, "
                f"cannot be read: {reason}"
            ) from error

    def _write(self, hashes: dict[str, str]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(hashes, file, indent=1)
        Path(name).replace(self._path)
