"""What ``portico serve`` imports before it serves: named files, and allowed files in folders.

ONNX files are served as they lie. A start that has only those, and nothing to clean, loads no
database library here.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli.options import NO_MODELS
from gateway.process import in_child
from gateway.settings import PREFIX, SettingsError
from portico.serving.allowance import Allowance
from portico.serving.artefacts import PICKLES, find_artefacts, refuse_repeats
from portico.serving.errors import ArtefactError
from portico.serving.importing.kinds import KINDS, Kind
from portico.serving.importing.staging import has_leftovers
from portico.storage.opening import has_versions

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.settings import Settings
    from portico.serving.artefacts import Artefact
    from portico.serving.importing.importer import Importer
    from portico.serving.importing.order import Imported


class Plan(NamedTuple):
    """What a start is to import, and what it serves as it lies.

    Attributes:
        files: each becomes the version that its model answers with.
        artefacts: files in models folders, which keep their numbers.
        rest: paths that stay.
    """

    files: list[Path]
    artefacts: list[Artefact]
    rest: list[Path]


def plan_of(settings: Settings, named: tuple[Path, ...]) -> Plan:
    """Find what is to be imported.

    Args:
        settings: name the paths.
        named: on the command line, which is the operator's word for the files among them.

    Raises:
        SettingsError: no path was given, and the catalogue holds no version.
        ArtefactError: a path holds no models, or two give the same version.
    """
    if not settings.models and not has_versions(settings.database_url):
        raise SettingsError(NO_MODELS)
    allowance = Allowance.of(settings.state)
    vouched = {path.resolve() for path in named}
    files = [
        path
        for path in settings.models
        if path.is_file()
        and _is_importable(path)
        and (path.resolve() in vouched or _may_be_opened(path, allowance))
    ]
    rest = [path for path in settings.models if path not in files]
    found = [artefact for path in rest for artefact in find_artefacts(path)]
    refuse_repeats(found)
    artefacts = [artefact for artefact in found if _is_wanted(artefact, allowance)]
    return Plan(files, sorted(artefacts, key=lambda a: (a.model, int(a.version))), rest)


def import_planned(plan: Plan, settings: Settings) -> None:
    """Import in a child, and name to the workers the paths that stay.

    Raises:
        SettingsError: a file cannot be imported, or there is nothing to serve.
    """
    if plan.files or plan.artefacts or has_leftovers(settings.state):
        in_child(lambda: _import(plan, settings))
    if not plan.rest and not has_versions(settings.database_url):
        raise SettingsError(NO_MODELS)
    os.environ[f"{PREFIX}MODELS"] = json.dumps([str(path.resolve()) for path in plan.rest])


def _import(plan: Plan, settings: Settings) -> None:
    from gateway.cli.importing import importer_of, order_of

    importer = importer_of(settings)
    importer.clean()
    for file in plan.files:
        click.echo(f"portico: importing {file.name} ...")
        _tell(importer.run(replace(order_of(file), promote=True)))
    for artefact in plan.artefacts:
        _import_artefact(importer, artefact)


def _import_artefact(importer: Importer, artefact: Artefact) -> None:
    """Import a file of a models folder; one that cannot be is served as it lies."""
    from gateway.cli.importing import order_of
    from portico.serving.card import read_card

    order = order_of(artefact.file())
    order = replace(
        order,
        name=artefact.model,
        version=int(artefact.version),
        card=read_card(artefact.folder),
        promote=True,
    )
    try:
        imported = importer.run(order)
    except ArtefactError as error:
        which = f"{artefact.model} version {artefact.version}"
        click.echo(f"portico: {which} was not imported: {error}")
        return
    if imported.is_new:
        _tell(imported)


def _tell(imported: Imported) -> None:
    from gateway.cli.import_report import served_as

    which = f"{imported.model} version {imported.version}"
    when = "was imported" if imported.is_new else "was imported before"
    click.echo(f"portico: {which} {when}, and is served {served_as(imported.manifest)}")


def _is_importable(path: Path) -> bool:
    return KINDS.get(path.suffix, Kind.ONNX) is not Kind.ONNX


def _is_wanted(artefact: Artefact, allowance: Allowance) -> bool:
    try:
        file = artefact.file()
    except ArtefactError:
        return False  # Its worker says why.
    return _is_importable(file) and _may_be_opened(file, allowance)


def _may_be_opened(file: Path, allowance: Allowance) -> bool:
    return file.suffix not in PICKLES or allowance.has(file)
