"""``portico models``: list what would be served, and allow files that execute code."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.catalogue import load_catalogue, print_models
from gateway.cli.main import settings_options
from gateway.cli.options import settings_from
from portico.serving.allowance import Allowance


@click.group(name="models", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List models, and allow files that execute code when opened."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@command.command(name="list")
@settings_options
def list_models(paths: tuple[Path, ...], config: Path | None, state: Path | None) -> None:
    """Load the models as a worker would and show what became of each."""
    print_models(load_catalogue(settings_from(paths, config, state=state)))


@command.command()
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--state", type=click.Path(path_type=Path), help="State folder.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def allow(files: tuple[Path, ...], config: Path | None, state: Path | None) -> None:
    """Allow the present content of FILES, such as joblib files, to execute code when opened."""
    settings = settings_from((), config, state=state)
    for file in files:
        digest = Allowance.of(settings.state).allow(file)
        click.echo(f"allowed {file} (sha256 {digest})")
