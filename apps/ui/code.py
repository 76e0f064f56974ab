"""How a program asks this very model: commands and scripts that run as they stand."""

from __future__ import annotations

import json
import math
import shlex
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from portico.serving.codecs.rows import tensors_from_rows
from portico.serving.errors import ServingError

if TYPE_CHECKING:
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature
    from portico.serving.tensors import Array, TensorSpec

_LARGEST: Final = 200
"""Elements of a tensor that is written out; a larger one is made by an expression."""

_LONGEST_LINE: Final = 80


class Example(NamedTuple):
    """One way to ask, with its heading."""

    id: str
    title: str
    code: str


def examples_of(served: ServedModel, base: str, version: str | None) -> list[Example]:
    """Return examples for a model, the plain API first.

    Args:
        served: the version that the examples ask.
        base: the gateway's address without a slash at its end.
        version: to be named in the address; None asks whatever version is current.
    """
    path = f"/models/{quote(served.name, safe='')}"
    if version is not None:
        path += f"/versions/{quote(version, safe='')}"
    plain = _with_picture if served.signature.image else _with_rows
    examples = plain(served, f"{base}/api{path}/predict")
    return examples + _protocol(served.signature, f"{base}/v2{path}/infer")


def _with_rows(served: ServedModel, url: str) -> list[Example]:
    row = served.signature.example_row()
    body = json.dumps({"rows": [row]}, ensure_ascii=False)
    return [
        Example("curl", "With curl", _curl(url, body)),
        Example(
            "python", "With Python", _python(url, f"rows = {_literal([row])}", '{"rows": rows}')
        ),
    ]


def _with_picture(served: ServedModel, url: str) -> list[Example]:
    row = served.signature.example_row()
    lines = [f"curl {shlex.quote(url)}", "-F image=@picture.jpg"]
    lines += [f"-F {shlex.quote(f'{name}={value}')}" for name, value in row.items()]
    script = _PICTURE_AND_FIELDS if row else _PICTURE
    return [
        Example("curl", "With curl", " \\\n  ".join(lines)),
        Example("python", "With Python", script.format(url=json.dumps(url), row=_literal(row))),
    ]


def _protocol(signature: Signature, url: str) -> list[Example]:
    """Return examples of the Open Inference Protocol, which sends tensors instead of names."""
    inputs = _tensors(signature)
    title = "Open Inference Protocol"
    if all(math.prod(tensor["shape"]) <= _LARGEST for tensor in inputs):
        body = json.dumps({"inputs": inputs}, ensure_ascii=False)
        curl = [Example("v2-curl", f"{title}, with curl", _curl(url, body))]
    else:
        curl = []
    setup = f"inputs = [\n{''.join(map(_tensor_literal, inputs))}]"
    python = _python(url, setup, '{"inputs": inputs}')
    return [*curl, Example("v2-python", f"{title}, with Python", python)]


def _tensors(signature: Signature) -> list[dict[str, Any]]:
    try:
        arrays = tensors_from_rows(signature, [signature.example_row()])
    except ServingError:
        arrays = {}  # A value that cannot be guessed; blanks show the form all the same.
    return [_tensor(spec, arrays) for spec in signature.inputs]


def _tensor(spec: TensorSpec, arrays: dict[str, Any]) -> dict[str, Any]:
    shape = [_side(spec, axis) if size < 0 else size for axis, size in enumerate(spec.shape)]
    blank = "" if spec.datatype.dtype.kind == "O" else spec.datatype.dtype.type(0).item()
    data = [blank] * math.prod(shape)
    if spec.name in arrays and arrays[spec.name].size == len(data):
        data = _values(arrays[spec.name].reshape(-1))
    return {"name": spec.name, "shape": shape, "datatype": str(spec.datatype), "data": data}


def _values(array: Array) -> list[Any]:
    """Return the values, floats in as few digits as tell them apart in their own precision."""
    return [float(str(v)) for v in array] if array.dtype.kind == "f" else array.tolist()


def _side(spec: TensorSpec, axis: int) -> int:
    """Return a plausible size of a variable axis: one row, and a usual side of a picture."""
    return 224 if len(spec.shape) == 4 and axis > 0 else 1


def _tensor_literal(tensor: dict[str, Any]) -> str:
    data, size = tensor["data"], len(tensor["data"])
    value = _literal(data) if size <= _LARGEST else f"[{_literal(data[0])}] * {size}"
    facts = _literal({name: tensor[name] for name in ("name", "shape", "datatype")})
    return f'    {facts[:-1]},\n     "data": {value}}},\n'


def _curl(url: str, body: str) -> str:
    return (
        f"curl {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}"
    )


def _python(url: str, setup: str, body: str) -> str:
    return _JSON.format(url=json.dumps(url), setup=setup, body=body)


def _literal(value: Any) -> str:
    """Write a value as Python, on more lines where one gets too long."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return _bracketed("{}", [f"{_literal(k)}: {_literal(v)}" for k, v in value.items()])
    if isinstance(value, list):
        return _bracketed("[]", [_literal(v) for v in value])
    return repr(value)


def _bracketed(brackets: str, parts: list[str]) -> str:
    line = brackets[0] + ", ".join(parts) + brackets[1]
    if len(line) <= _LONGEST_LINE:
        return line
    lines = "".join(indent(f"{part},\n", "    ") for part in parts)
    return f"{brackets[0]}\n{lines}{brackets[1]}"


_JSON: Final = """\
import json
from urllib.request import Request, urlopen

{setup}
request = Request(
    {url},
    data=json.dumps({body}).encode(),
    headers={{"Content-Type": "application/json"}},
)
with urlopen(request) as answer:
    print(json.load(answer))
"""

_PICTURE: Final = """\
import json
from pathlib import Path
from urllib.request import Request, urlopen

request = Request(
    {url},
    data=Path("picture.jpg").read_bytes(),
    headers={{"Content-Type": "image/jpeg"}},
)
with urlopen(request) as answer:
    print(json.load(answer))
"""

_PICTURE_AND_FIELDS: Final = """\
import requests

with open("picture.jpg", "rb") as picture:
    answer = requests.post(
        {url},
        files={{"image": picture}},
        data={row},
    )
print(answer.json())
"""
