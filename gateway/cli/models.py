"""``portico models``: which versions there are and which answers, and files that execute code."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.main import settings_options
from gateway.cli.options import settings_from, share_of
from portico.serving.allowance import Allowance
from portico.serving.versions import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.cli.versions import Stores
    from gateway.settings import Settings

NOT_TAKEN_OVER = 1
"""Exit code where a change was made, but not every worker has taken it over."""


REFUSED = 1
"""Exit code where a replay changed more than it may; nothing was promoted."""


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


def _tolerance_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--tolerance", type=click.FloatRange(min=0), default=1e-4, show_default=True,
        help="Relative difference of predicted values that is no change.",
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
    from gateway.cli.service import print_unloaded

    print_unloaded(settings)


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
@click.option(
    "--replay",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run the last N logged requests through it first, and show what changes.",
)
@click.option(
    "--max-changed",
    callback=share_of,
    metavar="SHARE",
    help="Promote only if the replay changes no larger share of rows, such as 1%.",
)
@_tolerance_option
@click.option(
    "--share",
    callback=share_of,
    metavar="SHARE",
    help="Make it the candidate that answers this share of callers, such as 10%.",
)
@click.argument("name")
@click.argument("version")
def promote(  # noqa: PLR0913 what was asked for
    name: str,
    version: str,
    *,
    wait: float,
    replay: int | None,
    max_changed: float | None,
    tolerance: float,
    share: float | None,
    config: Path | None,
    state: Path | None,
) -> None:
    """Put a VERSION of the model NAME into production: it answers from now on."""
    from portico.serving.versions import CANDIDATE, PRODUCTION

    settings = settings_from((), config, state=state)
    stores = _stores(config, state)
    number = stores.find(name, version).version
    if replay:
        _replay(settings, stores, name, str(number), replay, tolerance, max_changed)
    elif max_changed is not None:
        raise click.UsageError("--max-changed needs --replay")
    if share is not None:
        stores.versions.set_alias(name, CANDIDATE, number, getpass.getuser())
        _set_traffic(stores, name, canary=share)
    else:
        before = stores.versions.set_alias(name, PRODUCTION, number, getpass.getuser())
        if before == number:
            click.echo(f"{name}: version {number} was in production already")
        else:
            was = f", version {before} was before" if before else ""
            click.echo(f"{name}: version {number} is in production now{was}")
    _tell_takeover(stores, name, number, wait)


@command.command(name="replay")
@_store_options
@_tolerance_option
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Requests to replay, the latest ones.",
)
@click.argument("name")
@click.argument("version")
def replay_command(
    name: str, version: str, count: int, tolerance: float, config: Path | None, state: Path | None
) -> None:
    """Run logged requests through a VERSION of the model NAME and the one in production."""
    settings = settings_from((), config, state=state)
    _replay(settings, _stores(config, state), name, version, count, tolerance, None)


@command.command()
@_store_options
@_wait_option
@click.option(
    "--canary",
    callback=share_of,
    metavar="SHARE",
    help="Share of callers that the candidate answers, such as 10%.",
)
@click.option(
    "--shadow",
    callback=share_of,
    metavar="SHARE",
    help="Share of requests that the candidate runs aside, to be compared.",
)
@click.argument("name")
def traffic(
    name: str,
    wait: float,
    canary: float | None,
    shadow: float | None,
    config: Path | None,
    state: Path | None,
) -> None:
    """Show or set which share of the requests of the model NAME meets its candidate."""
    stores = _stores(config, state)
    stores.find(name)
    if canary is None and shadow is None:
        _tell_traffic(name, stores.state.traffic.get(name, Traffic()))
        return
    _set_traffic(stores, name, canary, shadow)
    _tell_takeover(stores, name, stores.find(name).version, wait)


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
@_wait_option
@click.argument("name")
def unload(name: str, wait: float, config: Path | None, state: Path | None) -> None:
    """Take the model NAME out of service on all workers, until it is loaded again."""
    from gateway.cli.service import unload_model

    if not unload_model(settings_from((), config, state=state), name, wait):
        sys.exit(NOT_TAKEN_OVER)


@command.command()
@_store_options
@_wait_option
@click.argument("name")
def load(name: str, wait: float, config: Path | None, state: Path | None) -> None:
    """Bring the model NAME back into service; what failed to load of it is tried again."""
    from gateway.cli.service import load_model

    if not load_model(settings_from((), config, state=state), name, wait):
        sys.exit(NOT_TAKEN_OVER)


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


def _set_traffic(
    stores: Stores, name: str, canary: float | None = None, shadow: float | None = None
) -> None:
    """Set the shares that are given, and leave the other as it was."""
    now = stores.versions.state().traffic.get(name, Traffic())
    wanted = Traffic(
        canary=now.canary if canary is None else canary,
        shadow=now.shadow if shadow is None else shadow,
    )
    stores.versions.set_traffic(name, wanted, getpass.getuser())
    _tell_traffic(name, wanted)


def _tell_traffic(name: str, shares: Traffic) -> None:
    click.echo(f"{name}: the candidate answers {shares.canary:.2%} of all callers")
    click.echo(f"{name}: the candidate runs {shares.shadow:.2%} of all requests aside")


def _replay(
    settings: Settings,
    stores: Stores,
    name: str,
    version: str,
    count: int,
    tolerance: float,
    max_changed: float | None,
) -> None:
    """Replay and print; end with code 1 where more has changed than may."""
    from gateway.cli.replay import print_replay, run_replay

    report = run_replay(settings, stores, name, version, count, tolerance)
    print_replay(report, name, version)
    if max_changed is not None and report.share > max_changed:
        click.echo(f"{name}: more than {max_changed:.2%} of the rows changed; nothing was promoted")
        sys.exit(REFUSED)
    if max_changed is not None and not report.requests:
        click.echo(f"{name}: without a request to replay there is no proof; nothing was promoted")
        sys.exit(REFUSED)


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
