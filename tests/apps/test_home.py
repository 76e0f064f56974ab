"""The front door: the page, the probes, the scrape, everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry
from werkzeug.test import Client

from apps.home import create_app
from apps.home.readiness import is_ready
from apps.shell.site import MountInfo, Site
from portico.serving.allowance import Allowance
from portico.serving.artefacts import Artefact
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics
from portico.serving.models import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from werkzeug.test import TestResponse

SITE = Site(
    "Gate",
    (
        MountInfo("home", "", "Home"),
        MountInfo("ui", "/ui", "Models", "A form for each model."),
        MountInfo("admin", "/admin", "Console", access="role:operator"),
        MountInfo("account", "/account", "Account"),
        MountInfo("shop", "/my shop", "<i>Shop</i>", "", "login", False, "it is <b>down</b>"),
    ),
)


class _Client(Client):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


def _scrape(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = b"portico_build_info 1.0\n"
    headers = [("Content-Type", "text/plain; version=0.0.4"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _catalogue(tmp_path: Path, *names: str) -> Catalogue:
    for name in names:
        (tmp_path / f"{name}.onnx").write_bytes(b"no model")
    artefacts = [Artefact(name, "1", tmp_path / f"{name}.onnx", tmp_path) for name in names]
    metrics = PredictionMetrics(CollectorRegistry())
    return Catalogue(artefacts, Allowance(tmp_path / "allowed.json"), metrics)


def _client(catalogue: Catalogue, site: Site = SITE) -> Client:
    return _Client(validator(create_app(site, catalogue, _scrape)))


def test_with_nothing_served_the_page_tells_the_first_steps(tmp_path: Path) -> None:
    answer = _client(_catalogue(tmp_path)).get("/")
    assert answer.status_code == 200
    assert "portico serve model.onnx" in answer.text


def test_the_page_tells_why_a_model_is_not_there(tmp_path: Path) -> None:
    catalogue = _catalogue(tmp_path, "broken")
    catalogue.load(30)
    text = _client(catalogue).get("/").text
    assert "cannot be opened as ONNX" in text
    assert 'href="/ui/models/broken"' in text
    assert "First steps" not in text


def test_the_page_lists_the_mounts_and_escapes_what_they_are_called(tmp_path: Path) -> None:
    text = _client(_catalogue(tmp_path)).get("/").text
    assert "&lt;i&gt;Shop&lt;/i&gt;" in text
    assert "it is &lt;b&gt;down&lt;/b&gt;" in text
    assert 'href="/my%20shop/"' in text
    assert "For operators" in text
    assert ">Account</a>" not in text


def test_no_link_leaves_the_outer_prefix(tmp_path: Path) -> None:
    client = _client(_catalogue(tmp_path, "m"))
    environ = {"SCRIPT_NAME": "/ml", "portico.root": "/ml"}
    text = client.get("/", environ_overrides=environ).text
    links = [part.split('"')[0] for word in ('href="', 'src="') for part in text.split(word)[1:]]
    assert all(link.startswith(("/ml/", "#")) for link in links)


def test_alive_says_so_while_models_load(tmp_path: Path) -> None:
    answer = _client(_catalogue(tmp_path, "m")).get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_head_answers_without_a_body(tmp_path: Path, path: str) -> None:
    answer = _client(_catalogue(tmp_path)).head(path)
    assert (answer.status_code, answer.data) == (200, b"")


def test_ready_waits_for_what_loads(tmp_path: Path) -> None:
    catalogue = _catalogue(tmp_path, "m")
    answer = _client(catalogue).get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"ready": False, "models": {"m": {"1": "loading"}}}


def test_ready_keeps_the_reasons_to_the_pages(tmp_path: Path) -> None:
    catalogue = _catalogue(tmp_path, "m")
    catalogue.load(30)
    answer = _client(catalogue).get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"ready": False, "models": {"m": {"1": "failed"}}}


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        ((State.READY, State.FAILED), True),
        ((State.FAILED, State.READY), True),
        ((State.READY, State.LOADING), False),
        ((State.UNREADY, State.READY), True),
        ((State.UNREADY,), False),
        ((State.FAILED,), False),
        ((State.READY,), True),
    ],
)
def test_one_broken_model_does_not_take_the_others_out_of_service(
    tmp_path: Path, states: tuple[State, ...], ready: bool
) -> None:
    catalogue = _catalogue(tmp_path, *(f"m{place}" for place in range(len(states))))
    for model, state in zip(catalogue.models(), states, strict=True):
        model.current.state = state
    assert is_ready(catalogue) is ready


def test_a_gateway_without_models_is_ready(tmp_path: Path) -> None:
    assert _client(_catalogue(tmp_path)).get("/readyz").status_code == 200


def test_the_scrape_is_handed_on(tmp_path: Path) -> None:
    answer = _client(_catalogue(tmp_path)).get("/metrics")
    assert answer.data == b"portico_build_info 1.0\n"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"


def test_static_files_lie_here(tmp_path: Path) -> None:
    answer = _client(_catalogue(tmp_path)).get("/static/css/portico.css")
    assert answer.status_code == 200
    assert answer.mimetype == "text/css"


def test_anything_else_is_not_found(tmp_path: Path) -> None:
    client = _client(_catalogue(tmp_path))
    answer = client.get("/nothing")
    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "not_found"
    assert "<h1>Not found</h1>" in client.get("/x", headers={"Accept": "text/html"}).text


def test_a_wrong_method_names_the_right_ones(tmp_path: Path) -> None:
    answer = _client(_catalogue(tmp_path)).post("/healthz")
    assert answer.status_code == 405
    assert answer.json is not None
    assert "GET" in answer.json["error"]
    assert "GET" in answer.headers["Allow"]
