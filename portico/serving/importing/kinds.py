"""What kind of model a file holds: its ending says what is meant, its first bytes what is there.

Nothing is opened here by the library that wrote it. Where ending and content disagree the file is
refused: a pickle that is called ``model.onnx`` is a mistake or a trick.
"""

from __future__ import annotations

import ast
import stat
import zipfile
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError
from portico.serving.importing.onnx_files import is_onnx

if TYPE_CHECKING:
    from pathlib import Path


class Kind(StrEnum):
    """Frameworks whose models can be imported."""

    SKLEARN = "sklearn"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    TORCH = "torch"
    PYTHON = "python"
    ONNX = "onnx"


class Content(StrEnum):
    """What the bytes of a file are."""

    PICKLE = "a pickle"
    COMPRESSED = "compressed data"
    ZIP = "a zip archive"
    JSON = "JSON"
    UBJSON = "UBJSON"
    LIGHTGBM = "a LightGBM text model"
    ONNX = "ONNX"
    PYTHON = "Python code"
    EMPTY = "an empty file"
    UNKNOWN = "damaged, or of no known format"


KINDS: Final[dict[str, Kind]] = {
    ".joblib": Kind.SKLEARN,
    ".pkl": Kind.SKLEARN,
    ".pickle": Kind.SKLEARN,
    ".skops": Kind.SKLEARN,
    ".json": Kind.XGBOOST,
    ".ubj": Kind.XGBOOST,
    ".txt": Kind.LIGHTGBM,
    ".pt2": Kind.TORCH,
    ".pt": Kind.TORCH,
    ".py": Kind.PYTHON,
    ".onnx": Kind.ONNX,
}
"""From the ending of a file to the kind of model that it stands for."""

_EXPECTED: Final[dict[str, tuple[Content, ...]]] = {
    ".joblib": (Content.PICKLE, Content.COMPRESSED),
    ".pkl": (Content.PICKLE, Content.COMPRESSED),
    ".pickle": (Content.PICKLE, Content.COMPRESSED),
    ".skops": (Content.ZIP,),
    ".json": (Content.JSON,),
    ".ubj": (Content.UBJSON,),
    ".txt": (Content.LIGHTGBM,),
    ".pt2": (Content.ZIP,),
    ".pt": (Content.ZIP,),
    ".py": (Content.PYTHON,),
    ".onnx": (Content.ONNX,),
}
_COMPRESSED: Final = (
    b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda",  # zlib
    b"\x1f\x8b",  # gzip
    b"BZh",
    b"\xfd7zXZ", b"\x5d\x00\x00",  # xz, lzma
    b"\x04\x22\x4d\x18",  # lz4
)  # fmt: skip
_PICKLE_PROTOCOLS: Final = (2, 3, 4, 5)
_MAX_MEMBERS: Final = 100_000


def kind_of(path: Path, max_bytes: int) -> Kind:
    """Return what kind of model a file holds.

    Args:
        path: the file.
        max_bytes: a larger file, or archive once unpacked, is refused without being read.

    Raises:
        ArtefactError: no file, too large, of an unknown ending, or the content is something else.
    """
    kind = KINDS.get(path.suffix)
    if kind is None:
        raise ArtefactError(
            f"'{path.name}' is no model file that can be imported; known endings: "
            f"{', '.join(KINDS)}"
        )
    check_size(path, max_bytes)
    content, expected = _content_of(path), _EXPECTED[path.suffix]
    if content not in expected:
        raise ArtefactError(
            f"'{path.name}' is {content}; a file with the ending {path.suffix} "
            f"must be {' or '.join(expected)}"
        )
    if content is Content.ZIP:
        _check_archive(path, max_bytes)
    return kind


def check_size(path: Path, max_bytes: int) -> None:
    """Refuse what is no plain file, and a file that is larger than ``max_bytes``.

    Raises:
        ArtefactError: it is.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise ArtefactError(f"'{path}' does not exist") from None
    if not stat.S_ISREG(found.st_mode):
        raise ArtefactError(f"'{path}' is no file")
    if found.st_size > max_bytes:
        raise ArtefactError(
            f"'{path.name}' has {in_words(found.st_size)}; the setting max_artefact_bytes allows "
            f"{in_words(max_bytes)}"
        )


def in_words(size: int) -> str:
    """Return a number of bytes as a person writes it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _content_of(path: Path) -> Content:
    with path.open("rb") as file:
        head = file.read(64)
    for content, fits in (
        (Content.EMPTY, not head),
        (Content.PICKLE, head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS),
        (Content.ZIP, head.startswith((b"PK\x03\x04", b"PK\x05\x06"))),
        (Content.COMPRESSED, head.startswith(_COMPRESSED)),
        (Content.LIGHTGBM, head.startswith((b"tree\n", b"tree\r\n"))),
        (Content.UBJSON, head[:1] == b"{" and head[1:2] in b"iUIlL$#" and head[1:2]),
        (Content.JSON, head.lstrip()[:1] == b"{"),
    ):
        if fits:
            return content
    if path.suffix == ".py":
        return Content.PYTHON if _is_python(path) else Content.UNKNOWN
    return Content.ONNX if is_onnx(path) else Content.UNKNOWN


def _is_python(path: Path) -> bool:
    try:
        ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _check_archive(path: Path, max_bytes: int) -> None:
    """Refuse an archive that would write outside of where it is unpacked, or fill the disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise ArtefactError(f"'{path.name}' is a damaged zip archive: {error}") from None
    if len(members) > _MAX_MEMBERS:
        raise ArtefactError(f"'{path.name}' holds {len(members)} files; that is no model")
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or parts[0].endswith(":"):
            raise ArtefactError(
                f"'{path.name}' holds '{member.filename[:200]}', which leads out of the archive"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArtefactError(f"'{path.name}' holds '{member.filename[:200]}', a link")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_bytes:
        raise ArtefactError(
            f"'{path.name}' holds {in_words(unpacked)} once unpacked; the setting "
            f"max_artefact_bytes allows {in_words(max_bytes)}"
        )
