"""What the server process does around the application: first start, greeting, thread counts."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.settings import SettingsError
from portico.serving.errors import ServingError, StorageUnavailable
from portico.storage.first_start import FirstLogin, bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.settings import Settings
    from middleware.log_sink import LogSink

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def has_shared_memory() -> bool:
    """Tell whether there is a memory file system that can be written."""
    return os.access("/dev/shm", os.W_OK | os.X_OK)  # noqa: S108 only asked about


def metrics_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder of this server's metrics, in memory where that is possible.

    Each request writes to the files in it; on a disk the system would write them out all the time.
    """
    where = "/dev/shm" if has_shared_memory() else None  # noqa: S108 a folder of its own
    return tempfile.TemporaryDirectory(prefix="portico-metrics-", dir=where)


def model_threads(settings: Settings) -> int:
    """Return how many threads one run of a model may use.

    Each worker runs several requests at once, so by default the cores are shared out among the
    workers and half of that is left to the requests beside.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return settings.inference_threads or max(1, cores // (2 * settings.workers))


def limit_native_threads(settings: Settings) -> None:
    """Keep numeric libraries from starting a thread per core in each worker.

    It must be called before the first of them is loaded; what the operator has set stays.
    """
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, str(model_threads(settings)))


def load_code() -> None:
    """Import what every worker needs, before the first is forked.

    The workers share these pages, and one that takes the place of another serves in a fraction of
    the time. Nothing is made here: models, databases and threads are each worker's own, and so are
    the applications that users mount.
    """
    for module in ("gateway.compose", "portico.serving.runtimes.onnx", "portico.storage.database"):
        importlib.import_module(module)
    keep_what_is_there()


def keep_what_is_there() -> None:
    """Take what was made so far out of the garbage collector's sight.

    It stays for as long as the process does. Looking at all of it again and again stops every
    thread for tens of milliseconds, and writes to pages that workers share.
    """
    gc.collect()
    gc.freeze()


def log_sink(settings: Settings) -> LogSink:
    """Send the log of this process to stderr, in the format of the settings."""
    from middleware.logging_setup import configure_logging

    return configure_logging(
        sys.stderr, {"auto": None, "json": True, "console": False}[settings.log_format]
    )


_first_login: FirstLogin | None = None
_is_prepared = False


def prepare_state(settings: Settings) -> None:
    """Make the state folder, the database and, at the first start, the first user.

    In one process once is enough.

    Raises:
        SettingsError: the folder cannot be made or written, or the database cannot be used.
    """
    global _first_login, _is_prepared  # noqa: PLW0603 from the start to the greeting in one process
    if not _is_prepared:
        answer = in_child(lambda: bootstrap(settings.state, settings.database_url), _of_state)
        _first_login = FirstLogin(*answer) if answer else None
        _is_prepared = True


def _of_state(error: Exception) -> str:
    if isinstance(error, StorageUnavailable):
        return _sentence(error)
    return f"state: the folder cannot be prepared: {type(error).__name__}: {error}"


def _sentence(error: Exception) -> str:
    if isinstance(error, StorageUnavailable):
        return " ".join(f"database: {error.message}: {error.reason}".split())
    if isinstance(error, ServingError | SettingsError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def in_child(work: Callable[[], Any], sentence: Callable[[Exception], str] = _sentence) -> Any:
    """Do the work in a child: the libraries it loads would stay in every worker's memory.

    Args:
        work: returns what JSON can hold.
        sentence: tells a person of an error.

    Raises:
        SettingsError: it failed, or its process did.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told: dict[str, Any] = {}
        try:
            told["answer"] = work()
        except Exception as error:
            told["problem"] = sentence(error)[:1000]
        finally:
            sys.stdout.flush()
            with os.fdopen(writing, "w") as pipe:
                json.dump(told, pipe)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found: dict[str, Any] = json.loads(pipe.read() or "{}")
    os.waitpid(child, 0)
    if "answer" not in found:
        raise SettingsError(found.get("problem", "the process that was to do it has ended"))
    return found["answer"]


def greet(settings: Settings) -> None:
    """Print where to go, how to log in at the first start, and how to stop."""
    # A browser cannot go to the address that stands for all addresses.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{settings.model_copy(update={'host': host}).address}"
    lines = [
        "",
        f"  {settings.title} is at   {url}/",
        f"  Forms             {url}/ui/",
        f"  API               {url}/api/docs",
        f"  Console           {url}/admin/",
    ]
    if _first_login:
        lines += [
            "",
            f"  Log in as         {_first_login.name}",
            f"  with password     {_first_login.password}",
            "  (made now, shown this once; portico reset-password makes another)",
        ]
    lines += ["", "  Stop with Ctrl-C.", ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def gunicorn_config() -> Path:
    """Return gunicorn's configuration file, from a checkout or from the installed package."""
    packaged = Path(__file__).with_name("gunicorn.conf.py")
    return packaged if packaged.is_file() else Path(__file__).parents[1] / packaged.name
