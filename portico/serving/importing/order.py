"""What is asked of an import, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portico.serving.card import ModelCard

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be imported, and what is known about it.

    Attributes:
        file: the model file.
        name: of the model; the file's without its ending where it is empty.
        version: the number that it gets; None for the next one.
        examples: CSV table of example rows.
        labels: file of class labels, one a line or JSON.
        card: of the model, as ``model.toml`` beside the file tells it.
        promote: whether it becomes ``production``, even where the model has another.
        by: who imports.
    """

    file: Path
    name: str = ""
    version: int | None = None
    examples: Path | None = None
    labels: Path | None = None
    card: ModelCard = field(default_factory=ModelCard)
    promote: bool = False
    by: str = ""

    @property
    def model(self) -> str:
        """The model's name."""
        return self.name or self.file.stem


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an order.

    Attributes:
        model: its name.
        version: its number.
        manifest: as it is stored.
        is_new: whether it was made now; an equal one was there otherwise.
        notes: sentences for the person who imports.
        was_alone: whether the system let the sandbox be taken off the network.
    """

    model: str
    version: int
    manifest: Manifest
    is_new: bool = True
    notes: tuple[str, ...] = ()
    was_alone: bool = True
