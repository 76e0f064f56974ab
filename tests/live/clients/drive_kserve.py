"""Ask a gateway with KServe's own client; runs in the client's environment, not in Portico's."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(
    name: str, data: np.ndarray, datatype: str, field: str = "x", binary: bool = False
) -> InferRequest:
    given = InferInput(field, list(data.shape), datatype)
    given.set_data_from_numpy(data, binary_data=binary)
    return InferRequest(
        model_name=name,
        infer_inputs=[given],
        request_id="42",
        parameters={"binary_data_output": True} if binary else None,
    )


async def refusal(client: InferenceRESTClient, base: str, asked: InferRequest) -> str:
    """Return the message of the error that asking raises."""
    try:
        await client.infer(base, asked, "iris")
    except Exception as error:
        return str(error)
    raise AssertionError("it was answered")


async def main(host: str) -> None:
    base = f"http://{host}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)) as client:
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "iris")
        assert not await client.is_model_ready(base, "nobody")

        flowers = np.array([[5.1, 3.5, 1.4, 0.2]] * 3, np.float32)
        answer = await client.infer(base, request("iris", flowers, "FP32", "input"), "iris")
        assert (answer.id, answer.model_name) == ("42", "iris")
        outputs = {output.name: output for output in answer.outputs}
        assert outputs["label"].as_numpy().shape == (3,)
        assert np.allclose(outputs["probabilities"].as_numpy().sum(axis=1), 1, atol=1e-5)

        for datatype, dtype in {"INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_}.items():
            name = f"identity-{datatype.lower()}"
            values = np.array([[1, 0], [0, 1]], dtype)
            answer = await client.infer(base, request(name, values, datatype), name)
            assert np.array_equal(answer.outputs[0].as_numpy(), values)

        for datatype, dtype in {"FP16": np.float16, "FP32": np.float32, "UINT8": np.uint8}.items():
            name = f"identity-{datatype.lower()}"
            values = np.array([[1, 0], [0, 1]], dtype)
            asked = request(name, values, datatype, binary=True)
            answer = await client.infer(base, asked, name)
            assert np.array_equal(answer.outputs[0].as_numpy(), values)

        assert "petals" in await refusal(client, base, request("iris", flowers, "FP32", "petals"))


asyncio.run(main(sys.argv[1]))
