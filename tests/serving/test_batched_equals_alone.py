"""Whatever runs together gives each request what it would have got alone, on every runtime."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tiny_onnx import FLOAT, STRING, classifier, model, node, saved

from portico.demos.recipe import write_joblib
from portico.serving.allowance import Allowance
from portico.serving.batch_safety import why_not_together
from portico.serving.batcher import Batcher
from portico.serving.card import LimitsCard, ModelCard
from portico.serving.golden import same, trial_row
from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.ports import Runtime
    from portico.serving.tensors import Tensors

POOL = 40
"""Different rows that requests are made of."""

RANDOM = np.random.default_rng(5)
NUMBERS = RANDOM.normal(size=(300, 4))
CLASSES = (NUMBERS[:, 0] > NUMBERS[:, 1]).astype(int) + (NUMBERS[:, 2] > 1)


def _zipmap(path: Path) -> Tensors:
    saved(path / "model.onnx", classifier(["rose", "tulip"]))
    return {"x": NUMBERS[:POOL, :2].astype(np.float32)}


def _several(path: Path) -> Tensors:
    """Two inputs of different datatypes, one of a width that may vary."""
    made = model(
        [node("Identity", ["word"], ["same"]), node("Softmax", ["x"], ["share"], axis=-1)],
        [("word", STRING, ["n"]), ("x", FLOAT, ["n", "width"])],
        [("same", STRING, ["n"]), ("share", FLOAT, ["n", "width"])],
    )
    saved(path / "model.onnx", made)
    words = np.array([f"word {n}" for n in range(POOL)], dtype=object)
    return {"word": words, "x": NUMBERS[:POOL].astype(np.float32)}


def _forest(path: Path) -> Tensors:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(10, random_state=0).fit(NUMBERS, CLASSES)
    write_joblib(forest, path / "model.joblib")
    return {"input": NUMBERS[:POOL]}


def _frame(path: Path) -> Tensors:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    towns = np.array(["Ulm", "Bonn", "Kiel"], dtype=object)[CLASSES]
    table = pd.DataFrame({"size": NUMBERS[:, 0], "town": towns})
    columns = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    estimator = make_pipeline(columns, LinearRegression()).fit(table, NUMBERS[:, 1])
    write_joblib(estimator, path / "model.joblib")
    return {"size": NUMBERS[:POOL, :1], "town": towns[:POOL, None]}


def _xgboost(path: Path) -> Tensors:
    import xgboost

    boosted = xgboost.XGBClassifier(n_estimators=5).fit(NUMBERS, CLASSES)
    boosted.save_model(path / "model.ubj")
    return {}


def _lightgbm(path: Path) -> Tensors:
    import lightgbm

    data = lightgbm.Dataset(NUMBERS, CLASSES > 0)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 5)
    booster.save_model(path / "model.txt")
    return {}


def _function(path: Path) -> Tensors:
    (path / "model.py").write_text(
        "import numpy as np\nfrom numpy.typing import NDArray\n\n"
        "def predict(a: NDArray[np.float64], b: NDArray[np.str_]) -> NDArray[np.str_]:\n"
        "    return np.array([f'{y} {x:g}' for x, y in zip(a, b)])\n"
    )
    words = np.array([[f"b{n}"] for n in range(POOL)], dtype=object)
    return {"a": NUMBERS[:POOL, :1], "b": words}


MAKERS: dict[str, Callable[[Path], Tensors]] = {
    "onnx with maps": _zipmap,
    "onnx of several inputs": _several,
    "scikit-learn over a matrix": _forest,
    "scikit-learn over a frame": _frame,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "python": _function,
}


@cache
def opened(kind: str) -> tuple[Runtime, Tensors]:
    """Return a runtime and rows for it; opened once, as hypothesis asks often."""
    folder = Path(mkdtemp(prefix="portico-test-"))
    pool = MAKERS[kind](folder)
    (file,) = folder.glob("model.*")
    allowance = Allowance(folder / "allowed.json")
    allowance.allow(file)
    runtime = open_runtime(file, 1, allowance)
    if not pool:
        (spec,) = runtime.signature.inputs
        pool = {spec.name: NUMBERS[:POOL].astype(spec.datatype.dtype)}
    return runtime, pool


class Held:
    """A runtime whose first run waits until the others are in line."""

    concurrency: int | None = 1

    def __init__(self, runtime: Runtime) -> None:
        self.platform, self.signature = runtime.platform, runtime.signature
        self._run = runtime.run
        self.go = threading.Event()
        self.runs = 0

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        self.runs += 1
        assert self.go.wait(20)
        return self._run(inputs, outputs)

    def close(self) -> None:
        """It is another's."""


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_each_request_gets_what_it_would_have_got_alone(kind: str, data: st.DataObject) -> None:
    runtime, pool = opened(kind)
    names = [spec.name for spec in runtime.signature.outputs]
    wanted = st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)
    picked = st.lists(st.integers(0, POOL - 1), min_size=1, max_size=5)
    requests = data.draw(st.lists(st.tuples(picked, wanted), min_size=2, max_size=6))
    alone = [runtime.run(_rows(pool, rows), outputs) for rows, outputs in requests]
    together, runs = _together(runtime, pool, requests)
    assert runs == 2, "one to wait for, and one for all others"
    for (_, outputs), expected, found in zip(requests, alone, together, strict=True):
        assert tuple(found) == (outputs or tuple(names))
        for name in expected:
            assert expected[name].dtype == found[name].dtype
            assert same(expected[name], found[name])


def _rows(pool: Tensors, rows: list[int]) -> Tensors:
    return {name: array[rows] for name, array in pool.items()}


def _together(runtime: Runtime, pool: Tensors, requests: Any) -> tuple[list[Tensors], int]:
    """Answer the requests while they run together, and tell how many runs that took."""
    held = Held(runtime)
    meter = PredictionMetrics(CollectorRegistry()).meter("m", "1")
    card = ModelCard(limits=LimitsCard(concurrency=1))
    batcher = Batcher(held, card, meter, batches=True, threads=16)
    answers: list[Tensors] = [{} for _ in requests]

    def ask(index: int, rows: list[int], outputs: tuple[str, ...] | None) -> None:
        prediction = Prediction("m", "1", "")
        answers[index] = batcher.run(prediction, _rows(pool, rows), len(rows), outputs)

    first = threading.Thread(
        target=batcher.run, args=(Prediction("m", "1", ""), _rows(pool, [0]), 1, None), daemon=True
    )
    first.start()
    _until(lambda: held.runs == 1)
    others = [
        threading.Thread(target=ask, args=(index, *request), daemon=True)
        for index, request in enumerate(requests)
    ]
    for thread in others:
        thread.start()
    _until(lambda: batcher.waiting_rows == sum(len(rows) for rows, _ in requests))
    held.go.set()
    first.join(20)
    for thread in others:
        thread.join(20)
    return answers, held.runs


def _until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 20
    while not condition():
        assert monotonic() < end, "it never came to that"
        sleep(0.0005)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", MAKERS)
def test_each_of_these_models_is_found_safe(kind: str) -> None:
    runtime, _ = opened(kind)
    golden = trial_row(runtime.signature)
    assert why_not_together(runtime, runtime.signature, ModelCard(), golden) == ""
