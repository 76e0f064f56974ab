"""Runs the code of the file ``code`` in the sandbox: ``python -m sandboxed_code``."""

from __future__ import annotations

from pathlib import Path

from portico.serving.importing.sandbox import confined


def _run() -> None:
    exec(Path("code").read_text(), {})


if __name__ == "__main__":
    confined(_run)
