"""Tables about the versions of the catalogue, for a terminal."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from gateway.cli.terminal import terminal
from portico.serving.errors import ArtefactError
from portico.serving.signature_json import signature_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from gateway.cli.versions import Stores
    from portico.serving.manifest import Manifest, ParityReport
    from portico.serving.tensors import TensorSpec
    from portico.serving.versions import VersionRecord


def print_versions(stores: Stores) -> None:
    """Print a table of every version in the catalogue."""
    table = _table("model", "version", "alias", "state", "runtime", "parity", "workers")
    for record in stores.state.versions:
        try:
            manifest = stores.manifest(record)
            runtime, parity = manifest.platform, parity_word(manifest)
        except ArtefactError as error:
            runtime, parity = "", error.message
        table.add_row(
            *map(
                escape,
                (
                    record.model,
                    str(record.version),
                    ", ".join(stores.aliases_of(record)),
                    str(record.state),
                    runtime,
                    parity,
                    stores.served_by(record),
                ),
            )
        )
    terminal().print(table)


def parity_word(manifest: Manifest) -> str:
    """Say whether the served model was proven to answer as the one that was imported."""
    if manifest.parity is None:
        return "the file itself"
    return "proven equal" if manifest.parity.compiled else "kept as it was"


def print_version(stores: Stores, record: VersionRecord) -> None:
    """Print all that is known about one version, and how the model's aliases were moved."""
    console = terminal(soft_wrap=True)
    manifest = stores.manifest(record)
    facts = Table.grid(padding=(0, 2))
    for name, value in {**_standing(stores, record), **facts_of(manifest)}.items():
        facts.add_row(name, escape(value))
    console.print(f"[bold]{escape(record.model)} version {record.version}[/]")
    console.print(facts)
    if manifest.parity:
        _print_parity(console, manifest.parity)
    history = _table("when", "alias", "moved to", "by")
    for change in stores.versions.history(record.model):
        to = "nothing" if change.version is None else f"version {change.version}"
        history.add_row(_time(change.at), change.alias, to, escape(change.by))
    console.print("\nAliases of the model, the latest move first")
    console.print(history)


def _standing(stores: Stores, record: VersionRecord) -> dict[str, str]:
    return {
        "state": str(record.state),
        "alias": ", ".join(stores.aliases_of(record)) or "none",
        "workers": stores.served_by(record) or "none",
        "imported": f"{_time(record.created)} by {record.by}",
        "digest": record.digest,
    }


def facts_of(manifest: Manifest) -> dict[str, str]:
    """Return what can differ between two versions, in words, by name."""
    signature = signature_from_json(manifest.signature)
    source = manifest.source
    return {
        "runtime": manifest.platform,
        "source": f"{source.file} ({source.kind})",
        "source sha256": source.sha256,
        "libraries": ", ".join(f"{name} {v}" for name, v in sorted(source.libraries.items())),
        "inputs": ", ".join(map(_tensor, signature.inputs)),
        "outputs": ", ".join(map(_tensor, signature.outputs)),
        "features": ", ".join(f"{f.name} ({f.kind})" for f in signature.features),
        "classes": ", ".join(map(str, signature.answer.classes)),
        "parity": parity_word(manifest),
        **{f"sha256 of {name}": digest for name, digest in sorted(manifest.files.items())},
    }


def _tensor(spec: TensorSpec) -> str:
    sizes = ", ".join("any" if size < 0 else str(size) for size in spec.shape)
    return f"{spec.name} {spec.datatype} [{sizes}]"


def _print_parity(console: Console, parity: ParityReport) -> None:
    if parity.reason:
        console.print(f"\nNot compiled: {escape(parity.reason)}")
    if not parity.checks:
        return
    checks = _table("rows", "compared", "that differ", "largest difference")
    for check in parity.checks:
        checks.add_row(
            escape(check.rows_from), f"{check.rows:,}", f"{check.rows_differ:,}",
            f"{check.largest:.2g}",
        )  # fmt: skip
    console.print("\nDoes the compiled model answer as the original?")
    console.print(checks)
    for speed in parity.speeds:
        console.print(
            f"{speed.rows} rows in one run: {speed.native * 1e3:.3g} ms before, "
            f"{speed.compiled * 1e3:.3g} ms compiled"
        )


def print_difference(stores: Stores, one: VersionRecord, other: VersionRecord) -> None:
    """Print in what two versions of a model differ."""
    table = _table("", f"version {one.version}", f"version {other.version}")
    for name, left, right in _differences(_all_facts(stores, one), _all_facts(stores, other)):
        table.add_row(name, escape(left) or "none", escape(right) or "none")
    console = terminal()
    if table.row_count:
        console.print(table)
    else:
        console.print(f"versions {one.version} and {other.version} are the same")


def _all_facts(stores: Stores, record: VersionRecord) -> dict[str, str]:
    manifest = stores.manifest(record)
    folder = stores.artefacts.fetch(record.digest)
    sizes = {n: (folder / n).stat().st_size for n in manifest.files if (folder / n).is_file()}
    facts = facts_of(manifest)
    facts["size"] = f"{sum(sizes.values()):,} bytes"
    if manifest.parity and manifest.parity.reason:
        facts["parity"] += f": {manifest.parity.reason}"
    return facts


def _differences(one: dict[str, str], other: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in {**one, **other}:
        left, right = one.get(name, ""), other.get(name, "")
        if left != right:
            yield name, *_shortened(name, left, right)


def _shortened(name: str, left: str, right: str) -> tuple[str, str]:
    """Shorten hashes, and leave out of lists what both have."""
    if "sha256" in name:
        return left[:12], right[:12]
    if ", " not in left + right or name in ("inputs", "outputs"):
        return left, right
    ours, theirs = left.split(", "), right.split(", ")
    only = [word for word in ours if word not in theirs], [w for w in theirs if w not in ours]
    if not any(only):
        return "the same", "in another order"
    return ", ".join(only[0]), ", ".join(only[1])


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
