"""Small boosters of every kind, trained where a test needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

ROWS: Final = 400
COLOURS: Final = ("blue", "green", "grey", "pink", "red")


def numbers() -> NDArray[np.float64]:
    """Return five columns of numbers, a tenth of them missing."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, 5))
    x[:, 4] = rng.integers(0, 6, ROWS)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def frame() -> pd.DataFrame:
    """Return the same as a data frame whose third column is a category."""
    import pandas as pd

    rng = np.random.default_rng(8)
    table = pd.DataFrame(numbers(), columns=["age", "size", "colour", "mass", "rooms"])
    table["colour"] = pd.Categorical(rng.choice(COLOURS, ROWS), categories=list(COLOURS))
    return table


def coded(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return a frame as a matrix that holds codes instead of categories."""
    codes = table.assign(colour=table["colour"].cat.codes.astype(float))
    matrix: NDArray[np.float64] = codes.to_numpy(np.float64)
    return matrix


def target(objective: str) -> NDArray[Any]:
    """Return what to learn from the rows with this objective."""
    rng = np.random.default_rng(9)
    x = np.nan_to_num(numbers())
    value = x[:, 0] + np.where(frame()["colour"] == "red", 1.5, 0) + rng.normal(size=ROWS) / 5
    if "multi" in objective:
        return np.digitize(value, [-0.5, 0.5, 1.5])
    yes_or_no = ("binary", "logistic", "rank", "cross", "xendcg")
    if any(part in objective for part in yes_or_no):
        return (value > 0.3).astype(int)
    return np.exp(value / 3) + 0.1


def train_xgboost(
    objective: str, *, categories: bool = False, rounds: int = 6, **params: Any
) -> Any:
    """Return a booster of four classes, or three quantiles, where the objective has several."""
    import xgboost

    given = {
        "objective": objective,
        "max_depth": 4,
        "max_cat_to_onehot": 2,
        "nthread": 1,
        "verbosity": 0,
        **params,
    }
    if objective.startswith("multi:"):
        given["num_class"] = 4
    if objective in ("reg:quantileerror", "reg:expectileerror"):
        given[f"{objective[4:].removesuffix('error')}_alpha"] = [0.1, 0.5, 0.9]
    data = frame() if categories else numbers()
    matrix = xgboost.DMatrix(data, target(objective), enable_categorical=categories)
    return xgboost.train(given, matrix, rounds)


def train_lightgbm(
    objective: str, *, categories: bool = False, rounds: int = 6, **params: Any
) -> Any:
    """Return a booster of four classes where the objective has several."""
    import lightgbm

    given = {
        "objective": objective, "verbosity": -1, "num_leaves": 8, "min_data_per_group": 10,
        "num_threads": 1, **params,
    }  # fmt: skip
    if objective.startswith("multiclass"):
        given["num_class"] = 4
    groups = [ROWS // 4] * 4 if "rank" in objective else None
    data = frame() if categories else numbers()
    return lightgbm.train(given, lightgbm.Dataset(data, target(objective), group=groups), rounds)


def saved(path: Path, booster: Any) -> Path:
    """Write a booster to a file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    booster.save_model(path)
    return path
