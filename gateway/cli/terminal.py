"""Where the command line prints its tables."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDE = 160
"""Columns of a table that no terminal shows: a file or another program has no narrow window."""


def terminal(*, soft_wrap: bool = False) -> Console:
    """Return what prints to standard output, as wide as the terminal.

    Args:
        soft_wrap: lines of text go on beyond the edge instead of being broken.
    """
    width = None if sys.stdout.isatty() else _WIDE
    return Console(width=width, soft_wrap=soft_wrap, highlight=False)
