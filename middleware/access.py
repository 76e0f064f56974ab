"""Decide who may pass, for every application behind it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, urlsplit

import structlog

from middleware.errors import error_response, wants_html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from middleware.error_shape import RenderHTML

OPEN: Final = "open"
LOGIN: Final = "login"
ROLE: Final = "role:"

# What proxies and servers set once they have authenticated somebody. Nobody in front of Portico
# does, so these come from whoever sends the request, and a mounted application may believe them.
_CLAIMS: Final = frozenset({
    "REMOTE_USER",
    "AUTH_TYPE",
    "HTTP_REMOTE_USER",
    "HTTP_REMOTE_EMAIL",
    "HTTP_REMOTE_GROUPS",
    "HTTP_REMOTE_NAME",
    "HTTP_X_REMOTE_USER",
    "HTTP_X_REMOTE_EMAIL",
    "HTTP_X_REMOTE_GROUPS",
    "HTTP_X_FORWARDED_USER",
    "HTTP_X_FORWARDED_EMAIL",
    "HTTP_X_FORWARDED_GROUPS",
    "HTTP_X_FORWARDED_PREFERRED_USERNAME",
    "HTTP_X_FORWARDED_ACCESS_TOKEN",
    "HTTP_X_AUTH_REQUEST_USER",
    "HTTP_X_AUTH_REQUEST_EMAIL",
    "HTTP_X_AUTH_REQUEST_GROUPS",
    "HTTP_X_AUTHENTICATED_USER",
    "HTTP_X_WEBAUTH_USER",
    "portico.identity",
    "portico.session_token",
})  # fmt: skip
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_TOKENS: Final = 4
_LONGEST_NEXT: Final = 2000


class Identity(Protocol):
    """What is asked of somebody known; ``str()`` gives the name."""

    def may(self, role: str) -> bool:
        """Tell whether this identity has a role, or one that includes it."""
        ...


class Access:
    """Let a request pass, send a browser to the log-in, or refuse.

    Sets ``portico.identity``, ``portico.session_token`` and ``REMOTE_USER`` where the session
    cookie names somebody, and removes every such claim that came with the request. The cookie
    itself goes no further: no mounted application, and nobody it talks to, can take a session over.

    A request that changes something (any method but GET, HEAD and OPTIONS) and carries the session
    cookie, or is aimed at the log-in, must come from a page of the same origin. This is the
    algorithm of Go's ``net/http.CrossOriginProtection`` (go.dev/src/net/http/csrf.go): browsers say
    ``Sec-Fetch-Site`` or ``Origin``, and what says neither is no browser. It needs no tokens.

    Args:
        app: The application to wrap, usually the dispatcher.
        rule_of: Gives the rule for a decoded ``PATH_INFO``, such as `rules_by_prefix` makes:
            ``open``, ``login``, or ``role:`` and the name of a role. Anything else refuses.
        identify: Finds out who holds a session token; None for nobody.
        login_url: Path of the log-in under the outer root, such as ``/account/login``.
        cookie: Name of the session cookie.
        render_html: Draws error pages, as for `error_response`.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        rule_of: Callable[[str], str],
        identify: Callable[[str], Identity | None],
        login_url: str,
        cookie: str = "portico_session",
        render_html: RenderHTML | None = None,
    ) -> None:
        self._app = app
        self._rule_of = rule_of
        self._identify = identify
        self._login_url = login_url
        self._cookie = cookie
        self._assignment = f"{cookie}="
        self._render_html = render_html

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if not _CLAIMS.isdisjoint(environ):
            for claim in _CLAIMS:
                environ.pop(claim, None)
        path = environ.get("PATH_INFO", "")
        rule = self._rule_of(path)
        cookies = environ.get("HTTP_COOKIE")
        has_cookie = cookies is not None and self._assignment in cookies
        if rule == OPEN and not has_cookie and path != self._login_url:
            return self._app(environ, start_response)
        tokens = self._take_tokens(environ) if has_cookie else []
        if (tokens or path == self._login_url) and is_cross_origin(environ):
            message = "This request was sent by a page of another site, so it was not carried out."
            return self._refuse(environ, start_response, 403, message, "cross_origin")
        identity = self._find(environ, tokens, rule)
        return self._decide(environ, start_response, rule, identity)

    def _take_tokens(self, environ: WSGIEnvironment) -> list[str]:
        """Take the session cookies out of the request and return their values.

        Two gateways on one host, at ``/`` and ``/ml``, make a browser send two (RFC 6265, 5.4).
        """
        kept, tokens = [], []
        for pair in environ["HTTP_COOKIE"].split(";"):
            name, _, value = pair.strip().partition("=")
            if name.strip() == self._cookie:
                tokens.append(value.strip().strip('"'))
            else:
                kept.append(pair.strip())
        if kept:
            environ["HTTP_COOKIE"] = "; ".join(kept)
        else:
            del environ["HTTP_COOKIE"]
        return tokens[:_MOST_TOKENS]

    def _find(self, environ: WSGIEnvironment, tokens: list[str], rule: str) -> Identity | None:
        """Find who asks, and write that into the environment."""
        for token in tokens:
            identity = self._ask(token, rule)
            if identity is not None:
                environ["portico.identity"] = identity
                environ["portico.session_token"] = token
                environ["REMOTE_USER"] = str(identity)
                return identity
        return None

    def _ask(self, token: str, rule: str) -> Identity | None:
        try:
            return self._identify(token)
        except Exception:
            if rule != OPEN:
                raise
            # What is open for everybody must not fail because the accounts cannot be read.
            structlog.get_logger().exception("identity unknown")
            return None

    def _decide(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        rule: str,
        identity: Identity | None,
    ) -> Iterable[bytes]:
        if rule == OPEN or (identity is not None and _passes(identity, rule)):
            return self._app(environ, start_response)
        if identity is not None:
            message = "Your account may not do this. Ask an administrator of this gateway."
            return self._refuse(environ, start_response, 403, message, "forbidden")
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"} and wants_html(environ):
            return self._send_to_login(environ, start_response)
        # RFC 9110, 15.5.2 asks for a challenge; this one is draft-broyer-http-cookie-auth's, and
        # browsers show no box of their own for it.
        login = _outer_root(environ) + self._login_url
        challenge = f'Cookie realm="Portico", form-action="{login}", cookie-name={self._cookie}'
        headers = [("WWW-Authenticate", challenge)]
        message = "Please log in first."
        return self._refuse(environ, start_response, 401, message, "login_required", headers)

    def _send_to_login(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        root = _outer_root(environ)
        here = root + quote(environ.get("PATH_INFO", "").encode("latin-1"))
        if environ.get("QUERY_STRING"):
            here += "?" + environ["QUERY_STRING"]
        location = root + self._login_url
        if len(here) <= _LONGEST_NEXT:
            location += f"?next={quote(here, safe='/')}"
        headers = [
            ("Location", location),
            ("Cache-Control", "no-store"),
            ("Content-Type", "text/plain"),
            ("Content-Length", "0"),
        ]
        start_response("303 See Other", headers)
        return []

    def _refuse(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        status: int,
        message: str,
        code: str,
        headers: Iterable[tuple[str, str]] = (),
    ) -> list[bytes]:
        return error_response(
            environ, start_response, status, message, code,
            headers=[*headers], render_html=self._render_html,
        )  # fmt: skip


def rules_by_prefix(rules: Mapping[str, str], default: str) -> Callable[[str], str]:
    """Make a `rule_of` that splits paths exactly as Werkzeug's ``DispatcherMiddleware`` does.

    So the rule is always the one of the application that answers, whatever the path looks like:
    ``//admin`` and ``/ADMIN`` go to the default application, ``/admin/../ui`` to ``/admin``.

    Args:
        rules: Rules by prefix, without trailing slashes: at least every prefix that is mounted,
            and longer ones below a mount where its rule differs.
        default: For what nothing is mounted under.
    """
    rules = dict(rules)

    def rule_of(path: str) -> str:
        while "/" in path:
            if path in rules:
                return rules[path]
            path = path.rsplit("/", 1)[0]
        return rules.get(path, default)

    return rule_of


def is_cross_origin(environ: WSGIEnvironment) -> bool:
    """Tell whether a page of another origin made the browser send a request that changes something.

    Source: Go's ``CrossOriginProtection.Check``.
    """
    if environ["REQUEST_METHOD"] in _SAFE_METHODS:
        return False
    site = environ.get("HTTP_SEC_FETCH_SITE", "")
    if site:
        return site not in {"same-origin", "none"}
    origin: str = environ.get("HTTP_ORIGIN", "")
    if not origin:
        return False
    try:
        return urlsplit(origin).netloc != str(environ.get("HTTP_HOST", ""))
    except ValueError:
        return True


def _passes(identity: Identity, rule: str) -> bool:
    if rule == LOGIN:
        return True
    return rule.startswith(ROLE) and identity.may(rule.removeprefix(ROLE))


def _outer_root(environ: WSGIEnvironment) -> str:
    """Return the prefix before the gateway as it stands in a link, empty where there is none.

    One slash only: a browser would take what follows two for another host.
    """
    root: str = environ.get("SCRIPT_NAME", "").strip("/")
    return f"/{quote(root.encode('latin-1'))}" if root else ""
