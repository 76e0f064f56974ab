"""Versions of the libraries that open and compile models, without loading any of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from portico.serving.importing.kinds import Kind

_OPENERS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.SKLEARN: ("scikit-learn", "numpy", "joblib", "skops", "skl2onnx"),
    Kind.XGBOOST: ("xgboost", "xgboost-cpu", "onnxmltools"),
    Kind.LIGHTGBM: ("lightgbm", "onnxmltools"),
    Kind.TORCH: ("torch", "onnxscript"),
    Kind.PYTHON: ("numpy",),
    Kind.ONNX: (),
}
_COMPILERS: Final = ("onnx", "onnxruntime")


def installed(kind: Kind) -> dict[str, str]:
    """Return the versions of the libraries that open and compile a kind of model."""
    found: dict[str, str] = {}
    for name in (*_OPENERS[kind], *_COMPILERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
