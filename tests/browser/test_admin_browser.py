"""The log-in and the console as a person with a browser meets them."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from argon2 import PasswordHasher
from axe_playwright_python.sync_playwright import Axe
from counted import count
from onnx import TensorProto, helper
from playwright.sync_api import sync_playwright
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from apps import account, admin
from apps.admin.facts import OperatorView, SettingRow, inspect_worker
from apps.home.app import create_app as create_home
from apps.shell.site import MountInfo, Site
from middleware.access import Access, rules_by_prefix
from middleware.metrics import HTTPMetrics
from middleware.request_context import RequestContext
from portico.accounts.identity import Role
from portico.accounts.passwords import Passwords
from portico.accounts.ports import User
from portico.accounts.service import Accounts
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PAGES = ["", "models", "workers", "mounts", "settings"]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


def _write_model(path: Path) -> None:
    numbers = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", *numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True)
    onnx.save(model, path)


def _catalogue(folder: Path, registry: CollectorRegistry) -> Catalogue:
    _write_model(folder / "models/doubler/1/model.onnx")
    _write_model(folder / "models/doubler/2/model.onnx")
    (folder / "models/broken/1").mkdir(parents=True)
    (folder / "models/broken/1/model.onnx").write_bytes(b"no model")
    found = find_artefacts(folder / "models")
    catalogue = Catalogue(found, Allowance.of(folder / "state"), PredictionMetrics(registry))
    catalogue.load(10)
    return catalogue


def _settings() -> list[SettingRow]:
    return [
        SettingRow("port", "8000", "8000", "default", "TCP port to listen on."),
        SettingRow("state", "/var/lib/portico/a/long/path/state", ".portico", "file", "Folder."),
        SettingRow("sources.orders.password", "hidden", "", "environment", "Of the database."),
    ]


SITE = Site(
    mounts=(
        MountInfo("home", "", "Home", "What is mounted and what is served."),
        MountInfo("admin", "/admin", "Console", "Figures for the operator.", "role:operator"),
        MountInfo("account", "/account", "Account", "Log in and out."),
        MountInfo(
            "shop", "/shop", "Shop", access="login", builtin=False, problem="cannot be imported"
        ),
    )
)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, registry: CollectorRegistry) -> Catalogue:
    return _catalogue(tmp_path_factory.mktemp("console"), registry)


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, registry: CollectorRegistry, catalogue: Catalogue
) -> Iterator[str]:
    """A running gateway with log-in and console; the operator is ada."""
    state = tmp_path_factory.mktemp("state")
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    with closing(open_database(f"sqlite:///{state}/portico.db")) as database:
        store = DatabaseAccountStore(database)
        store.add_user(User("ada", Role.OPERATOR, passwords.hash("open sesame"), 0.0))
        accounts = Accounts(lambda: store, passwords=passwords)
        view = OperatorView(
            registry.collect, lambda: [inspect_worker(os.getpid(), 1234)], _settings()
        )
        mounts: dict[str, WSGIApplication] = {
            "/admin": admin.create_app(SITE, catalogue, view),
            "/account": account.create_app(SITE, accounts),
        }
        home = create_home(SITE, catalogue, lambda environ, start_response: [])
        access = Access(
            DispatcherMiddleware(home, mounts),
            rule_of=rules_by_prefix({"/admin": "role:operator"}, "open"),
            identify=accounts.identify,
            login_url="/account/login",
        )
        app = RequestContext(HTTPMetrics(access, registry=registry))
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(params=LOOKS)
def page(request: pytest.FixtureRequest, chromium: Browser, address: str) -> Iterator[Page]:
    """A page in one look; whatever the browser complains about fails the test."""
    context = chromium.new_context(base_url=address, **LOOKS[request.param])
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()
    # A refused log-in is told in the console as well.
    assert [c for c in complaints if "status of 401" not in c] == []


def _log_in(page: Page) -> None:
    """Log in by keyboard alone."""
    page.goto("/admin/")
    page.locator("#name:focus").wait_for()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.endswith("/admin/") and "?" not in url)


def _check(page: Page, name: str) -> None:
    """Expect nothing serious from axe and nothing wider than the screen."""
    results = Axe().run(page)
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in results.response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    folder = os.environ.get("PORTICO_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_log_in_takes_a_keyboard_and_says_what_is_wrong(
    page: Page, request: pytest.FixtureRequest
) -> None:
    look = request.node.callspec.params["page"]
    page.goto("/admin/")
    assert "/account/login" in page.url
    _check(page, f"login-{look}")
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    _check(page, f"login-wrong-{look}")
    assert page.evaluate("document.activeElement.id") == "password"
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.endswith("/admin/") and "?" not in url)
    with page.expect_navigation():
        page.get_by_role("button", name="Log out").click()
    page.goto("/admin/")
    assert "/account/login" in page.url


def test_every_page_can_be_read_and_used(
    page: Page, request: pytest.FixtureRequest, catalogue: Catalogue
) -> None:
    look = request.node.callspec.params["page"]
    meter = catalogue.served("doubler").meter
    _log_in(page)
    for _ in range(300):
        count(meter, run=0.003)
    for path in PAGES:
        page.goto(f"/admin/{path}")
        _check(page, f"admin-{path or 'overview'}-{look}")
    page.goto("/account/")
    _check(page, f"account-{look}")


def test_figures_go_on_without_losing_focus_and_stop_when_asked(
    page: Page, catalogue: Catalogue
) -> None:
    meter = catalogue.served("doubler").meter
    _log_in(page)
    cell = page.locator("tr", has_text="doubler").get_by_role("cell").last
    before = int(cell.locator("span").inner_text().replace(",", ""))
    page.get_by_role("link", name="Overview").focus()
    page.locator("#live h2").first.evaluate("element => { element.dataset.mark = 'same' }")
    page.evaluate("document.getElementById('live').dataset.every = '0.05'")
    for _ in range(7):
        count(meter)
    page.wait_for_function(
        "want => document.getElementById('live').innerText.includes(want)", arg=f"{before + 7:,}"
    )
    assert page.evaluate("document.activeElement.textContent") == "Overview"
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Updates are paused.").wait_for()


def test_the_console_works_without_scripts(chromium: Browser, address: str) -> None:
    context = chromium.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    _log_in(page)
    assert page.get_by_role("heading", name="Predictions by model").is_visible()
    assert not page.get_by_role("button", name="Pause").is_visible()
    context.close()
