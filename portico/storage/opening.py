"""One place that knows which stores the settings name; importing it imports no database library.

A store is opened lazily, in the process that uses it, and a start that needs none pays for none.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from portico.accounts.ports import AccountStore
    from portico.serving.drift_watch import DriftStore
    from portico.serving.predictions import PredictionStore
    from portico.serving.versions import ArtefactStore, VersionStore

DATABASE: Final = "portico.db"
"""File of the database in the state folder."""

_SQLITE: Final = "sqlite:///"
_FILE: Final = "file://"


def database_url(state: Path, database: str = "") -> str:
    """Return the URL of the database.

    Args:
        state: the state folder, where it is by default.
        database: URL that the settings name; empty where they do not.
    """
    return database or f"sqlite:///{(state / DATABASE).resolve()}"


def sqlite_file(url: str) -> Path | None:
    """Return the file of a database that is SQLite."""
    path = url.partition("?")[0]
    return Path(path.removeprefix(_SQLITE)) if path.startswith(_SQLITE) else None


def open_accounts(url: str) -> AccountStore:
    """Open the accounts in a database, and make tables that are missing.

    Args:
        url: as SQLAlchemy writes it.
    """
    # SQLAlchemy takes longer to import than most servers take to start.
    from portico.storage.accounts import DatabaseAccountStore
    from portico.storage.database import open_database

    return DatabaseAccountStore(open_database(url))


def open_versions(url: str) -> VersionStore:
    """Open the catalogue in a database, and make tables that are missing.

    Args:
        url: as SQLAlchemy writes it.
    """
    from portico.storage.database import open_database
    from portico.storage.versions import DatabaseVersionStore

    return DatabaseVersionStore(open_database(url))


def has_versions(url: str) -> bool:
    """Tell whether a database holds a version, without the library that reads everything else.

    Of a database that is no SQLite file it is taken for granted.

    Args:
        url: as SQLAlchemy writes it.
    """
    return _has_row(url, "versions")


def has_catalogue(url: str) -> bool:
    """Tell whether a database has anything for workers to follow, as :func:`has_versions` does.

    It is asked several times a second by servers that follow a catalogue which may never come.

    Args:
        url: as SQLAlchemy writes it.
    """
    return has_versions(url) or _has_row(url, "model_service")


def _has_row(url: str, table: Literal["versions", "model_service"]) -> bool:
    file = sqlite_file(url)
    if file is None:
        return True
    if not file.is_file():
        return False
    uri = f"{file.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            found = connection.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 two names
            return found.fetchone() is not None
    except sqlite3.Error:
        return False  # No table yet, or somebody is making it.


def open_predictions(url: str) -> PredictionStore:
    """Open the prediction log in a database, and make tables that are missing.

    Args:
        url: as SQLAlchemy writes it.
    """
    from portico.storage.database import open_database
    from portico.storage.predictions import DatabasePredictionStore

    return DatabasePredictionStore(open_database(url))


def open_drift(url: str) -> DriftStore:
    """Open what is counted to see drift, and make tables that are missing.

    Args:
        url: as SQLAlchemy writes it.
    """
    from portico.storage.database import open_database
    from portico.storage.drift import DatabaseDriftStore

    return DatabaseDriftStore(open_database(url))


def open_artefacts(url: str, state: Path) -> ArtefactStore:
    """Open the artefact store; nothing is read or made before its first use.

    Args:
        url: as fsspec writes it; empty for a folder of the state folder.
        state: the state folder.
    """
    from portico.storage.artefacts import LocalArtefacts

    if not url:
        return LocalArtefacts(state / "artefacts")
    if url.startswith(_FILE):
        return LocalArtefacts(Path(unquote(url.removeprefix(_FILE))))
    from portico.storage.remote_artefacts import RemoteArtefacts

    return RemoteArtefacts(url, state / "cache")
