"""``portico reset-password``: for the operator who can read the state folder but not log in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import settings_from
from gateway.settings import SettingsError
from portico.accounts.passwords import Passwords, generate_password
from portico.storage.opening import sqlite_file

if TYPE_CHECKING:
    from portico.accounts.ports import AccountStore


@click.command(name="reset-password")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--state", type=click.Path(path_type=Path), help="State folder.")
@click.argument("name", default="admin")
def command(name: str, config: Path | None, state: Path | None) -> None:
    """Give the user NAME (admin by default) a new password and print it."""
    settings = settings_from((), config, state=state)
    # SQLAlchemy takes longer to import than to find out that a setting is wrong.
    from portico.storage.accounts import DatabaseAccountStore
    from portico.storage.database import open_database

    nobody = SettingsError(
        f"state: '{settings.state}' holds no accounts; name the server's folder with --state"
    )
    file = sqlite_file(settings.database_url)
    if file and not file.exists():
        raise nobody
    with closing(open_database(settings.database_url)) as database:
        store = DatabaseAccountStore(database)
        if not store.has_users():
            raise nobody
        click.echo(f"password of {name}: {_renew(store, name)}")


def _renew(store: AccountStore, name: str) -> str:
    if store.find_user(name) is None:
        raise SettingsError(f"there is no user '{name}'")
    password = generate_password()
    store.set_password_hash(name, Passwords().hash(password))
    store.remove_sessions_of(name)
    return password
