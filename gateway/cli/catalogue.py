"""Loading models outside of any server, and showing what became of each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from rich.table import Table

from gateway.cli.options import artefacts_of
from gateway.cli.terminal import terminal
from portico.serving.allowance import Allowance
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from gateway.settings import Settings


def load_catalogue(settings: Settings) -> Catalogue:
    """Load all models as a worker would.

    Raises:
        SettingsError: no path was given.
        ArtefactError: a path holds no models.
    """
    # The table tells what failed and why; log lines beside it would say it twice.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    catalogue = Catalogue(
        artefacts_of(settings),
        Allowance.of(settings.state),
        PredictionMetrics(CollectorRegistry()),
    )
    catalogue.load()
    return catalogue


def print_models(catalogue: Catalogue) -> None:
    """Print a table of every version, its state, and what it takes or why it failed."""
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
    terminal().print(table)


def _shortened(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
