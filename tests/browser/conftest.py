"""A gateway's pages on a free port, with the demo models, and Chromium to look at them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright
from prometheus_client import CollectorRegistry
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from apps import home, ui
from apps.shell.site import MountInfo, Site
from portico.demos import pickles, train
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = "/ml"
"""The outer prefix under which the pages are looked at."""

_SITE = Site(
    "Portico",
    (
        MountInfo("home", "", "Home"),
        MountInfo("ui", "/ui", "Models", "A form for each model."),
        MountInfo("shop", "/shop", "Shop", "", "login", False, "the shop is closed"),
    ),
)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of demo models, and one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("demos")
    train(folder)
    broken = folder / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"no model")
    return folder


@pytest.fixture(scope="session")
def pages(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of home and the pages for people, without a slash at its end."""
    allowance = Allowance(tmp_path_factory.mktemp("state") / "allowed.json")
    for path in pickles(demos):
        allowance.allow(path)
    metrics = PredictionMetrics(CollectorRegistry())
    catalogue = Catalogue(find_artefacts(demos), allowance, metrics)
    catalogue.load(60)
    server = make_server("127.0.0.1", 0, _app(catalogue), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{ROOT}"
    server.shutdown()
    thread.join()
    server.server_close()
    catalogue.close()


def _app(catalogue: Catalogue) -> Any:
    def empty(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    front = _named("home", home.create_app(_SITE, catalogue, empty))
    inner = DispatcherMiddleware(front, {"/ui": _named("ui", ui.create_app(_SITE, catalogue))})

    def outer(environ: Any, start_response: Any) -> Any:
        if not environ["PATH_INFO"].startswith(f"{ROOT}/"):
            start_response("410 Gone", [("Content-Type", "text/plain")])
            return [b"outside of the prefix"]
        environ["SCRIPT_NAME"] = environ["portico.root"] = ROOT
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(ROOT)
        return inner(environ, start_response)

    return outer


def _named(name: str, app: Any) -> Any:
    def named(environ: Any, start_response: Any) -> Any:
        environ["portico.mount"] = name
        return app(environ, start_response)

    return named


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Browser, pages: str) -> Iterator[Callable[..., Page]]:
    """Open a page of a context of its own; the test fails on what the page complains about."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(base_url=f"{pages}/", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: _note(complaints, message))
        page.on("request", lambda request: _note_foreign(complaints, request.url, pages))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _note(complaints: list[str], message: Any) -> None:
    # Chromium reports each answer of 400 and up, and each lost one; the tests judge those.
    if message.type == "error" and not message.text.startswith("Failed to load resource"):
        complaints.append(message.text)


def _note_foreign(complaints: list[str], url: str, pages: str) -> None:
    if not url.startswith((f"{pages}/", "data:", "blob:")):
        complaints.append(f"asked for {url}")
