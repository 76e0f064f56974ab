"""The references in docs/ list exactly what the code has."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from prometheus_client import CollectorRegistry

from gateway.cli.main import portico
from gateway.settings import AccessSettings, MountSettings, Settings
from middleware.metrics import HTTPMetrics
from portico.serving.metrics import DriftMetrics, PredictionMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

DOCS = Path(__file__).parents[2] / "docs"

SECTIONS: dict[str, type[BaseModel]] = {
    "": Settings,
    "access.": AccessSettings,
    "mounts[].": MountSettings,
}


def rows_of(prefix: str, model: type[BaseModel]) -> list[str]:
    """Return the lines of docs/settings.md for one section."""
    nested = {"access", "mounts"}
    return [
        f"| `{prefix}{name}` | {_default(field.default)} | {field.description} |"
        for name, field in model.model_fields.items()
        if not (model is Settings and name in nested)
    ]


def _default(value: Any) -> str:
    if repr(value) == "PydanticUndefined":
        return "required"
    return f"`{list(value) if isinstance(value, tuple) else value}`" if str(value) else "empty"


@pytest.mark.parametrize("prefix", SECTIONS)
def test_settings_reference_has_each_setting_with_default_and_meaning(prefix: str) -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    missing = [row for row in rows_of(prefix, SECTIONS[prefix]) if row not in text]
    assert not missing, "docs/settings.md lacks:\n" + "\n".join(missing)


def test_settings_reference_names_no_setting_that_is_gone() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    known = {f"{prefix}{name}" for prefix, model in SECTIONS.items() for name in model.model_fields}
    assert set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) <= known


def test_each_setting_has_a_sentence_of_its_own() -> None:
    for model in SECTIONS.values():
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name


def test_metrics_reference_has_each_metric_with_its_labels() -> None:
    text = (DOCS / "metrics.md").read_text("utf-8")
    registry = CollectorRegistry()
    HTTPMetrics(lambda environ, start: [], registry=registry)
    PredictionMetrics(registry)
    DriftMetrics(registry)
    documented = set(re.findall(r"^\| `(portico_\w+)(?:\{([^}]*)\})?` \|", text, re.MULTILINE))
    names = {name for name, _ in documented}
    for collector in registry._collector_to_names:
        name = collector._name + ("_total" if collector._type == "counter" else "")  # type: ignore[attr-defined]
        assert name in names
        labels = ",".join(collector._labelnames)  # type: ignore[attr-defined]
        assert (name, labels) in documented, f"{name} has the labels {labels}"


def test_command_line_reference_has_each_command_with_its_options() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    shared = {"--config", "--state", "--help"}
    for name, command in _commands():
        section = re.search(rf"^## portico {name}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"docs/cli.md lacks portico {name}"
        for parameter in command.params:
            for option in set(parameter.opts) - shared:
                if option.startswith("--"):
                    assert f"`{option}`" in section[0], f"portico {name} lacks {option}"


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(portico)
    for name in portico.list_commands(context):
        command = portico.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner in set(command.commands) - {"list"}:
                yield f"{name} {inner}", command.commands[inner]


@pytest.mark.live
def test_the_commands_of_the_page_about_importing_work(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the page imports a model of scikit-learn")
    pytest.importorskip("onnx", reason="and compiles it")
    text = (DOCS / "importing.md").read_text("utf-8")
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "sh", "sh"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "120"}
    printed = ""
    for kind, code in blocks:
        commands = [["-c", code]] if kind == "python" else _portico_commands(code)
        for command in commands:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            printed += done.stdout
    shown = re.search(r"^```\n(iris version 1.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert shown
    # Times depend on the machine, and so does how many rows are made up.
    for line in _without_numbers(shown[1]):
        assert line in _without_numbers(printed)


def _portico_commands(code: str) -> list[list[str]]:
    run = "from gateway.cli.main import main; main()"
    return [["-c", run, *shlex.split(line)[1:]] for line in code.splitlines()]


def _without_numbers(text: str) -> list[str]:
    plain = re.sub(r"[\d.,]*\d", "N", text).replace("µs", "ms")
    return [re.sub(r" +", " ", line).strip() for line in plain.splitlines()]
