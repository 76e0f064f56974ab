"""Finding the model that a view asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

if TYPE_CHECKING:
    from portico.serving.catalogue import Catalogue
    from portico.serving.service import ServedModel


def answering(catalogue: Catalogue, name: str, version: str | None = None) -> ServedModel:
    """Return the version that will answer, and note it for the access log.

    Raises:
        UnknownModel, UnknownVersion, ModelUnavailable: as :meth:`Catalogue.served`.
    """
    served = catalogue.served(name, version)
    request.environ["portico.model"] = served.name
    request.environ["portico.version"] = served.version
    return served
