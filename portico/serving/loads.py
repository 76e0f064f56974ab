"""Loads versions on threads of their own, a few at a time; one that hangs stops no other."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portico.serving.catalogue import Catalogue
    from portico.serving.loader import Loaded
    from portico.serving.models import Version

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
"""Versions that are loaded at once; those that take too long do not count."""

FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before the first and between later tries to load what has failed."""


class Load(threading.Thread):
    """One version being loaded.

    Attributes:
        version: what is loaded.
        result: once it has ended; a text says why it failed.
    """

    def __init__(
        self, catalogue: Catalogue, version: Version, done: Callable[[Load], None]
    ) -> None:
        super().__init__(name=f"load {version.model}/{version.name}", daemon=True)
        self.version = version
        self.result: Loaded | str = ""
        self.started = monotonic()
        self.is_overdue = False
        self._catalogue = catalogue
        self._done = done

    def run(self) -> None:
        """Load, and say so."""
        self.result = self._catalogue.open(self.version)
        self._done(self)


class Loads:
    """What is being loaded now, and when what failed is tried again.

    All methods belong to one thread; ``done`` is called on others.

    Args:
        catalogue: learns what became of each version.
        done: is handed each load that has ended, for :meth:`finish`.
        timeout: seconds after which a version that is still not loaded has failed; should it come
            later all the same, it is welcome.
    """

    def __init__(self, catalogue: Catalogue, done: Callable[[Load], None], timeout: float) -> None:
        self._catalogue = catalogue
        self._done = done
        self._timeout = timeout
        self._running: dict[Version, Load] = {}
        self._retries: dict[Version, tuple[float, float]] = {}

    def start(self, versions: Iterable[Version]) -> None:
        """Begin to load as many of these as there is room for, without those that run or pause."""
        for load in self._running.values():
            self._check_overdue(load)
        room = AT_ONCE - sum(not load.is_overdue for load in self._running.values())
        for version in versions:
            if room > 0 and version not in self._running and not self.pauses(version):
                self._running[version] = load = Load(self._catalogue, version, self._done)
                load.start()
                room -= 1

    def pauses(self, version: Version) -> bool:
        """Tell whether a version has failed so lately that it is not tried again yet."""
        return monotonic() < self._retries.get(version, (0.0, 0.0))[0]

    def finish(self, load: Load) -> None:
        """Tell the catalogue what became of a version."""
        version = load.version
        if self._running.pop(version, None) is None:
            return  # It was retired meanwhile.
        if isinstance(load.result, str):
            pause = self._retries.get(version, (0.0, FIRST_PAUSE / 2))[1]
            pause = min(2 * pause, LONGEST_PAUSE)
            self._retries[version] = monotonic() + pause, pause
            self._catalogue.fail(version, load.result)
        else:
            self._retries.pop(version, None)
            self._catalogue.settle(version, load.result)
            seconds = round(monotonic() - load.started, 3)
            log.info("version_loaded", model=version.model, version=version.name, seconds=seconds)

    def forget(self, version: Version) -> None:
        """Forget a version that is gone; should it still be loaded, that comes to nothing."""
        self._running.pop(version, None)
        self._retries.pop(version, None)

    def _check_overdue(self, load: Load) -> None:
        if not load.is_overdue and monotonic() - load.started > self._timeout:
            load.is_overdue = True
            problem = f"it was not loaded within {self._timeout:g} seconds"
            self._catalogue.fail(load.version, problem)
