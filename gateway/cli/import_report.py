"""What an import tells the person who gave the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table

from gateway.cli.terminal import terminal
from portico.serving.signature import AnswerKind
from portico.serving.signature_json import signature_from_json

if TYPE_CHECKING:
    from rich.console import Console

    from portico.serving.importing.order import Imported
    from portico.serving.manifest import Manifest, ParityCheck, ParityReport

_ROWS: Final = {
    "examples": "your examples",
    "ranges": "within the ranges of the training",
    "generated": "made up beyond them",
    "missing": "with missing values",
    "unknown": "with unknown values",
    "thresholds": "beside split thresholds",
}
_FRAMEWORKS: Final = {
    "sklearn": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "torch": "PyTorch",
    "python": "Python",
    "onnx": "ONNX Runtime",
}


def print_import(imported: Imported, alias: str, next_command: str, seconds: float) -> None:
    """Print the proof, what will be served and why, and what to do next.

    Args:
        imported: what was made.
        alias: that the version stands under now; empty for none.
        next_command: for the reader to give.
        seconds: that it took.
    """
    console = terminal(soft_wrap=True)
    manifest, name = imported.manifest, escape(f"{imported.model} version {imported.version}")
    source = escape(manifest.source.file)
    if imported.is_new:
        console.print(f"[bold]{name}[/] was made from {source} in {seconds:.1f} s.")
    else:
        console.print(
            f"[bold]{name}[/] was made from this very file and options before; "
            "nothing new was made."
        )
    if imported.is_new and manifest.parity and manifest.parity.checks:
        _print_parity(console, manifest, manifest.parity)
    console.print(f"\nServed  {escape(served_as(manifest))}")
    console.print(f"Alias   {alias or 'none'}")
    for note in imported.notes:
        console.print(f"Note    {escape(note)}")
    if not imported.was_alone:
        console.print(
            "Note    the system did not let the file be opened without a network, so it had one"
        )
    console.print(f"Next    [bold]{escape(next_command)}[/]")


def _print_parity(console: Console, manifest: Manifest, parity: ParityReport) -> None:
    is_regression = signature_from_json(manifest.signature).answer.kind is AnswerKind.REGRESSION
    table = Table(
        "rows", "compared", "that differ", "largest difference",
        title="\nDoes the compiled model answer as the original?", title_justify="left",
        title_style="", box=None, pad_edge=False,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for check in parity.checks:
        table.add_row(
            _ROWS.get(check.rows_from, escape(check.rows_from)),
            f"{check.rows:,}",
            f"{check.rows_differ:,}",
            _difference(check, is_regression=is_regression),
        )
    console.print(table)
    speeds = Table(
        "time of a run", "original", "compiled", "",
        title="", box=None, pad_edge=False,
    )  # fmt: skip
    for column in speeds.columns[1:3]:
        column.justify = "right"
    for speed in parity.speeds:
        speeds.add_row(
            "one row" if speed.rows == 1 else f"{speed.rows} rows",
            _time(speed.native),
            _time(speed.compiled),
            _times(speed.native / max(speed.compiled, 1e-9)),
        )
    console.print(speeds)


def _difference(check: ParityCheck, *, is_regression: bool) -> str:
    if is_regression:
        return f"{check.largest_relative:.0e} of the value" if check.largest_relative else "none"
    return f"{check.largest:.0e}" if check.largest else "none"


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _times(factor: float) -> str:
    if factor >= 1.05:
        return f"{factor:,.0f} times as fast" if factor >= 9.5 else f"{factor:.1f} times as fast"
    return "as fast" if factor > 0.95 else f"{1 / factor:.1f} times as slow"


def served_as(manifest: Manifest) -> str:
    """Say in which form a version is served, and why."""
    framework = _FRAMEWORKS.get(manifest.source.kind, manifest.source.kind)
    if manifest.parity is None:
        return f"as it is, by {framework}"
    if manifest.parity.compiled:
        return "compiled to ONNX, which answers as the original does"
    return f"as it is, by {framework}: {manifest.parity.reason}"
