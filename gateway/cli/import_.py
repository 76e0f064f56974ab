"""``portico import``: make a new version of a model from a file, compiled where that is proven."""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from gateway.cli.options import settings_from
from portico.serving.versions import PRODUCTION

_PATH = click.Path(path_type=Path, readable=False)


@click.command(name="import")
@click.option("--config", type=_PATH, help="Settings file.")
@click.option("--state", type=_PATH, help="State folder.")
@click.option("--name", default="", help="Name of the model; the file's by default.")
@click.option("--examples", type=_PATH, help="CSV table of example rows, with a header.")
@click.option("--labels", type=_PATH, help="Class labels: one a line, or JSON.")
@click.option("--title", default="", help="What people call the model.")
@click.option("--description", default="", help="A sentence about the model.")
@click.option("--promote", is_flag=True, help="Let the new version answer from now on.")
@click.argument("file", type=_PATH)
def command(  # noqa: PLR0913 one parameter an option
    *,
    file: Path,
    config: Path | None,
    state: Path | None,
    name: str,
    examples: Path | None,
    labels: Path | None,
    title: str,
    description: str,
    promote: bool,
) -> None:
    """Make a new version of a model from FILE: open it in a sandbox, compile it, and prove it."""
    settings = settings_from((), config, state=state)
    # Loaded by those who import, and by nobody who asks for help.
    from gateway.cli.import_report import print_import
    from gateway.cli.importing import importer_of, order_of

    order = order_of(file)
    order = dataclasses.replace(
        order,
        name=name,
        examples=examples,
        labels=labels,
        card=msgspec.structs.replace(
            order.card,
            title=title or order.card.title,
            description=description or order.card.description,
        ),
        promote=promote,
    )
    begun = time.perf_counter()
    with Console(stderr=True).status(f"importing {order.file.name}") as status:
        importer = importer_of(settings, lambda step: status.update(f"{step} {order.file.name}"))
        imported = importer.run(order)
    alias = importer.alias_of(imported)
    promotion = ["models", "promote", imported.model, str(imported.version)]
    following = ["serve"] if alias == PRODUCTION else promotion
    where = ["--state", str(state)] if state else []
    print_import(
        imported,
        alias,
        shlex.join(["portico", *following, *where]),
        time.perf_counter() - begun,
    )
