"""Train the demo models: ``python -m portico.demos FOLDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from portico.demos.training import train


def main() -> None:
    """Train what the folder lacks and say so line by line."""
    parser = argparse.ArgumentParser(prog="python -m portico.demos", description=__doc__)
    parser.add_argument("folder", type=Path, help="models folder to fill")
    try:
        train(parser.parse_args().folder, print)
    except ModuleNotFoundError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
