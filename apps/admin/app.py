"""The app behind ``/admin``."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Response, abort, render_template, request, url_for

from apps.admin import words
from apps.admin.history import History
from apps.admin.models import version_rows
from apps.admin.overview import cards, model_rows, span_of
from apps.shell.app import new_app

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue

    from apps.admin.facts import OperatorView
    from apps.shell.site import Site
    from portico.serving.catalogue import Catalogue

NEEDED_ROLE: Final = "operator"
_HISTORY: Final = "portico.history"
_STATIC: Final = Path(__file__).with_name("static")


def create_app(site: Site, catalogue: Catalogue, view: OperatorView) -> Flask:
    """Build the console. Every route of it, whatever it is, refuses who is no operator.

    Args:
        site: what is mounted.
        catalogue: what is served.
        view: where figures, workers and settings come from.
    """
    app = new_app(__name__, site)
    history = History(view.collect)
    app.extensions[_HISTORY] = history
    app.before_request(_refuse_others)
    app.before_request(history.start)
    app.after_request(_keep_nothing)
    app.context_processor(lambda: {"is_part": "part" in request.args})
    app.jinja_env.filters.update(count=words.count, moment=words.moment)
    _add_overview(app, catalogue, view, history)
    _add_lists(app, site, catalogue, view)
    _add_files(app)
    return app


def history_of(app: Flask) -> History:
    """Return what a console remembers, for a server to start before the first visit."""
    history: History = app.extensions[_HISTORY]
    return history


def _add_overview(app: Flask, catalogue: Catalogue, view: OperatorView, history: History) -> None:
    @app.get("/")
    def overview() -> ResponseReturnValue:
        readings = history.readings()
        models = catalogue.models()
        versions = version_rows(models)
        known = [model.name for model in models]
        return render_template(
            "overview.html",
            cards=cards(readings) if readings else [],
            span=words.age(0, span_of(readings)) if readings else "",
            rows=model_rows(readings, known) if readings else [],
            failed=[row for row in versions if row.problem],
            ready=sum(row.state == "ready" for row in versions),
            versions=versions,
            workers=len(view.workers()),
        )


def _add_lists(app: Flask, site: Site, catalogue: Catalogue, view: OperatorView) -> None:
    @app.get("/models")
    def models() -> ResponseReturnValue:
        return render_template(
            "models.html", rows=version_rows(catalogue.models()), worker=os.getpid()
        )

    @app.get("/workers")
    def workers() -> ResponseReturnValue:
        now = time.time()
        rows = [(info, words.age(info.started, now)) for info in view.workers()]
        return render_template("workers.html", rows=rows, worker=os.getpid())

    @app.get("/mounts")
    def mounts() -> ResponseReturnValue:
        return render_template("mounts.html", mounts=site.mounts)

    @app.get("/settings")
    def settings() -> ResponseReturnValue:
        return render_template("settings.html", rows=view.settings)


def _add_files(app: Flask) -> None:
    files = {path.name: path.read_bytes() for path in _STATIC.iterdir() if path.is_file()}
    tags = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in files.items()}

    @app.get("/static/<name>")
    def file(name: str) -> ResponseReturnValue:
        if name not in files:
            abort(404)
        response = Response(files[name], mimetype=mimetypes.guess_type(name)[0])
        response.set_etag(tags[name])
        response.cache_control.no_cache = True
        return response.make_conditional(request)

    def file_url(name: str) -> str:
        return url_for("file", name=name, v=tags[name])

    app.jinja_env.globals["file_url"] = file_url


def _refuse_others() -> None:
    """Refuse here too, should nothing in front have done so."""
    identity: Any = request.environ.get("portico.identity")
    if identity is None:
        abort(401, "Please log in first.")
    if not identity.may(NEEDED_ROLE):
        abort(403, "Only operators may enter the console.")


def _keep_nothing(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.headers["Cache-Control"] = "no-store"
    return response
