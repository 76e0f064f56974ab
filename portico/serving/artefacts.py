"""Artefacts on disk: the layout of a models folder, and which files can be served.

A models folder holds ``NAME/model.toml`` and ``NAME/VERSION/artefact``. This module loads no
numeric library, so that a start can look at the folder before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUFFIXES: Final = (
    ".onnx", ".joblib", ".pkl", ".pickle", ".skops", ".json", ".ubj", ".txt", ".py",
    ".pt2", ".pt", ".remote.toml",
)  # fmt: skip
"""File name endings of artefacts that can be served."""

_SHARED: Final = {".json": b"{", ".txt": b"tree", ".py": b""}
"""Those of them that other files have as well, and how models begin; a version's is ``model``."""

PICKLES: Final = frozenset({".joblib", ".pkl", ".pickle", ".skops", ".py", ".pt2", ".pt"})
"""Those of them that execute code when they are opened."""

CARD_NAME: Final = "model.toml"
"""File in a model's folder where a person adds what the artefact cannot know."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")


@dataclass(frozen=True, slots=True)
class Artefact:
    """Where one version lies: its file or folder, and the folder that holds ``model.toml``."""

    model: str
    version: str
    path: Path
    folder: Path

    def file(self) -> Path:
        """Return the one model file of this version.

        Raises:
            ArtefactError: its folder holds none, or several.
        """
        if self.path.is_file():
            return self.path
        files = sorted(p for p in self.path.iterdir() if _is_artefact(p))
        code = [file for file in files if file.suffix == ".py"]
        if code:  # What lies beside it is the code's own.
            return code[0]
        if len(files) == 1:
            return files[0]
        what = f"{len(files)} model files, not one" if files else "no model file"
        raise ArtefactError(f"the folder holds {what}; known endings: {', '.join(SUFFIXES)}")


def find_artefacts(path: Path) -> list[Artefact]:
    """Find what a path names: a model file, one model's folder, or a folder of models.

    A lone file is version 1 of a model named after it.

    Raises:
        ArtefactError: nothing there, not readable, or not laid out as a models folder.
    """
    try:
        if path.is_file():
            return [_lone(path)]
        if not path.is_dir():
            raise ArtefactError(f"'{path}' does not exist")
        entries = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if any(entry.name.isdecimal() for entry in entries):
            return _of_model(path)
        found = [artefact for entry in entries for artefact in _of_model(entry)]
    except PermissionError as error:
        raise ArtefactError(f"'{error.filename}' is not readable") from error
    if not found:
        raise ArtefactError(
            f"'{path}' holds no models; a model is a folder such as iris/1/model.onnx, "
            "and its versions are whole numbers"
        )
    return found


def ending_of(path: Path) -> str | None:
    """Return which of :data:`SUFFIXES` a file's name ends with, if any."""
    return next((ending for ending in SUFFIXES if path.name.endswith(ending)), None)


def _is_artefact(path: Path) -> bool:
    ending = ending_of(path)
    return ending is not None and (ending not in _SHARED or path.name == f"model{ending}")


def refuse_repeats(artefacts: Iterable[Artefact]) -> None:
    """Check that no version of a model is given twice.

    Raises:
        ArtefactError: one is; the message says where both lie.
    """
    seen: dict[tuple[str, str], Artefact] = {}
    for artefact in artefacts:
        other = seen.setdefault((artefact.model, artefact.version), artefact)
        if other is not artefact:
            raise ArtefactError(
                f"model '{artefact.model}' version {artefact.version} is given twice: "
                f"'{other.path}' and '{artefact.path}'"
            )


def _lone(path: Path) -> Artefact:
    ending = ending_of(path)
    if ending is None or not _begins_as_model(path, ending):
        raise ArtefactError(f"'{path.name}' is no model file; known endings: {', '.join(SUFFIXES)}")
    name = path.name.removesuffix(ending)
    check_name(name)
    return Artefact(name, "1", path, path.parent)


def _begins_as_model(path: Path, ending: str) -> bool:
    beginning = _SHARED.get(ending, b"")
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _of_model(folder: Path) -> list[Artefact]:
    versions = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal())
    if not versions and not (folder / CARD_NAME).exists():
        return []
    check_name(folder.resolve().name)
    name = folder.resolve().name
    return [Artefact(name, str(int(version.name)), version, folder) for version in versions]


def check_name(name: str) -> None:
    """Check that a model can be called so.

    Raises:
        ArtefactError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ArtefactError(
            f"'{name}' cannot be a model's name; use A-Z, a-z, 0-9, '.', '_', '-' and spaces"
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
