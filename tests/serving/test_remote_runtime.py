"""Remote models: requests as the protocol has them, and what each failure of the server becomes."""

from __future__ import annotations

import json
import socket
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.errors import (
    ArtefactError,
    DeadlineExceeded,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
)
from portico.serving.runtimes.registry import open_runtime
from portico.serving.runtimes.remote import RemoteModel
from portico.serving.signature import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LENGTH = "Inference-Header-Content-Length"
METADATA = {
    "name": "double",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Doubler(BaseHTTPRequestHandler):
    """A server of one model that doubles, with and without the binary extension."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/ml/v2":
            self.answer({"extensions": ["binary_tensor_data"] if self.server.binary else []})  # type: ignore[attr-defined]
        elif self.path in ("/ml/v2/models/dou%20ble", "/ml/v2/models/dou%20ble/versions/3"):
            self.answer(self.server.metadata)  # type: ignore[attr-defined]
        else:
            self.answer({"error": "gone"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.seen.append((self.path, dict(self.headers), body))
        if server.reply is not None:
            server.reply(self)
            return
        length = int(self.headers.get(LENGTH, len(body)))
        request = json.loads(body[:length])
        shape = request["inputs"][0]["shape"]
        output = {"name": "y", "datatype": "FP32", "shape": shape}
        if LENGTH in self.headers:
            raw = (np.frombuffer(body[length:], dtype="<f4") * 2).tobytes()
            output["parameters"] = {"binary_data_size": len(raw)}
            self.answer({"outputs": [output]}, tail=raw)
        else:
            data = [None if v is None else 2 * v for v in request["inputs"][0]["data"]]
            self.answer({"outputs": [{**output, "data": data}]})

    def answer(self, content: Any, status: int = 200, tail: bytes = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + len(tail)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if tail:
            self.send_header(LENGTH, str(len(body)))
        self.end_headers()
        self.wfile.write(body + tail)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Doubler)
    server.daemon_threads = True
    server.binary, server.reply, server.metadata, server.seen = True, None, METADATA, []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def written(folder: Path, port: int, more: str = "") -> Path:
    path = folder / "model.remote.toml"
    path.write_text(f'url = "http://127.0.0.1:{port}/ml/"\nmodel = "dou ble"\n{more}')
    return path


@pytest.fixture
def model(server: Any, tmp_path: Path) -> Iterator[RemoteModel]:
    model = RemoteModel(written(tmp_path, server.server_port, "timeout = 0.5"))
    yield model
    model.close()


X = np.array([[1, 2], [3, np.nan]], dtype=np.float32)


def test_the_metadata_tell_the_signature(model: RemoteModel) -> None:
    assert model.platform == "portico_remote"
    assert [(s.name, s.shape) for s in model.signature.inputs] == [("x", (-1, 2))]
    assert [f.name for f in model.signature.features] == ["x1", "x2"]
    assert model.signature.answer.kind is AnswerKind.TENSORS


def test_tensors_travel_as_bytes(model: RemoteModel, server: Any) -> None:
    np.testing.assert_array_equal(model.run({"x": X}, None)["y"], X * 2)
    path, headers, body = server.seen[-1]
    length = int(headers[LENGTH])
    assert path == "/ml/v2/models/dou%20ble/infer"
    assert json.loads(body[:length]) == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2],
             "parameters": {"binary_data_size": 16}}
        ],
        "outputs": [{"name": "y"}],
        "parameters": {"binary_data_output": True},
    }  # fmt: skip
    assert body[length:] == struct.pack("<4f", 1, 2, 3, np.nan)


def test_tensors_travel_as_json_where_the_server_knows_no_other_way(
    server: Any, tmp_path: Path
) -> None:
    server.binary = False
    model = RemoteModel(written(tmp_path, server.server_port, 'version = "3"'))
    np.testing.assert_array_equal(model.run({"x": X}, ("y",))["y"], X * 2)
    path, headers, body = server.seen[-1]
    assert path == "/ml/v2/models/dou%20ble/versions/3/infer"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["inputs"][0]["data"] == [1, 2, 3, None]
    model.close()


def test_a_secret_comes_from_the_environment(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        tmp_path, server.server_port, '[headers]\nAuthorization = "PORTICO_REMOTE_TOKEN"'
    )
    with pytest.raises(ArtefactError, match="PORTICO_REMOTE_TOKEN is not set"):
        RemoteModel(path)
    monkeypatch.setenv("PORTICO_REMOTE_TOKEN", "Bearer 42")
    model = RemoteModel(path)
    model.run({"x": X}, None)
    assert server.seen[-1][1]["Authorization"] == "Bearer 42"
    model.close()


def test_a_file_may_tell_what_the_server_does_not(server: Any, tmp_path: Path) -> None:
    server.metadata = {"name": "double"}
    path = written(tmp_path, server.server_port)
    with pytest.raises(ArtefactError, match=r"list them in the file, as \[\[inputs\]\]"):
        RemoteModel(path)
    tensors = "".join(
        f'[[{side}]]\nname = "{name}"\ndatatype = "FP32"\nshape = [-1, 2]\n'
        for side, name in (("inputs", "x"), ("outputs", "y"))
    )
    model = RemoteModel(written(tmp_path, server.server_port, tensors))
    np.testing.assert_array_equal(model.run({"x": X}, None)["y"], X * 2)
    model.close()


# Failures of the server.


def refuses(status: int, content: Any, **headers: str) -> Any:
    return lambda handler: handler.answer(content, status, **headers)


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (400, ModelRefused, "the model refused the input: x is too large"),
        (422, ModelRefused, "the model refused the input: x is too large"),
        (401, ModelFailed, "does not let this one in"),
        (403, ModelFailed, "does not let this one in"),
        (404, ModelUnavailable, "has no such model"),
        (302, ModelFailed, "failed"),
        (500, ModelFailed, r"the remote model failed \(500\)"),
        (502, ModelFailed, r"the remote model failed \(502\)"),
        (429, ModelUnavailable, "cannot answer now"),
        (503, ModelUnavailable, "cannot answer now"),
        (504, DeadlineExceeded, "gave no answer in time"),
    ],
)
def test_each_status_becomes_what_it_means(
    model: RemoteModel, server: Any, status: int, kind: type[Exception], sentence: str
) -> None:
    server.reply = refuses(status, {"error": "x is too large\nat line 3"}, Location="/ml/v2")
    with pytest.raises(kind, match=sentence) as caught:
        model.run({"x": X}, None)
    assert "line 3" not in str(caught.value)
    assert len(server.seen) == 1, "what was sent is never repeated"


def test_a_server_that_says_when_to_come_again_is_believed(model: RemoteModel, server: Any) -> None:
    server.reply = refuses(503, {}, Retry_After="7")
    with pytest.raises(ModelUnavailable) as caught:
        model.run({"x": X}, None)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"\xff",
        {"outputs": []},
        {"outputs": [{"name": "z", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]},
        {"outputs": [{"name": "y", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": ["a"] * 4}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2],
                      "parameters": {"binary_data_size": 16}}]},
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_failure(model: RemoteModel, server: Any, content: Any) -> None:
    server.reply = refuses(200, content)
    with pytest.raises(ModelFailed, match="cannot be read"):
        model.run({"x": X}, None)


def test_a_server_that_hangs_is_given_up_after_the_timeout(model: RemoteModel, server: Any) -> None:
    done = Event()
    server.reply = lambda _: done.wait(5)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 seconds"):
        model.run({"x": X}, None)
    done.set()


def test_a_connection_that_breaks_is_a_failure(model: RemoteModel, server: Any) -> None:
    server.reply = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ModelFailed, match="connection to the remote server broke"):
        model.run({"x": X}, None)


def test_a_server_that_is_gone_is_unavailable(tmp_path: Path, server: Any) -> None:
    model = RemoteModel(written(tmp_path, server.server_port, "retries = 1"))
    server.shutdown()
    server.server_close()
    model.close()  # Connections that are open would still be answered.
    with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
        model.run({"x": X}, None)
    assert caught.value.retry_after == 1


# Files.


def test_a_file_is_a_model_of_its_name(server: Any, tmp_path: Path) -> None:
    file = written(tmp_path, server.server_port).rename(tmp_path / "twice.remote.toml")
    (artefact,) = find_artefacts(file)
    assert artefact.model == "twice"
    model = open_runtime(artefact.file(), 1, Allowance.of(tmp_path))
    assert isinstance(model, RemoteModel)
    model.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "missing required field `url`"),
        ("url = 3", "cannot be read"),
        ("[[[", "cannot be read"),
        ('url = "http://h"\nmodel = "m"\nspeed = 3', "unknown field `speed`"),
        ('url = "http://h"\nmodel = "m"\ntimeout = 0', "timeout"),
        ('url = "file:///etc/passwd"\nmodel = "m"', "url must be like"),
        ('url = "http://ada:hunter2@h"\nmodel = "m"', "url holds a user"),
        ('url = "http://h"\nmodel = "m"\n[headers]\nA = "PATH"', "begins with PORTICO_REMOTE_"),
        ('url = "http://127.0.0.1:9"\nmodel = "m"\nretries = 0', "cannot be reached"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "model.remote.toml"
    path.write_text(content)
    with pytest.raises(ArtefactError) as caught:
        RemoteModel(path)
    assert reason in caught.value.message
    assert "hunter2" not in caught.value.message
