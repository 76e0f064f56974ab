"""What the commands that import share: the importer of the settings, and orders from paths."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from gateway.process import model_threads
from portico.serving.allowance import Allowance
from portico.serving.card import read_card
from portico.serving.importing.confinement import Limits
from portico.serving.importing.importer import Importer
from portico.serving.importing.order import Order
from portico.storage.opening import open_artefacts, open_versions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.settings import Settings


def importer_of(settings: Settings, report: Callable[[str], None] = lambda _: None) -> Importer:
    """Return what imports into the catalogue that the settings name.

    Args:
        settings: name the stores and limit what an import may use.
        report: is told what is being done.
    """
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    limits = Limits(
        seconds=settings.import_seconds,
        memory=settings.import_memory_bytes,
        disk=2 * settings.max_artefact_bytes,
        source=settings.max_artefact_bytes,
    )
    return Importer(
        settings.state.resolve(),
        open_versions(settings.database_url),
        open_artefacts(settings.artefacts_url, settings.state),
        Allowance.of(settings.state),
        limits,
        threads=model_threads(settings),
        report=report,
    )


def order_of(file: Path) -> Order:
    """Return the order to import a file, with what ``model.toml`` beside it says.

    Raises:
        ArtefactError: ``model.toml`` cannot be read.
    """
    return Order(file=file.resolve(), card=read_card(file.resolve().parent), by=_user())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container's user need not have a name.
        return ""
