"""The process that opens a file: ``python -m portico.serving.importing.child``.

Everything heavy is imported after the limits hold, and nothing of it by the process that waits.
"""

from __future__ import annotations

from portico.serving.importing.sandbox import confined


def _open() -> None:
    from portico.serving.importing.opening import open_request

    open_request()


if __name__ == "__main__":
    confined(_open)
