"""``portico serve``: check everything that can be checked, then become gunicorn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from gateway import granian, process
from gateway.cli.main import settings_options
from gateway.cli.options import settings_from
from gateway.cli.serve_imports import import_planned, plan_of
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.settings import MountSettings, Settings


@click.command(name="serve")
@settings_options
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="TCP port to listen on.")
@click.option("--server", help="gunicorn or granian.")
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--threads", type=int, help="Request threads in each worker.")
def command(paths: tuple[Path, ...], config: Path | None, **options: Any) -> None:
    """Serve what was imported, and each PATH: a model file or folder, or a folder of models."""
    settings = settings_from(paths, config, **options)
    plan = plan_of(settings, paths)
    _check_port(settings)
    for mount in settings.mounts:
        _check_mount(mount)
    process.prepare_state(settings)
    import_planned(plan, settings)
    process.limit_native_threads(settings)
    if settings.server == "granian":
        granian.serve(settings)
    else:
        _run_gunicorn()


def _check_port(settings: Settings) -> None:
    """Find out now, in one sentence, what gunicorn would retry and log for five seconds."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise SettingsError(f"cannot listen on {address}: {error.strerror}") from error


def _check_mount(mount: MountSettings) -> None:
    """Import a mount in a process of its own: what an import starts must not cross the fork."""
    code = "import sys; from gateway.mounts import import_app; import_app(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # noqa: S603 our own interpreter with our own code
        [sys.executable, "-c", code, mount.app],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:]
        reason = "".join(told).partition("gateway.settings.SettingsError: ")[2]
        raise SettingsError(
            reason or f"mounts: '{mount.app}' ended its process with code {done.returncode}"
        )


def _run_gunicorn() -> None:
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv = ["portico", "--config", str(process.gunicorn_config())]
    WSGIApplication("portico").run()
