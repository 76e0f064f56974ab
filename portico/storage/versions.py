"""Versions, aliases, traffic and the words of workers in the database."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from portico.serving.errors import UnknownModel, UnknownVersion, VersionExists, VersionInUse
from portico.serving.versions import (
    CANDIDATE,
    PRODUCTION,
    AliasChange,
    CatalogueState,
    Service,
    Traffic,
    VersionRecord,
    VersionState,
    WorkerReport,
)
from portico.storage.aliases import Aliases, raise_revision
from portico.storage.schema import prepare
from portico.storage.tables import (
    ALIAS_CHANGES,
    ALIASES,
    CATALOGUE,
    MODEL_SERVICE,
    TRAFFIC,
    VERSIONS,
    WORKER_REPORTS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from portico.storage.database import Database

_DAY: Final = 86400.0
_REVISION: Final = select(CATALOGUE.c.revision).where(CATALOGUE.c.id == 1)
_RECORD: Final = (
    VERSIONS.c.model, VERSIONS.c.version, VERSIONS.c.digest, VERSIONS.c.state, VERSIONS.c.created,
    VERSIONS.c.by,
)  # fmt: skip


class DatabaseVersionStore:
    """The catalogue over a database, for all processes of all machines that share it.

    Changes take turns by the lock of the row that holds the revision, so each of them sees the
    catalogue as the one before has left it. Times in the history are those of the machine that
    made the change.

    Args:
        database: tables that are missing are made.
    """

    def __init__(self, database: Database) -> None:
        prepare(database)
        self._database = database

    def revision(self) -> int:
        """Return the present revision, by one look-up of one row."""
        with self._database.read() as connection:
            revision: int = connection.execute(_REVISION).scalar_one()
        return revision

    def state(self) -> CatalogueState:
        """Return one consistent state; reservations are left out."""
        published = (
            select(*_RECORD)
            .where(VERSIONS.c.state != VersionState.IMPORTING)
            .order_by(VERSIONS.c.model, VERSIONS.c.version)
        )
        aliases: dict[str, dict[str, int]] = defaultdict(dict)
        with self._database.read() as connection:
            revision = connection.execute(_REVISION).scalar_one()
            versions = tuple(_record(row) for row in connection.execute(published))
            for row in connection.execute(select(ALIASES)):
                aliases[row.model][row.alias] = row.version
            shares = connection.execute(select(TRAFFIC)).all()
            said = connection.execute(select(MODEL_SERVICE)).all()
        traffic = {row.model: Traffic(row.canary, row.shadow) for row in shares}
        service = {row.model: Service(*row[1:]) for row in said}
        return CatalogueState(revision, versions, dict(aliases), traffic, service)

    def reserve(self, model: str, version: int | None, by: str) -> VersionRecord:
        """Reserve a number for an import: ``version``, or the next one; invisible so far.

        The next one follows the highest that is reserved or was published. A number that was
        given back is free again.

        Raises:
            VersionExists: that number was given before, be it retired or reserved.
        """
        with self._turn() as connection:
            if version is None:
                highest = select(func.max(VERSIONS.c.version)).where(VERSIONS.c.model == model)
                version = (connection.execute(highest).scalar() or 0) + 1
            elif _state_of(connection, model, version) is not None:
                raise VersionExists(f"model '{model}' has a version {version} already")
            record = VersionRecord(model, version, "", VersionState.IMPORTING, time.time(), by)
            connection.execute(insert(VERSIONS).values(_row(record)))
        return record

    def publish(self, model: str, version: int, digest: str, *, promote: bool) -> None:
        """Make a reserved version available.

        It becomes ``production`` if ``promote`` is set or the model has none, else ``candidate``.

        Raises:
            UnknownVersion: it was not reserved, or swept away meanwhile.
        """
        reserved = _is(model, version) & (VERSIONS.c.state == VersionState.IMPORTING)
        with self._turn() as connection:
            by = connection.execute(select(VERSIONS.c.by).where(reserved)).scalar()
            if by is None:
                raise UnknownVersion(f"version {version} of model '{model}' is not being imported")
            available = {"state": VersionState.AVAILABLE, "digest": digest}
            connection.execute(update(VERSIONS).where(reserved).values(available))
            aliases = Aliases(connection, model, by)
            is_first = aliases.standing(PRODUCTION) is None
            aliases.move(PRODUCTION if promote or is_first else CANDIDATE, version)

    def abandon(self, model: str, version: int) -> None:
        """Give a reservation back."""
        reserved = _is(model, version) & (VERSIONS.c.state == VersionState.IMPORTING)
        with self._turn() as connection:
            connection.execute(delete(VERSIONS).where(reserved))

    def sweep(self, before: float) -> Sequence[VersionRecord]:
        """Give back and return reservations made before a time: their imports have died."""
        dead = (VERSIONS.c.state == VersionState.IMPORTING) & (VERSIONS.c.created < before)
        with self._turn() as connection:
            found = [_record(row) for row in connection.execute(select(*_RECORD).where(dead))]
            connection.execute(delete(VERSIONS).where(dead))
        return found

    def set_alias(self, model: str, alias: str, version: int, by: str) -> int | None:
        """Move an alias and return the version it stood on; promoting the candidate unsets that.

        Shares of the traffic were given to one candidate and end with it.

        Raises:
            UnknownModel, UnknownVersion: there is no such available version.
        """
        with self._turn() as connection:
            _check_available(connection, model, version)
            aliases = Aliases(connection, model, by)
            before = aliases.standing(alias)
            if before != version:
                aliases.move(alias, version)
        return before

    def remove_alias(self, model: str, alias: str, by: str) -> None:
        """Remove an alias; one that is not there is no error."""
        with self._turn() as connection:
            aliases = Aliases(connection, model, by)
            if aliases.standing(alias) is not None:
                aliases.unset(alias)

    def rollback(self, model: str, by: str) -> int:
        """Move ``production`` back to the version before, and return that.

        The version before is the one that was in production when the present one was promoted.
        A second rollback goes one further back, never forth again: after promotes of 1, 2 and 3,
        rollbacks give 2, then 1, then an error. A promote starts from where production stands:
        after a rollback to 2 and a promote of 4, a rollback gives 2. Where ``production`` was
        removed, a rollback gives the version that it stood on.

        Nothing is guessed: if the version before is retired, that is an error, and one has to
        promote the version that is wanted.

        Raises:
            UnknownModel: there is no such model.
            UnknownVersion: there was none before, or it is retired.
        """
        with self._turn() as connection:
            _check_model(connection, model)
            aliases = Aliases(connection, model, by)
            change = aliases.change_before(PRODUCTION)
            if change is None or change.version is None:
                raise UnknownVersion(f"model '{model}' had no other version in production before")
            if _state_of(connection, model, change.version) != VersionState.AVAILABLE:
                raise UnknownVersion(
                    f"version {change.version}, which was in production before, is retired; "
                    "promote another one"
                )
            aliases.move_back(PRODUCTION, change.version, change.before)
        return change.version

    def retire(self, model: str, version: int, by: str) -> None:
        """Take a version out of service for good; its record and artefact stay.

        Raises:
            UnknownModel, UnknownVersion: there is no such available version.
            VersionInUse: an alias stands on it.
        """
        aliases_on = (
            select(ALIASES.c.alias)
            .where(ALIASES.c.model == model, ALIASES.c.version == version)
            .order_by(ALIASES.c.alias)
        )
        with self._turn() as connection:
            _check_available(connection, model, version)
            if names := connection.execute(aliases_on).scalars().all():
                raise VersionInUse(
                    f"version {version} of model '{model}' is its {' and '.join(names)}; "
                    "move the alias first"
                )
            retired = {"state": VersionState.RETIRED, "retired": time.time(), "retired_by": by}
            connection.execute(update(VERSIONS).where(_is(model, version)).values(retired))
            raise_revision(connection)

    def set_traffic(self, model: str, traffic: Traffic, by: str) -> None:
        """Set the shares of the candidate, until the candidate is another version.

        Raises:
            UnknownModel: there is no such model.
            UnknownVersion: a share is not 0, and the model has no candidate.
        """
        with self._turn() as connection:
            _check_model(connection, model)
            connection.execute(delete(TRAFFIC).where(TRAFFIC.c.model == model))
            if traffic != Traffic():
                if Aliases(connection, model, by).standing(CANDIDATE) is None:
                    raise UnknownVersion(f"model '{model}' has no candidate to give traffic to")
                shares = {"canary": traffic.canary, "shadow": traffic.shadow}
                row = {"model": model, **shares, "at": time.time(), "by": by}
                connection.execute(insert(TRAFFIC).values(row))
            raise_revision(connection)

    def unload(self, model: str, by: str) -> None:
        """Take a model out of service until it is loaded; it may be one that only paths have."""
        self._say(model, is_unloaded=True, by=by)

    def load(self, model: str, by: str) -> None:
        """Put a model into service, and have workers try again what they failed to load of it."""
        self._say(model, is_unloaded=False, by=by)

    def _say(self, model: str, *, is_unloaded: bool, by: str) -> None:
        table = MODEL_SERVICE
        with self._turn() as connection:
            raise_revision(connection)
            service = Service(
                is_unloaded, connection.execute(_REVISION).scalar_one(), time.time(), by
            )
            connection.execute(delete(table).where(table.c.model == model))
            connection.execute(insert(table).values(model=model, **asdict(service)))

    def history(self, model: str) -> Sequence[AliasChange]:
        """Return how the aliases were moved, the latest first."""
        table = ALIAS_CHANGES
        query = (
            select(table.c.model, table.c.alias, table.c.version, table.c.at, table.c.by)
            .where(table.c.model == model)
            .order_by(table.c.id.desc())
        )
        with self._database.read() as connection:
            return [AliasChange(*row) for row in connection.execute(query)]

    def report(self, report: WorkerReport) -> None:
        """Keep a worker's word, in place of its last one; words older than a day are forgotten."""
        told = {"revision": report.revision, "problems": dict(report.problems), "at": report.at}
        table = WORKER_REPORTS
        with self._database.write() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            new = dialect.insert(table).values(worker=report.worker, **told)
            connection.execute(
                new.on_conflict_do_update(index_elements=[table.c.worker], set_=told)
            )
            connection.execute(delete(table).where(table.c.at < report.at - _DAY))

    def reports(self, since: float) -> Sequence[WorkerReport]:
        """Return the last word of each worker heard since a time."""
        table = WORKER_REPORTS
        query = select(table).where(table.c.at >= since).order_by(table.c.worker)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [WorkerReport(row.worker, row.revision, row.problems, row.at) for row in rows]

    def forget_worker(self, worker: str) -> None:
        """Remove the word of a worker that ends."""
        with self._database.write() as connection:
            connection.execute(delete(WORKER_REPORTS).where(WORKER_REPORTS.c.worker == worker))

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """Give a transaction during which nobody else changes the catalogue."""
        with self._database.write() as connection:
            # SQLite has locked the whole database by now and takes this as a plain look-up.
            connection.execute(_REVISION.with_for_update())
            yield connection


def _is(model: str, version: int) -> Any:
    return (VERSIONS.c.model == model) & (VERSIONS.c.version == version)


def _row(record: VersionRecord) -> dict[str, object]:
    return {column.name: getattr(record, column.name) for column in _RECORD}


def _record(row: Any) -> VersionRecord:
    return VersionRecord(
        row.model, row.version, row.digest, VersionState(row.state), row.created, row.by
    )


def _state_of(connection: Connection, model: str, version: int) -> VersionState | None:
    found = connection.execute(select(VERSIONS.c.state).where(_is(model, version))).scalar()
    return VersionState(found) if found else None


def _check_model(connection: Connection, model: str) -> None:
    published = (VERSIONS.c.model == model) & (VERSIONS.c.state != VersionState.IMPORTING)
    if connection.execute(select(VERSIONS.c.version).where(published).limit(1)).first() is None:
        raise UnknownModel(f"there is no model '{model}' in the catalogue")


def _check_available(connection: Connection, model: str, version: int) -> None:
    _check_model(connection, model)
    state = _state_of(connection, model, version)
    if state == VersionState.RETIRED:
        raise UnknownVersion(f"version {version} of model '{model}' is retired")
    if state != VersionState.AVAILABLE:
        raise UnknownVersion(f"model '{model}' has no version {version}")
