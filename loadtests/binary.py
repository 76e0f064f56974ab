"""What a picture-sized request costs beside the model's own run, as bytes and as JSON.

One row of shape 3x224x224 in FP32 goes to a model that does next to nothing with it, over one kept
connection to a fresh server, and once more through the same gateway in this process without a
socket. From the time of each answer its own word about the model's run (``Server-Timing``) is
taken off: ``python -m loadtests.binary``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import TensorProto, helper, save_model

from loadtests.server import portico

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHAPE: Final = (1, 3, 224, 224)
_PATH: Final = "/v2/models/picture/infer"
_RUN: Final = re.compile(r"\brun;dur=([\d.]+)")


@dataclass(frozen=True)
class Cost:
    """Milliseconds of a request beyond the model's own run, medians over the requests."""

    binary: float
    json: float


def over_a_socket(requests: int) -> Cost:
    """Ask a server with two workers over one connection, the client's own work included."""
    with tempfile.TemporaryDirectory() as folder, portico(_write_model(Path(folder))) as server:
        connection = server.connect(timeout=60)

        def ask(body: bytes, headers: Mapping[str, str]) -> str:
            connection.request("POST", _PATH, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {content[:200]!r}")
            return answer.headers["Server-Timing"]

        with contextlib.closing(connection):
            return _cost(ask, requests)


def in_process(requests: int) -> Cost:
    """Ask the whole gateway as a WSGI application, without a server."""
    with tempfile.TemporaryDirectory() as folder, _gateway(Path(folder)) as app:

        def ask(body: bytes, headers: Mapping[str, str]) -> str:
            told: dict[str, str] = {}

            def start(status: str, answered: list[tuple[str, str]], *_: Any) -> Any:
                if not status.startswith("200"):
                    raise RuntimeError(status)
                told.update(answered)

            answer = app(_environ(body, headers), start)
            b"".join(answer)
            getattr(answer, "close", lambda: None)()
            return told["Server-Timing"]

        return _cost(ask, requests)


def _cost(ask: Callable[[bytes, Mapping[str, str]], str], requests: int) -> Cost:
    return Cost(
        _median(ask, requests, *_as_bytes()), _median(ask, max(requests // 10, 5), *_as_json())
    )


def _median(
    ask: Callable[[bytes, Mapping[str, str]], str],
    requests: int,
    body: bytes,
    headers: Mapping[str, str],
) -> float:
    taken = []
    for _ in range(requests):
        started = perf_counter()
        timing = ask(body, headers)
        milliseconds = (perf_counter() - started) * 1e3
        match = _RUN.search(timing)
        if match is None:
            raise RuntimeError(f"Server-Timing tells no run: {timing}")
        taken.append(milliseconds - float(match[1]))
    return median(taken[len(taken) // 10 :])  # The first ones warm up.


def _picture() -> Any:
    return np.random.default_rng(7).random(SHAPE, np.float32)


def _request(**tensor: Any) -> bytes:
    given = {"name": "x", "shape": SHAPE, "datatype": "FP32", **tensor}
    return json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()


def _as_bytes() -> tuple[bytes, dict[str, str]]:
    raw = _picture().tobytes()
    head = _request(parameters={"binary_data_size": len(raw)})
    length = {"Inference-Header-Content-Length": str(len(head))}
    return head + raw, {**length, "Content-Type": "application/octet-stream"}


def _as_json() -> tuple[bytes, dict[str, str]]:
    return _request(data=_picture().ravel().tolist()), {"Content-Type": "application/json"}


def _write_model(folder: Path) -> Path:
    """Write a model that gives the mean of each channel."""
    node = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0)
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE[1:]])
    given = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([node], "picture", [taken], [given])
    opsets = [helper.make_opsetid("", 17)]
    path = folder / "picture.onnx"
    save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@contextlib.contextmanager
def _gateway(folder: Path) -> Iterator[Any]:
    from prometheus_client import CollectorRegistry

    from gateway.compose import create_gateway
    from gateway.settings import load_settings
    from middleware.logging_setup import configure_logging

    settings = load_settings(state=folder / "state", models=[_write_model(folder)])
    with Path(os.devnull).open("w") as nowhere:
        gateway = create_gateway(
            settings, configure_logging(nowhere, json=True), CollectorRegistry()
        )
        with contextlib.closing(gateway):
            yield gateway


def _environ(body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    named = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    return {
        **named,
        "REQUEST_METHOD": "POST", "PATH_INFO": _PATH, "SCRIPT_NAME": "", "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.binary", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="binary requests of each kind")
    requests = parser.parse_args().requests
    print("milliseconds beyond the model's own run, p50      binary      JSON")
    for name, measured in (("in one process", in_process), ("over a socket", over_a_socket)):
        cost = measured(requests)
        print(f"{name:48}{cost.binary:8.2f}{cost.json:10.2f}")


if __name__ == "__main__":
    main()
