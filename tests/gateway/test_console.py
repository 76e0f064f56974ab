"""What the console is told about settings and workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr

from gateway import console
from gateway.console import operator_view
from gateway.settings import AccessSettings, Settings, load_settings

if TYPE_CHECKING:
    from apps.admin.facts import SettingRow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PORTICO_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def rows() -> dict[str, SettingRow]:
    view = operator_view(load_settings(), CollectorRegistry())
    return {row.key: row for row in view.settings}


def test_every_setting_has_a_row_with_its_meaning() -> None:
    told = rows()
    inner = {f"access.{name}" for name in AccessSettings.model_fields}
    assert set(told) == set(Settings.model_fields) - {"access"} | inner
    assert all(row.description.endswith(".") for row in told.values())
    assert {row.source for row in told.values()} == {"default"}
    assert all(row.value == row.default for row in told.values())


def test_a_row_tells_where_its_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "portico.toml").write_text('port = 1\ntitle = "file"\n[access]\nui = "login"\n')
    monkeypatch.setenv("PORTICO_PORT", "99")
    told = rows()
    assert (told["port"].value, told["port"].default, told["port"].source) == (
        "99",
        "8000",
        "environment",
    )
    assert (told["title"].value, told["title"].source) == ("file", "file")
    assert (told["access.ui"].value, told["access.ui"].source) == ("login", "file")
    assert told["host"].source == "default"


def test_only_the_inner_setting_that_is_set_is_told_as_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "portico.toml").write_text('[access]\nui = "login"\n')
    monkeypatch.setenv("PORTICO_ACCESS__API", "open")
    told = rows()
    assert told["access.ui"].source == "file"
    assert told["access.api"].source == "environment"
    assert told["access.home"].source == told["access.admin"].source == "default"


def test_lists_and_mounts_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_MODELS", '["a", "b"]')
    monkeypatch.setenv("PORTICO_MOUNTS", '[{"prefix": "/shop", "app": "shop:app"}]')
    told = rows()
    assert told["models"].value == "a, b"
    assert told["mounts"].value == "/shop: shop:app"
    assert told["trusted_proxies"].value == ""


def test_a_secret_is_never_shown() -> None:
    assert console._shown(SecretStr("hush")) == "hidden"


def test_outside_of_our_gunicorn_the_process_shows_itself() -> None:
    (worker,) = operator_view(load_settings(), CollectorRegistry()).workers()
    assert worker.pid == os.getpid()


def test_under_our_gunicorn_the_workers_show_each_other(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from gateway.console import _workers\n"
        "read, write = os.pipe(); pids = []\n"
        "for first in (True, False):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        if first: time.sleep(30)\n"
        "        os.write(write, ' '.join(str(w.pid) for w in _workers()).encode()); os._exit(0)\n"
        "    pids.append(pid)\n"
        "told = os.read(read, 100).decode(); os.kill(pids[0], 9)\n"
        "print(told == ' '.join(map(str, sorted(pids))))\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_the_figures_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("sold", "Things.", registry=registry).inc(3)
    families = {f.name: f for f in operator_view(load_settings(), registry).collect()}
    assert [s.value for s in families["sold"].samples if s.name == "sold_total"] == [3]


def test_urls_with_passwords_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_DATABASE", "postgresql://u:s3cret@db/p")
    told = rows()
    row = (told["database"].value, told["database"].default, told["database"].source)
    assert row == ("hidden", "", "environment")
    assert "s3cret" not in str(told)
