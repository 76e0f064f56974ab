"""Replaying logged requests from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from rich.markup import escape
from rich.table import Table

from gateway.cli.terminal import terminal
from gateway.settings import SettingsError
from portico.serving.allowance import Allowance
from portico.serving.loader import Loader
from portico.serving.metrics import PredictionMetrics
from portico.serving.replay import replay
from portico.serving.versions import PRODUCTION
from portico.storage.opening import open_predictions

if TYPE_CHECKING:
    from gateway.cli.versions import Stores
    from gateway.settings import Settings
    from portico.serving.replay import Latency, ReplayReport


def run_replay(
    settings: Settings, stores: Stores, name: str, version: str, count: int, tolerance: float
) -> ReplayReport:
    """Run logged requests through a version and the one in production, in this process.

    Args:
        settings: name the prediction log.
        stores: the catalogue.
        name: of the model.
        version: number or alias of the candidate.
        count: so many of the latest requests.
        tolerance: relative difference of values that is no change.

    Raises:
        SettingsError: nothing is in production to compare with.
        ServingError: a version cannot be opened.
    """
    record = stores.find(name, version)
    if PRODUCTION not in stores.state.aliases.get(name, {}):
        raise SettingsError(f"model '{name}' has no version in production to compare with")
    loader = Loader(
        Allowance.of(settings.state),
        PredictionMetrics(CollectorRegistry()),
        artefacts=stores.artefacts,
    )
    present = loader.open(stores.find(name)).served
    candidate = loader.open(record).served
    logged = list(open_predictions(settings.database_url).last(name, None, count))
    return replay(logged, present, candidate, tolerance)


def print_replay(report: ReplayReport, name: str, version: str) -> None:
    """Print what changed, the worst rows side by side, and how long both versions took."""
    console = terminal()
    if not report.requests:
        console.print(f"{name}: the log holds no request with inputs that production answers")
        return
    console.print(
        f"{name} version {version}: {report.requests:,} requests replayed, {report.rows:,} rows, "
        f"{report.changed:,} changed ({report.share:.2%})"
    )
    if report.failed:
        console.print(f"  {report.failed:,} requests failed, such as: {escape(report.problem)}")
    if report.skipped:
        console.print(f"  {report.skipped:,} requests left out: production refuses them by now")
    times = Table("", "median", "99 of 100", box=None, pad_edge=False)
    times.add_row("production", *_milliseconds(report.present))
    times.add_row(f"version {version}", *_milliseconds(report.candidate))
    console.print(times)
    if report.worst:
        table = Table("prediction", "inputs", "production", f"version {version}", box=None)
        for change in report.worst:
            texts = (change.prediction, change.inputs, change.before, change.after)
            table.add_row(*map(escape, texts))
        console.print(table)


def _milliseconds(latency: Latency) -> tuple[str, str]:
    return f"{latency.p50 * 1e3:.3f} ms", f"{latency.p99 * 1e3:.3f} ms"
