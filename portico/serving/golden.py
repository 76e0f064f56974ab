"""Golden rows: a few inputs and the answers that import saw for them.

They are run when a version is loaded, to warm it up and to see that it answers as it did, and at
intervals afterwards, so that readiness says what is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.ports import Runtime
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
        found = runtime.run(self.inputs, tuple(self.outputs))
        for name, expected in self.outputs.items():
            if not same(expected, found[name]):
                raise ArtefactError(f"the golden rows give another '{name}' than at import")


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
