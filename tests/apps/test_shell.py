"""What every app gets from ``new_app``: links, headers, layout, static files."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from flask import Flask, redirect, render_template_string, request
from jinja2 import UndefinedError
from werkzeug.test import Client

from apps.shell import static
from apps.shell.app import new_app, root_url
from apps.shell.formats import figure, filesize, percent
from apps.shell.site import MountInfo, Site
from apps.shell.words import model_path

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from werkzeug.test import TestResponse

SITE = Site("The <b>gateway</b>", (MountInfo("home", "", "Home"), MountInfo("ui", "/ui", "Models")))
HTML = {"Accept": "text/html"}


def _app() -> Flask:
    app = new_app(__name__, SITE)
    app.add_url_rule("/static/<path:name>", view_func=static.answer)

    @app.get("/page/<name>")
    def page(name: str) -> ResponseReturnValue:
        return render_template_string("{% extends 'layout.html' %}")

    @app.get("/away")
    def away() -> ResponseReturnValue:
        return redirect(request.host_url + "page/x")

    @app.get("/typo")
    def typo() -> ResponseReturnValue:
        return render_template_string("{{ not_given }}")

    @app.get("/link")
    def link() -> ResponseReturnValue:
        return root_url("/ui/")

    return app


class _Client(Client):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


@pytest.fixture
def client() -> Client:
    return _Client(validator(_app()))


def test_a_page_carries_strict_headers_and_no_cookie(client: Client) -> None:
    answer = client.get("/page/x")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "Set-Cookie" not in answer.headers


def test_a_page_has_nothing_inline(client: Client) -> None:
    text = client.get("/page/x").text
    assert " style=" not in text
    assert "<style" not in text
    assert "<script>" not in text
    assert " onclick" not in text


def test_the_title_of_the_site_is_escaped(client: Client) -> None:
    text = client.get("/page/x").text
    assert "<b>" not in text
    assert "The &lt;b&gt;gateway&lt;/b&gt;" in text


def test_links_stay_behind_the_outer_prefix(client: Client) -> None:
    environ = {"SCRIPT_NAME": "/ml/ui", "portico.root": "/ml"}
    text = client.get("/page/x", environ_overrides=environ).text
    links = [part.split('"')[0] for part in text.split('href="')[1:]]
    assert "/ml/api/docs" in links
    assert all(link.startswith(("/ml/", "#")) for link in links)


def test_without_a_known_root_the_script_name_is_taken(client: Client) -> None:
    answer = client.get("/link", environ_overrides={"SCRIPT_NAME": "/ml"})
    assert answer.text == "/ml/ui/"


@pytest.mark.parametrize(
    ("root", "link"),
    [
        ("", "/ui/"),
        ("/", "/ui/"),
        ("/ml/", "/ml/ui/"),
        ("//evil.example", "/evil.example/ui/"),
        ("/a b", "/a%20b/ui/"),
        ('/"><script>', "/%22%3E%3Cscript%3E/ui/"),
    ],
)
def test_the_outer_root_makes_links_of_this_host_only(client: Client, root: str, link: str) -> None:
    assert client.get("/link", environ_overrides={"portico.root": root}).text == link


def test_the_login_leads_back_to_the_page(client: Client) -> None:
    environ = {"SCRIPT_NAME": "/ml/ui", "portico.root": "/ml"}
    text = client.get("/page/a%20b", environ_overrides=environ).text
    assert "/ml/account/login?next=/ml/ui/page/a%2520b" in text


def test_who_is_logged_in_is_named_and_can_log_out(client: Client) -> None:
    answer = client.get("/page/x", environ_overrides={"portico.identity": "<i>Ada</i>"})
    assert "&lt;i&gt;Ada&lt;/i&gt;" in answer.text
    assert 'action="/account/logout"' in answer.text
    assert "/account/login" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_present_mount_is_marked(client: Client) -> None:
    text = client.get("/page/x", environ_overrides={"portico.mount": "ui"}).text
    assert '<a href="/ui/" aria-current="true">' in text
    assert text.count("aria-current") == 1


def test_the_route_is_told_in_the_environment() -> None:
    seen: list[dict[str, Any]] = []

    def spy(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        return _app()(environ, start_response)

    client = Client(spy)
    client.get("/page/x")
    client.get("/nothing")
    assert seen[0]["portico.route"] == "/page/<name>"
    assert "portico.route" not in seen[1]


def test_redirects_to_itself_name_no_host(client: Client) -> None:
    assert client.get("/away").headers["Location"] == "/page/x"


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    app = _app()
    app.testing = True
    with pytest.raises(UndefinedError):
        app.test_client().get("/typo")


def test_an_unexpected_failure_is_a_page_without_details(client: Client) -> None:
    answer = client.get("/typo", headers=HTML)
    assert answer.status_code == 500
    assert "not_given" not in answer.text
    assert "<h1>Something went wrong here</h1>" in answer.text


def test_an_unknown_path_is_a_page_for_people_and_json_for_programs(client: Client) -> None:
    page = client.get("/nothing", headers=HTML, environ_overrides={"portico.request_id": "r<1"})
    assert page.status_code == 404
    assert "<h1>Not found</h1>" in page.text
    assert "<code>r&lt;1</code>" in page.text
    assert page.headers["Content-Security-Policy"]
    answer = client.get("/nothing")
    assert answer.json is not None
    assert answer.json["code"] == "not_found"


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("css/portico.css", "text/css"),
        ("js/theme.js", "text/javascript"),
        ("portico.svg", "image/svg+xml"),
        ("bootstrap/css/bootstrap.min.css", "text/css"),
        ("bootstrap/js/bootstrap.min.js", "text/javascript"),
        ("swagger/swagger-ui.css", "text/css"),
        ("swagger/swagger-ui-bundle.js", "text/javascript"),
    ],
)
def test_static_files_are_served_from_their_packages(
    client: Client, name: str, mimetype: str
) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.mimetype == mimetype
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "../app.py",
        "%2e%2e/app.py",
        "css/../../app.py",
        "swagger/..%2f__init__.py",
        "bootstrap/../../__init__.py",
        "bootstrap/%2e%2e/%2e%2e/__init__.py",
        "/etc/passwd",
        "%2fetc/passwd",
        "css",
        "swagger",
        "swagger/",
        "css/portico.css%00",
        "..%5capp.py",
        "a" * 5000,
    ],
)
def test_nothing_outside_the_folders_is_served(client: Client, name: str) -> None:
    assert client.get(f"/static/{name}", follow_redirects=True).status_code == 404


def test_a_link_out_of_the_folder_is_not_followed(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, secret = tmp_path / "static", tmp_path / "secret.txt"
    folder.mkdir()
    secret.write_text("secret")
    (folder / "link.txt").symlink_to(secret)
    monkeypatch.setattr(static, "_folders", lambda: {"": folder})
    assert Client(_app()).get("/static/link.txt").status_code == 404


def test_a_link_that_names_the_content_is_kept_and_others_asked_again(client: Client) -> None:
    name = "css/portico.css"
    kept = client.get(f"/static/{name}?v={static.fingerprint(name)}")
    assert "immutable" in kept.headers["Cache-Control"]
    assert "max-age=31536000" in kept.headers["Cache-Control"]
    for query in ("", "?v=old"):
        assert "no-cache" in client.get(f"/static/{name}{query}").headers["Cache-Control"]


def test_a_file_that_the_browser_has_is_not_sent_again(client: Client) -> None:
    tag = client.get("/static/css/portico.css").headers["ETag"]
    again = client.get("/static/css/portico.css", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.data == b""


def test_text_is_compressed_for_those_who_take_it(client: Client) -> None:
    plain = client.get("/static/css/portico.css")
    packed = client.get("/static/css/portico.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert "Accept-Encoding" in plain.headers["Vary"]


def test_a_template_that_asks_for_a_missing_file_fails() -> None:
    with pytest.raises(FileNotFoundError, match="no static file"):
        static.fingerprint("css/missing.css")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.5, "50.0 %"), (0.9996, "> 99.9 %"), (1, "100.0 %")],
)
def test_a_share_reads_as_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_numbers_and_sizes_read_short() -> None:
    assert figure(152.13349) == "152.133"
    assert figure(7) == "7"
    assert figure(float("inf")) == "inf"
    assert figure("text") == "text"
    assert filesize(512) == "512 bytes"
    assert filesize(3 * 1024 * 1024) == "3.0 MiB"


def test_a_models_name_is_encoded_in_its_path() -> None:
    assert model_path("a b.c") == "/ui/models/a%20b.c"
    assert model_path("a/b", "2", "code") == "/ui/models/a%2Fb/versions/2/code"
