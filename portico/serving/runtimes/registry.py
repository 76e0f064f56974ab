"""Which runtime opens which kind of file.

To serve another framework: write a module with a class as :class:`portico.serving.ports.Runtime`
describes it, and add its suffix here and in :data:`portico.serving.artefacts.SUFFIXES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.serving.artefacts import SUFFIXES
from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.allowance import Allowance
    from portico.serving.ports import Runtime


def open_runtime(path: Path, threads: int, allowance: Allowance) -> Runtime:
    """Open an artefact with the runtime of its suffix.

    Args:
        path: the artefact's file.
        threads: threads that one run may use.
        allowance: which files may execute code.

    Raises:
        ArtefactError: it cannot be served.
        ArtefactNotAllowed: it executes code and was not allowed.
    """
    # Each framework is imported only when one of its files is opened.
    if path.suffix == ".onnx":
        from portico.serving.runtimes.onnx import ONNXModel

        return ONNXModel(path, threads)
    if path.suffix in (".joblib", ".pkl", ".pickle", ".skops"):
        data = allowance.read(path)
        try:
            from portico.serving.runtimes.sklearn import SklearnModel
        except ImportError as error:
            raise ArtefactError(
                f"'{path.name}' needs {error.name}: pip install 'portico[sklearn]'"
            ) from error
        return SklearnModel(data, path.name)
    raise ArtefactError(
        f"'{path.name}' is no artefact that can be served; known endings: {', '.join(SUFFIXES)}"
    )
