"""Lays out the folder of a new version from the source and from what the sandbox made.

Only files that are expected are taken from the sandbox, and of the manifest all that can be found
out here is.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Final

from portico.serving.artefacts import CARD_NAME, sha256_of
from portico.serving.card import describe
from portico.serving.codecs.image_fit import with_image
from portico.serving.errors import ArtefactError
from portico.serving.importing.cards import card_as_toml
from portico.serving.importing.exchange import MODEL
from portico.serving.importing.libraries import installed
from portico.serving.importing.onnx_files import external_files
from portico.serving.manifest import GOLDEN, REFERENCE, Manifest, Source, write_manifest
from portico.serving.signature_json import signature_from_json

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.importing.exchange import Outcome
    from portico.serving.importing.kinds import Kind
    from portico.serving.importing.order import Order
    from portico.serving.importing.source import Sources

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_LONGEST: Final = 500
_ONNX_PLATFORM: Final = "onnx_onnxv1"


def lay_out(
    version: Path,
    source: Path,
    out: Path,
    order: Order,
    kind: Kind,
    sources: Sources,
    outcome: Outcome,
) -> tuple[Manifest, str]:
    """Fill the folder of a version, and return its manifest and digest.

    Args:
        version: the folder, to be made.
        source: has the copies of the sources.
        out: what the sandbox made.
        order: what was asked.
        kind: of the source.
        sources: what was hashed.
        outcome: what the sandbox told.

    Raises:
        ArtefactError: a file is missing or makes no sense.
    """
    version.mkdir()
    is_compiled = outcome.parity is not None and outcome.parity.compiled
    if is_compiled:
        entry = MODEL
        _take(out / MODEL, version)
        if external_files(version / MODEL):
            raise ArtefactError("the compiled model keeps weights in another file")
    else:
        entry = f"model{order.file.suffix}"
        shutil.copyfile(source / order.file.name, version / entry)
        for name in sources.beside:
            (version / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, version / name)
    for name in (GOLDEN, REFERENCE):
        if (out / name).exists():
            _take(out / name, version)
    signature = signature_from_json(outcome.signature)
    describe(with_image(signature, outcome.card), outcome.card)
    (version / CARD_NAME).write_text(card_as_toml(outcome.card), "utf-8")
    files = sorted(path for path in version.rglob("*") if path.is_file())
    manifest = Manifest(
        model=order.model,
        platform=_ONNX_PLATFORM if is_compiled else plain(outcome.platform),
        entry=entry,
        files={path.relative_to(version).as_posix(): sha256_of(path) for path in files},
        signature=outcome.signature,
        source=Source(
            kind=kind,
            file=order.file.name,
            sha256=sources.sha256,
            libraries=installed(kind),
            options=sources.options,
        ),
        parity=outcome.parity,
        created=time.time(),
    )
    return manifest, write_manifest(version, manifest)


def plain(text: str) -> str:
    """Return a text of the sandbox's so that it can be shown: one line without control codes."""
    return _CONTROLS.sub(" ", text)[:_LONGEST].strip()


def _take(made: Path, version: Path) -> None:
    """Copy a file out of the sandbox; a link or a pipe is none."""
    try:
        descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ArtefactError(f"the import left no '{made.name}' behind") from error
    with os.fdopen(descriptor, "rb") as reading, (version / made.name).open("xb") as writing:
        shutil.copyfileobj(reading, writing)
