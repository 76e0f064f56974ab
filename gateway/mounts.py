"""Which application answers under which prefix, and who may enter it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from apps.shell.site import MountInfo

_REMEMBERED: Final = 4096
"""Paths whose mount is kept; beyond, all are forgotten, as paths come from outside."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One application under one prefix; ``info`` is what people are told about it."""

    info: MountInfo
    app: WSGIApplication


class MountTable:
    """The mounts, found by the path exactly as the dispatcher finds them.

    Args:
        home: answers what no other mount does.
        mounts: the others.
        rules: access rules of single paths, such as ``/healthz``, and of all below a path that
            ends with a slash; they go before the rule of the mount.
    """

    def __init__(self, home: Mount, mounts: Sequence[Mount], rules: dict[str, str]) -> None:
        self._home = home
        # WSGI carries the path's bytes as Latin-1 (PEP 3333, "Unicode Issues").
        self._by_prefix = {mount.info.prefix.encode().decode("latin-1"): mount for mount in mounts}
        self._rules = rules
        self._below = tuple(path for path in rules if path.endswith("/"))
        self._known: dict[str, tuple[str, str]] = {}

    def dispatcher(self) -> WSGIApplication:
        """Return Werkzeug's dispatcher over the mounts."""
        named = {prefix: _named(mount) for prefix, mount in self._by_prefix.items()}
        return DispatcherMiddleware(_named(self._home), named)

    def name_of(self, environ: WSGIEnvironment) -> str:
        """Return the name of the mount that will answer."""
        return self._find(environ.get("PATH_INFO", ""))[0]

    def rule_of(self, path: str) -> str:
        """Return the access rule of a path, as the settings name it."""
        return self._find(path)[1]

    def _find(self, path: str) -> tuple[str, str]:
        """Return name and rule; every request asks for both, so they are kept."""
        found = self._known.get(path)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            mount = self._mount_at(path)
            found = self._known[path] = (mount.info.name, self._rule_at(path, mount))
        return found

    def _rule_at(self, path: str, mount: Mount) -> str:
        if path in self._rules:
            return self._rules[path]
        below = next((prefix for prefix in self._below if path.startswith(prefix)), None)
        return self._rules[below] if below else mount.info.access

    def _mount_at(self, path: str) -> Mount:
        """Cut segments off the end until a mount is left, as DispatcherMiddleware does."""
        script = path
        while "/" in script:
            if script in self._by_prefix:
                return self._by_prefix[script]
            script = script.rpartition("/")[0]
        return self._home


def _named(mount: Mount) -> WSGIApplication:
    """Tell the environment which mount answers."""
    name, app = mount.info.name, mount.app

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["portico.mount"] = name
        return app(environ, start_response)

    return answer


def import_app(path: str) -> WSGIApplication:
    """Import a WSGI callable.

    Args:
        path: ``module:name``; the name may have dots.

    Raises:
        SettingsError: it cannot be imported, or is not callable.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"mounts: '{path}' cannot be imported: {reason}") from error
    if not callable(found):
        raise SettingsError(f"mounts: '{path}' is a {type(found).__name__}, no WSGI callable")
    app: Callable[..., Any] = found
    return app
