"""Demo models over tables: the data sets that come with scikit-learn.

Sources: Fisher 1936 (iris); Efron, Hastie, Johnstone and Tibshirani 2004 (diabetes); Street,
Wolberg and Mangasarian 1993 (breast cancer); Forina et al. 1988 (wine).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from portico.demos.recipe import SEED, Recipe, write_joblib, write_onnx

if TYPE_CHECKING:
    from pathlib import Path

TREES: Final = 300
"""Enough for the forest to be slow as it is: 20 ms a row, however few the rows."""

WINE_NUMBERS: Final = ("alcohol", "malic_acid", "magnesium", "flavanoids", "proline")
WINE_TEXTS: Final = ("colour_depth", "cellar_style")
_GAPS: Final = 0.05
"""Share of magnesium and flavanoids that is taken out, as measurements go missing."""


def iris(folder: Path, path: Path) -> None:
    """Logistic regression over four measures; the labels stand in a file of their own."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_iris()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    write_onnx(model.fit(data.data, data.target), 4, path)
    labels = "".join(f"Iris {name}\n" for name in data.target_names)
    (folder / "labels.txt").write_text(labels, "utf-8")


def diabetes(_: Path, path: Path) -> None:
    """Gradient boosting over ten measures in the units they were taken in."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor

    data = load_diabetes(scaled=False)
    model = GradientBoostingRegressor(
        n_estimators=120, max_depth=3, learning_rate=0.05, subsample=0.7, random_state=SEED
    )
    write_onnx(model.fit(data.data, data.target), 10, path)


def breast_cancer(_: Path, path: Path) -> None:
    """Grow a forest over 30 measures, served by scikit-learn itself."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    data = load_breast_cancer(as_frame=True)
    model = RandomForestClassifier(n_estimators=TREES, random_state=SEED)
    write_joblib(model.fit(data.data, data.target), path)


def wine(_: Path, path: Path) -> None:
    """Build a pipeline over a frame of numbers, some missing, and texts, some unknown."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame, cultivar = wine_table()
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer(
        [("numbers", numbers, list(WINE_NUMBERS)), ("texts", texts, list(WINE_TEXTS))]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=500))
    write_joblib(model.fit(frame, cultivar), path)


def wine_table() -> tuple[Any, Any]:
    """Return the table of the wine model, a data frame, and the cultivar of each row.

    The data set has no texts. The two columns here are bins of measures that the table leaves
    out: the intensity of the colour, and the proanthocyanins under a name made up for them.
    """
    import pandas as pd
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    frame = data.data.loc[:, list(WINE_NUMBERS)].copy()
    depth = pd.cut(data.data["color_intensity"], [0, 3.5, 6, 99], labels=["pale", "medium", "deep"])
    style = pd.cut(
        data.data["proanthocyanins"], [0, 1.3, 1.9, 99], labels=["mature", "classic", "young"]
    )
    frame["colour_depth"], frame["cellar_style"] = depth.astype(object), style.astype(object)
    rng = np.random.default_rng(SEED)
    for name in ("magnesium", "flavanoids"):
        frame.loc[rng.random(len(frame)) < _GAPS, name] = np.nan
    cultivar = np.array(["cultivar A", "cultivar B", "cultivar C"], dtype=object)[data.target]
    return frame, cultivar


RECIPES: Final = (
    Recipe("iris", 1, "model.onnx", iris),
    Recipe("diabetes", 1, "model.onnx", diabetes),
    Recipe("breast-cancer", 1, "model.joblib", breast_cancer),
    Recipe("wine", 1, "model.joblib", wine),
)
