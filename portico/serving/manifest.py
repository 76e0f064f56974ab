"""The manifest of a version: what was imported, from what, and the proof of equal answers.

A version is a folder that never changes once it is written. ``manifest.json`` names each of its
files with its sha256; the sha256 of the manifest itself is the version's digest, so that one hash
vouches for all of it.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import msgspec

from portico.serving.artefacts import sha256_of
from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST: Final = "manifest.json"
GOLDEN: Final = "golden.npz"
"""Example rows and the answers that import saw for them; see :mod:`portico.serving.golden`."""

REFERENCE: Final = "reference.json"
"""What the examples look like, column by column, for drift."""

FORMAT: Final = 1


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What was imported.

    Attributes:
        kind: sklearn, xgboost, lightgbm, torch, python or onnx.
        file: name of the file, without its folder.
        sha256: of that file, in hex.
        libraries: versions of the libraries that opened and compiled it.
        options: sha256 of all else that decided about the version, such as the examples: equal
            files with equal options make equal versions.
    """

    kind: str
    file: str
    sha256: str
    libraries: dict[str, str] = {}
    options: str = ""


class ParityCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One set of rows given to the native and to the compiled model.

    Attributes:
        rows_from: examples; or ranges, where rows within the ranges of the training stood in for
            them; generated, missing, unknown or thresholds.
        rows: how many were compared.
        labels_differ: rows whose labels differ.
        rows_differ: rows whose labels or values differ beyond the tolerance.
        largest: largest absolute difference of a probability or value.
        largest_relative: the same, relative to the native value; for regressions.
        worst: a few of the rows that differ, each with both answers.
    """

    rows_from: str
    rows: int
    labels_differ: int
    rows_differ: int
    largest: float
    largest_relative: float
    worst: list[dict[str, Any]] = []


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Median seconds of one run of ``rows`` rows, before and after compiling."""

    rows: int
    native: float
    compiled: float


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the compiled model answers as the native one.

    Attributes:
        compiled: whether the compiled model is the one that is served.
        reason: why it is not, a sentence for a person; empty when it is.
        checks: what was compared.
        speeds: for a lone row and for a batch.
    """

    compiled: bool
    reason: str = ""
    checks: list[ParityCheck] = []
    speeds: list[Speed] = []


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``manifest.json`` holds.

    Attributes:
        model: name of the model.
        platform: of the runtime that opens ``entry``, such as onnx_onnxv1.
        entry: name of the file that the runtime opens.
        files: sha256 in hex of every other file of the version, by its name.
        signature: as the import read it; see :mod:`portico.serving.signature_json`.
        source: what was imported.
        parity: None where nothing was compiled because the source is ONNX.
        created: seconds since the epoch.
    """

    model: str
    platform: str
    entry: str
    files: dict[str, str]
    signature: dict[str, Any]
    source: Source
    parity: ParityReport | None = None
    created: float = 0.0
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write ``manifest.json`` into a version's folder and return the version's digest."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / MANIFEST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path, digest: str | None = None) -> Manifest:
    """Read a version's manifest and check every file it names.

    Args:
        folder: the version's.
        digest: sha256 of the manifest that is expected; None where none is known.

    Raises:
        ArtefactError: a file is missing, or its content is not what was imported.
    """
    manifest = peek_manifest(folder, digest)
    for name in file_names(manifest):
        try:
            found = sha256_of(folder / name)
        except FileNotFoundError:
            raise ArtefactError(f"'{name}' of the version is missing") from None
        except OSError as error:
            raise ArtefactError(f"'{name}' cannot be read: {error.strerror}") from error
        if found != manifest.files[name]:
            raise _changed(name)
    return manifest


def peek_manifest(folder: Path, digest: str | None = None) -> Manifest:
    """Read a version's manifest alone, to tell about the version without opening it.

    Args:
        folder: the version's.
        digest: sha256 of the manifest that is expected; None where none is known.

    Raises:
        ArtefactError: it is missing, or not what was imported.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError:
        raise ArtefactError(f"the version's folder holds no {MANIFEST}") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{MANIFEST} cannot be read: {error}") from error
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise _changed(MANIFEST)
    return manifest


def file_names(manifest: Manifest) -> list[str]:
    """Return the names of a version's files, without the manifest.

    Raises:
        ArtefactError: a name leads out of the version's folder.
    """
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise ArtefactError(f"'{name}' in {MANIFEST} is no name of a file of the version")
    return [*manifest.files]


def _changed(name: str) -> ArtefactError:
    return ArtefactError(
        f"'{name}' was changed after the import (its sha256 differs); import it as a new version"
    )
