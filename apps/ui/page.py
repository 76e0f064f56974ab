"""The page of one model version: what all of its tabs show, and what is shown without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flask import make_response, render_template, request

from apps.shell.models import answering, prediction_headers
from portico.serving.models import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response
    from flask.typing import ResponseReturnValue

    from portico.serving.catalogue import Catalogue
    from portico.serving.models import Model, Version
    from portico.serving.service import ServedModel

REFRESH_SECONDS: Final = 2
"""How often the page of a model that loads asks again."""

FRAGMENT_HEADER: Final = "Portico-Fragment"
"""A request with this header gets only the parts of the page that an answer changes."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page that is being shown.

    Attributes:
        served: the version that answers.
        asked: the version in the address; None where it names none.
        tab: the tab's word in the address; empty for the form.
        state: of this version.
        versions: names of the versions that can be asked, newest first.
        warning: what is wrong with this version, or with the one that it stands in for, in words;
            empty when all is well.
    """

    served: ServedModel
    asked: str | None
    tab: str
    state: State
    versions: list[str]
    warning: str

    def render(self, template: str, **facts: Any) -> str:
        """Draw a tab; the templates say which parts a fragment has."""
        is_fragment = FRAGMENT_HEADER in request.headers
        frame = "fragment.html" if is_fragment else "model.html"
        return render_template(template, page=self, served=self.served, frame=frame, **facts)


def with_page(
    catalogue: Catalogue,
    name: str,
    version: str | None,
    tab: str,
    view: Callable[[Page], ResponseReturnValue],
) -> ResponseReturnValue:
    """Run a view on the version that answers, or say why none does.

    Raises:
        UnknownModel: there is none of that name.
        UnknownVersion: the model has no such version.
    """
    model, found = catalogue.model(name), catalogue.version(name, version)
    if found.served is None:
        catalogue.call_for(found)
        return _not_there(model, found)
    warning = _warning(model, found, version)
    usable = [v.name for v in model.versions if v.answers or v.state is State.AVAILABLE]
    page = Page(answering(catalogue, name, version), version, tab, found.state, usable, warning)
    response = make_response(view(page))
    response.vary.add(FRAGMENT_HEADER)
    prediction = request.environ.get("portico.prediction")
    if prediction is not None:
        response.headers.extend(prediction_headers(prediction))
    return response


def _warning(model: Model, found: Version, asked: str | None) -> str:
    """Say what is wrong with this version, or with the one that it stands in for."""
    if found.state is State.UNREADY:
        return f"Version {found.name} does not answer as it should: {found.problem}"
    wanted = model.wanted
    if asked is not None or wanted.state is not State.FAILED:
        return ""
    return f"Version {wanted.name} failed to load: {wanted.problem}"


def _not_there(model: Model, version: Version) -> Response:
    response = make_response(render_template("not_there.html", model=model, version=version), 503)
    if version.state not in (State.FAILED, State.UNLOADED):
        response.headers["Refresh"] = str(REFRESH_SECONDS)
        response.retry_after = REFRESH_SECONDS
    return response
