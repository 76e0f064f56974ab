"""A catalogue of its own for each test, and a small model to import into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from house import House, house_at

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_at(tmp_path / "state")


@pytest.fixture(scope="session")
def iris() -> Any:
    """A small fitted forest over the four measures of iris."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    data = load_iris()
    return RandomForestClassifier(10, random_state=1).fit(data.data, data.target)


@pytest.fixture
def iris_file(tmp_path: Path, iris: Any) -> Path:
    import joblib

    joblib.dump(iris, tmp_path / "iris.joblib", compress=3)
    return tmp_path / "iris.joblib"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The examples of iris as a table with a header."""
    from sklearn.datasets import load_iris

    rows = ["sepal_length,sepal_width,petal_length,petal_width"]
    rows += [",".join(map(str, row)) for row in load_iris().data.tolist()]
    path = tmp_path / "iris.csv"
    path.write_text("\n".join(rows))
    return path
