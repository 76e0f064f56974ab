"""The ``portico`` command and the options that its subcommands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from gateway.settings import SettingsError
from portico import __version__
from portico.serving.errors import ServingError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Commands(click.Group):
    """Imports a subcommand when it is called, so that each start loads only what it needs."""

    _MODULES: ClassVar[dict[str, str]] = {
        "serve": "serve",
        "import": "import_",
        "check": "check",
        "models": "models",
        "demos": "demos",
        "reset-password": "accounts",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands in the order in which a newcomer needs them."""
        return list(self._MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand."""
        module = self._MODULES.get(cmd_name)
        if module is None:
            return None
        name = f"gateway.cli.{module}"
        __import__(name)
        command: click.Command = sys.modules[name].command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portico")
def portico() -> None:
    """Put a trained model in front of people and programs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a problem is one sentence on stderr and exit code 2."""
    sys.path.insert(0, str(Path.cwd()))  # Mounts are imported from where the command is given.
    try:
        portico.main(arguments, prog_name="portico", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (SettingsError, ServingError, OSError) as error:
        click.echo(f"portico: {_sentence(error)}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"'{error.filename}': {error.strerror}"
    reason = f": {error.reason}" if isinstance(error, StorageUnavailable) else ""
    return f"{error}{reason}"


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which settings, state and models are meant."""
    # What cannot be read is told by whoever reads it, in one sentence instead of a usage.
    path = click.Path(path_type=Path, readable=False)
    for decorate in (
        click.option("--config", type=path, help="Settings file."),
        click.option("--state", type=path, help="State folder."),
        click.argument("paths", nargs=-1, type=path, metavar="[PATH]..."),
    ):
        command = decorate(command)
    return command
