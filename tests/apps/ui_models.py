"""Models, clients and requests that the tests of the pages share."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from werkzeug.test import Client

from apps.shell.site import MountInfo, Site
from apps.ui import create_app
from portico.demos.recipe import write_joblib, write_onnx
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from werkzeug.test import TestResponse

EVIL = "<img src=x onerror=alert(1)>"
SITE = Site("Gate", (MountInfo("ui", "/ui", "Models"),))

FLOWERS = f"""
title = "{EVIL}"
description = "{EVIL}"
feature_names = ["len", "{EVIL}"]

[features.len]
title = "Length"
description = "Of the petal."
unit = "cm"
minimum = 0
maximum = 10
step = 0.1
default = 4.5

[answer]
title = "Species {EVIL}"
labels = ["{EVIL}", "virginica"]
"""

HOUSES = """
title = "House price"

[features.town]
description = "Where it stands."

[features.rooms]
unit = "rooms"

[answer]
unit = "EUR"
"""

MARKS = """
title = "Bright or dark"

[image]
resize = [2, 2]
color = "L"

[features.image]
title = "Photo"

[answer]
labels = ["dark", "bright"]
"""


class ValidatedClient(Client):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


def _flowers(folder: Path) -> None:
    x = np.array([[1, 1], [2, 1], [8, 5], [9, 5]], dtype=np.float32)
    write_onnx(LogisticRegression().fit(x, [0, 0, 1, 1]), 2, folder / "1" / "model.onnx")
    (folder / "2").mkdir()
    (folder / "2" / "model.onnx").write_bytes(b"no model")
    (folder / "model.toml").write_text(FLOWERS)


def _houses(folder: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"rooms": [1.0, 2.0, 3.0], "town": ["Ulm", "Bonn", "Ulm"]})
    encoder = ColumnTransformer([("town", OneHotEncoder(), ["town"])], remainder="passthrough")
    model = make_pipeline(encoder, LinearRegression()).fit(table, [100.0, 250.0, 300.0])
    write_joblib(model, folder / "1" / "model.joblib")
    (folder / "model.toml").write_text(HOUSES)


def _marks(folder: Path) -> None:
    x = np.array([[0, 0, 0, 0], [0.1, 0, 0, 0.1], [1, 1, 1, 1], [0.9, 1, 1, 1]], dtype=np.float32)
    forest = RandomForestClassifier(5, random_state=0).fit(x, [0, 0, 1, 1])
    write_onnx(forest, 4, folder / "1" / "model.onnx")
    (folder / "model.toml").write_text(MARKS)


def _arrays(folder: Path) -> None:
    shape = ["n", 2, 2]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["grid"], ["turned"])],
        "arrays",
        [helper.make_tensor_value_info("grid", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("turned", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")


def _broken(folder: Path) -> None:
    (folder / "1" / "model.onnx").write_bytes(b"no model")


MAKERS = {
    "my flowers": _flowers,
    "houses": _houses,
    "marks": _marks,
    "arrays": _arrays,
    "broken": _broken,
}


def train_catalogue(folder: Path, registry: CollectorRegistry) -> Catalogue:
    """Train each model into a folder, and load them all."""
    models = folder / "models"
    for name, make in MAKERS.items():
        (models / name / "1").mkdir(parents=True)
        make(models / name)
    allowance = Allowance(folder / "allowed.json")
    allowance.allow(models / "houses" / "1" / "model.joblib")
    catalogue = Catalogue(find_artefacts(models), allowance, PredictionMetrics(registry))
    catalogue.load(60)
    return catalogue


def client_of(catalogue: Catalogue) -> Client:
    """Return a client that holds the app to the WSGI protocol."""
    return ValidatedClient(validator(create_app(SITE, catalogue)))


def counted(registry: CollectorRegistry, model: str, outcome: str) -> float:
    labels = {"model": model, "version": "1", "outcome": outcome}
    return registry.get_sample_value("portico_predictions_total", labels) or 0.0


class Tags(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> dict[str, str | None]:
        return next(attrs for _, attrs in self.tags if attrs.get("name") == name)


def picture(colour: str = "white", size: tuple[int, int] = (6, 6)) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "png")
    file.seek(0)
    return file


def upload(client: Client, file: io.BytesIO, name: str, path: str = "/models/marks") -> Any:
    return client.post(path, data={"image": (file, name)})


def send_table(client: Client, text: str | bytes, model: str = "houses", **fields: str) -> Any:
    data = text.encode() if isinstance(text, str) else text
    upload = (io.BytesIO(data), "table.csv")
    return client.post(f"/models/{model}/table", data={"file": upload, **fields})
