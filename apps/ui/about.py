"""What is shown on a version's about tab beside its signature: proof, drift and traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico.serving.drift_report import FEWEST_ROWS, Level
from portico.serving.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apps.ui.page import Page
    from portico.serving.catalogue import Catalogue
    from portico.serving.drift_report import ColumnDrift, DriftReport
    from portico.serving.shadow import Shadowed

_SHOWN: Final = 50
"""Features that are shown with their drift, those that moved most first."""

LEVELS: Final = {
    Level.UNKNOWN: "too few rows",
    Level.NONE: "no drift",
    Level.MODERATE: "moderate",
    Level.LARGE: "large",
}

ROWS_FROM: Final = {
    "examples": "The examples",
    "generated": "Rows generated from their ranges",
    "missing": "Missing values",
    "unknown": "Unknown categories",
    "thresholds": "Rows beside split thresholds",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What goes on beside the requests, as far as pages show it.

    Attributes:
        drift: of a model and version; None where there is no reference yet.
        shadow: what was compared of a model's candidate in this worker; None without a shadow.
    """

    drift: Callable[[str, str], DriftReport | None]
    shadow: Callable[[str], Shadowed | None]


def about(page: Page, catalogue: Catalogue, evidence: Evidence | None) -> dict[str, Any]:
    """Return what the about tab needs beyond the page itself."""
    served = page.served
    model = catalogue.model(served.name)
    version = catalogue.version(served.name, served.version)
    return {
        "aliases": [alias for alias, number in model.aliases.items() if number == served.version],
        "candidate": model.aliases.get("candidate"),
        "traffic": model.traffic,
        "parity": version.manifest.parity if version.manifest else None,
        "rows_from": ROWS_FROM,
        "drift": _drift(served.name, served.version, evidence),
        "drifts": _worst_first,
        "levels": LEVELS,
        "fewest_rows": FEWEST_ROWS,
        "shadow": evidence.shadow(served.name) if evidence else None,
    }


def _drift(name: str, version: str, evidence: Evidence | None) -> DriftReport | None:
    try:
        return evidence.drift(name, version) if evidence else None
    except StorageUnavailable:
        return None


def _worst_first(report: DriftReport) -> Sequence[ColumnDrift]:
    """Return the prediction, and the features that moved most."""
    prediction = (report.prediction,) if report.prediction else ()
    return [*prediction, *sorted(report.columns, key=lambda drift: -drift.psi)[:_SHOWN]]
