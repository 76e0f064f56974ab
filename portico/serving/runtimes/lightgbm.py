"""LightGBM text models, run by LightGBM."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import lightgbm

from portico.serving.errors import ArtefactError, ModelFailed
from portico.serving.runtimes.boosters import answers_of, matrix_of, signature_of
from portico.serving.runtimes.lightgbm_text import read_lightgbm
from portico.serving.runtimes.trees import Task, read_model_file
from portico.serving.tensors import Datatype, Tensors

if TYPE_CHECKING:
    from pathlib import Path

# It prints to standard output, which is not its own here.
lightgbm.register_logger(logging.getLogger(__name__))


class LightGBMModel:
    """One booster from a text file.

    Args:
        path: the file.
        threads: threads that one run may use.

    Raises:
        ArtefactError: not a model that can be served; the message says why.
    """

    platform = "lightgbm_text"
    concurrency: int | None = None

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        model = read_lightgbm(read_model_file(path), path.name)
        try:
            self._booster = lightgbm.Booster(model_str=model.text)
        except lightgbm.basic.LightGBMError as error:
            raise ArtefactError(f"'{path.name}' cannot be opened: {error}") from error
        self._threads = threads
        self._task = model.task
        self.signature = signature_of(
            Datatype.FP64, len(model.names), model.names, model.categories, model.task, model.groups
        )

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the booster; see :class:`portico.serving.ports.Runtime`."""
        x = matrix_of(self.signature, inputs)
        shape = (len(x), *self.signature.outputs[-1].shape[1:])
        try:
            scores = self._booster.predict(x, num_threads=self._threads)
        except Exception as error:
            raise ModelFailed("the model failed on this input") from error
        if self._task is not Task.BINARY:
            scores = scores.reshape(shape)
        return answers_of(self._task, scores, outputs)

    def close(self) -> None:
        """Free the booster."""
        del self._booster
