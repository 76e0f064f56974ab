"""The Flask app that every mount starts from: layout, errors, strict headers, links.

Templates may use, besides what their view hands them: ``site``, ``identity``, ``current_mount``,
``root_url(path)`` for links to any mount, ``login_url()`` and ``static_url(name)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from flask import Flask, request
from flask.sessions import SessionInterface
from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined

from apps.shell.errors import register_errors
from apps.shell.formats import FILTERS
from apps.shell.static import fingerprint

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Response

    from apps.shell.site import MountInfo, Site

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Nothing from another host, nothing inline (Content Security Policy Level 3)."""

_TEMPLATES: Final = FileSystemLoader(Path(__file__).with_name("templates"))


class _NoSession(SessionInterface):
    """No cookie of Flask's own: who is asking is decided before an app is reached."""

    def open_session(self, app: Flask, request: object) -> None:
        """Leave it to Flask to make a null session, which refuses to be written."""


def new_app(import_name: str, site: Site) -> Flask:
    """Return an app with the shared layout, error answers and headers.

    Args:
        import_name: ``__name__`` of the app's package; its ``templates`` folder comes first.
        site: what is mounted.
    """
    app = Flask(import_name, static_folder=None)
    app.session_interface = _NoSession()
    app.jinja_loader = ChoiceLoader([*_own(app), _TEMPLATES])
    app.jinja_options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(root_url=root_url, login_url=login_url, static_url=static_url)
    app.before_request(_tell_route)
    app.after_request(_harden)
    app.after_request(_keep_location_relative)
    app.context_processor(lambda: _context(site))
    register_errors(app)
    return app


def root_url(path: str) -> str:
    """Return the link to a path of the gateway, behind whatever prefix a proxy adds.

    Args:
        path: from the gateway's own root, such as ``/ui/``; already percent-encoded.
    """
    return outer_root(request.environ) + path


def login_url() -> str:
    """Return the link to the log-in, which leads back to the present page afterwards."""
    here = quote(request.root_path + request.path, safe="/")
    return f"{root_url('/account/login')}?next={quote(here, safe='/')}"


def outer_root(environ: WSGIEnvironment) -> str:
    """Return the prefix that lies before the gateway, percent-encoded; empty where there is none.

    WSGI carries the path's bytes as Latin-1 (PEP 3333, "Unicode Issues").
    """
    root = str(environ.get("portico.root", environ.get("SCRIPT_NAME", "")))
    # One slash only: a browser would take what follows two for another host.
    trimmed = root.strip("/").encode("latin-1")
    return f"/{quote(trimmed, safe='/')}" if trimmed else ""


def static_url(name: str) -> str:
    """Return the link to a static file; it changes with the content, so it can be kept for ever.

    Args:
        name: as in :mod:`apps.shell.static`, such as ``css/portico.css``.
    """
    return f"{root_url('/static/')}{quote(name)}?v={fingerprint(name)}"


def _own(app: Flask) -> list[FileSystemLoader]:
    folder = Path(app.root_path) / "templates"
    return [FileSystemLoader(folder)] if folder.is_dir() else []


def _tell_route() -> None:
    if request.url_rule is not None:
        request.environ["portico.route"] = request.url_rule.rule


def _context(site: Site) -> dict[str, Any]:
    identity = request.environ.get("portico.identity")
    return {"site": site, "identity": identity or None, "current_mount": _current_mount(site)}


def _current_mount(site: Site) -> MountInfo | None:
    name = request.environ.get("portico.mount")
    return next((mount for mount in site.mounts if mount.name == name), None)


def _harden(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if response.mimetype == "text/html":
        headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        headers.setdefault("Referrer-Policy", "same-origin")
        personal = request.environ.get("portico.identity")
        headers.setdefault("Cache-Control", "no-store" if personal else "no-cache")
    return response


def _keep_location_relative(response: Response) -> Response:
    """Drop scheme and host from redirects of our own: a proxy outside may have other ones."""
    location = response.headers.get("Location", "")
    if location.startswith(request.host_url):
        response.headers["Location"] = "/" + location.removeprefix(request.host_url).lstrip("/")
    return response
