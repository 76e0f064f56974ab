"""Makes a new version of a model from a file: copy, open in the sandbox, check, store, publish.

This process never opens the file and believes nothing that the sandbox tells beyond data. A kill
at any moment leaves the catalogue as it was; what lies about is cleaned at the next start.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from portico.serving.artefacts import PICKLES, check_name
from portico.serving.errors import ArtefactError, VersionExists
from portico.serving.importing import sandbox
from portico.serving.importing.exchange import (
    MODEL,
    OUT,
    OUTCOME,
    REQUEST,
    Outcome,
    Request,
    read_outcome,
    write,
)
from portico.serving.importing.folder import lay_out, plain
from portico.serving.importing.kinds import kind_of
from portico.serving.importing.order import Imported, Order
from portico.serving.importing.source import Sources
from portico.serving.importing.staging import Journal, clean, has_leftovers, staged
from portico.serving.manifest import Manifest, read_manifest
from portico.serving.versions import PRODUCTION, VersionState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.serving.allowance import Allowance
    from portico.serving.importing.confinement import Limits
    from portico.serving.importing.kinds import Kind
    from portico.serving.versions import ArtefactStore, VersionStore

_CHILD: Final = "portico.serving.importing.child"


class Importer:
    """Imports files into a catalogue.

    Args:
        state: the state folder; imports are prepared in ``staging`` there.
        versions: the catalogue.
        artefacts: where version folders are kept.
        allowance: the operator's list of files that may execute code.
        limits: what opening a file may use.
        threads: threads of the sandbox's numeric libraries.
        report: is told what is being done, a word or two each.
    """

    def __init__(
        self,
        state: Path,
        versions: VersionStore,
        artefacts: ArtefactStore,
        allowance: Allowance,
        limits: Limits,
        *,
        threads: int = 1,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._state = state
        self._versions = versions
        self._artefacts = artefacts
        self._allowance = allowance
        self._limits = limits
        self._threads = threads
        self._report = report

    def run(self, order: Order) -> Imported:
        """Import a file; an equal version that is there already is returned instead.

        A file that executes code and cannot be compiled is allowed to do so from then on: to
        order its import is the operator's word for that very content.

        Raises:
            ArtefactError: it cannot be imported; nothing is left behind.
            VersionExists: the number that was ordered was given to another file before.
        """
        check_name(order.model)
        kind = kind_of(order.file, self._limits.source)
        sources = Sources(order, kind, self._limits.source)
        self.clean()
        found = self._given(order, sources) if order.version else self._equal(order, sources)
        if found:
            return found
        try:
            with staged(self._state, self._versions, self._artefacts) as folder:
                return self._import(order, kind, sources, folder)
        except OSError as error:
            if error.errno not in sandbox.NO_SPACE:
                raise
            raise ArtefactError(
                f"no space left to import '{order.file.name}'; nothing was changed"
            ) from error

    def alias_of(self, imported: Imported) -> str:
        """Return the alias that stands on a version now; empty for none."""
        aliases = self._versions.state().aliases.get(imported.model, {})
        return next((a for a, number in aliases.items() if number == imported.version), "")

    def clean(self) -> None:
        """Undo what imports have left behind that died."""
        if has_leftovers(self._state):
            clean(self._state, self._versions, self._artefacts, self._limits.seconds)

    def _import(self, order: Order, kind: Kind, sources: Sources, folder: Path) -> Imported:
        self._report("copying")
        source = folder / "source"
        file, examples = sources.copy_to(source)
        request = Request(
            file=file,
            kind=kind,
            card=sources.card,
            labels_name=order.labels.name if order.labels else "",
            examples=examples,
            examples_name=order.examples.name if order.examples else "",
            threads=self._threads,
        )
        self._report("opening")
        outcome, was_alone = self._open(request, folder / "sandbox")
        self._report("writing")
        version = folder / "version"
        manifest, digest = lay_out(
            version, source, folder / "sandbox" / OUT, order, kind, sources, outcome
        )
        if manifest.entry != MODEL and file.suffix in PICKLES:
            self._allowance.allow(file)
        return Imported(
            model=order.model,
            version=self._publish(order, digest, version, folder),
            manifest=manifest,
            notes=tuple(map(plain, outcome.notes)),
            was_alone=was_alone,
        )

    def _given(self, order: Order, sources: Sources) -> Imported | None:
        """Find the version of the number that was ordered; it must be of the same file.

        How it was compiled does not matter: versions never change, whatever is installed now.
        """
        for record in self._versions.state().versions:
            if (record.model, record.version) != (order.model, order.version):
                continue
            manifest = self._manifest(record.digest)
            if manifest is None:
                raise ArtefactError(
                    f"version {record.version} of model '{order.model}' was imported before, and "
                    "the artefact store does not hold it as it was"
                )
            if manifest.source.sha256 != sources.sha256:
                raise VersionExists(
                    f"version {record.version} of model '{order.model}' was made from another "
                    f"file than the present '{order.file.name}', and versions never change; give "
                    "this file the next number"
                )
            return Imported(
                model=order.model, version=record.version, manifest=manifest, is_new=False
            )
        return None

    def _equal(self, order: Order, sources: Sources) -> Imported | None:
        """Find the newest available version that was made of the same file in the same way."""
        state = self._versions.state()
        for record in reversed(state.versions):
            if record.model != order.model or record.state is not VersionState.AVAILABLE:
                continue
            manifest = self._manifest(record.digest)
            made_of = manifest and (manifest.source.sha256, manifest.source.options)
            if manifest is None or made_of != (sources.sha256, sources.options):
                continue
            production = state.aliases.get(order.model, {}).get(PRODUCTION)
            if order.promote and production != record.version:
                self._versions.set_alias(order.model, PRODUCTION, record.version, order.by)
            return Imported(
                model=order.model, version=record.version, manifest=manifest, is_new=False
            )
        return None

    def _manifest(self, digest: str) -> Manifest | None:
        """Return a stored version's manifest, if the store holds the version as it was."""
        with suppress(ArtefactError):
            return read_manifest(self._artefacts.fetch(digest), digest)
        return None

    def _open(self, request: Request, folder: Path) -> tuple[Outcome, bool]:
        """Open the source in the sandbox, and return what it tells and whether it was alone."""
        (folder / OUT).mkdir(parents=True)
        write(folder / REQUEST, request)
        was_alone = sandbox.run(_CHILD, folder, self._limits, self._threads)
        outcome = read_outcome(folder / OUTCOME)
        if outcome.problem:
            raise ArtefactError(plain(outcome.problem))
        return outcome, was_alone

    def _publish(self, order: Order, digest: str, version: Path, folder: Path) -> int:
        """Reserve a number, store the folder, and only then let anybody see it."""
        journal = Journal(model=order.model, digest=digest)
        journal.write(folder)
        self._report("reserving")
        number = self._versions.reserve(order.model, order.version, order.by).version
        msgspec.structs.replace(journal, version=number).write(folder)
        self._report("storing")
        self._artefacts.put(digest, version)
        self._report("publishing")
        self._versions.publish(order.model, number, digest, promote=order.promote)
        self._report("published")
        return number
