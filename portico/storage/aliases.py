"""How the aliases of a model move: the steps of a change, inside its transaction.

Each move is kept as a change that names the change before it, so that going back is a look-up. A
move back takes over what the change it returns to had before it: going back twice goes further.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, insert, select, update

from portico.serving.versions import CANDIDATE, PRODUCTION
from portico.storage.tables import ALIAS_CHANGES, ALIASES, CATALOGUE, TRAFFIC

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


class Change(NamedTuple):
    """One row of the history.

    Attributes:
        id: grows with each change.
        version: where the alias went; None where it was removed.
        before: id of the change that a rollback from this one goes back to, never a removal.
    """

    id: int
    version: int | None
    before: int | None


class Aliases:
    """The aliases of one model during one change of the catalogue.

    Args:
        connection: in the transaction of the change.
        model: name.
        by: who makes the change.
    """

    def __init__(self, connection: Connection, model: str, by: str) -> None:
        self._connection = connection
        self._model = model
        self._by = by

    def standing(self, alias: str) -> int | None:
        """Return the version that an alias stands on."""
        query = select(ALIASES.c.version).where(self._key(alias))
        return self._connection.execute(query).scalar()

    def change_before(self, alias: str) -> Change | None:
        """Return the change that a rollback of the alias goes back to."""
        last = self._last_change(alias)
        return self._change(last.before) if last else None

    def move(self, alias: str, version: int) -> None:
        """Put an alias on a version that it does not stand on."""
        before = self._last_change(alias)
        if before and before.version is None:
            before = self._change(before.before)
        if before and before.version == version:
            # It was removed and is put back: that is no version to go back to.
            before = self._change(before.before)
        self._place(alias, version, before.id if before else None)

    def move_back(self, alias: str, version: int, before: int | None) -> None:
        """Put an alias where the change before has put it.

        Args:
            alias: such as ``production``.
            version: of the change before.
            before: what that change had before it.
        """
        self._place(alias, version, before)

    def unset(self, alias: str) -> None:
        """Remove an alias that is there."""
        last = self._last_change(alias)
        self._connection.execute(delete(ALIASES).where(self._key(alias)))
        self._note(alias, None, last.id if last else None)
        self._follow(alias, None)

    def _place(self, alias: str, version: int, before: int | None) -> None:
        key = {"model": self._model, "alias": alias}
        if self.standing(alias) is None:
            self._connection.execute(insert(ALIASES).values(**key, version=version))
        else:
            place = update(ALIASES).where(self._key(alias)).values(version=version)
            self._connection.execute(place)
        self._note(alias, version, before)
        self._follow(alias, version)

    def _note(self, alias: str, version: int | None, before: int | None) -> None:
        key = {"model": self._model, "alias": alias}
        facts = {"version": version, "before": before, "at": time.time(), "by": self._by}
        self._connection.execute(insert(ALIAS_CHANGES).values(**key, **facts))

    def _follow(self, alias: str, version: int | None) -> None:
        """Do what a move brings with it.

        A candidate that becomes production is candidate no more, and the shares of the traffic end
        with the candidate that they were given to.
        """
        if alias == CANDIDATE:
            self._connection.execute(delete(TRAFFIC).where(TRAFFIC.c.model == self._model))
        elif alias == PRODUCTION and version and self.standing(CANDIDATE) == version:
            self.unset(CANDIDATE)
        raise_revision(self._connection)

    def _last_change(self, alias: str) -> Change | None:
        table = ALIAS_CHANGES
        query = (
            select(table.c.id, table.c.version, table.c.before)
            .where(table.c.model == self._model, table.c.alias == alias)
            .order_by(table.c.id.desc())
            .limit(1)
        )
        row = self._connection.execute(query).first()
        return Change(*row) if row else None

    def _change(self, number: int | None) -> Change | None:
        table = ALIAS_CHANGES
        query = select(table.c.id, table.c.version, table.c.before).where(table.c.id == number)
        row = self._connection.execute(query).first()
        return Change(*row) if row else None

    def _key(self, alias: str) -> ColumnElement[bool]:
        return (ALIASES.c.model == self._model) & (ALIASES.c.alias == alias)


def raise_revision(connection: Connection) -> None:
    """Tell every worker that there is something to follow."""
    connection.execute(update(CATALOGUE).values(revision=CATALOGUE.c.revision + 1))
