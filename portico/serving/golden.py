"""Golden rows: a few inputs and the answers that import saw for them.

They are run when a version is loaded, to warm it up and to see that it answers as it did, and at
intervals afterwards, so that readiness says what is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from portico.serving.errors import ArtefactError
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.ports import Runtime
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, Tensors

ROWS: Final = 16
"""Rows that an import keeps."""

ABSOLUTE: Final = 1e-5
RELATIVE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs of a few rows and all outputs for them."""

    inputs: Tensors
    outputs: Tensors

    def save(self, path: Path) -> None:
        """Write them as an ``.npz`` archive without any pickle; text is held as unicode."""
        members = {f"input:{name}": _plain(array) for name, array in self.inputs.items()}
        members |= {f"output:{name}": _plain(array) for name, array in self.outputs.items()}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **members)

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read what :meth:`save` wrote.

        Raises:
            ArtefactError: the file cannot be read.
        """
        inputs: Tensors = {}
        outputs: Tensors = {}
        try:
            with np.load(path, allow_pickle=False) as members:
                for key in members.files:
                    side, _, name = key.partition(":")
                    (inputs if side == "input" else outputs)[name] = _restored(members[key])
        except (OSError, ValueError) as error:
            raise ArtefactError(f"'{path.name}' cannot be read: {error}") from error
        return cls(inputs, outputs)

    def check(self, runtime: Runtime) -> None:
        """Run the rows and compare the answers.

        Raises:
            ArtefactError: an answer differs from the golden one.
            ServingError: the model refused or failed.
        """
        self.compare(runtime.run(self.inputs, self.names))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the outputs to ask for; None where no answers are known."""
        return tuple(self.outputs) or None

    def compare(self, found: Tensors) -> None:
        """Hold the outputs of a run against the golden ones.

        Raises:
            ArtefactError: one differs.
        """
        for name, expected in self.outputs.items():
            if not same(expected, found[name]):
                raise ArtefactError(f"the golden rows give another '{name}' than at import")


def trial_row(signature: Signature) -> Golden:
    """Return one blank row for a model whose answers nobody has kept: it only has to answer."""
    blanks = {
        spec.name: np.full(
            [abs(size) for size in spec.shape],
            "" if spec.datatype is Datatype.BYTES else 0,
            dtype=spec.datatype.dtype,
        )
        for spec in signature.inputs
    }
    return Golden(blanks, {})


def same(expected: Array, found: Array) -> bool:
    """Tell whether two outputs are equal within the tolerance of the parity rule."""
    if expected.shape != found.shape:
        return False
    if expected.dtype.kind == "f" and found.dtype.kind == "f":
        return bool(np.allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(expected, found))


def _plain(array: Array) -> Array:
    return array.astype(np.str_) if array.dtype == object else array


def _restored(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array
