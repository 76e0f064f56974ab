"""Ask a gateway with Triton's own client; runs in the client's environment, not in Portico's."""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool = False) -> triton.InferInput:
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def refusal(client: triton.InferenceServerClient, model: str, given: triton.InferInput) -> str:
    """Return the message of the error that asking raises."""
    try:
        client.infer(model, [given])
    except InferenceServerException as error:
        return error.message()
    raise AssertionError(f"{model} answered")


DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT64": np.uint64,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def check_datatypes(client: triton.InferenceServerClient) -> None:
    """Send and ask for each datatype in all four pairings of JSON and bytes."""
    pairings = [(given, wanted) for given in (True, False) for wanted in (True, False)]
    for binary, wanted in pairings:
        outputs = [triton.InferRequestedOutput("y", binary_data=wanted)]
        text = np.array([["", "grün 🌱".encode()]], dtype=np.object_)
        given = tensor("x", text, "BYTES", binary)
        got = list(client.infer("identity-bytes", [given], outputs=outputs).as_numpy("y").ravel())
        # The client leaves text from JSON as it is; only binary outputs come as bytes.
        assert got == ([b"", "grün 🌱".encode()] if wanted else ["", "grün 🌱"])
        for datatype, dtype in DTYPES.items():
            values = np.array([[1, 0], [0, 1], [1, 1]], dtype)
            given = tensor("x", values, datatype, binary)
            answer = client.infer(f"identity-{datatype.lower()}", [given], outputs=outputs)
            assert np.array_equal(answer.as_numpy("y"), values)
            assert answer.as_numpy("y").dtype == dtype


def check_compression(client: triton.InferenceServerClient) -> None:
    values = np.arange(2000, dtype=np.float32).reshape(-1, 2)
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            answer = client.infer(
                "identity-fp32",
                [tensor("x", values, "FP32", binary)],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            assert np.array_equal(answer.as_numpy("y"), values)


def check_repository(client: triton.InferenceServerClient, cookie: str) -> None:
    """Unload a model and load it again; the cookie is an operator's."""
    headers = {"Cookie": cookie}

    def state() -> tuple[str, str]:
        index = client.get_model_repository_index(headers=headers)
        (found,) = (entry for entry in index if entry["name"] == "identity-fp16")
        return found["state"], found["reason"]

    assert "model_repository" in client.get_server_metadata()["extensions"]
    given = tensor("x", np.ones((1, 2), np.float16), "FP16", binary=True)
    assert state() == ("READY", "")
    client.unload_model("identity-fp16", headers=headers)
    assert not client.is_model_ready("identity-fp16")
    assert client.is_server_ready()
    assert state() == ("UNAVAILABLE", "unloaded")
    assert "unloaded by an operator" in refusal(client, "identity-fp16", given)
    for _ in range(2):
        client.load_model("identity-fp16", headers=headers)
        assert client.is_model_ready("identity-fp16")
    assert client.infer("identity-fp16", [given]).as_numpy("y").tolist() == [[1, 1]]
    try:
        client.load_model("nobody", headers=headers)
    except InferenceServerException as error:
        told = error.message()
    else:
        told = "an unknown model was loaded"
    assert "there is no model 'nobody'" in told


def main(host: str, cookie: str) -> None:
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
    # No outputs are listed, so the client asks for binary ones.
    answer = client.infer("iris", [flower], request_id="42")
    assert answer.as_numpy("label").shape == (3,)
    assert answer.as_numpy("probabilities").shape == (3, 3)
    assert answer.get_response()["id"] == "42"
    assert answer.get_response()["model_version"] == "1"

    wanted = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    answer = client.infer("iris", [flower], model_version="1", outputs=wanted)
    assert answer.as_numpy("label") is None
    assert np.allclose(answer.as_numpy("probabilities").sum(axis=1), 1, atol=1e-5)

    check_datatypes(client)
    check_compression(client)
    check_repository(client, cookie)

    pending = [client.async_infer("iris", [flower]) for _ in range(8)]
    assert all(one.get_result().as_numpy("label").shape == (3,) for one in pending)

    assert "nobody" in refusal(client, "nobody", flower)
    assert "input" in refusal(client, "identity-fp64", flower)
    client.close()


main(*sys.argv[1:])
