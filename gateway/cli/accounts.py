"""``portico reset-password``: for the operator who can read the state folder but not log in."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import settings_from
from gateway.settings import SettingsError
from portico.accounts.passwords import Passwords, generate_password
from portico.storage.opening import open_accounts, sqlite_file


@click.command(name="reset-password")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--state", type=click.Path(path_type=Path), help="State folder.")
@click.argument("name", default="admin")
def command(name: str, config: Path | None, state: Path | None) -> None:
    """Give the user NAME (admin by default) a new password and print it."""
    settings = settings_from((), config, state=state)
    url = settings.database_url
    file = sqlite_file(url)
    if (file and not file.exists()) or not (store := open_accounts(url)).has_users():
        raise SettingsError(
            f"state: '{settings.state}' holds no accounts; name the server's folder with --state"
        )
    if store.find_user(name) is None:
        raise SettingsError(f"there is no user '{name}'")
    password = generate_password()
    store.set_password_hash(name, Passwords().hash(password))
    store.remove_sessions_of(name)
    click.echo(f"password of {name}: {password}")
