from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from counted import count
from onnx import TensorProto, helper
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from apps import admin
from apps.admin.facts import OperatorView, SettingRow, WorkerInfo, inspect_worker
from apps.shell.site import MountInfo, Site
from middleware.access import Access, rules_by_prefix
from middleware.metrics import HTTPMetrics
from middleware.request_context import RequestContext
from portico.accounts.identity import Identity, Role
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask
    from prometheus_client import Metric

BROWSER = {"Accept": "text/html"}
SECRET = "hunter2-do-not-show"


def _write_model(path: Path) -> None:
    """Write a model that adds a row to itself."""
    numbers = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "g", *[[n] for n in numbers]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True)
    onnx.save(model, path)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def catalogue(tmp_path: Path, registry: CollectorRegistry) -> Catalogue:
    _write_model(tmp_path / "models/doubler/1/model.onnx")
    (tmp_path / "models/broken/2").mkdir(parents=True)
    (tmp_path / "models/broken/2/model.onnx").write_bytes(b"<script>no model</script>")
    found = find_artefacts(tmp_path / "models")
    catalogue = Catalogue(found, Allowance.of(tmp_path / "state"), PredictionMetrics(registry))
    catalogue.load(10)
    return catalogue


@pytest.fixture
def site() -> Site:
    return Site(
        mounts=(
            MountInfo("home", "", "Home"),
            MountInfo("admin", "/admin", "Console", access="role:operator"),
            MountInfo("shop", "/shop", "<b>Shop</b>", builtin=False, problem="cannot be imported"),
        )
    )


@pytest.fixture
def collects(registry: CollectorRegistry) -> list[Callable[[], Any]]:
    """How the metrics are read; a test may put another way in its place."""
    return [registry.collect]


@pytest.fixture
def console(site: Site, catalogue: Catalogue, collects: list[Callable[[], Any]]) -> Flask:
    def collect() -> Any:
        return collects[-1]()

    view = OperatorView(
        collect=collect,
        workers=lambda: [inspect_worker(os.getpid(), 12), WorkerInfo(999)],
        settings=(
            SettingRow("port", "8000", "8000", "default", "TCP port to listen on."),
            SettingRow("mounts[0].password", "set", "", "environment", "<i>Kept</i> to itself."),
        ),
    )
    return admin.create_app(site, catalogue, view)


@pytest.fixture
def gateway(console: Flask, registry: CollectorRegistry) -> RequestContext:
    people = {str(role): Identity(f"the {role}", role) for role in Role}
    app = Access(
        DispatcherMiddleware(console, {"/admin": console}),
        rule_of=rules_by_prefix({"/admin": "role:operator"}, "login"),
        identify=people.get,
        login_url="/account/login",
    )
    return RequestContext(HTTPMetrics(app, registry=registry))


@pytest.fixture
def browsers(gateway: RequestContext) -> Callable[[str], Client]:
    def browser(role: str) -> Client:
        client = Client(gateway)
        if role:
            client.set_cookie("portico_session", role)
        return client

    return browser


@pytest.fixture
def operator(browsers: Callable[[str], Client]) -> Client:
    return browsers("operator")


def _addresses(app: Flask) -> list[tuple[str, str]]:
    """Return every method and path that the app knows, made from its own map."""
    arguments = {"name": "console.js"}
    adapter = app.url_map.bind("gate.test")
    return [
        (method, adapter.build(rule.endpoint, {a: arguments[a] for a in rule.arguments}))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]


def test_no_route_answers_without_a_log_in(
    console: Flask, browsers: Callable[[str], Client]
) -> None:
    for method, path in _addresses(console):
        address = f"/admin{path}"
        browser = browsers("")
        for answer in (
            browser.open(address, method=method),
            browser.open(address, method=method, headers=BROWSER),
        ):
            assert answer.status_code in (401, 303), (method, path)
            assert answer.status_code == 401 or answer.location.startswith("/account/login")


def test_no_route_answers_a_viewer(console: Flask, browsers: Callable[[str], Client]) -> None:
    for method, path in _addresses(console):
        answer = browsers("viewer").open(f"/admin{path}", method=method)
        assert answer.status_code == 403, (method, path)


def test_every_page_answers_operators_and_admins(
    console: Flask, browsers: Callable[[str], Client]
) -> None:
    for method, path in _addresses(console):
        for role in ("operator", "admin"):
            answer = browsers(role).open(f"/admin{path}", method=method, headers=BROWSER)
            assert answer.status_code == 200, (method, path)


@pytest.mark.parametrize("path", ["/nothing", "/static/nothing", "/static/../app.py"])
def test_not_even_what_is_missing_is_told_to_others(
    browsers: Callable[[str], Client], path: str
) -> None:
    assert browsers("").get(f"/admin{path}").status_code == 401
    assert browsers("viewer").get(f"/admin{path}").status_code == 403
    assert browsers("operator").get(f"/admin{path}").status_code == 404


class TestAlone:
    """The console without anything in front of it."""

    def test_it_refuses_by_itself(self, console: Flask) -> None:
        for method, path in [*_addresses(console), ("GET", "/nothing")]:
            assert Client(console).open(path, method=method).status_code == 401
            answer = Client(console).open(
                path, method=method, environ_base={"portico.identity": Identity("v", Role.VIEWER)}
            )
            assert answer.status_code == 403

    def test_a_browser_is_shown_the_way_to_the_log_in(self, console: Flask) -> None:
        answer = Client(console).get("/", headers=BROWSER)
        assert answer.status_code == 401
        assert 'href="/account/login' in answer.text


PAGES = ["/", "/models", "/workers", "/mounts", "/settings"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_hold_nothing_inline_and_are_never_kept(operator: Client, page: str) -> None:
    answer = operator.get(f"/admin{page}", headers=BROWSER)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"\sstyle=|<style|\son\w+=|<script(?! src=)", answer.text)


@pytest.mark.parametrize("page", PAGES)
def test_the_changing_part_comes_without_the_frame(operator: Client, page: str) -> None:
    answer = operator.get(f"/admin{page}?part=1", headers=BROWSER)
    assert 'id="live"' in answer.text
    assert "<html" not in answer.text


@pytest.mark.parametrize("root", ["", "/ml"])
def test_every_link_stays_below_the_outer_root(operator: Client, root: str) -> None:
    operator.set_cookie("portico_session", "operator", path="/")
    for page in PAGES:
        text = operator.get(f"/admin{page}", base_url=f"http://gate.test{root}/").text
        links = re.findall(r'(?:href|src|action|data-part)="([^"]*)"', text)
        assert all(link.startswith((f"{root}/", "#")) for link in links), links


def test_models_are_shown_with_state_and_reason(operator: Client) -> None:
    text = operator.get("/admin/models").text
    assert "doubler" in text
    assert "p-badge-ready" in text
    assert "p-badge-failed" in text
    assert re.search(r"[0-9a-f]{64}", text)
    assert "onnx" in text
    assert "<script>no model" not in text


def test_an_unready_version_and_its_aliases_are_shown(
    operator: Client, catalogue: Catalogue
) -> None:
    catalogue.model("doubler").aliases = {"candidate": "1"}
    catalogue.judge(catalogue.version("doubler"), "it has not answered for 30 s")
    text = operator.get("/admin/models").text
    assert "p-badge-unready" in text
    assert "it has not answered for 30 s" in text
    assert ">candidate<" in text
    assert "doubler 1" in operator.get("/admin/").text


def test_the_overview_says_what_failed(operator: Client) -> None:
    text = operator.get("/admin/").text
    assert "1 of 2 model versions failed" in text
    assert "broken 2" in text


def test_figures_are_those_of_the_metrics(
    operator: Client, catalogue: Catalogue, registry: CollectorRegistry
) -> None:
    meter = catalogue.served("doubler").meter
    for _ in range(1234):
        count(meter)
    for _ in range(7):
        count(meter, "shed")
    text = operator.get("/admin/", buffered=True).text
    assert re.search(r'data-label="Since start"[^>]*><span>1,234<', text)
    assert re.search(r'data-label="Refused, full"[^>]*><span>7<', text)
    total = registry.get_sample_value(
        "portico_http_requests_total",
        {"mount": "other", "method": "GET", "route": "/", "status": "200"},
    )
    assert total == 1
    assert "1 since the start" in operator.get("/admin/").text


def test_metrics_that_cannot_be_read_leave_the_rest_standing(
    operator: Client, collects: list[Callable[[], Any]]
) -> None:
    def broken() -> list[Metric]:
        raise ValueError("half a file")

    collects.append(broken)
    answer = operator.get("/admin/")
    assert answer.status_code == 200
    assert "cannot be read just now" in answer.text
    assert "half a file" not in answer.text


def test_workers_are_shown_even_where_little_is_known(operator: Client) -> None:
    text = operator.get("/admin/workers").text
    assert str(os.getpid()) in text
    assert "MiB" in text
    assert ">999<" in text


def test_a_worker_that_is_gone_is_only_a_number() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert inspect_worker(child) == WorkerInfo(child)


def test_mounts_are_shown_with_who_may_enter_and_what_is_wrong(operator: Client) -> None:
    text = operator.get("/admin/mounts").text
    assert "Operators and admins" in text
    assert "cannot be imported" in text
    assert "<b>Shop" not in text


def test_settings_are_shown_as_text(operator: Client) -> None:
    text = operator.get("/admin/settings").text
    assert "mounts[0].password" in text
    assert "environment" in text
    assert "<i>Kept" not in text


def test_scripts_and_styles_can_be_asked_for_again_cheaply(operator: Client) -> None:
    text = operator.get("/admin/").text
    link = re.search(r'src="(/admin/static/console\.js\?v=[^"]+)"', text)
    assert link is not None
    answer = operator.get(link[1])
    assert answer.mimetype == "text/javascript"
    again = operator.get(link[1], headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
