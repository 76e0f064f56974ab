"""The proof tells equal models from unequal ones, and says which rows told them apart."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the tests train their models with scikit-learn")

import joblib
import msgspec
import onnx
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier

from portico.serving.importing.compilers.sklearn import compile_sklearn
from portico.serving.importing.examples import examples_for
from portico.serving.importing.parity import prove
from portico.serving.importing.thresholds import split_thresholds
from portico.serving.manifest import ParityReport
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.runtimes.sklearn import SklearnModel

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(300, 4))
CLASSES = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(np.int64)


def native(estimator: Any) -> SklearnModel:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return SklearnModel(file.getvalue(), "model.joblib")


def compiled(estimator: Any, folder: Path) -> ONNXModel:
    path = folder / "model.onnx"
    onnx.save(compile_sklearn(estimator, native(estimator).signature), path)
    return ONNXModel(path, 1)


def test_a_forest_is_proven_equal_on_every_set_of_rows(tmp_path: Path) -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(X, CLASSES)
    model = native(forest)
    report = prove(
        model,
        compiled(forest, tmp_path),
        model.signature,
        examples={"input": X},
        thresholds=split_thresholds(forest, model.signature),
    )
    assert report.compiled, report.reason
    checks = {check.rows_from: check for check in report.checks}
    assert list(checks) == ["examples", "generated", "missing", "thresholds"]
    assert checks["examples"].rows == 300
    assert checks["thresholds"].rows > 300
    assert all(check.largest == 0 for check in report.checks)
    assert [speed.rows for speed in report.speeds] == [1, 128]
    assert report.speeds[0].compiled < report.speeds[0].native


def test_another_label_speaks_against_the_compiled_model(tmp_path: Path) -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(X, CLASSES)
    other = RandomForestClassifier(20, random_state=1).fit(X, CLASSES)
    model = native(forest)
    report = prove(model, compiled(other, tmp_path), model.signature, examples={"input": X})
    assert not report.compiled
    assert "gives another label for" in report.reason
    worst = next(check.worst for check in report.checks if check.labels_differ)
    assert worst[0]["native"]["label"] != worst[0]["compiled"]["label"]


def test_a_threshold_that_is_rounded_shows_beside_the_threshold_alone(tmp_path: Path) -> None:
    tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(X, CLASSES)
    model = native(tree)
    moved = native(tree)._estimator
    state = moved.tree_.__getstate__()
    state["nodes"]["threshold"][0] = np.nextafter(np.float32(state["nodes"]["threshold"][0]), 9)
    moved.tree_.__setstate__(state)
    report = prove(
        model,
        compiled(moved, tmp_path),
        model.signature,
        examples={"input": X},
        thresholds=split_thresholds(tree, model.signature),
    )
    differing = [check.rows_from for check in report.checks if check.rows_differ]
    assert differing == ["thresholds"]
    assert "beside split thresholds" in report.reason


def test_a_regression_may_differ_in_proportion_only(tmp_path: Path) -> None:
    forest = RandomForestRegressor(5, random_state=0).fit(X, 1e6 + 1e5 * X[:, 0])
    near = native(forest)._estimator
    for tree in near.estimators_:
        tree.tree_.value[:] *= 1 + 5e-5
    far = native(forest)._estimator
    for tree in far.estimators_:
        tree.tree_.value[:] *= 1 + 5e-4
    model = native(forest)
    assert prove(model, compiled(near, tmp_path), model.signature).compiled
    report = prove(model, compiled(far, tmp_path), model.signature)
    assert not report.compiled
    assert "relative 0.0005" in report.reason


def test_a_refusal_of_one_side_alone_speaks_against_the_compiled_model(tmp_path: Path) -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(X, CLASSES)
    model = native(forest)
    bad = X.copy()
    bad[3, 0] = np.inf
    assert prove(
        model, compiled(forest, tmp_path), model.signature, examples={"input": bad}
    ).compiled

    class Lenient:
        platform = "test"
        signature = model.signature

        def run(self, inputs: Any, outputs: Any) -> Any:
            return model.run({"input": np.clip(inputs["input"], -9, 9)}, outputs)

        def close(self) -> None: ...

    report = prove(model, Lenient(), model.signature, examples={"input": bad})
    assert report.reason == (
        "the compiled model answers where the original refuses: 1 of 300 rows of the examples"
    )


def test_a_report_is_the_same_in_json(tmp_path: Path) -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(X, CLASSES)
    other = RandomForestClassifier(5, random_state=1).fit(X, CLASSES)
    model = native(forest)
    report = prove(model, compiled(other, tmp_path), model.signature)
    assert msgspec.json.decode(msgspec.json.encode(report), type=ParityReport) == report


def test_made_up_rows_reach_both_sides_of_the_trees() -> None:
    forest = RandomForestClassifier(20, random_state=0).fit(1000 + X, CLASSES)
    rows = examples_for(native(forest).signature, forest)
    assert rows["input"].shape == (256, 4)
    assert 990 < rows["input"].min() < 998
    assert set(forest.predict(rows["input"])) == {0, 1}
