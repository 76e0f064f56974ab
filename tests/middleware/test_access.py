from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from middleware.access import Access, is_cross_origin, rules_by_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROLES = ("viewer", "operator", "admin")
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
RULES = {
    "/open": "open",
    "/login": "login",
    "/viewer": "role:viewer",
    "/operator": "role:operator",
    "/admin": "role:admin",
    "/account": "open",
    "/typo": "rool:viewer",
}


@dataclass(frozen=True)
class Somebody:
    name: str
    role: str

    def __str__(self) -> str:
        return self.name

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


SESSIONS = {f"token-of-{role}": Somebody(f"the {role}", role) for role in ROLES}


class Mounted:
    """An application that remembers what reached it."""

    def __init__(self) -> None:
        self.seen: WSGIEnvironment = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.seen = dict(environ)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"in"]


@pytest.fixture
def mounted() -> Mounted:
    return Mounted()


@pytest.fixture
def ask(mounted: Mounted, call: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a gateway with one mount for each rule."""
    app = Access(
        DispatcherMiddleware(mounted, dict.fromkeys(RULES, mounted)),
        rule_of=rules_by_prefix(RULES, "login"),
        identify=SESSIONS.get,
        login_url="/account/login",
    )

    def ask(path: str, role: str | None = None, **environ: Any) -> Any:
        if role:
            environ["HTTP_COOKIE"] = f"portico_session=token-of-{role}"
        if environ.get("REQUEST_METHOD") == "BREW":
            environ["validated"] = False  # The validator knows the usual methods only.
        return call(app, PATH_INFO=path, **environ)

    return ask


def passes(role: str | None, rule: str) -> bool:
    if rule == "open":
        return True
    if role is None or not rule.startswith(("login", "role:")):
        return False
    return rule == "login" or ROLES.index(role) >= ROLES.index(rule.removeprefix("role:"))


@pytest.mark.parametrize("accept", [HTML, "application/json", "*/*"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("prefix", RULES)
@pytest.mark.parametrize("role", [None, *ROLES])
def test_every_rule_lets_exactly_the_right_ones_pass(
    ask: Callable[..., Any], role: str | None, prefix: str, method: str, accept: str
) -> None:
    answer = ask(
        f"{prefix}/x", role, REQUEST_METHOD=method, HTTP_ACCEPT=accept, HTTP_HOST="gate.test"
    )
    if passes(role, RULES[prefix]):
        assert answer.status == 200
    elif role:
        assert answer.status == 403
    elif accept == HTML and method in {"GET", "HEAD"}:
        assert answer.status == 303
    else:
        assert answer.status == 401


def test_a_program_is_told_in_the_one_error_shape(ask: Callable[..., Any]) -> None:
    answer = ask("/admin/x")
    assert answer.headers["Content-Type"] == "application/json"
    assert orjson.loads(answer.body)["code"] == "login_required"
    assert 'form-action="/account/login"' in answer.headers["WWW-Authenticate"]
    assert orjson.loads(ask("/admin/x", "viewer").body)["code"] == "forbidden"


def test_a_rule_that_does_not_exist_lets_nobody_pass(ask: Callable[..., Any]) -> None:
    assert ask("/typo/x", "admin").status == 403
    assert ask("/typo/x").status == 401


def test_a_role_that_does_not_exist_is_an_error(call: Callable[..., Any]) -> None:
    app = Access(
        Mounted(), rule_of=lambda _: "role:root", identify=SESSIONS.get, login_url="/account/login"
    )
    with pytest.raises(ValueError, match="not in tuple"):
        app({"HTTP_COOKIE": "portico_session=token-of-admin", "REQUEST_METHOD": "GET"}, print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "query", "root", "following"),
    [
        ("/admin/models", "", "", "/admin/models"),
        ("/admin/models", "a=1&b=%26", "", "/admin/models?a=1&b=%26"),
        ("/admin/\u00c3\u00a4 ?&#", "", "", "/admin/%C3%A4%20%3F%26%23"),
        ("/admin/models", "", "/ml", "/ml/admin/models"),
        ("/admin/\r\nSet-Cookie: a", "", "", "/admin/%0D%0ASet-Cookie%3A%20a"),
    ],
)
def test_a_browser_is_sent_to_the_log_in_and_back(
    ask: Callable[..., Any], path: str, query: str, root: str, following: str
) -> None:
    answer = ask(path, QUERY_STRING=query, SCRIPT_NAME=root, HTTP_ACCEPT=HTML)
    location = urlsplit(answer.headers["Location"])
    assert (location.scheme, location.netloc) == ("", "")
    assert location.path == f"{root}/account/login"
    assert parse_qs(location.query) == {"next": [following]}
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_endless_address_is_not_carried_along(ask: Callable[..., Any]) -> None:
    answer = ask("/admin/" + "x" * 5000, HTTP_ACCEPT=HTML)
    assert answer.headers["Location"] == "/account/login"


def test_an_outer_root_cannot_become_another_host(ask: Callable[..., Any]) -> None:
    answer = ask("/admin/x", SCRIPT_NAME="//evil.test", HTTP_ACCEPT=HTML)
    assert answer.headers["Location"].startswith("/evil.test/account/login")


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/admin", "/admin/", "/admin//", "/admin/..", "/admin/../open/", "/admin/./x",
            "/admin/open", "/admin/%2e%2e/open",
        ],
    )  # fmt: skip
    def test_what_the_dispatcher_sends_to_the_mount_is_protected(
        self, ask: Callable[..., Any], path: str
    ) -> None:
        assert ask(path, "operator").status == 403
        answer = ask(path, "admin")
        assert answer.status == 200
        assert answer.environ["SCRIPT_NAME"] == "/admin"

    @pytest.mark.parametrize(
        "path",
        ["", "/", "//", "//admin", "//admin/", "/ADMIN", "/Admin/", "/admin;x", "/admin%2f",
         "/./admin", "/adminx", "\\admin", "admin"],
    )  # fmt: skip
    def test_what_it_sends_elsewhere_follows_the_rule_there(
        self, ask: Callable[..., Any], path: str
    ) -> None:
        assert ask(path, validated=False).status == 401
        answer = ask(path, "viewer", validated=False)
        assert answer.status == 200
        assert answer.environ["SCRIPT_NAME"] != "/admin"

    def test_a_path_out_of_an_open_mount_opens_no_other(
        self, ask: Callable[..., Any], mounted: Mounted
    ) -> None:
        assert ask("/open/../admin/x").status == 200
        assert mounted.seen["SCRIPT_NAME"] == "/open"

    @given(
        st.lists(st.sampled_from(["", "/", "//", "a", "b", "/a", "/a/b", "..", "%2f", "A"])),
        st.sets(st.sampled_from(["", "/a", "/a/b", "/b", "/a/b/a", "a", "/A", "/.."])),
    )
    def test_the_rule_is_always_the_one_of_the_application_that_answers(
        self, pieces: list[str], prefixes: set[str]
    ) -> None:
        def app(name: str) -> Any:
            return lambda environ, start_response: [name.encode()]

        path = "".join(pieces)
        dispatcher = DispatcherMiddleware(app("default"), {p: app(p) for p in prefixes})
        answered = dispatcher({"PATH_INFO": path}, print)  # type: ignore[arg-type]
        rule = rules_by_prefix({prefix: prefix for prefix in prefixes}, "default")(path)
        assert [rule.encode()] == answered


class TestClaims:
    FORGED = (
        "REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", "HTTP_X_REMOTE_USER",
        "HTTP_X_FORWARDED_USER", "HTTP_X_FORWARDED_EMAIL", "HTTP_X_AUTH_REQUEST_USER",
        "HTTP_X_WEBAUTH_USER", "portico.identity", "portico.session_token",
    )  # fmt: skip

    @pytest.mark.parametrize("path", ["/open/x", "/account/login"])
    def test_what_came_with_the_request_is_removed(
        self, ask: Callable[..., Any], mounted: Mounted, path: str
    ) -> None:
        ask(path, **dict.fromkeys(self.FORGED, "root"))
        assert not set(self.FORGED) & mounted.seen.keys()

    def test_it_opens_nothing(self, ask: Callable[..., Any]) -> None:
        assert ask("/login/x", **dict.fromkeys(self.FORGED, "root")).status == 401

    def test_who_is_known_replaces_it(self, ask: Callable[..., Any], mounted: Mounted) -> None:
        ask("/open/x", "viewer", **dict.fromkeys(self.FORGED, "root"))
        assert mounted.seen["REMOTE_USER"] == "the viewer"
        assert mounted.seen["portico.identity"] is SESSIONS["token-of-viewer"]
        assert "HTTP_X_REMOTE_USER" not in mounted.seen


class TestCookie:
    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("portico_session=token-of-viewer", None),
            ("a=1; portico_session=token-of-viewer; b=2", "a=1; b=2"),
            ("portico_session=stale; portico_session=token-of-viewer", None),
            ('a="x y";portico_session="token-of-viewer"', 'a="x y"'),
            ("portico_session=token-of-viewer;", ""),
        ],
    )
    def test_it_is_read_and_goes_no_further(
        self, ask: Callable[..., Any], mounted: Mounted, sent: str, kept: str | None
    ) -> None:
        ask("/login/x", HTTP_COOKIE=sent)
        assert mounted.seen["portico.session_token"] == "token-of-viewer"
        assert (mounted.seen.get("HTTP_COOKIE") or None) == (kept or None)

    @pytest.mark.parametrize(
        "sent",
        ["xportico_session=token-of-admin", "portico_session", "portico_session=",
         "a=portico_session=token-of-admin", "PORTICO_SESSION=token-of-admin", ";;=;"],
    )  # fmt: skip
    def test_other_cookies_are_nobody(self, ask: Callable[..., Any], sent: str) -> None:
        assert ask("/login/x", HTTP_COOKIE=sent).status == 401

    def test_other_cookies_reach_the_application(
        self, ask: Callable[..., Any], mounted: Mounted
    ) -> None:
        ask("/open/x", HTTP_COOKIE="a=1; xportico_session=2")
        assert mounted.seen["HTTP_COOKIE"] == "a=1; xportico_session=2"

    def test_a_flood_of_cookies_does_not_become_a_flood_of_questions(
        self, call: Callable[..., Any]
    ) -> None:
        asked: list[str] = []
        app = Access(
            Mounted(), rule_of=lambda _: "login", identify=asked.append, login_url="/account/login"
        )
        call(app, HTTP_COOKIE=";".join(f"portico_session={n}" for n in range(1000)))
        assert len(asked) <= 4

    def test_accounts_that_cannot_be_read_close_no_open_door(
        self, call: Callable[..., Any], mounted: Mounted
    ) -> None:
        def broken(_: str) -> None:
            raise OSError("disk")

        def app(rule: str) -> Access:
            return Access(mounted, rule_of=lambda _: rule, identify=broken, login_url="/login")

        cookie = "portico_session=x"
        assert call(app("open"), HTTP_COOKIE=cookie).status == 200
        assert call(app("login"), HTTP_COOKIE=cookie).status == 500


# The cases of Go's TestCrossOriginProtectionSecFetchSite and its neighbours in net/http.
CROSS_ORIGIN = [
    ("POST", {"HTTP_SEC_FETCH_SITE": "same-origin"}, False),
    ("POST", {"HTTP_SEC_FETCH_SITE": "none"}, False),
    ("POST", {"HTTP_SEC_FETCH_SITE": "cross-site"}, True),
    ("POST", {"HTTP_SEC_FETCH_SITE": "same-site"}, True),
    ("POST", {"HTTP_SEC_FETCH_SITE": "invalid"}, True),
    ("POST", {}, False),
    ("POST", {"HTTP_ORIGIN": "https://gate.test"}, False),
    ("POST", {"HTTP_ORIGIN": "https://attacker.test"}, True),
    ("POST", {"HTTP_ORIGIN": "null"}, True),
    ("POST", {"HTTP_ORIGIN": "https://gate.test.evil.test"}, True),
    ("POST", {"HTTP_ORIGIN": "https://gate.test:8443"}, True),
    ("POST", {"HTTP_ORIGIN": "https://[broken"}, True),
    ("POST", {"HTTP_ORIGIN": "https://x@gate.test"}, True),
    ("POST", {"HTTP_SEC_FETCH_SITE": "", "HTTP_ORIGIN": "https://attacker.test"}, True),
    ("POST", {"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "https://a.test"}, False),
    ("GET", {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
    ("HEAD", {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
    ("OPTIONS", {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
    ("PUT", {"HTTP_SEC_FETCH_SITE": "cross-site"}, True),
    ("DELETE", {"HTTP_SEC_FETCH_SITE": "cross-site"}, True),
    ("PATCH", {"HTTP_ORIGIN": "https://attacker.test"}, True),
    ("BREW", {"HTTP_ORIGIN": "https://attacker.test"}, True),
]


@pytest.mark.parametrize(("method", "headers", "is_cross"), CROSS_ORIGIN)
class TestCrossOrigin:
    def test_it_is_recognised(self, method: str, headers: dict[str, str], is_cross: bool) -> None:
        environ = {"REQUEST_METHOD": method, "HTTP_HOST": "gate.test", **headers}
        assert is_cross_origin(environ) == is_cross

    @pytest.mark.parametrize(
        ("path", "role"),
        [("/open/x", "viewer"), ("/account/login", None), ("/admin/x", "admin")],
    )
    def test_it_is_refused_where_it_could_do_harm(
        self, ask: Callable[..., Any], method: str, headers: dict[str, str], is_cross: bool,
        path: str, role: str | None,
    ) -> None:  # fmt: skip
        answer = ask(path, role, REQUEST_METHOD=method, HTTP_HOST="gate.test", **headers)
        assert answer.status == (403 if is_cross else 200)

    def test_it_may_use_what_is_open_for_everybody(
        self, ask: Callable[..., Any], method: str, headers: dict[str, str], is_cross: bool
    ) -> None:
        answer = ask("/open/x", REQUEST_METHOD=method, HTTP_HOST="gate.test", **headers)
        assert answer.status == 200
