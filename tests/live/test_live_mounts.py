from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loadtests.server import portico

if TYPE_CHECKING:
    from loadtests.server import Answer, Server

pytestmark = pytest.mark.live

CONFIG = """
title = "The house"

[access]
home = "open"
ui = "open"
api = "open"
metrics = "open"

[[mounts]]
prefix = "/shop"
app = "mounted_apps:shop"
access = "open"

[[mounts]]
prefix = "/office/desk"
app = "mounted_apps:shop"
title = "The desk"
"""

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def house(demos):
    """A gateway with two mounts of the user's own, behind a proxy that it trusts."""
    settings = {"trusted_proxies": '["127.0.0.1"]'}
    path = [Path(__file__).parent]
    with portico(demos[0] / "iris", config=CONFIG, settings=settings, path=path) as server:
        yield server


def log_in(server: Server) -> str:
    form = f"name=admin&password={server.password}"
    kind = "application/x-www-form-urlencoded"
    answer = server.ask("POST", "/account/login", form, Content_Type=kind)
    assert answer.status == 303
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def test_a_mount_answers_below_its_prefix(house):
    for path, rest in {"/shop": "", "/shop/": "/", "/shop/a/b": "/a/b"}.items():
        answer = house.get(path)
        facts = answer.json()
        assert (facts["SCRIPT_NAME"], facts["PATH_INFO"]) == ("/shop", rest)
        assert answer.headers["X-Request-ID"]
    assert house.get("/shopping").status == 404


def test_a_mount_is_counted_and_logged_under_its_own_name(house):
    def count() -> float:
        return house.metric("portico_http_requests_total", mount="shop", route="other")

    before = count()
    house.get("/shop/counted")
    assert count() == before + 1


def test_a_mount_that_raises_gets_the_one_error_shape(house, refused):
    error = refused(house.get("/shop/fail"), 500)
    assert "secret" not in str(error)
    assert house.get("/shop/").status == 200


def test_a_mount_that_declares_nothing_needs_a_login(house, refused):
    refused(house.get("/office/desk/"), 401, "log in")
    answer = house.get("/office/desk/x?y=1", **BROWSER)
    assert answer.status == 303
    assert answer.headers["Location"] == "/account/login?next=/office/desk/x%3Fy%3D1"


def test_a_mount_learns_who_asks_and_never_sees_the_session(house):
    cookie = log_in(house)
    facts = house.get("/office/desk/", Cookie=f"{cookie}; theme=dark").json()
    assert facts["REMOTE_USER"] == "admin"
    assert facts["HTTP_COOKIE"] == "theme=dark"
    assert house.get("/shop/", Remote_User="admin").json()["REMOTE_USER"] is None


def test_mounts_are_shown_at_home(house):
    page = house.get("/").body.decode()
    assert "The desk" in page
    assert 'href="/shop/"' in page or 'href="/shop"' in page


def links_of(answer: Answer) -> list[str]:
    assert answer.status == 200
    return re.findall(r'(?:href|src|action)="([^"#]*)"', answer.body.decode())


@pytest.mark.parametrize(
    "path", ["/", "/ui/", "/ui/models/iris", "/ui/models/iris/code", "/api/docs"]
)
def test_no_link_escapes_the_prefix_of_a_trusted_proxy(house, path):
    links = links_of(house.get(path, X_Forwarded_Prefix="/ml"))
    assert links
    escaped = [link for link in links if link.startswith("/") and not link.startswith("/ml/")]
    assert escaped == []


def test_the_api_describes_itself_under_the_prefix(house):
    document = house.get("/api/openapi.json", X_Forwarded_Prefix="/ml").json()
    assert document["servers"] == [{"url": "/ml"}]
    index = house.get("/api/", X_Forwarded_Prefix="/ml").json()
    assert all(link.startswith("/ml/") for link in index.values())


def test_redirects_stay_under_the_prefix(house):
    answer = house.get("/admin/", X_Forwarded_Prefix="/ml", **BROWSER)
    assert answer.headers["Location"] == "/ml/account/login?next=/ml/admin/"
    answer = house.get("/ui", X_Forwarded_Prefix="/ml")
    assert answer.status in (301, 302, 303, 308)
    assert answer.headers["Location"] == "/ml/ui/"


def test_the_cookie_of_the_session_stays_under_the_prefix(house):
    form = f"name=admin&password={house.password}"
    answer = house.ask(
        "POST", "/account/login", form, X_Forwarded_Prefix="/ml",
        Content_Type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert "Path=/ml" in answer.headers["Set-Cookie"]


def test_a_proxy_that_nobody_trusts_says_nothing(gateway):
    headers = {"X_Forwarded_Prefix": "/evil", "X_Forwarded_Host": "evil.example"}
    answer = gateway.get("/", **headers)
    assert answer.status == 200
    assert b"evil" not in answer.body
    assert gateway.get("/api/", **headers).json()["docs"] == "/api/docs"


@pytest.mark.parametrize("header", ["SCRIPT_NAME", "Script-Name", "PATH_INFO", "Path-Info"])
def test_no_header_moves_a_request_to_another_mount(gateway, header):
    connection = gateway.connect()
    connection.putrequest("GET", "/v2/health/live")
    connection.putheader(header, "/admin/")
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status in (200, 400)
    assert response.status == 400 or b'"live"' in body


def test_behind_a_proxy_nothing_is_open_unless_the_settings_say_so(demos, refused):
    settings = {"trusted_proxies": '["127.0.0.1"]', "workers": 1}
    with portico(demos[0] / "iris", settings=settings) as server:
        for path in ("/", "/ui/", "/api/models", "/v2", "/metrics"):
            refused(server.get(path), 401, "log in")
