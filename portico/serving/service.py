"""The prediction service: one loaded version of a model, ready to be asked."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from portico.serving.errors import (
    DeadlineExceeded,
    InvalidInput,
    QueueFull,
    ServingError,
)

if TYPE_CHECKING:
    from portico.serving.card import ModelCard
    from portico.serving.gate import Gate
    from portico.serving.metrics import ModelMeter
    from portico.serving.ports import Runtime
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
    """

    __slots__ = (
        "_gate", "_runtime", "card", "meter", "name", "platform", "sha256", "signature", "version",
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
        gate: Gate,
        meter: ModelMeter,
    ) -> None:
        self.name = name
        self.version = version
        self.sha256 = sha256
        self.card = card
        self.signature = signature
        self.platform = runtime.platform
        self.meter = meter
        self._runtime = runtime
        self._gate = gate

    @property
    def title(self) -> str:
        """What a person calls the model."""
        return self.card.title or self.name

    def infer(self, inputs: Tensors, outputs: tuple[str, ...] | None = None) -> Tensors:
        """Run the model on tensors that fit its signature, as one run.

        Args:
            inputs: one array an input.
            outputs: names of the outputs wanted, in that order; None for all.

        Raises:
            QueueFull: there is no room for these rows now.
            DeadlineExceeded: no turn came in time.
            ModelRefused: the model does not accept these values.
            ModelFailed: the model raised.
        """
        rows = self._rows(inputs)
        meter = self.meter
        arrived = perf_counter()
        try:
            self._gate.enter(rows)
            started = perf_counter()
            try:
                result = self._runtime.run(inputs, outputs)
            finally:
                self._gate.leave(rows)
        except ServingError as error:
            self.count_failure(error)
            raise
        meter.queue(started - arrived)
        meter.run(perf_counter() - started)
        meter.rows(rows)
        meter.outcomes["ok"]()
        return result

    def infer_rows(self, inputs: Tensors) -> Tensors:
        """Run the model on stacked rows, one by one where it takes no batches.

        Args:
            inputs: one array an input, the first axis being the rows.

        Raises:
            ServingError: as :meth:`infer`.
        """
        if self.signature.is_batched:
            return self.infer(inputs)
        rows = len(next(iter(inputs.values())))
        answers = [self.infer(self._single(inputs, row)) for row in range(rows)]
        return {
            spec.name: self._stacked(spec.name, [answer[spec.name] for answer in answers])
            for spec in self.signature.outputs
        }

    def count_failure(self, error: ServingError) -> None:
        """Count a request that this version did not answer."""
        match error:
            case QueueFull():
                self.meter.shed()
                outcome = "shed"
            case DeadlineExceeded():
                outcome = "deadline"
            case InvalidInput():
                outcome = "invalid"
            case _:
                outcome = "failed"
        self.meter.outcomes[outcome]()

    def queued_rows(self) -> int:
        """Rows that run or wait now."""
        return self._gate.rows

    def close(self) -> None:
        """Free the artefact. No ``infer`` follows."""
        self._runtime.close()

    def _rows(self, inputs: Tensors) -> int:
        if not self.signature.is_batched:
            return 1
        return len(inputs[self.signature.inputs[0].name])

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
