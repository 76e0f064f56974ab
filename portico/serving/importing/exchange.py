"""What the importing process hands to its sandbox, and what it takes back: data, never code.

Whatever comes back may have been written by the model's author, so it is decoded strictly and
believed in nothing that the parent can find out by itself: kinds, file names, hashes.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 msgspec reads the annotations
from typing import Any, Final

import msgspec

from portico.serving.card import ModelCard
from portico.serving.errors import ArtefactError
from portico.serving.importing.kinds import Kind  # noqa: TC001 msgspec reads the annotations
from portico.serving.manifest import ParityReport  # noqa: TC001 msgspec reads the annotations

REQUEST: Final = "request.json"
OUTCOME: Final = "outcome.json"
OUT: Final = "out"
"""Folder of the files that the sandbox makes."""

MODEL: Final = "model.onnx"
"""The compiled model among them."""

_MOST_BYTES: Final = 64 << 20


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be opened.

    Attributes:
        file: path of the source; its folder holds nothing but what belongs to it.
        kind: told from its content.
        card: what is known about the model beside its file.
        labels_name: of the file that the card's labels come from, if they come from one.
        examples: path of a CSV table, if one was given.
        examples_name: what the person calls it.
        threads: threads of a run.
    """

    file: Path
    kind: Kind
    card: ModelCard
    labels_name: str = ""
    examples: Path | None = None
    examples_name: str = ""
    threads: int = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        problem: why it cannot be imported; empty where it can.
        platform: of the runtime that opened the source.
        signature: see :mod:`portico.serving.signature_json`.
        parity: of the compiled model; None where there was nothing to compile.
        card: the given one, with what the examples taught.
        notes: sentences for the person who imports.
    """

    problem: str = ""
    platform: str = ""
    signature: dict[str, Any] = {}
    parity: ParityReport | None = None
    card: ModelCard = ModelCard()
    notes: list[str] = []


def write(path: Path, message: Request | Outcome) -> None:
    """Write a message; it appears whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_bytes(msgspec.json.encode(message, enc_hook=str))
    partial.replace(path)


def read_request(path: Path) -> Request:
    """Read what is to be opened."""
    return msgspec.json.decode(path.read_bytes(), type=Request, dec_hook=_as_path)


def read_outcome(path: Path) -> Outcome:
    """Read what the sandbox tells.

    Raises:
        ArtefactError: it told nothing, or nothing that makes sense.
    """
    if path.is_symlink() or not path.is_file():
        raise ArtefactError("opening the model ended the process before it was opened")
    if path.stat().st_size > _MOST_BYTES:
        raise ArtefactError("what the import tells about the model is too long")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(
            f"what the import tells about the model makes no sense: {error}"
        ) from None


def _as_path(wanted: type, value: Any) -> Any:
    return wanted(value)
