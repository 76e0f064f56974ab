"""The operator's files, copied once: what was hashed is what is opened and stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from portico import __version__
from portico.serving.artefacts import sha256_of
from portico.serving.card import ModelCard, read_labels
from portico.serving.errors import ArtefactError
from portico.serving.importing.kinds import Kind, check_size, in_words
from portico.serving.importing.libraries import installed
from portico.serving.importing.onnx_files import external_files

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.importing.order import Order

_CHUNK: Final = 1 << 20


class Sources:
    """Copies of everything that an order names, in a folder of their own.

    Args:
        order: what is to be imported.
        kind: of the model file.
        folder: to be made; beside it the examples are copied.
        most: bytes that the model may have.

    Attributes:
        names: of the model file and of what belongs to it, in ``folder``.
        file: the model file.
        sha256: of the model file.
        examples: the table of examples, if there is one.
        card: with the labels that were ordered.

    Raises:
        ArtefactError: a file is missing or too large, or the labels cannot be read.
    """

    def __init__(self, order: Order, kind: Kind, folder: Path, most: int) -> None:
        folder.mkdir()
        beside = external_files(order.file) if kind is Kind.ONNX else []
        self.folder = folder
        self.names = [f"model{order.file.suffix}", *beside]
        paths = [order.file, *(order.file.parent / name for name in beside)]
        room = most
        for name, path in zip(self.names, paths, strict=True):
            room -= _copy(path, folder / name, room)
        self.file = folder / self.names[0]
        self.sha256 = sha256_of(self.file)
        self.examples = folder.with_name("examples.csv") if order.examples else None
        if order.examples and self.examples:
            _copy(order.examples, self.examples, most)
        self.card = _card_of(order, most)
        self.options = self._options(kind)

    def _options(self, kind: Kind) -> str:
        """Return a hash of all that decides about a version beside its file."""
        beside = [sha256_of(self.folder / name) for name in self.names[1:]]
        examples = sha256_of(self.examples) if self.examples else ""
        facts = [__version__, kind, self.card, beside, examples, installed(kind)]
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _copy(source: Path, target: Path, most: int) -> int:
    """Copy a file, should it grow meanwhile at most so many bytes, and return how many it has."""
    check_size(source, most)
    target.parent.mkdir(parents=True, exist_ok=True)
    copied = 0
    with source.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(_CHUNK):
            copied += len(chunk)
            if copied > most:
                raise ArtefactError(f"'{source.name}' has more than {in_words(most)}")
            writing.write(chunk)
    return copied


def _card_of(order: Order, most: int) -> ModelCard:
    if order.labels is None:
        return order.card
    check_size(order.labels, most)
    labels = read_labels(order.labels)
    answer = msgspec.structs.replace(order.card.answer, labels=labels, labels_file=None)
    return msgspec.structs.replace(order.card, answer=answer)
