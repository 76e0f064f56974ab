"""A model on another Portico, served by this one: the same answers and refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.server import portico

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.server import Server

pytestmark = pytest.mark.live


def outputs(server: Server, model: str, body: Any) -> Any:
    answer = server.ask("POST", f"/v2/models/{model}/infer", body)
    assert answer.status == 200, answer
    return answer.json()["outputs"]


def test_a_model_of_another_portico_is_served_like_one_of_this(
    gateway: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    (folder / "far" / "1").mkdir(parents=True)
    (folder / "far" / "1" / "model.remote.toml").write_text(
        f'url = "{gateway.url}"\nmodel = "iris"\n'
    )
    metadata = gateway.get("/v2/models/iris").json()
    with portico(folder) as server:
        far = server.get("/v2/models/far").json()
        assert far["inputs"] == metadata["inputs"]
        assert far["outputs"] == metadata["outputs"]
        width = metadata["inputs"][0]["shape"][1]
        body = {
            "inputs": [{**metadata["inputs"][0], "shape": [3, width], "data": [1.5] * 3 * width}]
        }
        assert outputs(server, "far", body) == outputs(gateway, "iris", body)
        rows = {"rows": [{f"x{i + 1}": 1.0 for i in range(width)}]}
        plain = server.ask("POST", "/api/models/far/predict", json.dumps(rows),
                           Content_Type="application/json")  # fmt: skip
        assert plain.status == 200, plain
