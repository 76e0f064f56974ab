"""Taking models out of service and bringing them back by command, whatever server runs."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from portico.serving.artefacts import find_artefacts
from portico.serving.workers import await_takeover, short_name
from portico.storage.opening import has_catalogue, open_versions

if TYPE_CHECKING:
    from gateway.settings import Settings
    from portico.serving.versions import VersionStore


def unload_model(settings: Settings, name: str, wait: float) -> bool:
    """Take a model out of service, and say what came of it; tell whether all workers followed."""
    versions, first = _open(settings, name)
    versions.unload(name, getpass.getuser())
    click.echo(f"{name}: out of service until it is loaded")
    return _tell(versions, name, wait, first)


def load_model(settings: Settings, name: str, wait: float) -> bool:
    """Bring a model back, and say what came of it; tell whether all workers serve it."""
    versions, first = _open(settings, name)
    versions.load(name, getpass.getuser())
    click.echo(f"{name}: in service")
    return _tell(versions, name, wait, first)


def print_unloaded(settings: Settings) -> None:
    """Name the models that are out of service, wherever their versions are."""
    if not has_catalogue(settings.database_url):
        return
    state = open_versions(settings.database_url).state()
    for name in sorted(filter(state.is_unloaded, state.service)):
        click.echo(f"{name}: out of service, unloaded by {state.service[name].by}")


def _open(settings: Settings, name: str) -> tuple[VersionStore, bool]:
    """Open the store, and tell whether workers have had nothing to follow so far."""
    is_first = not has_catalogue(settings.database_url)
    versions = open_versions(settings.database_url)
    state = versions.state()
    known = {record.model for record in state.versions} | set(state.service)
    known.update(a.model for path in settings.models for a in find_artefacts(path))
    if name not in known:
        told = ", ".join(sorted(known)) or "no model"
        note = (
            f"note: the catalogue and the paths of the settings have: {told}; "
            f"this counts for a '{name}' that a server was given on its command line"
        )
        click.echo(note, err=True)
    return versions, is_first


def _tell(versions: VersionStore, name: str, wait: float, is_first: bool) -> bool:
    takeover = await_takeover(versions, wait, expected=1 if is_first else 0)
    total = len(takeover.done) + len(takeover.waiting)
    if not total:
        click.echo("no server runs now; the next one follows from its start")
        return True
    workers = "worker" if total == 1 else "workers"
    done = f"{len(takeover.done)} of {total} {workers}"
    click.echo(f"taken over by {done} in {takeover.seconds:.1f} s")
    problems = [
        f"{short_name(report.worker)} cannot serve {key}: {problem}"
        for report in takeover.done
        for key, problem in report.problems.items()
        if key.rpartition("/")[0] == name
    ]
    late = [f"{short_name(report.worker)} is not there yet" for report in takeover.waiting]
    for line in problems + late:
        click.echo(line)
    return not problems and not late
