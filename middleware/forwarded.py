"""Believe ``X-Forwarded-*`` from trusted peers, and from nobody else."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HEADERS: Final = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
)
_REMEMBERED: Final = 1024
"""Peers whose trust is kept, so that it is worked out once for each."""


class Forwarded:
    """Take client, scheme, host and prefix from a trusted proxy, and drop what others claim.

    One proxy is believed: the last value of each header, which that proxy itself wrote. This
    must be the outermost middleware, as everything else reads what it corrects.

    Args:
        app: the application to wrap.
        trusted: addresses and networks of proxies; ``unix`` for peers on a Unix socket.

    Raises:
        ValueError: an entry is neither address nor network.
    """

    def __init__(self, app: WSGIApplication, trusted: Sequence[str] = ()) -> None:
        self._app = app
        self._behind_proxy = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
        self._networks = [ip_network(entry) for entry in trusted if entry != "unix"]
        self._trusts_socket = "unix" in trusted
        self._known: dict[str, bool] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if self._networks or self._trusts_socket:
            peer = environ.get("REMOTE_ADDR") or ""
            if self._is_trusted(peer):
                return self._behind_proxy(environ, start_response)
        for header in _HEADERS:
            if header in environ:
                del environ[header]
        return self._app(environ, start_response)

    def _is_trusted(self, peer: str) -> bool:
        trusted = self._known.get(peer)
        if trusted is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            trusted = self._known[peer] = self._judge(peer)
        return trusted

    def _judge(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return self._trusts_socket
        return any(address in network for network in self._networks)
