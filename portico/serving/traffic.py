"""Canary: which callers of a model are answered by its candidate."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from portico.serving.versions import CANDIDATE

if TYPE_CHECKING:
    from portico.serving.models import Model
    from portico.serving.service import ServedModel


def place(model: str, caller: str) -> float:
    """Return where a caller stands among all callers of a model, from 0 to 1.

    It is the same in every worker and at every time, so that a caller stays on one side, and a
    share that grows only adds callers to those it had.
    """
    digest = blake2b(f"{model}\0{caller}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def candidate_of(model: Model) -> ServedModel | None:
    """Return the candidate of a model, if there is one that answers."""
    version = model.named().get(CANDIDATE)
    return version.served if version is not None and version.answers else None


def tried_by(model: Model, caller: str) -> ServedModel | None:
    """Return the candidate where it is to answer a caller who names no version.

    Args:
        model: of the catalogue.
        caller: name or address of who asks.
    """
    share = model.traffic.canary
    return candidate_of(model) if share and place(model.name, caller) < share else None
