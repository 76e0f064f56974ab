"""What each kind of model offers an import: a compiler, plausible rows, and where it decides."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.kinds import Kind
from portico.serving.importing.rows import example, generated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors

ROWS: Final = 256
"""Rows that are made up where no examples were given."""

_BOOSTERS: Final = (Kind.XGBOOST, Kind.LIGHTGBM)

_LARGEST: Final = 2 << 30
"""Bytes of a protobuf message; larger models would need their weights in a file of their own."""


def compile_native(kind: Kind, native: Any, path: Path) -> None:
    """Compile a model that was opened, and write it.

    Args:
        kind: of the model.
        native: its runtime.
        path: of the ONNX file.

    Raises:
        CannotCompile: it has no equal in ONNX, or what compiles it is not installed.
    """
    try:
        model = _compiled(kind, native)
    except ImportError as error:
        raise CannotCompile(f"compiling needs {error.name}, which is not installed") from error
    except (CannotCompile, MemoryError):
        raise
    except Exception as error:  # What a compiler does not know comes up as anything.
        told = (str(error).splitlines() or [""])[0][:200]
        raise CannotCompile(f"the compiler failed: {type(error).__name__}: {told}") from error
    if model.ByteSize() >= _LARGEST:
        raise CannotCompile("compiled, it would be larger than an ONNX file can be")
    path.write_bytes(model.SerializeToString())


def _compiled(kind: Kind, native: Any) -> Any:
    match kind:
        case Kind.SKLEARN:
            from portico.serving.importing.compilers.sklearn import compile_sklearn

            return compile_sklearn(native.estimator, native.signature)
        case Kind.XGBOOST | Kind.LIGHTGBM:
            from portico.serving.importing.compilers.boosters import compile_booster, ensemble_of

            return compile_booster(ensemble_of(native.path), native.signature)
        case Kind.TORCH:
            from portico.serving.importing.compilers.torch import compile_torch

            return compile_torch(native)
        case Kind.PYTHON:
            raise CannotCompile("a Python function has no equal in ONNX")
        case _:
            raise CannotCompile(f"there is no compiler for {kind} models")


def plausible_rows(kind: Kind, native: Any, signature: Signature) -> Tensors:
    """Make up rows like those that the model was trained on, as far as it tells."""
    if kind is Kind.SKLEARN:
        from portico.serving.importing.examples import examples_for

        return examples_for(native.signature, native.estimator, ROWS)
    if kind in _BOOSTERS:
        from portico.serving.importing.compilers.boosters import ensemble_of, rows_of_booster

        with contextlib.suppress(CannotCompile, ImportError):
            return rows_of_booster(ensemble_of(native.path), ROWS)
    return generated(signature, example(signature), ROWS)


def thresholds_of(kind: Kind, native: Any, signature: Signature) -> Mapping[str, Sequence[float]]:
    """Return where the model's trees split.

    Args:
        kind: of the model.
        native: its runtime.
        signature: the runtime's, perhaps with other names for the same features.

    Returns:
        thresholds by the name of the feature.
    """
    if kind in _BOOSTERS:
        from portico.serving.importing.compilers.boosters import ensemble_of, thresholds_of_booster

        return thresholds_of_booster(ensemble_of(native.path), signature)
    if kind is not Kind.SKLEARN:
        return {}
    from portico.serving.importing.thresholds import split_thresholds

    found = split_thresholds(native.estimator, native.signature)
    pairs = zip(signature.features, native.signature.features, strict=False)
    return {mine.name: found[theirs.name] for mine, theirs in pairs if theirs.name in found}
