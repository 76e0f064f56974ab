"""Whatever a client sends wrongly is a 4xx that names the place, at once, on a kept connection."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image

from loadtests.server import Answer, ask

pytestmark = pytest.mark.live

SECONDS = 0.1
"""Within so many seconds each refusal comes."""


def tensor(**changes: Any) -> dict[str, Any]:
    """Return a right infer request for iris, with changes to its one input."""
    right = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    return {"inputs": [{**right, **changes}]}


def raw(text: str) -> bytes:
    """Return a right infer request whose data are written as ``text``."""
    return json.dumps(tensor(data="DATA")).replace('"DATA"', text).encode()


TWICE = '{"name":"input","name":"input","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}'

INFER = {
    "malformed": (b'{"inputs": [', "body"),
    "no-json": (b"hello", "body"),
    "empty": (b"", "empty"),
    "not-utf8": (b'{"inputs": [], "id": "\xff"}', "UTF-8"),
    "array": (b"[]", "body"),
    "wrong-datatype": (tensor(datatype="INT64"), "inputs[0].datatype"),
    "no-datatype": (tensor(datatype="FLOATING"), "inputs[0].datatype"),
    "shape-against-data": (tensor(shape=[2, 4]), "inputs[0].data"),
    "shape-against-model": (tensor(shape=[4, 1]), "inputs[0].shape"),
    "negative-dimension": (tensor(shape=[-1, 4]), "inputs[0].shape"),
    "huge-dimension": (tensor(shape=[2**62, 4]), "inputs[0].data"),
    "gigantic-dimension": (tensor(shape=[2**200, 4]), "inputs[0].shape"),
    "unknown-input": (tensor(name="petals"), "inputs[0].name"),
    "no-input": ({"inputs": []}, "input"),
    "member-missing": ({"inputs": [{"name": "input"}]}, "inputs[0]"),
    "nan": (raw("[NaN,1,2,3]"), "body"),
    "infinity": (raw("[1e999,1,2,3]"), ""),
    "beyond-float32": (raw("[1e39,1,2,3]"), "inputs[0].data[0]"),
    "text": (raw('[1,"two",3,4]'), "inputs[0].data[1]"),
    "null": (raw("[1,2,3,null]"), "inputs[0].data[3]"),
    "ragged": (raw("[[1,2],[3]]"), "inputs[0].data[1]"),
    "nested-otherwise": (raw("[[1,2],[3,4]]"), "inputs[0].data"),
    "duplicate-keys": (f'{{"inputs":[{TWICE}]}}'.encode(), "'name'"),
    "duplicate-members": (b'{"inputs":[],"inputs":[]}', "input"),
    "brackets": (b"[" * 100_000, "body"),
    "brackets-inside": (raw("[" * 100_000 + "]" * 100_000), ""),
    "braces": (b'{"a":' * 100_000, "body"),
    "5000-digits": (raw(f"[{'9' * 5000},1,2,3]"), "inputs[0].data[0]"),
    "5000-digits-shape": (json.dumps(tensor()).replace("[1, 4]", f"[{'9' * 5000}]").encode(), ""),
    "lone-surrogate": (b'{"inputs":[{"name":"\\ud800","shape":[],"datatype":"","data":[]}]}', ""),
    "zip": (b"PK\x03\x04" + bytes(1000), "body"),
}

PREDICT = {
    "malformed": (b'{"rows": [', "body"),
    "empty": (b"", "empty"),
    "not-utf8": (b'{"rows": "\xff"}', "UTF-8"),
    "number": (b"1", "body"),
    "rows-no-array": ({"rows": 1}, "rows"),
    "no-rows": ({"rows": []}, "rows"),
    "row-no-object": ({"rows": [[1, 2, 3, 4]]}, "rows[0]"),
    "missing": ({"rows": [{"sepal_length": 5}]}, "rows[0].petal_width"),
    "unknown": ({"rows": [{"colour": "red"}]}, "colour"),
    "text": ({"sepal_length": "long"}, "rows[0].sepal_length"),
    "null": ({"rows": [{"sepal_length": None}]}, "rows[0].sepal_length"),
    "out-of-range": ({"rows": [{"sepal_length": -5}]}, "between 0.1 and 15"),
    "nan": (b'{"sepal_length": NaN}', "body"),
    "infinity": (b'{"sepal_length": 1e999}', ""),
    "5000-digits": (b'{"sepal_length": ' + b"9" * 5000 + b"}", ""),
    "brackets": (b"[" * 100_000, "body"),
    "brackets-inside": (b'{"rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    "duplicate-keys": (b'{"sepal_length": 5, "sepal_length": 6}', "sepal_length"),
    "lone-surrogate": (b'{"rows": [{"\\ud800": 1}]}', ""),
}

HEADER = "sepal_length,sepal_width,petal_length,petal_width\n"

TABLES = {
    "ragged": (HEADER + "5,3,1,1\n5,3,1\n", "line 3"),
    "too-wide": (HEADER + "5,3,1,1,9\n", "line 2"),
    "text": (HEADER + "5,3,1,1\n5,3,wide,1\n", "line 3, column 'petal_length'"),
    "missing-value": (HEADER + "5,3,,1\n", "line 2, column 'petal_length'"),
    "out-of-range": (HEADER + "5,3,1,100\n", "line 2, column 'petal_width'"),
    "nan": (HEADER + "5,3,nan,1\n", "line 2, column 'petal_length'"),
    "no-header": ("5,3,1,1\n5,3,1,1\n", "line 1"),
    "no-rows": (HEADER, "line 2"),
    "empty": ("", "line 1"),
    "missing-column": ("sepal_length,sepal_width\n1,2\n", "petal_length"),
    "repeated-column": (HEADER.replace("sepal_width", "sepal_length"), "sepal_length"),
    "open-quote": (HEADER + '5,"3,1,1\n', "line"),
    "nul": (HEADER + "5,3,\0,1\n", "line 2"),
    "not-utf8": (HEADER.encode() + b"\xff,3,1,1\n", "text"),
    "endless-field": (HEADER + "5,3,1," + "1" * 200_000 + "\n", "line 2"),
}


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 40)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).save(file, kind)
    return file.getvalue()


def announced(width: int, height: int) -> bytes:
    """Return a PNG whose head announces a size; there is hardly any data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


PICTURES = {
    "50000x50000": (announced(50_000, 50_000), "megapixels"),
    "0x0": (announced(0, 0), ""),
    "half-a-png": (picture()[:700], ""),
    "half-a-jpeg": (picture("JPEG")[:500], ""),
    "head-alone": (picture()[:20], ""),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer<<>>\n%%EOF\n" * 20, ""),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', ""),
    "bmp": (picture("BMP"), ""),
    "tiff": (picture("TIFF"), ""),
    "text": (b"a picture", ""),
    "empty": (b"", ""),
    "zeros": (bytes(10_000), ""),
}


def form(data: bytes, field: str = "image", name: str = "picture.png") -> tuple[bytes, str]:
    """Return a multipart body with one file, and its content type (RFC 7578)."""
    head = (
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return head.encode() + data + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


class Prober:
    """Asks over one connection, and checks that it stays usable and quick."""

    def __init__(self, client: Any, refused: Any) -> None:
        self.client = client
        self.refused = refused

    def __call__(self, method: str, path: str, body: Any, status: int, *parts: str) -> Answer:
        return self.ask(method, path, body, {}, status, *parts)

    def ask(
        self, method: str, path: str, body: Any, headers: dict[str, str], status: int, *parts: str
    ) -> Answer:
        """Ask up to three times, as machines are never quiet; each time it must be refused."""
        connection = self.client.connection
        connection.connect()
        sock = connection.sock
        quickest = 1e9
        for _ in range(3):
            begin = time.perf_counter()
            answer = ask(connection, method, path, body, **headers)
            quickest = min(quickest, time.perf_counter() - begin)
            self.refused(answer, status, *parts)
            if quickest < SECONDS:
                break
        assert quickest < SECONDS
        assert self.client.get("/v2/health/live").status == 200
        assert connection.sock is sock, "the connection was closed"
        return answer


@pytest.fixture
def probe(client, refused):
    return Prober(client, refused)


def cases(table: dict[str, Any]) -> Any:
    return pytest.mark.parametrize(("body", "part"), table.values(), ids=table.keys())


@cases(INFER)
def test_infer_refuses(probe, body, part):
    probe("POST", "/v2/models/iris/infer", body, 400, part)


@cases(PREDICT)
def test_predict_refuses_json(probe, body, part):
    probe("POST", "/api/models/iris/predict", body, 400, part)


@cases(TABLES)
def test_predict_refuses_csv(probe, body, part):
    body = body if isinstance(body, bytes) else body.encode()
    headers = {"Content-Type": "text/csv"}
    probe.ask("POST", "/api/models/iris/predict", body, headers, 400, part)


@cases(PICTURES)
@pytest.mark.parametrize("way", ["body", "form"])
def test_predict_refuses_pictures(probe, body, part, way):
    body, kind = (body, "image/png") if way == "body" else form(body)
    headers = {"Content-Type": kind}
    probe.ask("POST", "/api/models/digits/predict", body, headers, 400, part)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "multipart/form-data; boundary=edge", 400),
        (b"nothing", "multipart/form-data; boundary=edge", 400),
        (b"nothing", "multipart/form-data", 400),
        (form(picture(), name="")[0][:200], "multipart/form-data; boundary=edge", 400),
        (b"{}", "application/json", 400),
        (b"1,2", "text/csv", 400),
        (b"<a/>", "application/xml", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b"a", "no type at all", 415),
        (HEADER.encode(), "text/csv; charset=martian", 400),
    ],
)
def test_predict_refuses_other_bodies(probe, body, kind, status):
    headers = {"Content-Type": kind}
    probe.ask("POST", "/api/models/digits/predict", body, headers, status)


def test_a_model_of_rows_refuses_a_picture(probe):
    headers = {"Content-Type": "image/png"}
    probe.ask("POST", "/api/models/iris/predict", picture(), headers, 400, "rows")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/iris/infer"),
        ("DELETE", "/v2/models/iris"),
        ("POST", "/v2/health/live"),
        ("GET", "/api/models/iris/predict"),
        ("PUT", "/api/models/iris/predict"),
        ("POST", "/api/openapi.json"),
        ("DELETE", "/ui/"),
        ("POST", "/metrics"),
        ("POST", "/readyz"),
        ("BREW", "/v2/models/iris/infer"),
    ],
)
def test_a_wrong_method_is_405(probe, method, path):
    assert probe(method, path, b"", 405, method).headers["Allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nobody/infer",
        "/v2/models/iris/versions/99/infer",
        "/v2/models/iris/versions/one/infer",
        "/api/models/nobody/predict",
        "/api/models/iris/versions/99/predict",
        f"/v2/models/{'x' * 4000}/infer",
        "/v2/models/%00/infer",
        "/v2/models/%ff%fe/infer",
        "/v2/models/..%2f..%2fetc/infer",
        "/nothing/here",
    ],
)
def test_an_unknown_model_or_version_is_404(probe, path):
    probe("POST", path, b"{}", 404)


def test_nothing_reached_the_log_as_a_failure(gateway, client):
    """Runs last in this file: whatever was sent above, no stack was printed."""
    assert client.get("/v2/health/live").status == 200
    lines = [json.loads(line) for line in gateway.err().splitlines() if line.startswith("{")]
    assert lines
    failures = [line for line in lines if "exception" in line or line.get("status", 0) >= 500]
    assert failures == []


def test_a_chunked_body_over_the_limit_is_413(client, refused):
    # A little over, so that all of it is read and the answer is certain to be seen.
    pieces = iter([b"[" * 500_000] * 5)
    refused(client.infer("iris", pieces, Transfer_Encoding="chunked"), 413, "2000000")


def test_an_announced_body_over_the_limit_is_413_before_it_is_sent(gateway):
    head = (
        "POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n"
        "Content-Length: 99999999999\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_form_is_refused_beside_its_field(client):
    answer = client.post(
        "/ui/models/iris",
        "sepal_length=long&sepal_width=3&petal_length=1&petal_width=1",
        Content_Type="application/x-www-form-urlencoded",
    )
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b'id="field-0-problem">' in answer.body
    assert b'id="field-1-problem" hidden>' in answer.body


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe=1&\x00", b"=&=&", b"a" * 100_000],
    ids=["empty", "bytes", "nameless", "long"],
)
def test_a_hostile_form_is_a_page(client, body):
    answer = client.post("/ui/models/iris", body, Content_Type="application/x-www-form-urlencoded")
    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("text/html")
