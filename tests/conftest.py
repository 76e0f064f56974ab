"""What tests of several packages share: demo models, and a gateway that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.demos import demo_models
from loadtests.server import portico

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.server import Server


@pytest.fixture(scope="session")
def demos() -> tuple[Path, list[Path]]:
    """Folder of the demo models, and the pickles in it."""
    return demo_models()


@pytest.fixture(scope="session")
def demo_server(demos: tuple[Path, list[Path]]) -> Iterator[Server]:
    """One gateway with the demo models and two workers, for all tests that only ask it."""
    folder, pickles = demos
    with portico(folder, allow=pickles) as server:
        yield server
