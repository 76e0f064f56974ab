"""A model that lives on another Open Inference Protocol server, served like one that lives here.

A file ``model.remote.toml`` says where it is. Its metadata tell the signature; its answers come as
bytes where that server knows the binary extension, and as JSON where not.

Source: Open Inference Protocol, "HTTP/REST" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np
import orjson
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)

from portico.serving.codecs.binary_tensors import HEADER
from portico.serving.codecs.raw_tensors import array_from_raw, raw_from_array
from portico.serving.errors import (
    ArtefactError,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
    ServingError,
)
from portico.serving.signature import Signature, answer_of, features_of
from portico.serving.tensors import Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ENVIRONMENT: Final = "PORTICO_REMOTE_"
"""How variables begin that a file may send as headers: no other secret of this process leaks."""

_CONNECTIONS: Final = 32
_BINARY: Final = "binary_tensor_data"
_MOST_BYTES: Final = 64 * 1024
"""Of a remote file; it holds a few lines."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class RemoteTensor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An input or output, for servers whose metadata tell none."""

    name: str
    datatype: Datatype
    shape: list[int]


class RemoteFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a ``.remote.toml`` holds.

    Attributes:
        url: of the server, without ``/v2``.
        model: its name there.
        version: there; empty for the one that the server chooses.
        headers: from a header's name to the environment variable that holds its value.
        timeout: seconds for an answer.
        connect_timeout: seconds for a connection.
        retries: further tries to connect.
        inputs: where the metadata tell none.
        outputs: where the metadata tell none.
    """

    url: str
    model: str
    version: str = ""
    headers: dict[str, str] = {}
    timeout: Seconds = 30.0
    connect_timeout: Seconds = 2.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    inputs: list[RemoteTensor] = []
    outputs: list[RemoteTensor] = []


class _Metadata(msgspec.Struct):
    inputs: list[RemoteTensor] = []
    outputs: list[RemoteTensor] = []


class _Server(msgspec.Struct):
    extensions: list[str] = []


class _OutputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class _Output(msgspec.Struct):
    name: str
    datatype: Datatype
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    parameters: _OutputParameters = msgspec.field(default_factory=_OutputParameters)
    data: list[Any] = []


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Error(msgspec.Struct):
    error: str = ""


class RemoteModel:
    """One model on another server, over connections that are kept.

    Args:
        path: the file that says where.

    Raises:
        ArtefactError: the file is wrong, or the server cannot be reached or has no such model.
    """

    platform = "portico_remote"
    concurrency: int | None = None

    def __init__(self, path: Path) -> None:
        told = _read(path)
        self._told = told
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            headers={"Accept": "application/json", **_headers(told.headers, path.name)},
            timeout=urllib3.Timeout(connect=told.connect_timeout, read=told.timeout),
            retries=urllib3.Retry(
                total=told.retries, connect=told.retries, read=0, status=0, redirect=0, other=0,
                backoff_factor=0.05,
            ),
        )  # fmt: skip
        base = f"{told.url.rstrip('/')}/v2"
        self._path = f"{base}/models/{quote(told.model, safe='')}"
        if told.version:
            self._path += f"/versions/{quote(told.version, safe='')}"
        try:
            server = self._get(base, _Server)
            self._is_binary = _BINARY in server.extensions
            self.signature = _signature(told, self._get(self._path, _Metadata))
        except ServingError as error:
            self.close()
            raise ArtefactError(f"'{path.name}': {error.message}") from error

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Ask the server; see :class:`portico.serving.ports.Runtime`.

        Raises:
            ModelRefused: the server refused the request; with its sentence.
            ModelFailed: the server failed, or answered what is no answer.
            ModelUnavailable: the server cannot be reached, or cannot answer now.
            DeadlineExceeded: no answer came in time.
        """
        names = outputs or tuple(self.signature.output_by_name)
        body, headers = self._encoded(inputs, names)
        response = self._ask("POST", f"{self._path}/infer", body, headers)
        try:
            return self._decoded(response.data, response.headers.get(HEADER), names)
        except (InvalidInput, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFailed("the remote model's answer cannot be read") from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _get(self, url: str, kind: Any) -> Any:
        response = self._ask("GET", url, None, {})
        try:
            return msgspec.json.decode(response.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelFailed(f"the server's metadata cannot be read: {error}") from error

    def _ask(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(
                method, url, body=body, headers={**self._pool.headers, **headers}, redirect=False
            )
        except MaxRetryError as error:
            raise self._unreached(error.reason or error) from error
        except HTTPError as error:
            raise self._unreached(error) from error
        if response.status != 200:
            raise _refusal(response)
        return response

    def _unreached(self, error: Exception) -> ServingError:
        if isinstance(error, ReadTimeoutError):
            return DeadlineExceeded(f"no answer came within {self._told.timeout:g} seconds")
        if isinstance(error, ConnectTimeoutError | NewConnectionError):
            return ModelUnavailable("the remote server cannot be reached", retry_after=1)
        return ModelFailed("the connection to the remote server broke")

    def _encoded(self, inputs: Tensors, names: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        members: list[dict[str, Any]] = []
        raws: list[Array] = []
        for name, array in inputs.items():
            datatype = self.signature.input_by_name[name].datatype
            member: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
            if self._is_binary:
                raws.append(raw_from_array(array))
                member["parameters"] = {"binary_data_size": raws[-1].nbytes}
            else:
                member["data"] = array.ravel().tolist()
            members.append(member)
        request = {"inputs": members, "outputs": [{"name": name} for name in names]}
        if not self._is_binary:
            return orjson.dumps(request), {"Content-Type": "application/json"}
        head = orjson.dumps({**request, "parameters": {"binary_data_output": True}})
        headers = {"Content-Type": "application/octet-stream", HEADER: str(len(head))}
        return b"".join([head, *(raw.data for raw in raws)]), headers

    def _decoded(self, body: bytes, length: str | None, names: Sequence[str]) -> Tensors:
        end = len(body) if length is None else int(length)
        answer = msgspec.json.decode(body[:end], type=_Answer)
        tail, start = memoryview(body)[end:], 0
        found: Tensors = {}
        for output in answer.outputs:
            spec = self.signature.output_by_name[output.name]
            shape, size = tuple(output.shape), output.parameters.binary_data_size
            if output.datatype != spec.datatype or not spec.admits(shape):
                raise ValueError(f"'{output.name}' has another datatype or shape than announced")
            if size is None:
                found[output.name] = _array(output, shape)
            else:
                piece = tail[start : start + size]
                found[output.name] = array_from_raw(piece, spec.datatype, shape, output.name)
                start += size
        return {name: found[name] for name in names}


def _read(path: Path) -> RemoteFile:
    try:
        with path.open("rb") as file:
            told = msgspec.toml.decode(file.read(_MOST_BYTES), type=RemoteFile)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtefactError(f"'{path.name}' cannot be read: {reason}") from error
    url = urlsplit(told.url)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ArtefactError(f"'{path.name}': url must be like https://host:8000")
    if url.username is not None:
        raise ArtefactError(
            f"'{path.name}': url holds a user; give secrets by [headers], from the environment"
        )
    return told


def _headers(named: Mapping[str, str], file: str) -> dict[str, str]:
    """Return headers with their values from the environment."""
    headers = {}
    for header, variable in named.items():
        if not variable.startswith(ENVIRONMENT):
            raise ArtefactError(
                f"'{file}': header {header} must name an environment variable that begins with "
                f"{ENVIRONMENT}"
            )
        if variable not in os.environ:
            raise ArtefactError(f"'{file}': the environment variable {variable} is not set")
        headers[header] = os.environ[variable]
    return headers


def _signature(told: RemoteFile, metadata: _Metadata) -> Signature:
    inputs, outputs = (
        tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in given or announced)
        for given, announced in (
            (told.inputs, metadata.inputs),
            (told.outputs, metadata.outputs),
        )
    )
    if not inputs or not outputs:
        raise ModelFailed(
            "the server does not tell the model's inputs and outputs; list them in the file, as "
            '[[inputs]] with name, datatype = "FP32" and shape = [-1, 4]'
        )
    return Signature(inputs, outputs, features_of(inputs), answer_of(outputs))


def _refusal(response: urllib3.BaseHTTPResponse) -> ServingError:
    """Return what an answer other than 200 means here."""
    match response.status:
        case 401 | 403:
            return ModelFailed("the remote server does not let this one in")
        case 404:
            return ModelUnavailable("the remote server has no such model")
        case 408 | 504:
            return DeadlineExceeded("the remote server gave no answer in time")
        case 429 | 503:
            told = response.headers.get("Retry-After", "")
            seconds = int(told) if told.isdecimal() and len(told) < 6 else 1
            return ModelUnavailable("the remote model cannot answer now", retry_after=seconds)
        case status if 400 <= status < 500:
            return ModelRefused(f"the model refused the input: {_sentence(response.data)}")
        case status:
            return ModelFailed(f"the remote model failed ({status})")


def _sentence(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body, type=_Error).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = ""
    return (told.splitlines() or ["the server gave no reason"])[0][:300]


def _array(output: _Output, shape: tuple[int, ...]) -> Array:
    dtype = output.datatype.dtype
    # A null among floats is NaN, which JSON has no word for.
    return np.array(output.data, dtype=dtype).reshape(shape)
