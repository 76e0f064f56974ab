"""What Portico is measured against: WSGI callables with nothing around them."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MODEL_VARIABLE: Final = "LOADTEST_MODEL"
"""Names the ONNX file that `function` asks."""

_ANSWER: Final = (
    b'{"model_name":"model","model_version":"1","outputs":[{"name":"output_label",'
    b'"datatype":"INT64","shape":[1],"data":[0]},{"name":"output_probability",'
    b'"datatype":"FP32","shape":[1,3],"data":[0.9770,0.0229,0.0001]}]}'
)
_HEADERS: Final = [("Content-Type", "application/json"), ("Content-Length", str(len(_ANSWER)))]


def bare(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body and answer a constant, as long as an answer of the iris model."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [*_HEADERS])
    return [_ANSWER]


def function(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Decode, run the model, encode: the least code that answers an infer request at all."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = _answerer()(body) if body else b""
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]


@cache
def _answerer() -> Callable[[bytes], bytes]:
    """Open the model; after the fork, as sessions do not survive one."""
    import msgspec
    import numpy as np
    import onnxruntime
    import orjson

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    run = onnxruntime.InferenceSession(os.environ[MODEL_VARIABLE], options).run
    decode = msgspec.json.Decoder().decode

    def answer(body: bytes) -> bytes:
        tensor = decode(body)["inputs"][0]
        data = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        label, probabilities = run(None, {tensor["name"]: data})
        outputs: list[dict[str, Any]] = [
            {"name": "label", "datatype": "INT64", "shape": label.shape, "data": label},
            {
                "name": "probabilities", "datatype": "FP32", "shape": probabilities.shape,
                "data": probabilities.ravel(),
            },
        ]  # fmt: skip
        members = {"model_name": "model", "model_version": "1", "outputs": outputs}
        return orjson.dumps(members, option=orjson.OPT_SERIALIZE_NUMPY)

    return answer
