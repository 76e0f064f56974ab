"""Opens versions: those at paths as they are, those of the store with every file checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from portico.serving.artefacts import Artefact, sha256_of
from portico.serving.batch_safety import why_not_together
from portico.serving.card import describe, read_card
from portico.serving.codecs.image_fit import with_image
from portico.serving.drift import Reference
from portico.serving.errors import ArtefactError, InvalidInput, ServingError
from portico.serving.golden import Golden, trial_row
from portico.serving.manifest import GOLDEN, REFERENCE, Manifest, read_manifest
from portico.serving.runtimes.registry import open_runtime
from portico.serving.service import ServedModel
from portico.serving.signature_json import signature_from_json

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.allowance import Allowance
    from portico.serving.metrics import PredictionMetrics
    from portico.serving.ports import Runtime
    from portico.serving.predictions import RecorderOf
    from portico.serving.signature import Signature
    from portico.serving.versions import ArtefactStore, VersionRecord

Source: TypeAlias = "Artefact | VersionRecord"
"""Where a version comes from: a path, or the version store."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that was opened and has answered.

    Attributes:
        served: to be asked.
        golden: rows that it must go on to answer; None where none are known that it does.
        size: of its files in bytes.
        manifest: what import wrote about it; None for a version at a path.
    """

    served: ServedModel
    golden: Golden | None
    size: int
    manifest: Manifest | None = None


class Loader:
    """Opens versions for one worker.

    Args:
        allowance: which files may execute code.
        metrics: where predictions are counted.
        threads: threads that one run may use.
        concurrency: threads that answer requests in this process.
        recorder_of: gives what each version hands its predictions to.
        artefacts: has the folders of the version store; None where there is none.
    """

    def __init__(
        self,
        allowance: Allowance,
        metrics: PredictionMetrics,
        *,
        threads: int = 1,
        concurrency: int = 8,
        recorder_of: RecorderOf | None = None,
        artefacts: ArtefactStore | None = None,
    ) -> None:
        self._allowance = allowance
        self._metrics = metrics
        self._threads = threads
        self._concurrency = concurrency
        self._recorder_of = recorder_of
        self._artefacts = artefacts

    def open(self, source: Source) -> Loaded:
        """Open a version, and warm it up where rows with known answers are at hand.

        Raises:
            ArtefactError: a file is missing, changed or of no use, or an answer is not as at
                import; the message says which.
            ServingError: the model refused or failed on its own golden rows.
        """
        if isinstance(source, Artefact):
            return self._open_path(source)
        return self._open_record(source)

    def _open_path(self, artefact: Artefact) -> Loaded:
        file = artefact.file()
        runtime = open_runtime(file, self._threads, self._allowance)
        sha = sha256_of(file)
        golden = trial_row(runtime.signature)
        served = self._served(artefact, artefact.folder, runtime, runtime.signature, golden, sha)
        return Loaded(served, _tried(golden, runtime), file.stat().st_size)

    def _open_record(self, record: VersionRecord) -> Loaded:
        if self._artefacts is None:
            raise ArtefactError("this server has no artefact store")
        folder = self._artefacts.fetch(record.digest)
        manifest = read_manifest(folder, record.digest)
        signature = signature_from_json(manifest.signature)
        entry = folder / manifest.entry
        runtime = open_runtime(entry, self._threads, self._allowance)
        golden = Golden.load(folder / GOLDEN) if GOLDEN in manifest.files else trial_row(signature)
        if golden.outputs:
            golden.check(runtime)
        sha = manifest.files[manifest.entry]
        served = self._served(record, folder, runtime, signature, golden, sha)
        size = sum((folder / name).stat().st_size for name in manifest.files)
        kept = golden if golden.outputs else _tried(golden, runtime)
        return Loaded(served, kept, size, manifest)

    def _served(
        self,
        source: Source,
        folder: Path,
        runtime: Runtime,
        signature: Signature,
        golden: Golden,
        sha256: str,
    ) -> ServedModel:
        card = read_card(folder)
        described = describe(with_image(signature, card), card)
        meter = self._metrics.meter(source.model, str(source.version))
        served = ServedModel(
            name=source.model,
            version=str(source.version),
            sha256=sha256,
            card=card,
            signature=described,
            runtime=runtime,
            meter=meter,
            batching=why_not_together(runtime, described, card, golden),
            threads=self._concurrency,
        )
        if not isinstance(source, Artefact) and (folder / REFERENCE).is_file():
            served.reference = Reference.from_json((folder / REFERENCE).read_bytes())
        if self._recorder_of is not None:
            served.recorder = self._recorder_of(served)
        return served


def _tried(trial: Golden, runtime: Runtime) -> Golden | None:
    """Return a trial row that the model was seen to take; None where it fails on it."""
    try:
        runtime.run(trial.inputs, None)
    except InvalidInput:
        pass  # A refusal is an answer; later as well.
    except ServingError:
        return None
    return trial
