"""The models as the console lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.serving.models import Model, Version


class VersionRow(NamedTuple):
    """One version of a model; the current one is the one that answers."""

    model: str
    title: str
    version: str
    is_current: bool
    aliases: tuple[str, ...]
    state: str
    problem: str
    runtime: str
    size: int | None
    sha256: str


def version_rows(models: Iterable[Model]) -> list[VersionRow]:
    """Return every version, the newest of each model first."""
    return [_row(model, version) for model in models for version in model.versions]


def _row(model: Model, version: Version) -> VersionRow:
    served = version.served
    return VersionRow(
        model=model.name,
        title=model.title,
        version=version.name,
        is_current=served is not None and version is model.current,
        aliases=tuple(alias for alias, name in model.aliases.items() if name == version.name),
        state=str(version.state),
        problem=version.problem,
        runtime=served.platform if served else "",
        size=version.size,
        sha256=served.sha256 if served else "",
    )
