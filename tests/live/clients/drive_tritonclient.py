"""Ask a gateway with Triton's own client; runs in the client's environment, not in Portico's."""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def tensor(name: str, values: np.ndarray, datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=False)
    return given


def refusal(client: triton.InferenceServerClient, model: str, given: triton.InferInput) -> str:
    """Return the message of the error that asking raises."""
    try:
        client.infer(model, [given])
    except InferenceServerException as error:
        return error.message()
    raise AssertionError(f"{model} answered")


def main(host: str) -> None:
    client = triton.InferenceServerClient(host)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "portico"
    metadata = client.get_model_metadata("iris")
    assert metadata["name"] == "iris"
    assert [spec["name"] for spec in metadata["outputs"]] == ["label", "probabilities"]

    flower = tensor("input", np.array([[5.1, 3.5, 1.4, 0.2]] * 3, np.float32), "FP32")
    # No outputs are listed, so the client asks for binary ones; JSON is what comes.
    answer = client.infer("iris", [flower], request_id="42")
    assert answer.as_numpy("label").shape == (3,)
    assert answer.as_numpy("probabilities").shape == (3, 3)
    assert answer.get_response()["id"] == "42"
    assert answer.get_response()["model_version"] == "1"

    wanted = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    answer = client.infer("iris", [flower], model_version="1", outputs=wanted)
    assert answer.as_numpy("label") is None
    assert np.allclose(answer.as_numpy("probabilities").sum(axis=1), 1, atol=1e-5)

    text = np.array([["", "grün 🌱".encode()]], dtype=np.object_)
    answer = client.infer("identity-bytes", [tensor("x", text, "BYTES")])
    # The client leaves text from JSON as it is; only binary outputs come as bytes.
    assert list(answer.as_numpy("y").ravel()) == ["", "grün 🌱"]
    for datatype, dtype in {"INT64": np.int64, "FP64": np.float64, "UINT8": np.uint8}.items():
        values = np.array([[1, 2], [3, 4]], dtype)
        answer = client.infer(f"identity-{datatype.lower()}", [tensor("x", values, datatype)])
        assert np.array_equal(answer.as_numpy("y"), values)
        assert answer.as_numpy("y").dtype == dtype

    pending = [client.async_infer("iris", [flower]) for _ in range(8)]
    assert all(one.get_result().as_numpy("label").shape == (3,) for one in pending)

    assert "nobody" in refusal(client, "nobody", flower)
    assert "input" in refusal(client, "identity-fp64", flower)
    client.close()


main(sys.argv[1])
