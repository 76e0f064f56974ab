"""Asks every loaded version its golden rows at intervals, so that readiness says what is true.

The rows go the way of every request, through the model's queue, on a thread of their own: a model
that hangs keeps that thread and no other. A version that does not answer as it should turns unready
and is asked all the same; it is ready again as soon as it answers.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import structlog

from portico.serving.errors import InvalidInput, QueueFull, ServingError
from portico.serving.predictions import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portico.serving.catalogue import Catalogue
    from portico.serving.golden import Golden
    from portico.serving.models import Version
    from portico.serving.service import ServedModel

log = structlog.get_logger(__name__)

SHARE: Final = 0.05
"""Share of the time, at most, that a model spends on its checks: a slow one is asked less often."""

LONGEST: Final = 12
"""Intervals between two checks of a slow model at most."""

LOOK: Final = 0.25
"""Seconds between two looks at what is due and what is overdue."""


class Check(threading.Thread):
    """Golden rows on their way through a model.

    Attributes:
        version: is asked.
        served: is held by nothing else here, so that a version can be freed.
        problem: why it does not answer as it should; empty where it does.
        running: seconds that the model ran, once it has ended.
    """

    def __init__(
        self,
        version: Version,
        served: ServedModel,
        golden: Golden,
        done: Callable[[Check], None],
    ) -> None:
        super().__init__(name=f"check {served.name}/{served.version}", daemon=True)
        self.version = version
        self.served = served
        self.problem = ""
        self.started = monotonic()
        self.running = 0.0
        self._golden = golden
        self._done = done

    @property
    def is_overdue(self) -> bool:
        """Whether a request would have been given up by now."""
        return monotonic() - self.started > self.served.card.limits.deadline

    def run(self) -> None:
        """Ask, and say what came of it."""
        self.problem = self._ask()
        self._done(self)

    def _ask(self) -> str:
        served = self.served
        prediction = Prediction(served.name, served.version, "")
        prediction.inputs = self._golden.inputs
        try:
            found = served.infer(prediction, self._golden.names)
            self.running = prediction.run
            self._golden.compare(found)
        except InvalidInput:
            pass  # A refusal is an answer.
        except QueueFull:
            # Busy is not ill, as long as answers come.
            if time() - served.last_used > served.card.limits.deadline:
                return "its queue is full, and no answer comes"
        except ServingError as error:
            return error.message
        except Exception as error:
            log.exception("model_check_failed", model=served.name, version=served.version)
            return f"{type(error).__name__} while it was checked; the log has the details"
        return ""


class Health:
    """Checks what a catalogue has loaded, for as long as the worker lives.

    Args:
        catalogue: of this worker; is told what comes of each check.
        interval: seconds between two checks of a version; 0 checks nothing.
    """

    def __init__(self, catalogue: Catalogue, interval: float) -> None:
        self._catalogue = catalogue
        self._interval = interval
        self._running: dict[Version, Check] = {}
        self._due: WeakKeyDictionary[ServedModel, float] = WeakKeyDictionary()
        self._events: SimpleQueue[Check | None] = SimpleQueue()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Begin to check."""
        if self._interval:
            self._thread.start()

    def close(self) -> None:
        """Begin no further check."""
        self._is_stopped = True
        self._events.put(None)

    def _run(self) -> None:
        while not self._is_stopped:
            for check in list(self._running.values()):
                if check.is_overdue:
                    waited = round(monotonic() - check.started)
                    self._judge(check, f"it has not answered its golden rows for {waited} s")
            for version, served, golden in self._loaded():
                if self._is_due(version, served):
                    check = Check(version, served, golden, self._events.put)
                    self._running[version] = check
                    check.start()
            self._await_event()

    def _loaded(self) -> Iterator[tuple[Version, ServedModel, Golden]]:
        for model in self._catalogue.models():
            for version in model.versions:
                served, golden = version.served, version.golden
                if served is not None and golden is not None:
                    yield version, served, golden

    def _is_due(self, version: Version, served: ServedModel) -> bool:
        # What was just loaded has just been tried.
        due = self._due.setdefault(served, monotonic() + self._interval)
        return monotonic() >= due and version not in self._running

    def _await_event(self) -> None:
        try:
            check = self._events.get(timeout=min(LOOK, self._interval))
        except Empty:
            return
        if check is not None:
            del self._running[check.version]
            pause = min(max(check.running / SHARE, self._interval), LONGEST * self._interval)
            self._due[check.served] = monotonic() + pause
            self._judge(check, check.problem)

    def _judge(self, check: Check, problem: str) -> None:
        if check.version.served is check.served:
            self._catalogue.judge(check.version, problem)
