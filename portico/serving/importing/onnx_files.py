"""The other files that an ONNX file keeps its weights in ("external data").

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md; field numbers are those of
``onnx.proto3``.
"""

from __future__ import annotations

import mmap
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from portico.serving.errors import ArtefactError
from portico.serving.importing.protobuf import NotProtobuf, fields

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEEPEST: Final = 32
"""Graphs inside graphs; more than any exporter nests, and less than the interpreter bears."""

_EXTERNAL_DATA: Final = 13
_GRAPH: Final = 7

# Where tensors are found, from a message's kind to its fields and what each of them holds.
_WAYS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def is_onnx(path: Path) -> bool:
    """Tell whether the file is a whole protobuf message with a graph in it."""
    try:
        with _mapped(path) as data:
            return any(number == _GRAPH for number, _, _ in list(fields(data, 0, len(data))))
    except (NotProtobuf, ValueError):  # An empty file cannot be mapped.
        return False


def external_files(path: Path) -> list[str]:
    """Return the names of the files that hold weights, as the ONNX file gives them.

    Raises:
        ArtefactError: the file is damaged; or a name leads out of its folder, by itself or by a
            link, or to what is no file.
    """
    with _mapped(path) as data:
        if data.find(b"location") < 0:
            return []
        try:
            found = set(_locations(data, "model", 0, len(data), 0))
        except NotProtobuf as error:
            raise ArtefactError(f"'{path.name}' is damaged: {error}") from None
    for name in found:
        _check_location(path, name)
    return sorted(found)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _locations(data: mmap.mmap, kind: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise NotProtobuf("its graphs are nested too deep")
    if kind == "tensor":
        yield from _of_tensor(data, start, end)
        return
    ways = _WAYS[kind]
    for number, inner, stop in fields(data, start, end):
        if number in ways:
            yield from _locations(data, ways[number], inner, stop, depth + 1)


def _of_tensor(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    for number, inner, stop in fields(data, start, end):
        if number != _EXTERNAL_DATA:
            continue
        entry = {n: data[begin:finish] for n, begin, finish in fields(data, inner, stop)}
        if entry.get(1) == b"location":
            try:
                yield entry.get(2, b"").decode()
            except UnicodeDecodeError:
                raise NotProtobuf("a file's name is no UTF-8") from None


def _check_location(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    shown = f"'{path.name}' keeps weights in '{name[:200]}'"
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ArtefactError(f"{shown}, which lies outside its folder")
    folder = path.parent.resolve()
    file = folder / name
    if not file.exists() and not file.is_symlink():
        raise ArtefactError(f"{shown}, which is not there; keep both files in one folder")
    if not file.resolve().is_relative_to(folder):
        raise ArtefactError(f"{shown}, a link to outside its folder")
    if not file.is_file():
        raise ArtefactError(f"{shown}, which is no file")
