"""The whole gateway as one WSGI application, with every part of it in place."""

from __future__ import annotations

import gc
import io
import json
import re
import sys
import weakref
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from wsgiref.validate import validator

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from prometheus_client import CollectorRegistry
from tiny_onnx import classifier, double, saved
from werkzeug.test import Client

from gateway import compose
from gateway.compose import Gateway, create_gateway
from gateway.settings import Settings, SettingsError
from middleware.log_format import render_json
from middleware.log_sink import LogSink
from portico.accounts.identity import Role
from portico.accounts.passwords import Passwords
from portico.accounts.ports import User
from portico.serving.errors import ArtefactError
from portico.storage.first_start import bootstrap
from portico.storage.opening import database_url, open_accounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from werkzeug.test import TestResponse

OWN = """
import structlog

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise RuntimeError("secret /place")
    if path == "/late":
        return late(start_response)
    if path == "/bind":
        structlog.contextvars.bind_contextvars(left="behind")
    body = repr(structlog.contextvars.get_contextvars()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Request-ID", "mine-own-id")])
    return [body]

def late(start_response):
    raise RuntimeError("secret /place")
    yield b""
"""

MODELS = ("iris", "my flowers")
INFER = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [9, 0]}]}


class Whole:
    """A gateway with its log, its registry and the Flask apps in it."""

    def __init__(self, state: Path, **values: Any) -> None:
        self.stream = io.StringIO()
        self.registry = CollectorRegistry()
        self.sink = LogSink(self.stream, render_json)
        self.flasks: dict[str, Flask] = {}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("home", "ui", "api", "admin", "account", "oip"):
                self._note(patch, name)
            self.gateway: Gateway = create_gateway(
                Settings(state=state, **values), self.sink, self.registry
            )

    def _note(self, patch: pytest.MonkeyPatch, name: str) -> None:
        module = getattr(compose, name)
        real = module.create_app

        def create_app(*arguments: Any, **options: Any) -> Any:
            made = real(*arguments, **options)
            self.flasks["v2" if name == "oip" else name] = getattr(made, "_fallback", made)
            return made

        patch.setattr(module, "create_app", create_app)

    def client(self) -> Client:
        return _Client(validator(self.gateway))

    def lines(self) -> list[dict[str, Any]]:
        self.sink.flush()
        told = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.stream.seek(0)
        self.stream.truncate()
        return [line for line in told if line["event"] == "request"]


class _Client(Client):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models, a state with a first user, and a module with an application of the user's own."""
    folder = tmp_path_factory.mktemp("compose")
    for name in MODELS:
        saved(folder / "models" / name / "1" / "model.onnx", classifier())
    saved(folder / "models" / "iris" / "2" / "model.onnx", classifier(("no", "yes")))
    saved(folder / "double.onnx", double())
    (folder / "compose_own.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def password(folder: Path) -> str:
    made = bootstrap(folder / "state")
    assert made is not None
    return made.password


@pytest.fixture(scope="module")
def whole(folder: Path, password: str) -> Iterator[Whole]:
    mounts = [
        {"prefix": "/own", "app": "compose_own:application", "access": "open"},
        {"prefix": "/shut", "app": "compose_own:application"},
    ]
    made = Whole(
        folder / "state",
        models=(folder / "models",),
        mounts=mounts,
        max_body_bytes=100_000,
        workers=1,
    )
    yield made
    made.gateway.close()


@pytest.fixture
def client(whole: Whole) -> Client:
    whole.lines()
    return whole.client()


@pytest.fixture(scope="module")
def operator(whole: Whole, password: str) -> Client:
    client = whole.client()
    fields = {"name": "admin", "password": password}
    assert client.post("/account/login", data=fields).status_code == 303
    return client


# Every route of every application.


def routes(flask: Flask, prediction: str) -> list[tuple[str, str]]:
    """Return method and path of each rule, filled with names that are there."""
    known = {"name": "iris", "version": "1", "prediction": prediction}
    found = []
    for rule in flask.url_map.iter_rules():
        values = known
        if "/static/" in rule.rule:
            file = "console.js" if "admin" in flask.import_name else "css/portico.css"
            values = {"name": file, "filename": file}
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match, v=values: v[match[1]], rule.rule)  # type: ignore[misc]
        found += [(method, path) for method in sorted(rule.methods or ())]
    return found


def test_every_route_keeps_to_wsgi_and_answers(whole: Whole, operator: Client) -> None:
    prefixes = {"home": ""} | {n: f"/{n}" for n in ("ui", "api", "v2", "admin", "account")}
    assert set(whole.flasks) == set(prefixes)
    row = operator.get("/api/models/iris").json["example"]  # type: ignore[index]
    prediction = operator.post("/api/models/iris/predict", json=row).headers["X-Prediction-ID"]
    whole.gateway._predictions.flush()
    asked = 0
    for name, prefix in prefixes.items():
        for method, path in routes(whole.flasks[name], prediction):
            if name == "account" and method == "POST":
                continue  # Who is logged in is needed by other tests.
            if path.endswith("/unload"):
                continue  # So is the model.
            answer = operator.open(f"{prefix}{path}", method=method)
            asked += 1
            place = f"{method} {prefix}{path}"
            assert answer.status_code < 500, place
            assert answer.status_code not in (401, 404, 405), place
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"]), place
            is_form = (name, method) == ("ui", "POST")  # It shows errors beside their fields.
            if answer.status_code >= 400 and not is_form:
                check_error(answer, answer.status_code)
            if method == "HEAD":
                assert answer.data == b"", place
    assert asked > 60


def test_the_model_repository_is_for_operators_though_the_protocol_is_open(
    client: Client, operator: Client
) -> None:
    assert client.get("/v2").status_code == 200
    check_error(client.post("/v2/repository/index"), 401, "login_required")
    assert {entry["state"] for entry in operator.post("/v2/repository/index").json} == {"READY"}
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    check_error(operator.post("/v2/repository/index", headers=elsewhere), 403, "cross_origin")


def test_loading_and_unloading_is_for_operators_though_the_protocol_is_open(
    whole: Whole, client: Client, operator: Client, folder: Path
) -> None:
    accounts = open_accounts(database_url(folder / "state"))
    accounts.add_user(User("vera", Role.VIEWER, Passwords().hash("correct horse"), 0.0))
    viewer = whole.client()
    fields = {"name": "vera", "password": "correct horse"}
    assert viewer.post("/account/login", data=fields).status_code == 303
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    for action in ("load", "unload"):
        path = f"/v2/repository/models/iris/{action}"
        check_error(client.post(path), 401, "login_required")
        check_error(viewer.post(path), 403, "forbidden")
        check_error(operator.post(path, headers=elsewhere), 403, "cross_origin")
    assert client.get("/v2/models/iris/ready").status_code == 200


def test_an_unloaded_model_is_told_everywhere_and_harms_nobody(
    whole: Whole, client: Client, operator: Client
) -> None:
    assert operator.post("/v2/repository/models/my flowers/unload").json == {}
    refused = client.post("/v2/models/my flowers/infer", json=INFER)
    error = check_error(refused, 503, "model_unavailable")
    assert error["error"] == "model 'my flowers' was unloaded by an operator"
    assert "Retry-After" not in refused.headers
    check_error(client.post("/api/models/my flowers/predict", json={}), 503, "model_unavailable")
    check_error(client.get("/v2/models/my flowers"), 503, "model_unavailable")
    for path in ("ready", "versions/1/ready"):
        assert client.get(f"/v2/models/my flowers/{path}").status_code == 503
    for path in ("/readyz", "/v2/health/ready", "/v2/models/iris/ready"):
        assert client.get(path).status_code == 200
    assert client.get("/readyz").json["models"]["my flowers"] == {"1": "unloaded"}  # type: ignore[index]
    page = client.get("/ui/models/my flowers")
    assert page.status_code == 503
    assert "An operator has taken this model out of service" in page.text
    assert "Refresh" not in page.headers
    assert "unloaded" in operator.get("/admin/models").text
    index = operator.post("/v2/repository/index").json
    (entry,) = (e for e in index if e["name"] == "my flowers")  # type: ignore[union-attr]
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")

    for _ in range(2):  # What is loaded is not loaded again.
        assert operator.post("/v2/repository/models/my flowers/load").json == {}
        served = whole.gateway.catalogue.served("my flowers")
    assert served is whole.gateway.catalogue.served("my flowers")
    assert client.post("/v2/models/my flowers/infer", json=INFER).status_code == 200


def test_nothing_holds_a_model_that_was_unloaded(
    whole: Whole, client: Client, operator: Client
) -> None:
    for path in ("/v2/models/iris/infer", "/v2/models/iris/versions/1/infer"):
        assert client.post(path, json=INFER).status_code == 200
    assert client.get("/ui/models/iris").status_code == 200
    closed: list[str] = []
    for version in ("1", "2"):
        served = whole.gateway.catalogue.served("iris", version)
        weakref.finalize(served._batcher._runtime, closed.append, version)
    del served
    assert operator.post("/v2/repository/models/iris/unload").status_code == 200
    gc.collect()
    assert sorted(closed) == ["1", "2"]
    assert operator.post("/v2/repository/models/iris/load").status_code == 200


def test_a_gateway_whose_models_are_all_unloaded_is_ready(
    whole: Whole, client: Client, operator: Client
) -> None:
    for name in MODELS:
        assert operator.post(f"/v2/repository/models/{name}/unload").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    for name in MODELS:
        assert operator.post(f"/v2/repository/models/{name}/load").status_code == 200


def check_error(answer: TestResponse, status: int, code: str | None = None) -> dict[str, Any]:
    """Hold an error to its one shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    if answer.request.method == "HEAD":
        return {}
    told: dict[str, Any] = json.loads(answer.data)
    assert list(told) == ["error", "code", "request_id", "details"]
    assert told["request_id"] == answer.headers["X-Request-ID"]
    assert told["error"]
    assert re.fullmatch(r"[a-z_]+", told["code"])
    assert all(set(detail) == {"where", "problem"} for detail in told["details"])
    for secret in ("Traceback", "secret", "/place", str(Path(__file__).parents[2])):
        assert secret not in answer.text
    if code:
        assert told["code"] == code
    return told


@pytest.mark.parametrize("prefix", ["", "/ui", "/api", "/v2", "/admin", "/account"])
def test_nothing_there_is_404_in_every_mount(operator: Client, prefix: str) -> None:
    check_error(operator.get(f"{prefix}/nothing/there"), 404, "not_found")
    page = operator.get(f"{prefix}/nothing/there", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.mimetype == "text/html"
    assert page.headers["X-Request-ID"] in page.text


@pytest.mark.parametrize(
    "path", ["/", "/ui/", "/api/models", "/v2/", "/v2/models/iris", "/admin/", "/healthz"]
)
def test_a_wrong_method_is_405_in_every_mount(operator: Client, path: str) -> None:
    answer = operator.delete(path)
    check_error(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "path", ["/", "/ui/models/iris", "/api/models/iris/predict", "/v2/models/iris/infer",
             "/account/login", "/own/", "/nothing"],
)  # fmt: skip
def test_a_body_that_is_too_large_is_413_in_every_mount(client: Client, path: str) -> None:
    check_error(client.post(path, data=b"x" * 100_001), 413, "body_too_large")


@pytest.mark.parametrize("path", ["/api/models/iris/predict", "/v2/models/iris/infer"])
def test_a_body_that_is_no_json_is_400(client: Client, path: str) -> None:
    told = check_error(client.post(path, data=b"{"), 400, "invalid_input")
    assert told["details"][0]["where"] == "body"


@pytest.mark.parametrize("path", ["/own/raise", "/own/late"])
def test_a_mounted_application_that_raises_is_500_without_details(
    client: Client, whole: Whole, path: str
) -> None:
    check_error(client.get(path), 500, "internal_error")
    page = client.get(path, headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (500, "text/html")
    assert "secret" not in page.text
    assert [(line["mount"], line["status"]) for line in whole.lines()] == [("own", 500)] * 2


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/rose", "unknown_model"),
        ("/v2/models/rose", "unknown_model"),
        ("/v2/models/iris/versions/9", "unknown_version"),
        ("/ui/models/rose", "unknown_model"),
    ],
)
def test_an_unknown_model_is_404_in_every_mount(client: Client, path: str, code: str) -> None:
    check_error(client.get(path), 404, code)


# Facts of a request.


def test_the_log_line_of_an_answer_holds_its_facts(client: Client, whole: Whole) -> None:
    body = json.dumps(INFER).encode()
    answer = client.post("/v2/models/iris/infer", data=body, headers={"X-Request-ID": "my-id-123"})
    assert answer.headers["X-Request-ID"] == "my-id-123"
    (line,) = whole.lines()
    assert line["duration_ms"] > 0
    assert {key: line[key] for key in line if key not in ("time", "duration_ms", "remote")} == {
        "level": "info",
        "event": "request",
        "method": "POST",
        "path": "/v2/models/iris/infer",
        "mount": "v2",
        "route": "/models/<name>/infer",
        "status": 200,
        "bytes_in": len(body),
        "bytes_out": len(answer.data),
        "request_id": "my-id-123",
        "model": "iris",
        "version": "2",
    }


@pytest.mark.parametrize(
    ("path", "mount", "route", "version"),
    [
        ("/v2/models/my%20flowers/versions/1/infer", "v2",
         "/models/<name>/versions/<version>/infer", "1"),
        ("/v2/models/iris/infer/", "v2", "/models/<name>/infer", "2"),
        ("/api/models/iris/predict", "api", "/models/<name>/predict", "2"),
        ("/api/models/iris/versions/1/predict", "api",
         "/models/<name>/versions/<version>/predict", "1"),
    ],
)  # fmt: skip
def test_every_way_to_ask_is_logged_with_its_model(
    client: Client, whole: Whole, path: str, mount: str, route: str, version: str
) -> None:
    payload = INFER if mount == "v2" else {"x1": 9, "x2": 0}
    assert client.post(path, json=payload).status_code == 200
    (line,) = whole.lines()
    assert (line["mount"], line["route"], line["version"]) == (mount, route, version)


def test_who_asks_is_logged_and_nothing_secret(operator: Client, whole: Whole) -> None:
    whole.lines()
    operator.get("/admin/?token=hush")
    whole.sink.flush()
    assert "hush" not in whole.stream.getvalue()
    (line,) = whole.lines()
    assert (line["identity"], line["mount"], line["path"]) == ("admin", "admin", "/admin/")


def test_nothing_leaks_from_one_request_to_the_next(client: Client) -> None:
    assert "left" in client.get("/own/bind").text
    assert client.get("/own/").text == "{}"
    first, second = client.get("/own/"), client.get("/own/")
    ids = [answer.headers.getlist("X-Request-ID") for answer in (first, second)]
    assert all(len(found) == 1 for found in ids)
    assert ids[0] != ids[1]
    assert ["mine-own-id"] not in ids


def test_the_session_cookie_goes_no_further_than_the_gateway(
    operator: Client, whole: Whole
) -> None:
    assert operator.get("/own/").status_code == 200
    (line,) = whole.lines()[-1:]
    assert line["identity"] == "admin"


def test_requests_are_counted_under_their_mount_and_route(client: Client, whole: Whole) -> None:
    def counted(**labels: str) -> float:
        return whole.registry.get_sample_value("portico_http_requests_total", labels) or 0

    route = {"mount": "v2", "method": "POST", "route": "/models/<name>/infer", "status": "200"}
    before = counted(**route)
    client.post("/v2/models/iris/infer", json=INFER)
    assert counted(**route) == before + 1
    scraped = client.get("/metrics").text
    assert 'portico_model_ready{model="iris",version="2"} 1.0' in scraped
    assert "portico_build_info{" in scraped


# Access.

EVERYWHERE = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/account/login",
              "/static/css/portico.css", "/open/"}  # fmt: skip
AUTO = {"/", "/ui/", "/ui/models/double", "/api/models", "/api/docs", "/v2", "/v2/",
        "/v2/models/double", "/metrics", "/nothing"}  # fmt: skip
NEVER = {"/admin/", "/admin/models", "/account/", "/shut/", "/shut"}


@pytest.mark.parametrize(
    ("values", "is_open"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "127.0.0.1", "trusted_proxies": ("127.0.0.1",)}, False),
    ],
)
def test_who_listens_to_others_asks_them_to_log_in(
    folder: Path, values: dict[str, Any], is_open: bool
) -> None:
    mounts = [
        {"prefix": "/open", "app": "compose_own:application", "access": "open"},
        {"prefix": "/shut", "app": "compose_own:application"},
    ]
    whole = Whole(folder / "state", models=(folder / "double.onnx",), mounts=mounts, **values)
    client = whole.client()
    for path in EVERYWHERE | (AUTO if is_open else set()):
        assert client.get(path).status_code in (200, 404), path
    for path in NEVER | (set() if is_open else AUTO):
        told = check_error(client.get(path), 401, "login_required")
        assert told["error"] == "Please log in first."
        page = client.get(path, headers={"Accept": "text/html"})
        assert page.status_code == 303, path
        assert page.headers["Location"].startswith("/account/login?next=/"), path
    infer = client.post("/v2/models/double/infer", json=INFER)
    assert infer.status_code == (200 if is_open else 401)
    whole.gateway.close()


def test_the_settings_open_and_close_each_mount(folder: Path) -> None:
    access = {"home": "login", "ui": "role:viewer", "api": "open", "metrics": "open"}
    whole = Whole(folder / "state", host="0.0.0.0", models=(folder / "double.onnx",), access=access)
    client = whole.client()
    told = {
        path: client.get(path).status_code for path in ("/", "/ui/", "/api/", "/v2", "/metrics")
    }
    assert told == {"/": 401, "/ui/": 401, "/api/": 200, "/v2": 200, "/metrics": 200}
    whole.gateway.close()


def test_an_operator_enters_everywhere(operator: Client) -> None:
    for path in AUTO - {"/nothing", "/ui/models/double", "/v2/models/double"}:
        assert operator.get(path).status_code == 200, path
    for path in ("/admin/", "/shut/", "/account/"):
        assert operator.get(path).status_code == 200, path


def test_who_claims_to_be_somebody_is_nobody(client: Client) -> None:
    claims = {"REMOTE_USER": "admin", "HTTP_X_FORWARDED_USER": "admin",
              "HTTP_X_FORWARDED_PREFIX": "/evil"}  # fmt: skip
    assert client.get("/admin/", environ_overrides=claims).status_code == 401
    assert "/evil" not in client.get("/", environ_overrides=claims).text


# The standard's path, and the outer prefix.


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_protocols_root_answers_with_and_without_a_slash(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["name"] == "portico"


@pytest.mark.parametrize("prefix", ["/ui", "/api", "/admin", "/account"])
def test_a_mount_without_its_slash_leads_to_it_or_answers(operator: Client, prefix: str) -> None:
    answer = operator.get(prefix, base_url="http://localhost/ml/")
    assert answer.status_code in (200, 308)
    if answer.status_code == 308:
        assert answer.headers["Location"] == f"/ml{prefix}/"


class Links(HTMLParser):
    """Every attribute that leads somewhere, and those that only look like it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.others: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            leads = ("href", "src", "action", "formaction", "poster", "srcset", "data")
            is_link = name in leads or name.startswith("data-")
            (self.links if is_link else self.others).append(value or "")


PAGES = ("/", "/ui/", "/ui/models/iris", "/ui/models/my%20flowers", "/account/login", "/account/",
         "/api/docs", "/admin/", "/admin/models", "/nothing")  # fmt: skip


@pytest.mark.parametrize("root", ["", "/ml", "/größe/x"])
def test_no_link_of_any_page_escapes_the_outer_prefix_or_leads_nowhere(
    operator: Client, root: str
) -> None:
    base = f"http://localhost{root}/"
    waiting, seen = list(PAGES), set(PAGES)
    while waiting:
        path = waiting.pop()
        answer = operator.get(path, base_url=base, headers={"Accept": "text/html,*/*"})
        location = answer.headers.get("Location")
        if location is not None:
            assert unquote(location).startswith(f"{root}/"), path
            continue
        assert answer.status_code == (404 if path == "/nothing" else 200), path
        if answer.mimetype != "text/html":
            continue
        page = Links(answer.text)
        for link in page.links:
            target = urlsplit(link)
            assert not target.netloc, f"{path} links to {link}"
            assert target.scheme in ("", "data"), f"{path} links to {link}"
            if not link.startswith("/"):
                continue
            assert unquote(link).startswith(f"{root}/"), f"{path} links to {link}"
            inner = unquote(target.path).removeprefix(root)
            if inner not in seen and "logout" not in inner and len(seen) < 60:
                seen.add(inner)
                waiting.append(inner)
        assert not [v for v in page.others if v.startswith(("/", "http:", "https:"))], path
    assert len(seen) > len(PAGES) + 5


def test_documents_know_the_outer_prefix(client: Client) -> None:
    base = "http://localhost/ml/"
    openapi = client.get("/api/openapi.json", base_url=base).json
    assert openapi is not None
    assert openapi["servers"] == [{"url": "/ml"}]
    links = client.get("/api/", base_url=base).json
    assert links is not None
    assert all(link.startswith("/ml/") for link in links.values())


def test_the_login_returns_to_where_it_was_asked_for(client: Client) -> None:
    answer = client.get(
        "/admin/models?x=1", base_url="http://localhost/ml/", headers={"Accept": "text/html"}
    )
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/ml/account/login?next=/ml/admin/models%3Fx%3D1"


# Making and ending.


def test_a_mount_that_cannot_be_imported_stops_the_start(folder: Path) -> None:
    with pytest.raises(SettingsError, match="'compose_own:nothing' cannot be imported"):
        Whole(folder / "state", mounts=[{"prefix": "/x", "app": "compose_own:nothing"}])


def test_models_that_are_not_there_stop_the_start(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        Whole(folder / "state", models=(folder / "gone",))


def test_two_gateways_live_beside_each_other(folder: Path, client: Client) -> None:
    other = Whole(folder / "other state", models=(folder / "double.onnx",), title="Other")
    assert "Other" in other.client().get("/").text
    assert "double" not in client.get("/").text
    other.gateway.close()


def test_what_is_buffered_is_written_at_the_end(folder: Path) -> None:
    whole = Whole(folder / "state", models=(folder / "double.onnx",))
    whole.client().get("/healthz")
    whole.gateway.close()
    assert '"path":"/healthz"' in whole.stream.getvalue().replace(" ", "")
