"""Models of every kind that the API serves, for its tests."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import numpy as np
import pandas as pd
from onnx import TensorProto
from PIL import Image
from prometheus_client import CollectorRegistry
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tiny_onnx import FLOAT, STRING, classifier, constant, double, model, node, saved
from werkzeug.test import Client

from apps.api import oip
from apps.shell.site import Site
from portico.demos.recipe import write_joblib
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.errors import StorageUnavailable
from portico.serving.metrics import PredictionMetrics
from portico.serving.repository import ModelRepository

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.test import TestResponse

    from apps.api.infer import InferRoute
    from portico.serving.predictions import PredictionStore
    from portico.serving.versions import VersionStore

SITE = Site("Models of ours")

FLOWERS = """
title = "Flowers"
description = "Tells one flower from another."
feature_names = ["petal length (cm)", "width"]

[features."petal length (cm)"]
title = "Petal length"
unit = "cm"
minimum = 0
maximum = 10
default = 4.5

[answer]
labels = ["Rose", "Tulip"]
"""

MARKS = """
[image]
resize = [2, 2]
color = "L"

[answer]
labels = ["dark", "bright"]
"""


class ValidatedClient(Client):
    """Reads each answer to its end, as the WSGI validator wants it."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


def client_of(app: Any) -> Client:
    """Return a client that holds the app to the WSGI protocol."""
    return ValidatedClient(validator(app))


def _flowers(folder: Path) -> None:
    saved(folder / "1" / "model.onnx", classifier())
    saved(folder / "2" / "model.onnx", classifier(zipmap=False, label_shape=[1]))
    (folder / "3").mkdir()
    (folder / "3" / "model.onnx").write_bytes(b"no model")
    (folder / "model.toml").write_text(FLOWERS)


def _houses(folder: Path) -> None:
    table = pd.DataFrame({"rooms": [1.0, np.nan, 3.0, 4.0], "town": ["Ulm", "Bonn", "Ulm", "Bonn"]})
    columns = ColumnTransformer(
        [("town", OneHotEncoder(), ["town"]), ("rooms", SimpleImputer(), ["rooms"])]
    )
    estimator = make_pipeline(columns, LinearRegression()).fit(table, [100, 250, 300, 400])
    write_joblib(estimator, folder / "1" / "model.joblib")
    (folder / "model.toml").write_text('[answer]\nunit = "EUR"\n')


def _words(folder: Path) -> None:
    texts = ["good film", "great film", "bad film", "awful film"]
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression())
    write_joblib(
        estimator.fit(texts, ["good", "good", "bad", "bad"]), folder / "1" / "model.joblib"
    )


def _marks(folder: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["scores"])],
        [("x", FLOAT, ["n", 4])],
        [("scores", FLOAT, ["n", 2])],
        [constant("w", FLOAT, [4, 2], [-1.0, 1.0] * 4)],
    )
    saved(folder / "1" / "model.onnx", made)
    (folder / "model.toml").write_text(MARKS)


def _mixed(folder: Path) -> None:
    """Take inputs of several kinds, with a batch axis and without."""
    kinds = [
        ("flag", TensorProto.BOOL, ["n", 1]),
        ("count", TensorProto.UINT8, ["n", 1]),
        ("half", TensorProto.FLOAT16, ["n", 1]),
        ("word", STRING, ["n"]),
        ("grid", FLOAT, ["n", 2, 2]),
    ]
    nodes = [node("Identity", [name], [f"{name}_out"]) for name, _, _ in kinds]
    outputs: list[Any] = [(f"{name}_out", kind, shape) for name, kind, shape in kinds]
    saved(folder / "1" / "model.onnx", model(nodes, list(kinds), outputs))


def _single(folder: Path) -> None:
    saved(folder / "1" / "model.onnx", double(shape=(1, 3)))


def _scalar(folder: Path) -> None:
    saved(folder / "1" / "model.onnx", double(shape=()))


def _rows(folder: Path) -> None:
    """Take an input that is called as the API calls its rows."""
    made = model(
        [node("Neg", ["rows"], ["y"])],
        [("rows", FLOAT, ["n", "width"])],
        [("y", FLOAT, ["n", "width"])],
    )
    saved(folder / "1" / "model.onnx", made)


def _logarithm(folder: Path) -> None:
    made = model([node("Log", ["x"], ["y"])], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])])
    saved(folder / "1" / "model.onnx", made)


def _broken(folder: Path) -> None:
    (folder / "1" / "model.onnx").write_bytes(b"no model")


def _underscored(folder: Path) -> None:
    saved(folder / "1" / "model.onnx", double())


MAKERS = {
    "my flowers": _flowers,
    "my_flowers": _underscored,
    "houses": _houses,
    "words": _words,
    "marks": _marks,
    "mixed": _mixed,
    "single": _single,
    "scalar": _scalar,
    "rows": _rows,
    "logarithm": _logarithm,
    "broken": _broken,
}


def load(folder: Path, registry: CollectorRegistry | None = None) -> Catalogue:
    """Make every model below a folder, and load them all."""
    for name, make in MAKERS.items():
        (folder / name / "1").mkdir(parents=True)
        make(folder / name)
    allowance = Allowance(folder.parent / "allowed.json")
    for path in folder.glob("*/1/*.joblib"):
        allowance.allow(path)
    metrics = PredictionMetrics(registry or CollectorRegistry())
    catalogue = Catalogue(find_artefacts(folder), allowance, metrics)
    catalogue.load(60)
    return catalogue


def picture(kind: str = "png", colour: str = "white") -> bytes:
    """Return a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (6, 6), colour).save(file, kind)
    return file.getvalue()


def no_log() -> PredictionStore:
    """Stand where a prediction log would be opened, in tests that must not need one."""
    raise AssertionError("nothing here asks the prediction log")


def protocol(catalogue: Catalogue) -> InferRoute:
    """Build the protocol's application over a store that cannot be reached."""

    def lost() -> VersionStore:
        raise StorageUnavailable("the gateway's database cannot be reached")

    repository = ModelRepository(catalogue, lost, workers=1, load_timeout=1.0)
    return oip.create_app(SITE, catalogue, repository)
