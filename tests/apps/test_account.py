from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from apps import account
from apps.account.app import STATUS
from apps.account.following import is_own_path
from apps.shell.site import MountInfo, Site
from middleware.access import Access, rules_by_prefix
from middleware.request_context import RequestContext
from portico.accounts.errors import SignInRefused
from portico.accounts.identity import Role
from portico.accounts.passwords import Passwords
from portico.accounts.ports import User
from portico.accounts.service import Accounts
from portico.storage.accounts import DatabaseAccountStore
from portico.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed.wsgi import WSGIApplication
    from werkzeug.test import TestResponse

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
RIGHT = {"name": "ada", "password": "open sesame"}


def _secret(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"for {environ['REMOTE_USER']}".encode()]


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    with closing(open_database(f"sqlite:///{tmp_path}/portico.db")) as database:
        store = DatabaseAccountStore(database)
        store.add_user(User("ada", Role.OPERATOR, passwords.hash("open sesame"), 0.0))
        yield Accounts(lambda: store, passwords=passwords)


@pytest.fixture
def gateway(accounts: Accounts) -> WSGIApplication:
    site = Site(mounts=(MountInfo("account", "/account", "Account"),))
    app = account.create_app(site, accounts)
    access = Access(
        DispatcherMiddleware(_secret, {"/account": app}),
        rule_of=rules_by_prefix({"/account": "login", "/account/login": "open"}, "login"),
        identify=accounts.identify,
        login_url="/account/login",
    )
    return RequestContext(access)


@pytest.fixture
def browser(gateway: WSGIApplication) -> Client:
    return Client(gateway)


def _log_in(browser: Client, **data: str) -> TestResponse:
    return browser.post("/account/login", data={**RIGHT, **data}, headers=BROWSER)


def test_who_logs_in_gets_to_the_page_that_was_asked_for(browser: Client) -> None:
    asked = browser.get("/secret?a=1&b=2", headers=BROWSER)
    form = browser.get(asked.location, headers=BROWSER)
    hidden = re.search(r'name="next" value="([^"]*)"', form.text)
    assert hidden is not None
    answer = _log_in(browser, next=hidden[1].replace("&amp;", "&"))
    assert (answer.status_code, answer.location) == (303, "/secret?a=1&b=2")
    assert browser.get(answer.location).text == "for ada"


def test_the_form_needs_no_script_and_is_never_kept(browser: Client) -> None:
    answer = browser.get("/account/login", headers=BROWSER)
    assert answer.status_code == 200
    assert 'autocomplete="current-password"' in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("wrong", [{"name": "eve"}, {"password": "no"}, {"password": ""}])
def test_everything_wrong_gets_the_same_page(browser: Client, wrong: dict[str, str]) -> None:
    answer = _log_in(browser, **wrong)
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["WWW-Authenticate"].startswith("Cookie ")
    assert "open sesame" not in answer.text


def test_a_program_gets_the_one_error_shape(browser: Client) -> None:
    answer = browser.post("/account/login", data={"name": "ada", "password": "no"})
    assert answer.status_code == 401
    assert answer.mimetype == "application/json"
    assert answer.get_json()["code"] == "sign_in_refused"


def test_a_name_is_shown_again_as_text_only(browser: Client) -> None:
    answer = _log_in(browser, name="<script>alert(1)</script>")
    assert "<script>alert" not in answer.text


def test_guessing_is_slowed_down_with_a_time_to_wait(browser: Client) -> None:
    for _ in range(5):
        _log_in(browser, password="no")
    answer = _log_in(browser)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Too many attempts" in answer.text


def test_every_refusal_has_a_status() -> None:
    kinds = {SignInRefused, *SignInRefused.__subclasses__()}
    assert set(STATUS) == kinds


@pytest.mark.parametrize(
    ("scheme", "root", "expected"),
    [
        ("http", "", {"HttpOnly", "SameSite=Lax", "Path=/"}),
        ("https", "", {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"}),
        ("http", "/ml", {"HttpOnly", "SameSite=Lax", "Path=/ml"}),
    ],
)
def test_the_cookie_is_for_this_gateway_alone(
    gateway: WSGIApplication, scheme: str, root: str, expected: set[str]
) -> None:
    answer = Client(gateway).post(
        "/account/login", data=RIGHT, headers=BROWSER, base_url=f"{scheme}://gate.test{root}/"
    )
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert re.fullmatch(r"portico_session=[\w-]{43}", name)
    assert set(attributes) == expected
    assert answer.location == f"{root}/"


def test_the_token_is_new_at_each_log_in_and_the_old_one_is_dead(
    browser: Client, gateway: WSGIApplication
) -> None:
    _log_in(browser)
    before = browser.get_cookie("portico_session")
    _log_in(browser)
    after = browser.get_cookie("portico_session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    thief = Client(gateway)
    thief.set_cookie("portico_session", before.value)
    assert thief.get("/secret").status_code == 401


def test_a_token_chosen_by_somebody_else_does_not_become_a_session(browser: Client) -> None:
    browser.set_cookie("portico_session", "a" * 43)
    _log_in(browser)
    cookie = browser.get_cookie("portico_session")
    assert cookie is not None
    assert cookie.value != "a" * 43


def test_logging_out_ends_the_session_on_the_server(
    browser: Client, gateway: WSGIApplication
) -> None:
    _log_in(browser)
    cookie = browser.get_cookie("portico_session")
    assert cookie is not None
    answer = browser.post("/account/logout", headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, "/")
    assert browser.get_cookie("portico_session") is None
    thief = Client(gateway)
    thief.set_cookie("portico_session", cookie.value)
    assert thief.get("/secret").status_code == 401


def test_a_link_cannot_log_anybody_out(browser: Client) -> None:
    _log_in(browser)
    assert browser.get("/account/logout").status_code == 405
    assert browser.get("/secret").status_code == 200


@pytest.mark.parametrize("path", ["/account/login", "/account/logout"])
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.test"}]
)
def test_another_site_can_log_nobody_in_or_out(
    accounts: Accounts, gateway: WSGIApplication, path: str, headers: dict[str, str]
) -> None:
    browser = Client(gateway)
    assert _log_in(browser).status_code == 303
    assert browser.post(path, data=RIGHT, headers=headers).status_code == 403
    alone = Client(account.create_app(Site(), accounts))
    bare = path.removeprefix("/account")
    assert alone.post(bare, data=RIGHT, headers=headers).status_code == 403


def test_the_account_page_says_who_one_is(browser: Client) -> None:
    assert browser.get("/account/", headers=BROWSER).status_code == 303
    _log_in(browser)
    answer = browser.get("/account/", headers=BROWSER)
    assert "<h1>ada</h1>" in answer.text
    assert "Operator" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_account_page_asks_for_a_session_itself(accounts: Accounts) -> None:
    answer = Client(RequestContext(account.create_app(Site(), accounts))).get("/")
    assert (answer.status_code, answer.location) == (303, "/account/login")


def test_who_is_logged_in_is_not_asked_again(browser: Client) -> None:
    _log_in(browser)
    answer = browser.get("/account/login?next=/secret", headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, "/secret")


OTHER_PLACES = [
    "", "https://evil.test/", "//evil.test", "///evil.test", "/\\evil.test", "\\\\evil.test",
    "\\/evil.test", "/\t/evil.test", "/\n/evil.test", " //evil.test", "javascript:alert(1)",
    "evil.test", "http:evil.test", "/ml\\..\\x", "/x\x00", "/ä", "/../x", "/a/../../x",
    "/%2e%2e/x", "/a/.%2E/x", "/%2e./x", "//[", "/\u2028/evil.test",
]  # fmt: skip


@pytest.mark.parametrize("target", OTHER_PLACES)
def test_after_the_log_in_nobody_is_led_elsewhere(browser: Client, target: str) -> None:
    assert _log_in(browser, next=target).location == "/"
    assert not is_own_path(target, "")


@pytest.mark.parametrize("target", ["/", "/ui/", "/ml", "/mlx/", "/ml/../ui", "/ml/%2e%2e/ui"])
def test_a_path_outside_the_outer_root_is_elsewhere(target: str) -> None:
    assert not is_own_path(target, "/ml")


@pytest.mark.parametrize("target", ["/ml/", "/ml/ui/?a=/../b#c", "/ml/a%20b", "/ml/..a/"])
def test_a_path_under_the_outer_root_is_our_own(target: str) -> None:
    assert is_own_path(target, "/ml")
