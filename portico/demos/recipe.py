"""What every demo model is made of, and how a fitted estimator becomes a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED: Final = 20
"""Every random choice starts from here: the same versions make the same model."""


@dataclass(frozen=True)
class Recipe:
    """How one demo model is made.

    Attributes:
        name: folder of the model, and its card in ``cards/``.
        version: grows with every change that makes another model.
        file: name of the artefact.
        build: is given the model's folder and the artefact's path, and writes into both.
    """

    name: str
    version: int
    file: str
    build: Callable[[Path, Path], None]

    @property
    def is_pickle(self) -> bool:
        """Whether opening the artefact executes code."""
        return self.file.endswith(".joblib")


def write_onnx(estimator: Any, columns: int, path: Path) -> None:
    """Convert a fitted estimator over a matrix of numbers and write it.

    Args:
        estimator: takes FP32 of shape [rows, columns] as ``input``.
        columns: width of the matrix.
        path: ``….onnx``.
    """
    # Only the training needs the converter, and importing it takes a second.
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(
            estimator,
            initial_types=[("input", FloatTensorType([None, columns]))],
            # A map from class to probability for each row is slow and no tensor.
            options={"zipmap": False} if is_classifier(estimator) else None,
        )
    for output in model.graph.output:  # Labels are declared as one row; there are as many as rows.
        output.type.tensor_type.shape.dim[0].ClearField("dim_value")
    # The converter's order is that of a set, and another order is another file.
    opsets = sorted(model.opset_import, key=lambda opset: str(opset.domain))
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    path.write_bytes(model.SerializeToString())


def write_joblib(estimator: Any, path: Path) -> None:
    """Write a fitted estimator as it is, to be run by scikit-learn."""
    import joblib

    joblib.dump(estimator, path, compress=3)
