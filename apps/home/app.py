"""The app behind every path that no other mount takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, jsonify, render_template, request

from apps.home.readiness import is_ready, states
from apps.shell import static
from apps.shell.app import new_app
from apps.shell.words import gives_in_words, model_path, takes_in_words

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask
    from flask.typing import ResponseReturnValue
    from werkzeug.wrappers import Response as BaseResponse

    from apps.shell.site import Site
    from portico.serving.catalogue import Catalogue


def create_app(site: Site, catalogue: Catalogue, scrape: WSGIApplication) -> Flask:
    """Build the app of the gateway's root.

    Args:
        site: what is mounted.
        catalogue: what is served.
        scrape: answers ``/metrics``.
    """
    app = new_app(__name__, site)
    app.jinja_env.globals.update(
        model_path=model_path, takes_in_words=takes_in_words, gives_in_words=gives_in_words
    )
    app.add_url_rule("/static/<path:name>", view_func=static.answer)
    _add_page(app, site, catalogue)
    _add_probes(app, catalogue, scrape)
    return app


def _add_page(app: Flask, site: Site, catalogue: Catalogue) -> None:
    @app.get("/")
    def index() -> ResponseReturnValue:
        # Home is this page, and every page's head leads to the account.
        mounts = [mount for mount in site.mounts if mount.name not in ("home", "account")]
        return render_template("home.html", models=catalogue.models(), mounts=mounts)


def _add_probes(app: Flask, catalogue: Catalogue, scrape: WSGIApplication) -> None:
    @app.get("/metrics")
    def metrics() -> BaseResponse:
        return Response.from_app(scrape, request.environ)

    @app.get("/healthz")
    def alive() -> ResponseReturnValue:
        return _never_kept({"status": "ok"})

    @app.get("/readyz")
    def ready() -> ResponseReturnValue:
        status = 200 if is_ready(catalogue) else 503
        known = states(catalogue.models())
        return _never_kept({"ready": status == 200, "models": known}, status)


def _never_kept(payload: object, status: int = 200) -> Response:
    response = jsonify(payload)
    response.status_code = status
    response.cache_control.no_store = True
    return response
