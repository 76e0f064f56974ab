"""gunicorn's configuration: values taken from the settings, and hooks. See docs/architecture.md."""

import select

from gateway import process
from gateway.roster import Roster
from gateway.settings import load_settings
from middleware.logging_setup import adopt_gunicorn_loggers
from middleware.worker_slots import WorkerSlots

_settings = load_settings()

wsgi_app = "gateway.wsgi:application"
bind = _settings.address
workers = _settings.workers
# Where there is no epoll, as on a Mac, gunicorn's own threads answer.
worker_class = "gateway.worker.GatewayWorker" if hasattr(select, "epoll") else "gthread"
threads = _settings.request_threads
graceful_timeout = int(_settings.graceful_timeout)
# Heartbeat of a worker in seconds, no limit for a request.
timeout = 60
# Longer than the 60 seconds after which the usual proxies drop an idle connection themselves.
keepalive = 75
proc_name = "portico"

# One parser, our own log of accesses, and nobody's word for what the path is.
http_parser = "python"
accesslog = None
forwarder_headers = ""
forwarded_allow_ips = ""

# Two gateways of one user would fight over the socket in the home folder.
control_socket_disable = True
# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if process.has_shared_memory() else None  # noqa: S108


def on_starting(server):
    """Prepare what all workers share, before the first of them is forked."""
    adopt_gunicorn_loggers()
    process.prepare_state(_settings)
    metrics = process.metrics_folder()
    server.portico_metrics = metrics  # Lives as long as the arbiter, then removes itself.
    WorkerSlots.of(server).prepare(metrics.name)
    process.load_code()


def when_ready(server):
    """Tell the person at the terminal where to go."""
    process.greet(_settings)


def pre_fork(server, worker):
    """Give the worker a slot, so that its metric files outlive it in an orderly way."""
    worker.portico_slot = WorkerSlots.of(server).assign(worker)
    worker.roster = Roster.of(server)


def post_fork(server, worker):
    """Count into the files of this worker's slot from here on."""
    server.portico_metrics._finalizer.detach()  # The folder is the arbiter's to remove.
    WorkerSlots.of(server).enter(worker.portico_slot)


def post_worker_init(worker):
    """Begin what only a process that serves should do."""
    if hasattr(worker.wsgi, "remember"):
        worker.wsgi.remember()
    process.keep_what_is_there()


def child_exit(server, worker):
    """Free the slot of a worker that was reaped."""
    Roster.of(server).leave(worker.portico_slot)
    WorkerSlots.of(server).release(worker.pid)


def worker_exit(server, worker):
    """Write out what is buffered and free the models."""
    # A worker that is stopped while it loads has no application yet.
    application = getattr(worker, "wsgi", None)
    if hasattr(application, "close"):
        application.close()
