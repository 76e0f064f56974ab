"""The app at ``/ui``: it finds the model, asks it, and shows a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, redirect, render_template, request
from werkzeug.exceptions import NotFound

from apps.shell.app import new_app, root_url
from apps.shell.errors import status_of
from apps.shell.words import gives_in_words, model_path, takes_in_words
from apps.ui.about import about
from apps.ui.ask import Outcome, ask
from apps.ui.batch import MAX_ROWS, read_table, score, takes_tables
from apps.ui.code import examples_of
from apps.ui.fields import default_values, example_values, fields_of, rest_of_sentence, text_of
from apps.ui.page import with_page
from portico.serving.codecs.rows import csv_template
from portico.serving.errors import ServingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.typing import ResponseReturnValue

    from apps.shell.site import Site
    from apps.ui.about import Evidence
    from apps.ui.page import Page
    from portico.serving.catalogue import Catalogue
    from portico.serving.service import ServedModel

MAX_FORM_BYTES = 16 * 1024 * 1024
"""All text fields of a multipart form together; an array as JSON text takes a few megabytes."""

MAX_FORM_FIELDS = 5000
"""Fields of a multipart form; a wide table has one for each column."""


def create_app(site: Site, catalogue: Catalogue, evidence: Evidence | None = None) -> Flask:
    """Build the app of the pages for people, to be mounted at ``/ui``.

    Args:
        site: what all apps know of the gateway.
        catalogue: the models.
        evidence: what goes on beside the requests; None where nothing does.
    """
    app = new_app(__name__, site)
    app.config.update(MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES, MAX_FORM_PARTS=MAX_FORM_FIELDS)
    app.jinja_env.globals.update(
        model_path=model_path,
        takes_in_words=takes_in_words,
        gives_in_words=gives_in_words,
        takes_tables=takes_tables,
        max_rows=MAX_ROWS,
    )
    app.jinja_env.filters.update(plain=text_of, problem=rest_of_sentence)
    _add_gallery(app, catalogue)
    _add_pages(app, catalogue, evidence)
    return app


def _add_gallery(app: Flask, catalogue: Catalogue) -> None:
    @app.get("/")
    def gallery() -> ResponseReturnValue:
        return render_template("gallery.html", models=catalogue.models())

    @app.get("/models", strict_slashes=False)
    def models() -> ResponseReturnValue:
        return redirect(root_url("/ui/"))


def _add_pages(app: Flask, catalogue: Catalogue, evidence: Evidence | None) -> None:
    """Add the tabs of a model's page, each also under the address of a version."""

    def add(tab: str, view: Callable[[Page], ResponseReturnValue], *methods: str) -> None:
        def run(name: str, version: str | None = None) -> ResponseReturnValue:
            return with_page(catalogue, name, version, tab, view)

        for prefix in ("/models/<name>", "/models/<name>/versions/<version>"):
            app.add_url_rule(
                f"{prefix}/{tab}".rstrip("/"),
                endpoint=f"{prefix}/{tab}",
                view_func=run,
                methods=methods or ("GET",),
            )

    add("", _form, "GET", "POST")
    add("table", _table, "GET", "POST")
    add("code", _code)
    add("about", lambda page: page.render("about.html", **about(page, catalogue, evidence)))
    add("template.csv", _template)


def _form(page: Page) -> ResponseReturnValue:
    signature = page.served.signature
    defaults, examples = default_values(signature), example_values(signature)
    if request.method == "POST":
        outcome = ask(page.served)
    else:
        outcome = Outcome(examples if "example" in request.args else defaults)
    html = page.render(
        "form.html",
        outcome=outcome,
        fields=fields_of(signature, outcome.values, outcome.problems),
        has_example=any(defaults[name] != value for name, value in examples.items()),
    )
    error = outcome.error
    return html, status_of(error) if error else 200, _retry_after(error)


def _retry_after(error: ServingError | None) -> dict[str, str]:
    seconds = getattr(error, "retry_after", None)
    return {"Retry-After": str(seconds)} if seconds else {}


def _table(page: Page) -> ResponseReturnValue:
    _need_tables(page.served)
    if request.method != "POST":
        return page.render("table.html", scored=None, error=None)
    try:
        scored = score(page.served, read_table())
    except ServingError as error:
        facts = page.render("table.html", scored=None, error=error)
        return facts, status_of(error), _retry_after(error)
    if request.form.get("as") == "csv":
        return _download(scored.as_csv(), f"{page.served.name}-answers.csv")
    return page.render("table.html", scored=scored, error=None)


def _code(page: Page) -> ResponseReturnValue:
    base = request.host_url.rstrip("/") + root_url("")
    return page.render("code.html", examples=examples_of(page.served, base, page.asked))


def _template(page: Page) -> ResponseReturnValue:
    _need_tables(page.served)
    return _download(csv_template(page.served.signature), f"{page.served.name}-template.csv")


def _need_tables(served: ServedModel) -> None:
    if not takes_tables(served.signature):
        raise NotFound


def _download(text: str, name: str) -> Response:
    response = Response(text, mimetype="text/csv")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    response.cache_control.no_store = True
    return response
