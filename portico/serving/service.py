"""The prediction service: one loaded version of a model, ready to be asked."""

from __future__ import annotations

import weakref
from time import time
from typing import TYPE_CHECKING

import numpy as np

from portico.serving.batcher import Batcher
from portico.serving.errors import Cancelled, DeadlineExceeded, InvalidInput, QueueFull

if TYPE_CHECKING:
    from portico.serving.card import ModelCard
    from portico.serving.drift import Reference
    from portico.serving.metrics import ModelMeter
    from portico.serving.ports import Runtime
    from portico.serving.predictions import Prediction, Recorder
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors, TensorSpec


class ServedModel:
    """One version of a model that is loaded and answers.

    Attributes:
        name: the model's name.
        version: its version, "1" and up.
        signature: of the artefact, with what ``model.toml`` adds.
        card: what ``model.toml`` says.
        platform: the runtime and format, as the protocol names it.
        sha256: of the artefact, in hex.
        recorder: is handed each prediction that has come to its end; None where nobody keeps them.
        last_used: arrival of the prediction answered last, or when it was loaded; seconds since
            the epoch.
        reference: what drift is held against; None where the import had no examples.
        batching: why rows of several requests never run together; empty where they do.
    """

    __slots__ = (
        "__weakref__", "_batcher", "_closing", "_first_input", "_is_batched", "batching", "card",
        "last_used", "meter", "name", "platform", "recorder", "reference", "sha256",
        "signature", "version",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 everything that is known about a version, once
        self,
        *,
        name: str,
        version: str,
        sha256: str,
        card: ModelCard,
        signature: Signature,
        runtime: Runtime,
        meter: ModelMeter,
        batching: str = "",
        threads: int = 8,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.sha256 = sha256
        self.card = card
        self.signature = signature
        self.platform = runtime.platform
        self.meter = meter
        self.recorder = recorder
        self.reference: Reference | None = None
        self.batching = batching
        self._batcher = Batcher(runtime, card, meter, batches=not batching, threads=threads)
        self._is_batched = signature.is_batched
        self._first_input = signature.inputs[0].name
        self.last_used = time()
        # A version that was replaced is closed when the last request that holds it is done with
        # it. Python counts those references anyway, so it costs a request nothing.
        self._closing = weakref.finalize(self, runtime.close)
        self._closing.atexit = False

    @property
    def title(self) -> str:
        """What a person calls the model."""
        return self.card.title or self.name

    @property
    def concurrency(self) -> int:
        """Runs at once in this process."""
        return self._batcher.concurrency

    def infer(self, prediction: Prediction, outputs: tuple[str, ...] | None = None) -> Tensors:
        """Run the model on the prediction's inputs, as one run, and return its outputs.

        Args:
            prediction: with inputs that fit the signature; rows, outputs and times are filled in.
            outputs: names of the outputs wanted, in that order; None for all.

        Raises:
            QueueFull: there is no room for these rows now.
            DeadlineExceeded: no turn came in time.
            Cancelled: the client has gone meanwhile.
            ModelRefused: the model does not accept these values.
            ModelFailed: the model raised.
        """
        inputs: Tensors = prediction.inputs  # type: ignore[assignment] # Who asks has decoded them.
        prediction.rows = rows = len(inputs[self._first_input]) if self._is_batched else 1
        prediction.outputs = result = self._batcher.run(prediction, inputs, rows, outputs)
        return result

    def infer_rows(self, prediction: Prediction, at_once: int | None = None) -> Tensors:
        """Run the model on stacked rows, in parts where it cannot or must not take all together.

        Args:
            prediction: with one array an input, the first axis being the rows.
            at_once: rows of a run at most; None for all where the model takes batches.

        Raises:
            ServingError: as :meth:`infer`.
        """
        inputs: Tensors = prediction.inputs  # type: ignore[assignment] # Who asks has decoded them.
        prediction.rows = rows = len(next(iter(inputs.values())))
        if self._is_batched:
            prediction.outputs = self._in_parts(prediction, inputs, rows, at_once or rows)
        else:
            prediction.outputs = self._row_by_row(prediction, inputs, rows)
        return prediction.outputs

    def complete(self, prediction: Prediction) -> None:
        """Count a prediction that has come to its end, and hand it to the recorder."""
        if prediction.outputs is not None:
            self.last_used = prediction.at
        prediction.client = None
        self.meter.count(prediction)
        if self.recorder is not None:
            self.recorder(prediction)

    def fail(self, prediction: Prediction, error: Exception) -> None:
        """Complete a prediction that ``error`` has ended."""
        match error:
            case QueueFull():
                prediction.outcome = "shed"
            case DeadlineExceeded():
                prediction.outcome = "deadline"
            case Cancelled():
                prediction.outcome = "cancelled"
            case InvalidInput():
                prediction.outcome = "invalid"
            case _:
                prediction.outcome = "failed"
        self.complete(prediction)

    def close(self) -> None:
        """Free the artefact now. No ``infer`` follows."""
        self._closing()

    def _in_parts(
        self, prediction: Prediction, inputs: Tensors, rows: int, at_once: int
    ) -> Tensors:
        if rows <= at_once:
            return self._batcher.run(prediction, inputs, rows, None)
        parts = [
            self._batcher.run(prediction, part, len(next(iter(part.values()))), None)
            for start in range(0, rows, at_once)
            for part in [{name: a[start : start + at_once] for name, a in inputs.items()}]
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _row_by_row(self, prediction: Prediction, inputs: Tensors, rows: int) -> Tensors:
        answers = [
            self._batcher.run(prediction, self._single(inputs, row), 1, None) for row in range(rows)
        ]
        return {
            spec.name: self._stacked(spec.name, [answer[spec.name] for answer in answers])
            for spec in self.signature.outputs
        }

    def _single(self, inputs: Tensors, row: int) -> Tensors:
        single: Tensors = {}
        for spec in self.signature.inputs:
            array = inputs[spec.name][row : row + 1]
            single[spec.name] = array if _has_row_axis(spec) else array.reshape(array.shape[1:])
        return single

    def _stacked(self, name: str, answers: list[Array]) -> Array:
        """Put the answers to single rows together, without the row axis that each brings."""
        if any(map(_has_row_axis, self.signature.inputs)):
            answers = [a.reshape(a.shape[1:]) if a.shape[:1] == (1,) else a for a in answers]
        if len({answer.shape for answer in answers}) > 1:
            raise InvalidInput.at("rows", f"give '{name}' in different shapes; send them singly")
        return np.stack(answers)


def _has_row_axis(spec: TensorSpec) -> bool:
    return len(spec.row_shape) < len(spec.shape)
