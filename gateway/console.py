"""What the console is told about the process around the applications."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from apps.admin.facts import OperatorView, SettingRow, WorkerInfo, inspect_worker
from gateway.settings import PREFIX, Settings, settings_in_file
from middleware.metrics_app import readable_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry


def operator_view(settings: Settings, registry: CollectorRegistry) -> OperatorView:
    """Return where the console looks for metrics, workers and settings."""
    return OperatorView(
        collect=readable_registry(registry).collect,
        workers=_workers,
        settings=tuple(_setting_rows(settings)),
    )


def _workers() -> Sequence[WorkerInfo]:
    """List the processes beside this one: under our gunicorn its siblings, else itself alone."""
    import psutil

    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return [inspect_worker(os.getpid())]
    try:
        siblings = psutil.Process(os.getppid()).children()
    except psutil.Error:
        siblings = []
    pids = sorted(process.pid for process in siblings) or [os.getpid()]
    return [inspect_worker(pid) for pid in pids]


def _setting_rows(settings: Settings) -> Iterator[SettingRow]:
    in_file = settings_in_file()
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for key, inner in type(value).model_fields.items():
                shown, default = _shown(getattr(value, key)), _shown(inner.default)
                full = f"{name}.{key}"
                source = _source(full, in_file)
                yield SettingRow(full, shown, default, source, inner.description or "")
        else:
            shown, default = _shown(value), _shown(field.default)
            yield SettingRow(name, shown, default, _source(name, in_file), field.description or "")


def _source(key: str, in_file: set[str]) -> str:
    variable = f"{PREFIX}{key.replace('.', '__')}".upper()
    # A table may be given whole, as JSON under its own name.
    if variable in os.environ or variable.partition("__")[0] in os.environ:
        return "environment"
    return "file" if key in in_file else "default"


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "hidden" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ", ".join(f"{v.prefix}: {v.app}" if hasattr(v, "prefix") else str(v) for v in value)
    return str(value)
