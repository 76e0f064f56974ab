"""The plain JSON API: models, predictions, and its own description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import render_template, request

from apps.api.json_answer import json_answer
from apps.api.openapi import model_description, openapi_document
from apps.api.predict import predict
from apps.api.predictions import add_prediction_routes
from apps.shell.app import new_app, root_url
from apps.shell.models import answering, begin_prediction, prediction_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from flask.typing import ResponseReturnValue

    from apps.shell.site import Site
    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Model, Version
    from portico.serving.predictions import PredictionStore


def create_app(
    site: Site,
    catalogue: Catalogue,
    predictions: Callable[[], PredictionStore],
    *,
    nobody_is_known: bool = False,
) -> Flask:
    """Build the API's application, to be mounted at ``/api``.

    Args:
        site: what all apps know of the gateway.
        catalogue: the models.
        predictions: returns the prediction log.
        nobody_is_known: see :func:`apps.api.predictions.add_prediction_routes`.
    """
    app = new_app(__name__, site)
    app.url_map.strict_slashes = False
    _add_model_routes(app, catalogue)
    add_prediction_routes(app, predictions, nobody_is_known=nobody_is_known)
    _add_description_routes(app, site, catalogue)
    return app


def _add_model_routes(app: Flask, catalogue: Catalogue) -> None:
    @app.get("/models")
    def models() -> ResponseReturnValue:
        return json_answer({"models": [_summary(model) for model in catalogue.models()]})

    @app.get("/models/<name>")
    def model(name: str) -> ResponseReturnValue:
        found = catalogue.model(name)
        details = model_description(found.current.served) if found.current.served else {}
        return json_answer({**_summary(found), **details})

    def model_predict(name: str, version: str | None = None) -> ResponseReturnValue:
        served = answering(catalogue, name, version)
        prediction = begin_prediction(served, request.environ)
        response = json_answer(predict(served, prediction))
        response.headers.extend(prediction_headers(prediction))
        return response

    for prefix in ("/models/<name>", "/models/<name>/versions/<version>"):
        app.add_url_rule(f"{prefix}/predict", view_func=model_predict, methods=["POST"])


def _add_description_routes(app: Flask, site: Site, catalogue: Catalogue) -> None:
    @app.get("/")
    def index() -> ResponseReturnValue:
        links = {
            "models": root_url("/api/models"),
            "openapi": root_url("/api/openapi.json"),
            "docs": root_url("/api/docs"),
            "open_inference_protocol": root_url("/v2"),
        }
        return json_answer(links)

    @app.get("/openapi.json")
    def openapi() -> ResponseReturnValue:
        return json_answer(openapi_document(site.title, root_url(""), catalogue.models()))

    @app.get("/docs")
    def docs() -> ResponseReturnValue:
        return render_template("docs.html")


def _summary(model: Model) -> dict[str, Any]:
    current = model.current
    return {
        "name": model.name,
        "title": model.title,
        "description": current.served.card.description if current.served else "",
        "state": current.state,
        "version": current.name,
        "versions": [_version(version) for version in model.versions],
    }


def _version(version: Version) -> dict[str, Any]:
    facts = {"version": version.name, "state": version.state}
    return {**facts, "problem": version.problem} if version.problem else facts
