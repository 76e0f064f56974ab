"""``portico models``: which versions there are and which answers, and files that execute code."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.main import settings_options
from gateway.cli.options import settings_from
from portico.serving.allowance import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cli.versions import Stores

NOT_TAKEN_OVER = 1
"""Exit code where a change was made, but not every worker has taken it over."""


@click.group(name="models", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show models and their versions, and say which version answers."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


def _store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that look into the version store of a state folder."""
    path = click.Path(path_type=Path, readable=False)
    for decorate in (
        click.option("--config", type=path, help="Settings file."),
        click.option("--state", type=path, help="State folder."),
    ):
        command = decorate(command)
    return command


def _wait_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--wait", type=click.FloatRange(min=0), default=10.0, show_default=True,
        help="Seconds to wait for the workers to take it over.",
    )(command)  # fmt: skip


def _stores(config: Path | None, state: Path | None) -> Stores:
    from gateway.cli.versions import open_stores

    return open_stores(settings_from((), config, state=state))


@command.command(name="list")
@settings_options
def list_models(paths: tuple[Path, ...], config: Path | None, state: Path | None) -> None:
    """List the versions of the catalogue, and what is at paths as a worker would load it."""
    from gateway.cli.versions import has_stores, open_stores

    settings = settings_from(paths, config, state=state)
    is_there = has_stores(settings)
    if is_there:
        from gateway.cli.version_tables import print_versions

        print_versions(open_stores(settings))
    if settings.models or not is_there:
        from gateway.cli.catalogue import load_catalogue, print_models

        if is_there:
            click.echo("\nAt paths:")
        print_models(load_catalogue(settings))


@command.command()
@_store_options
@click.argument("name")
@click.argument("version", default="")
def show(name: str, version: str, config: Path | None, state: Path | None) -> None:
    """Show what is known about a VERSION of the model NAME; by default the one in production."""
    from gateway.cli.version_tables import print_version

    stores = _stores(config, state)
    print_version(stores, stores.find(name, version))


@command.command()
@_store_options
@_wait_option
@click.argument("name")
@click.argument("version")
def promote(name: str, version: str, wait: float, config: Path | None, state: Path | None) -> None:
    """Put a VERSION of the model NAME into production: it answers from now on."""
    from portico.serving.versions import PRODUCTION

    stores = _stores(config, state)
    number = stores.find(name, version).version
    before = stores.versions.set_alias(name, PRODUCTION, number, getpass.getuser())
    if before == number:
        click.echo(f"{name}: version {number} was in production already")
    else:
        was = f", version {before} was before" if before else ""
        click.echo(f"{name}: version {number} is in production now{was}")
    _tell_takeover(stores, name, number, wait)


@command.command()
@_store_options
@_wait_option
@click.argument("name")
def rollback(name: str, wait: float, config: Path | None, state: Path | None) -> None:
    """Put the version back into production that was there before the present one."""
    stores = _stores(config, state)
    number = stores.versions.rollback(name, getpass.getuser())
    click.echo(f"{name}: version {number} is back in production")
    _tell_takeover(stores, name, number, wait)


@command.command()
@_store_options
@click.argument("name")
@click.argument("version")
def retire(name: str, version: str, config: Path | None, state: Path | None) -> None:
    """Take a VERSION of the model NAME out of service for good; its files stay."""
    stores = _stores(config, state)
    number = stores.find(name, version).version
    stores.versions.retire(name, number, getpass.getuser())
    click.echo(f"{name}: version {number} is retired")


@command.command()
@_store_options
@click.argument("name")
@click.argument("one")
@click.argument("other")
def diff(name: str, one: str, other: str, config: Path | None, state: Path | None) -> None:
    """Show in what two versions of the model NAME differ."""
    from gateway.cli.version_tables import print_difference

    stores = _stores(config, state)
    print_difference(stores, stores.find(name, one), stores.find(name, other))


def _tell_takeover(stores: Stores, name: str, version: int, wait: float) -> None:
    from gateway.cli.versions import takeover_in_words
    from portico.serving.workers import await_takeover

    takeover = await_takeover(stores.versions, wait)
    for line in takeover_in_words(takeover, name, version):
        click.echo(line)
    if takeover.waiting or takeover.refusals(name, version):
        sys.exit(NOT_TAKEN_OVER)


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
