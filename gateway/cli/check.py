"""``portico check``: validate settings, mounts and models without serving."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from gateway.cli.catalogue import load_catalogue, print_models
from gateway.cli.main import settings_options
from gateway.cli.options import allow_named_files, settings_from
from gateway.mounts import import_app

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="check")
@settings_options
def command(paths: tuple[Path, ...], config: Path | None, state: Path | None) -> None:
    """Validate settings, mounts and models without serving; exit code 2 when something is wrong."""
    settings = settings_from(paths, config, state=state)
    click.echo("settings: fine")
    for mount in settings.mounts:
        import_app(mount.app)
        click.echo(f"mount {mount.prefix}: {mount.app} is fine")
    allow_named_files(paths, settings)
    catalogue = load_catalogue(settings)
    print_models(catalogue)
    if not catalogue.is_ready():
        sys.exit(2)
