"""Imports a file and kills itself at a step: ``python killed_import.py STATE FILE STEP``."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

from house import house_at

from portico.serving.importing.importer import Importer
from portico.serving.importing.order import Order


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingAfter:
    """Hands everything on to a store, and dies when one method has done its work."""

    def __init__(self, store: Any, method: str) -> None:
        self._store = store
        self._method = method

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name != self._method:
            return found

        def do_and_die(*arguments: Any, **named: Any) -> None:
            found(*arguments, **named)
            die()

        return do_and_die


def main() -> None:
    state, file, step = sys.argv[1:]
    # Where tests run in the background, Ctrl-C is ignored and handed on so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    house = house_at(Path(state))
    store, _, method = step.partition(".")
    if method:
        house = dataclasses.replace(house, **{store: DyingAfter(getattr(house, store), method)})

    def report(told: str) -> None:
        print(told, flush=True)
        if told == step:
            die()

    importer = Importer(
        house.state, house.versions, house.artefacts, house.allowance, house.limits, report=report
    )
    importer.run(Order(file=Path(file)))


if __name__ == "__main__":
    main()
