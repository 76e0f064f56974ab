"""Answer a Prometheus scrape."""

from __future__ import annotations

import os
import struct
from time import sleep
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from middleware.errors import error_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_TRIES = 5


def metrics_app(registry: CollectorRegistry = REGISTRY) -> WSGIApplication:
    """Make the application behind ``/metrics``.

    Where ``PROMETHEUS_MULTIPROC_DIR`` is set now, its answers add up all processes; else they show
    `registry`. The format is OpenMetrics or Prometheus text, as ``Accept`` asks. Methods other
    than GET and HEAD get 405 (RFC 9110, section 15.5.6).

    Args:
        registry: The metrics of a single process.
    """
    registry = readable_registry(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in {"GET", "HEAD"}:
            return error_response(
                environ,
                start_response,
                405,
                "Metrics can only be read.",
                "method_not_allowed",
                headers=[("Allow", "GET, HEAD")],
            )
        content, content_type = render_metrics(registry, environ.get("HTTP_ACCEPT", ""))
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
        ]
        start_response("200 OK", headers)
        return [] if method == "HEAD" else [content]

    return answer


def readable_registry(registry: CollectorRegistry = REGISTRY) -> CollectorRegistry:
    """Return what to collect from: all processes where they share a folder, else `registry`."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return registry


def render_metrics(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics of `registry` down.

    Args:
        registry: What to collect.
        accept: The ``Accept`` header of the scrape.

    Returns:
        The text and its content type.
    """
    encode, content_type = choose_encoder(accept)
    for _ in range(_TRIES - 1):
        try:
            return encode(registry), content_type
        except struct.error:
            # A worker has created its file this very moment and not given it a size yet.
            sleep(0.01)
    return encode(registry), content_type
