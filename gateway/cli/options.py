"""From options to settings: an option is the setting's environment variable, given here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.settings import CONFIG_VARIABLE, PREFIX, SettingsError, load_settings
from portico.serving.allowance import Allowance
from portico.serving.artefacts import PICKLES, find_artefacts, refuse_repeats
from portico.storage.opening import has_versions

if TYPE_CHECKING:
    from gateway.settings import Settings
    from portico.serving.artefacts import Artefact

NO_MODELS = "no models: name a model file or a folder of models, such as portico serve model.onnx"

DEFAULT_MODELS = Path("models")
"""Served where neither command nor settings name a path and this folder is there."""


def settings_from(paths: tuple[Path, ...], config: Path | None, **options: Any) -> Settings:
    """Put the options into the environment, for this process and its workers, and read it all.

    Raises:
        SettingsError: as :func:`load_settings`.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    if paths:
        options["models"] = json.dumps([str(path.resolve()) for path in paths])
    for name, value in options.items():
        if value is not None:
            os.environ[f"{PREFIX}{name}".upper()] = str(value)
    settings = load_settings()
    if not settings.models and DEFAULT_MODELS.is_dir():
        os.environ[f"{PREFIX}MODELS"] = json.dumps([str(DEFAULT_MODELS.resolve())])
        settings = load_settings()
    return settings


def share_of(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> float | None:
    """Read a share such as ``10%`` or ``0.1`` as a number from 0 to 1.

    Raises:
        BadParameter: it is none.
    """
    if text is None:
        return None
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise click.BadParameter(f"'{text}' is no share; write 10% or 0.1")
    return share


def artefacts_of(settings: Settings) -> list[Artefact]:
    """Find the artefacts of all models.

    Raises:
        SettingsError: no path was given, and the state folder has no version of any model.
        ArtefactError: a path holds no models.
    """
    if not settings.models and not has_versions(settings.database_url):
        raise SettingsError(NO_MODELS)
    found = [artefact for path in settings.models for artefact in find_artefacts(path)]
    refuse_repeats(found)
    return found


def allow_named_files(paths: tuple[Path, ...], settings: Settings) -> None:
    """Naming a pickle on the command line is the operator's word for that very content."""
    for path in paths:
        if path.is_file() and path.suffix in PICKLES:
            digest = Allowance.of(settings.state).allow(path)
            click.echo(f"portico: {path.name} (sha256 {digest[:12]}) may execute code when opened")
