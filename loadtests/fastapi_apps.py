"""What a data scientist would write by hand with FastAPI: the applications to compare with."""

from __future__ import annotations

import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from loadtests.baselines import MODEL_VARIABLE


class Tensor(BaseModel):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    """The body of a request."""

    inputs: list[Tensor]


def onnx() -> FastAPI:
    """Make an application that runs an ONNX classifier."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ[MODEL_VARIABLE], options)
    app = FastAPI()

    @app.get("/")
    async def index() -> dict[str, bool]:
        return {"ready": True}

    # Not in a thread pool: that would be slower for a model that takes microseconds.
    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: InferRequest) -> dict[str, object]:
        tensor = request.inputs[0]
        data = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        label, probabilities = session.run(None, {tensor.name: data})
        return _answer(name, label, probabilities)

    return app


def joblib() -> FastAPI:
    """Make an application that runs a scikit-learn classifier from its joblib file."""
    import joblib as files

    model = files.load(os.environ[MODEL_VARIABLE])
    app = FastAPI()

    @app.get("/")
    def index() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v2/models/{name}/infer")
    def infer(name: str, request: InferRequest) -> dict[str, object]:
        tensor = request.inputs[0]
        data = np.array(tensor.data).reshape(tensor.shape)
        probabilities = model.predict_proba(data)
        return _answer(name, model.classes_[probabilities.argmax(axis=1)], probabilities)

    return app


def _answer(name: str, label: np.ndarray, probabilities: np.ndarray) -> dict[str, object]:
    return {
        "model_name": name,
        "outputs": [
            {
                "name": "label", "datatype": "INT64", "shape": list(label.shape),
                "data": label.tolist(),
            },
            {
                "name": "probabilities", "datatype": "FP64", "shape": list(probabilities.shape),
                "data": probabilities.ravel().tolist(),
            },
        ],
    }  # fmt: skip
