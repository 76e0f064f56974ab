"""The operator's files: what they are, and copies of them.

They are hashed where they lie, so that nothing is copied where an equal version is there already;
the copy must then have the same hash, so what was asked for is what is opened and stored.
"""

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
    """Everything that an order names.

    Args:
        order: what is to be imported.
        kind: of the model file.
        most: bytes that the model may have.

    Attributes:
        beside: names of further files that the model needs, relative to its folder.
        sha256: of the model file.
        options: sha256 of all that decides about a version beside its file.
        card: with the labels that were ordered.

    Raises:
        ArtefactError: a file is missing or too large, or the labels cannot be read.
    """

    def __init__(self, order: Order, kind: Kind, most: int) -> None:
        self._order = order
        self._most = most
        beside = external_files(order.file) if kind is Kind.ONNX else []
        self.beside = beside
        self._paths = {order.file.name: order.file}
        self._paths |= {name: order.file.parent / name for name in beside}
        given = [path for path in (order.examples, order.labels) if path]
        for path in (*self._paths.values(), *given):
            check_size(path, most)
        self._sha256 = {name: sha256_of(path) for name, path in self._paths.items()}
        self.sha256 = self._sha256[order.file.name]
        self.card = _card_of(order)
        examples = sha256_of(order.examples) if order.examples else ""
        files = sorted(self._sha256.values())
        facts = [__version__, kind, self.card, files, examples, installed(kind)]
        self.options = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    def copy_to(self, folder: Path) -> tuple[Path, Path | None]:
        """Copy everything into a new folder; return the model file and the examples, if any.

        Raises:
            ArtefactError: a file has changed since it was hashed.
        """
        room = self._most
        for name, path in self._paths.items():
            room -= _copy(path, folder / name, room)
            if sha256_of(folder / name) != self._sha256[name]:
                raise ArtefactError(f"'{path.name}' was changed while it was imported")
        examples = folder.with_name("examples.csv") if self._order.examples else None
        if self._order.examples and examples:
            _copy(self._order.examples, examples, self._most)
        return folder / self._order.file.name, examples


def _copy(source: Path, target: Path, most: int) -> int:
    """Copy a file, should it grow meanwhile at most so many bytes, and return how many it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copied = 0
    with source.open("rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(_CHUNK):
            copied += len(chunk)
            if copied > most:
                raise ArtefactError(f"'{source.name}' has more than {in_words(most)}")
            writing.write(chunk)
    return copied


def _card_of(order: Order) -> ModelCard:
    if order.labels is None:
        return order.card
    answer = msgspec.structs.replace(
        order.card.answer, labels=read_labels(order.labels), labels_file=None
    )
    return msgspec.structs.replace(order.card, answer=answer)
