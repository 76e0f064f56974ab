"""XGBoost models from JSON and UBJSON files, run by XGBoost."""

from __future__ import annotations

import dataclasses
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.runtimes.boosters import answers_of, matrix_of, signature_of
from portico.serving.runtimes.trees import Task, read_model_file
from portico.serving.runtimes.xgboost_file import read_xgboost
from portico.serving.tensors import Array, Datatype, Tensors

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.signature import Signature


class XGBoostModel:
    """One booster from a JSON or UBJSON file, of the scikit-learn wrapper or not.

    Args:
        path: the file.
        threads: threads that one run may use.

    Raises:
        ArtefactError: not a model that can be served; the message says why.
    """

    platform = "xgboost_json"
    concurrency: int | None = None

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        model = read_xgboost(read_model_file(path), path.name)
        self._threads = threads
        self._task = model.ensemble.task
        self._rounds = (0, model.iterations or 0)
        # Trees are asked without a lock; the linear booster of the library is not made for that.
        self._lock = Lock() if model.is_linear else None
        # Those who would wait for the lock run together instead.
        self.concurrency = 1 if model.is_linear else None
        document = bytearray(model.document)
        try:
            self._booster = xgboost.Booster({"nthread": threads}, model_file=document)
        except xgboost.core.XGBoostError as error:
            raise ArtefactError(f"'{path.name}' cannot be opened: {_reason(error)}") from error
        ensemble = model.ensemble
        signature = signature_of(
            Datatype.FP32,
            ensemble.features,
            model.names,
            model.categories,
            ensemble.task,
            ensemble.groups,
        )
        self.signature = _with_types(signature, model.types)

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the booster; see :class:`portico.serving.ports.Runtime`."""
        x = matrix_of(self.signature, inputs)
        margins = self._task is Task.MULTICLASS
        try:
            scores = self._predict(x, margins=margins)
        except (ValueError, xgboost.core.XGBoostError) as error:
            raise ModelRefused(f"the model refused the input: {_reason(error)}") from error
        except Exception as error:
            raise ModelFailed("the model failed on this input") from error
        if self._task is not Task.BINARY:
            scores = scores.reshape(len(x), *self.signature.outputs[-1].shape[1:])
        return answers_of(self._task, _softmax(scores) if margins else scores, outputs)

    def close(self) -> None:
        """Free the booster."""
        del self._booster

    def _predict(self, x: Array, *, margins: bool) -> Array:
        if self._lock is None:
            kind = "margin" if margins else "value"
            return self._booster.inplace_predict(  # type: ignore[no-any-return]
                x, iteration_range=self._rounds, predict_type=kind, missing=np.nan
            )
        with self._lock:
            matrix = xgboost.DMatrix(x, missing=np.nan, nthread=self._threads)
            return self._booster.predict(matrix, output_margin=margins)  # type: ignore[no-any-return]


def _with_types(signature: Signature, types: tuple[str, ...]) -> Signature:
    """Let forms step through whole numbers in columns that held nothing else."""
    if len(types) != len(signature.features):
        return signature
    features = tuple(
        dataclasses.replace(feature, step=1.0) if kind in ("int", "i") else feature
        for feature, kind in zip(signature.features, types, strict=True)
    )
    return dataclasses.replace(signature, features=features)


def _softmax(margins: Array) -> Array:
    shifted = np.exp(margins - margins.max(axis=1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def _reason(error: Exception) -> Any:
    """Return the library's sentence without its source lines and stack."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition("Check failed: ")[2].rpartition(".cc:")[2][:200]
