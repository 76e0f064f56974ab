"""``portico models``: list what would be served, and allow files that execute code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from gateway.cli.main import settings_options
from gateway.cli.options import settings_from
from portico.serving.allowance import Allowance

if TYPE_CHECKING:
    from portico.serving.catalogue import Catalogue


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
    from gateway.cli.check import load_catalogue

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


def print_models(catalogue: Catalogue) -> None:
    """Print a table of every version, its state and the reason of a failure."""
    table = Table("model", "version", "state", "runtime", "takes", box=None, pad_edge=False)
    for model in catalogue.models():
        for version in model.versions:
            served = version.served
            takes = _shortened([f.name for f in served.signature.features]) if served else ""
            table.add_row(
                model.name,
                version.name,
                version.state.value,
                served.platform if served else "",
                takes or version.problem,
            )
    Console(soft_wrap=False).print(table)


def _shortened(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
