"""``portico demos``: train the demo models once, and allow those that are pickles."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import settings_from
from gateway.settings import SettingsError
from portico.demos import train
from portico.serving.allowance import Allowance
from portico.serving.artefacts import PICKLES


@click.command(name="demos")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.")
@click.option("--state", type=click.Path(path_type=Path), help="State folder.")
def command(config: Path | None, state: Path | None) -> None:
    """Train demo models into STATE/demos, where they are not there yet."""
    settings = settings_from((), config, state=state)
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        written = train(settings.state / "demos", click.echo)
    except ModuleNotFoundError as error:
        raise SettingsError(str(error)) from error
    # What this process has just written is what it knows to be harmless.
    for path in written:
        if path.suffix in PICKLES:
            Allowance.of(settings.state).allow(path)
