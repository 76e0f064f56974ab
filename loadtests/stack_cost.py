"""What the middleware costs a request, in one process and without a socket.

The gateway is composed as it is served, with a constant application mounted beside the others.
Then the stack is asked layer by layer, from the application outwards, and the differences are the
costs. Time is that of the processor: ``own`` in the thread that answers, ``all`` in the whole
process, which adds the thread that writes the access log.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PREFIX: Final = "/constant"
_BODY: Final = b'{"inputs":[]}'
_ANSWER: Final = b'{"outputs":[]}'


def constant(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer always the same, and tell the facts that an app tells."""
    environ["portico.route"] = "/models/<name>/infer"
    environ["portico.model"] = "iris"
    environ["portico.version"] = "1"
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(_ANSWER)))]
    )
    return [_ANSWER]


def measure(rounds: int, requests: int) -> dict[str, dict[str, float]]:
    """Return the seconds a request costs in each layer, innermost first, medians over rounds."""
    gateway = _gateway()
    layers = _layers(gateway)
    # The dispatcher has no name for itself; what lies under it is the constant application.
    names = ["dispatcher and mount", *(type(layer).__name__ for layer in layers[1:])]
    taken: list[list[tuple[float, float]]] = []
    for _ in range(rounds + 1):
        taken.append([_time(app, requests) for app in (constant, *layers)])
        time.sleep(0.3)  # What the log still holds is not the next round's.
    taken.pop(0)  # The first round warms up.
    costs = {
        name: {
            what: median(layers[i + 1][kind] - layers[i][kind] for layers in taken)
            for kind, what in enumerate(("own", "all"))
        }
        for i, name in enumerate(names)
    }
    gateway.close()
    return costs


def _gateway() -> Any:
    """Compose the gateway as a worker does, with metrics in files and the log in JSON."""
    from gateway.compose import create_gateway
    from gateway.settings import load_settings
    from middleware.logging_setup import configure_logging

    settings = load_settings(
        mounts=[{"prefix": _PREFIX, "app": f"{__name__}:constant", "access": "open"}]
    )
    # Closed with the process.
    return create_gateway(settings, configure_logging(Path(os.devnull).open("w"), json=True))


def _layers(gateway: Any) -> list[WSGIApplication]:
    """Return the dispatcher and what is stacked on it, innermost first."""
    layers = [gateway._app]
    while hasattr(layers[-1], "_app"):
        layers.append(layers[-1]._app)
    return layers[::-1]


def _time(app: WSGIApplication, requests: int) -> tuple[float, float]:
    """Return the seconds that a request takes in this thread, and in the whole process."""
    environ = _environ()
    ask = _ask
    own, whole = time.thread_time(), time.process_time()
    for _ in range(requests):
        ask(app, {**environ, "wsgi.input": io.BytesIO(_BODY)})
    return (time.thread_time() - own) / requests, (time.process_time() - whole) / requests


def _ask(app: WSGIApplication, environ: WSGIEnvironment) -> None:
    """Do what a server does with an application."""
    body = app(environ, _start_response)
    for _ in body:
        pass
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _start_response(*_: object) -> Any:
    return None


def _environ() -> WSGIEnvironment:
    """Return what gunicorn makes of a request of an ordinary client."""
    return {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": type("FileWrapper", (), {}),
        "wsgi.input_terminated": True,
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn/27.0.1",
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "",
        "RAW_URI": f"{_PREFIX}/models/iris/infer",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_USER_AGENT": "client/1.0",
        "HTTP_ACCEPT": "*/*",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(_BODY)),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "PATH_INFO": f"{_PREFIX}/models/iris/infer",
        "SCRIPT_NAME": "",
    }


def main() -> None:
    """Print the costs as JSON; ``python -m loadtests.stack_cost ROUNDS REQUESTS``."""
    rounds, requests = map(int, sys.argv[1:])
    from middleware.worker_slots import WorkerSlots

    with tempfile.TemporaryDirectory() as folder:
        # As under gunicorn: metrics lie in files that all workers share.
        slots = WorkerSlots()
        slots.prepare(folder)
        slots.enter(0)
        sys.stdout.write(json.dumps(measure(rounds, requests)))


if __name__ == "__main__":
    main()
