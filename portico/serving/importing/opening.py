"""What happens in the sandbox: open the file, read what it takes and gives, compile, and prove.

The file may run what its author wrote from the moment it is opened, so nothing that is left behind
here is believed; see :mod:`portico.serving.importing.importer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from portico.serving.allowance import Allowance
from portico.serving.artefacts import CARD_NAME, PICKLES
from portico.serving.card import describe
from portico.serving.codecs.image_fit import with_image
from portico.serving.drift import Reference
from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused, ServingError
from portico.serving.golden import ROWS, Golden
from portico.serving.importing.compiling import compile_native, plausible_rows, thresholds_of
from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.example_table import Examples, read_examples
from portico.serving.importing.exchange import (
    MODEL,
    OUT,
    OUTCOME,
    REQUEST,
    Outcome,
    Request,
    read_request,
    write,
)
from portico.serving.importing.kinds import Kind
from portico.serving.importing.parity import prove
from portico.serving.importing.rows import count_of, example, picked
from portico.serving.importing.sandbox import NO_SPACE
from portico.serving.manifest import GOLDEN, REFERENCE, ParityReport
from portico.serving.runtimes.registry import open_runtime
from portico.serving.signature_json import signature_to_json

if TYPE_CHECKING:
    from portico.serving.card import ModelCard
    from portico.serving.ports import Runtime
    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors


_NO_MEMORY: Final = (
    "opening the model needs more memory than the setting import_memory_bytes allows"
)
_NO_GOLDEN: Final = (
    "the model answered no row that could be made up, so nothing proves at its loading that it "
    "answers as it does now; give it --examples"
)


def open_request() -> None:
    """Do what the request in the working directory asks, and leave the outcome there."""
    try:
        outcome = _opened(read_request(Path(REQUEST)))
    except ServingError as error:
        outcome = Outcome(problem=error.message)
    except MemoryError:
        outcome = Outcome(problem=_NO_MEMORY)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        outcome = Outcome(problem=_sentence(error))
    except BaseException as error:  # A model may even call sys.exit.
        outcome = Outcome(problem=_sentence(error))
    write(Path(OUTCOME), outcome)


def _sentence(error: BaseException) -> str:
    told = (str(error).splitlines() or [""])[0]
    return f"opening the model failed: {type(error).__name__}: {told}"


def _opened(request: Request) -> Outcome:
    native = _open_native(request)
    examples = _examples(request, native.signature)
    card = examples.card if examples else request.card
    signature = _described(native.signature, card, request.labels_name)
    rows = _rows(request, native, signature, examples)
    served, parity = native, None
    if request.kind is not Kind.ONNX:
        compiled, parity = _compiled(request, native, signature, rows)
        served = compiled or native
    out = Path(OUT)
    notes = list(examples.notes) if examples else []
    notes += _keep_golden(served, signature, rows, out)
    if examples:
        _keep_reference(served, signature, examples.tensors, out)
    return Outcome(
        platform=native.platform,
        signature=signature_to_json(native.signature),
        parity=parity,
        card=card,
        notes=notes,
    )


def _open_native(request: Request) -> Runtime:
    allowance = Allowance.of(Path.cwd())
    if request.file.suffix in PICKLES:
        # The operator named this very file; here is the place where it may do what it does.
        allowance.allow(request.file)
    return open_runtime(request.file, request.threads, allowance)


def _examples(request: Request, signature: Signature) -> Examples | None:
    if request.examples is None:
        return None
    return read_examples(request.examples, request.examples_name, signature, request.card)


def _described(signature: Signature, card: ModelCard, labels: str) -> Signature:
    """Apply the card; labels that do not fit are told by the file that they stand in."""
    try:
        return describe(with_image(signature, card), card)
    except ArtefactError as error:
        told = error.message
        raise ArtefactError(told.replace(CARD_NAME, f"'{labels}'") if labels else told) from None


def _rows(
    request: Request, native: Runtime, signature: Signature, examples: Examples | None
) -> Tensors:
    """Return the rows that everything is tried with."""
    if examples:
        return examples.tensors
    if not signature.is_batched:
        made = example(signature)
        return {
            spec.name: made[spec.name].reshape([abs(size) for size in spec.shape])
            for spec in signature.inputs
        }
    return plausible_rows(request.kind, native, signature)


def _compiled(
    request: Request, native: Runtime, signature: Signature, rows: Tensors
) -> tuple[Runtime | None, ParityReport]:
    """Compile and compare; None where the native model has to stay, and the report says why."""
    from portico.serving.runtimes.onnx import ONNXModel

    path = Path(OUT) / MODEL
    try:
        compile_native(request.kind, native, path)
        compiled = ONNXModel(path, request.threads)
    except (CannotCompile, ArtefactError) as error:
        path.unlink(missing_ok=True)
        return None, ParityReport(compiled=False, reason=str(error))
    thresholds = thresholds_of(request.kind, native, signature)
    report = prove(native, compiled, signature, examples=rows, thresholds=thresholds)
    if request.examples is None:
        report = _without_examples(report)
    if report.compiled:
        return compiled, report
    compiled.close()
    path.unlink()
    return None, report


def _without_examples(report: ParityReport) -> ParityReport:
    """Call the rows that stood in for examples what they are."""
    checks = [
        msgspec.structs.replace(check, rows_from="ranges")
        if check.rows_from == "examples"
        else check
        for check in report.checks
    ]
    return msgspec.structs.replace(report, checks=checks)


def _keep_golden(served: Runtime, signature: Signature, rows: Tensors, out: Path) -> list[str]:
    """Write a few rows with the answers of the model that will be served."""
    golden = _golden(served, signature, rows)
    if golden is None:
        return [_NO_GOLDEN]
    golden.save(out / GOLDEN)
    return []


def _golden(served: Runtime, signature: Signature, rows: Tensors) -> Golden | None:
    if not signature.is_batched:
        return _answered(served, rows)
    count = count_of(rows)
    few = picked(rows, np.linspace(0, count - 1, min(ROWS, count)).astype(int).tolist())
    together = _answered(served, few)
    if together:
        return together
    # One row that the model refuses spoils the batch: go on with those that it takes.
    taken = [row for row in range(count_of(few)) if _answered(served, picked(few, [row]))]
    return _answered(served, picked(few, taken)) if taken else None


def _answered(served: Runtime, inputs: Tensors) -> Golden | None:
    try:
        return Golden(inputs, served.run(inputs, None))
    except (ModelRefused, ModelFailed):
        return None


def _keep_reference(served: Runtime, signature: Signature, inputs: Tensors, out: Path) -> None:
    """Write what the examples look like, so that drift has something to be measured against."""
    answered = _answered(served, inputs)
    if answered:
        reference = Reference.of(signature, answered.inputs, answered.outputs)
        (out / REFERENCE).write_bytes(reference.to_json())
