"""The app behind ``/account``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flask import Response, abort, make_response, redirect, render_template, request

from apps.account.following import is_own_path
from apps.shell.app import new_app, outer_root, root_url
from middleware.access import is_cross_origin
from middleware.errors import error_response, wants_html
from portico.accounts.errors import SignInRefused, TooManyFailures
from portico.accounts.sessions import SESSION_COOKIE

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Response as BaseResponse

    from apps.shell.site import Site
    from portico.accounts.service import Accounts

STATUS: Final[dict[type[SignInRefused], int]] = {SignInRefused: 401, TooManyFailures: 429}
"""The HTTP status of each way in which a sign-in fails."""


def create_app(site: Site, accounts: Accounts) -> Flask:
    """Build the app; it relies on the access middleware to say who asks.

    Args:
        site: what is mounted.
        accounts: who may enter.
    """
    app = new_app(__name__, site)
    app.before_request(_refuse_other_sites)
    app.after_request(_keep_nothing)
    _add_login(app, accounts)
    _add_account(app, accounts)
    return app


def _add_login(app: Flask, accounts: Accounts) -> None:
    @app.get("/login")
    def login_form() -> ResponseReturnValue:
        if request.environ.get("portico.identity"):
            return redirect(_following(), 303)
        return render_template("login.html", following=_following(), name="", problem="")

    @app.post("/login")
    def login() -> ResponseReturnValue:
        name, password = request.form.get("name", ""), request.form.get("password", "")
        try:
            token = accounts.sign_in(name, password, request.remote_addr or "")
        except SignInRefused as error:
            return _refused(error, name)
        _end_session(accounts)
        response = redirect(_following(), 303)
        response.set_cookie(
            SESSION_COOKIE, token, path=_cookie_path(), httponly=True, samesite="Lax",
            secure=request.is_secure,
        )  # fmt: skip
        return response

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        _end_session(accounts)
        response = redirect(root_url("/"), 303)
        response.delete_cookie(
            SESSION_COOKIE, path=_cookie_path(), httponly=True, samesite="Lax",
            secure=request.is_secure,
        )  # fmt: skip
        return response


def _add_account(app: Flask, accounts: Accounts) -> None:
    @app.get("/")
    def account() -> ResponseReturnValue:
        session = accounts.session(request.environ.get("portico.session_token", ""))
        if session is None:
            return redirect(root_url("/account/login"), 303)
        started = datetime.fromtimestamp(session.started, UTC)
        return render_template("account.html", session=session, started=started)


def _refuse_other_sites() -> None:
    """Refuse what a page of another site sends, should nothing in front have done so."""
    if is_cross_origin(request.environ):
        abort(403, "This request was sent by a page of another site.")


def _keep_nothing(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _end_session(accounts: Accounts) -> None:
    """End the session that the request came with, if it did."""
    token = request.environ.get("portico.session_token")
    if token:
        accounts.sign_out(token)


def _refused(error: SignInRefused, name: str) -> ResponseReturnValue:
    """Show the form again, or answer a program in the one error shape."""
    status = STATUS[type(error)]
    headers = {"WWW-Authenticate": 'Cookie realm="Portico"'} if status == 401 else {}
    if isinstance(error, TooManyFailures):
        headers["Retry-After"] = str(error.retry_after)
    if not wants_html(request.environ):
        return _as_json(error, status, headers)
    page = render_template(
        "login.html", following=_following(), name=name[:100], problem=error.message
    )
    return make_response(page, status, headers)


def _as_json(error: SignInRefused, status: int, headers: dict[str, str]) -> BaseResponse:
    return Response.from_app(
        lambda environ, start_response: error_response(
            environ, start_response, status, error.message, error.code, headers=[*headers.items()]
        ),
        request.environ,
    )


def _following() -> str:
    """Return where to go after the log-in: the page that was asked for, or home."""
    target = request.values.get("next", "")
    return target if is_own_path(target, outer_root(request.environ)) else root_url("/")


def _cookie_path() -> str:
    return outer_root(request.environ) or "/"
