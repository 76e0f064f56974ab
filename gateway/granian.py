"""Serve with granian instead of gunicorn: the same application behind a server written in Rust.

granian has no hooks for the life of a worker, so each worker claims a slot for its metrics by
itself when it loads the application.
"""

from __future__ import annotations

from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Final

from gateway import process
from gateway.settings import SettingsError
from middleware.body_input import discard
from middleware.worker_slots import WorkerSlots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from gateway.settings import Settings

_READ_ANYWAY: Final = 1 << 16

LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}
"""Its messages go where ours go."""


def serve(settings: Settings) -> None:
    """Run granian until a signal ends it.

    Raises:
        SettingsError: granian is not installed.
    """
    try:
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
    except ImportError:
        raise SettingsError("server: granian is missing; pip install 'portico[granian]'") from None
    with process.metrics_folder() as metrics:
        process.prepare_state(settings)
        slots = WorkerSlots()
        slots.prepare(metrics)
        process.load_code()
        server = Granian(
            "gateway.wsgi:application",
            address=settings.host,
            port=settings.port,
            interface=Interfaces.WSGI,
            workers=settings.workers,
            blocking_threads=settings.request_threads,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(pipeline_flush=True),
            websockets=False,
            log_dictconfig=LOGGING,
            respawn_failed_workers=True,
            respawn_interval=0.1,
            workers_kill_timeout=max(1, round(settings.graceful_timeout)),
        )
        process.log_sink(settings)
        server.on_startup(lambda: process.greet(settings))
        server.serve(target_loader=lambda: _load(slots), wrap_loader=False)


def _load(slots: WorkerSlots) -> WSGIApplication:
    """Make the application in a worker, which the arbiter has just forked."""
    slots.claim()
    from gateway.wsgi import application

    application.remember()
    process.keep_what_is_there()
    # A worker leaves without the interpreter's own clean-up.
    Finalize(None, application.close, exitpriority=1)
    return _emptying(application)


def _emptying(app: WSGIApplication) -> WSGIApplication:
    """Read what an application leaves of a body, as gunicorn does.

    granian closes a connection whose request was not read to its end, without telling the client
    beforehand.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = app(environ, start_response)
        announced = environ.get("CONTENT_LENGTH") or ""
        # What is longer may never be sent, as a client that was told 413 knows better.
        if announced.isdecimal() and int(announced[:9]) <= _READ_ANYWAY:
            discard(environ["wsgi.input"], _READ_ANYWAY)
        return body

    return answer
