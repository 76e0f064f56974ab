"""Which runtime opens which kind of file.

To serve another framework: write a module with a class as :class:`portico.serving.ports.Runtime`
describes it, and add its ending here and in :data:`portico.serving.artefacts.SUFFIXES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.serving.artefacts import SUFFIXES, ending_of
from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.serving.allowance import Allowance
    from portico.serving.ports import Runtime


def open_runtime(path: Path, threads: int, allowance: Allowance) -> Runtime:
    """Open an artefact with the runtime of its ending.

    Args:
        path: the artefact's file.
        threads: threads that one run may use.
        allowance: which files may execute code.

    Raises:
        ArtefactError: it cannot be served.
        ArtefactNotAllowed: it executes code and was not allowed.
    """
    ending = ending_of(path)
    if ending is None:
        raise ArtefactError(
            f"'{path.name}' is no artefact that can be served; known endings: {', '.join(SUFFIXES)}"
        )
    opener, extra = _OPENERS[ending]
    try:
        return opener(path, threads, allowance)
    except ImportError as error:
        if not extra:
            raise
        raise ArtefactError(
            f"'{path.name}' needs {error.name}: pip install 'portico[{extra}]'"
        ) from error


# Each framework is imported only when one of its files is opened.


def _onnx(path: Path, threads: int, _: Allowance) -> Runtime:
    from portico.serving.runtimes.onnx import ONNXModel

    return ONNXModel(path, threads)


def _sklearn(path: Path, _: int, allowance: Allowance) -> Runtime:
    data = allowance.read(path)
    from portico.serving.runtimes.sklearn import SklearnModel

    return SklearnModel(data, path.name)


def _xgboost(path: Path, threads: int, _: Allowance) -> Runtime:
    from portico.serving.runtimes.xgboost import XGBoostModel

    return XGBoostModel(path, threads)


def _lightgbm(path: Path, threads: int, _: Allowance) -> Runtime:
    from portico.serving.runtimes.lightgbm import LightGBMModel

    return LightGBMModel(path, threads)


def _python(path: Path, _: int, allowance: Allowance) -> Runtime:
    from portico.serving.runtimes.python import PythonModel

    return PythonModel(allowance.read(path), path.resolve())


def _remote(path: Path, _: int, __: Allowance) -> Runtime:
    from portico.serving.runtimes.remote import RemoteModel

    return RemoteModel(path)


def _torch(path: Path, threads: int, allowance: Allowance) -> Runtime:
    data = allowance.read(path)
    from portico.serving.runtimes.torch import TorchModel

    return TorchModel(data, path.name, threads)


_OPENERS: Final[dict[str, tuple[Callable[[Path, int, Allowance], Runtime], str]]] = {
    ".onnx": (_onnx, ""),
    ".joblib": (_sklearn, "sklearn"),
    ".pkl": (_sklearn, "sklearn"),
    ".pickle": (_sklearn, "sklearn"),
    ".skops": (_sklearn, "sklearn"),
    ".json": (_xgboost, "xgboost"),
    ".ubj": (_xgboost, "xgboost"),
    ".txt": (_lightgbm, "lightgbm"),
    ".py": (_python, ""),
    ".pt2": (_torch, "torch"),
    ".pt": (_torch, "torch"),
    ".remote.toml": (_remote, ""),
}
"""From ending to what opens it, and the extra that brings its framework."""
