"""A random forest of 300 trees as people have it: ``python -m loadtests.forest FILE`` writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

TREES: Final = 300
COLUMNS: Final = 10
BODY: Final = json.dumps(
    {
        "inputs": [
            {
                "name": "input", "shape": [1, COLUMNS], "datatype": "FP64",
                "data": [0.1 * column for column in range(COLUMNS)],
            }
        ]
    }
).encode()  # fmt: skip


def write_forest(path: Path) -> Path:
    """Train the forest in a process of its own, and return its file."""
    subprocess.run([sys.executable, "-m", "loadtests.forest", str(path)], check=True)
    return path


def main() -> None:
    """Train and write."""
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = make_classification(4000, COLUMNS, n_informative=6, n_classes=3, random_state=0)
    forest = RandomForestClassifier(TREES, random_state=0, n_jobs=2).fit(rows, labels)
    forest.n_jobs = 1  # One request is one thread, in every server.
    joblib.dump(forest, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
