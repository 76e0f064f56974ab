"""Boosters as ONNX: the same answers on made-up rows, on gaps, and one ulp beside every split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="boosters are trained here")
pytest.importorskip("lightgbm", reason="boosters are trained here")
pytest.importorskip("pandas", reason="the categories come from a data frame")
pytest.importorskip("onnx", reason="boosters are compiled here")

from tiny_boosters import saved, train_lightgbm, train_xgboost

from portico.serving.allowance import Allowance
from portico.serving.importing.compilers.boosters import (
    compile_booster,
    ensemble_of,
    rows_of_booster,
    thresholds_of_booster,
)
from portico.serving.importing.compiling import compile_native, plausible_rows, thresholds_of
from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.kinds import Kind
from portico.serving.importing.parity import prove
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from portico.serving.manifest import ParityReport
    from portico.serving.ports import Runtime

ASSETS = Path(__file__).parents[3] / "shared" / "assets"


def opened(path: Path) -> Runtime:
    return open_runtime(path, 1, Allowance.of(path.parent))


def compiled(path: Path, native: Runtime) -> ONNXModel:
    target = path.with_suffix(".onnx")
    model = compile_booster(ensemble_of(path), native.signature)
    target.write_bytes(model.SerializeToString())
    return ONNXModel(target, 1)


def proof(path: Path) -> ParityReport:
    native, ensemble = opened(path), ensemble_of(path)
    model = compiled(path, native)
    assert model.signature.inputs == native.signature.inputs
    assert model.signature.outputs == native.signature.outputs
    return prove(
        native,
        model,
        native.signature,
        examples=rows_of_booster(ensemble, 128),
        thresholds=thresholds_of_booster(ensemble, native.signature),
    )


@pytest.mark.parametrize(
    ("booster", "categories"),
    [("gbtree", False), ("gbtree", True), ("dart", False), ("dart", True), ("gblinear", False)],
)
@pytest.mark.parametrize(
    "objective",
    [
        "reg:squarederror", "reg:gamma", "reg:logistic", "reg:quantileerror", "count:poisson",
        "survival:cox", "rank:ndcg", "binary:logistic", "binary:logitraw", "binary:hinge",
        "multi:softprob",
    ],
)  # fmt: skip
def test_xgboost_answers_as_before(
    tmp_path: Path, objective: str, booster: str, categories: bool
) -> None:
    trained = train_xgboost(objective, booster=booster, categories=categories)
    report = proof(saved(tmp_path / "model.ubj", trained))
    assert report.compiled, report.reason


@pytest.mark.parametrize("categories", [False, True], ids=["numbers", "categories"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"boosting": "dart"},
        {"zero_as_missing": True},
        {"use_missing": False, "reg_sqrt": True, "sigmoid": 2.0},
    ],
    ids=lambda params: "-".join(params) or "plain",
)
@pytest.mark.parametrize(
    "objective",
    ["regression", "poisson", "cross_entropy_lambda", "lambdarank", "binary", "multiclass",
     "multiclassova"],
)  # fmt: skip
def test_lightgbm_answers_as_before_to_the_last_digits(
    tmp_path: Path, objective: str, params: dict[str, Any], categories: bool
) -> None:
    trained = train_lightgbm(objective, categories=categories, **params)
    report = proof(saved(tmp_path / "model.txt", trained))
    assert report.compiled, report.reason
    assert max(check.largest_relative for check in report.checks) < 1e-12


@pytest.mark.parametrize("name", ["kserve_xgb_iris.json", "kserve_lgb_iris.txt"])
def test_a_booster_that_others_trained_answers_as_before(tmp_path: Path, name: str) -> None:
    if not (ASSETS / name).exists():
        pytest.skip(f"{name} is not there")
    path = tmp_path / name
    path.write_bytes((ASSETS / name).read_bytes())
    report = proof(path)
    assert report.compiled, report.reason
    assert {check.rows_from for check in report.checks} >= {"examples", "thresholds"}


@pytest.mark.parametrize(
    ("codes", "file"),
    [([0, 0.5, 1.5, 2, 2.99, 4, 7, -0.5, -1, -3, 1e9, np.nan, np.inf, -np.inf], "model.ubj"),
     ([0, 0.5, 1.5, 2, 2.99, 4, 7, -0.5, -1, -3, 1e9, np.nan], "model.txt")],
)  # fmt: skip
def test_what_is_no_code_of_a_category_goes_where_the_library_sends_it(
    tmp_path: Path, codes: list[float], file: str
) -> None:
    train = train_xgboost("reg:squarederror", categories=True)
    if file == "model.txt":
        train = train_lightgbm("regression", categories=True)
    path = saved(tmp_path / file, train)
    native = opened(path)
    dtype = native.signature.inputs[0].datatype.dtype
    x = np.tile(np.array([0.3, -0.2, 0, 0.1, 2], dtype=dtype), (len(codes), 1))
    x[:, 2] = codes
    expected = native.run({"input": x}, None)["prediction"]
    assert len(set(expected.tolist())) > 1, "the categories count"
    given = compiled(path, native).run({"input": x}, None)["prediction"]
    np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_a_model_of_lone_leaves_is_compiled(tmp_path: Path) -> None:
    for file, trained in (
        ("model.ubj", train_xgboost("reg:squarederror", gamma=1e9)),
        ("model.txt", train_lightgbm("regression", min_gain_to_split=1e9)),
    ):
        path = saved(tmp_path / file, trained)
        assert not ensemble_of(path).thresholds()
        assert proof(path).compiled


def test_linear_models_in_leaves_are_told_to_have_no_equal(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.txt", train_lightgbm("regression", linear_tree=True))
    with pytest.raises(CannotCompile, match="linear models in their leaves"):
        ensemble_of(path)


def test_thresholds_are_told_by_the_names_of_the_columns(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.ubj", train_xgboost("reg:squarederror", categories=True))
    told = thresholds_of_booster(ensemble_of(path), opened(path).signature)
    assert "age" in told
    assert "colour" not in told, "categories are no thresholds"
    assert told["age"] == sorted(set(told["age"]))


@pytest.mark.parametrize("kind", [Kind.XGBOOST, Kind.LIGHTGBM])
def test_an_import_gets_compiler_rows_and_thresholds(tmp_path: Path, kind: Kind) -> None:
    is_xgboost = kind is Kind.XGBOOST
    trained = train_xgboost("binary:logistic") if is_xgboost else train_lightgbm("binary")
    native = opened(saved(tmp_path / ("model.json" if is_xgboost else "model.txt"), trained))
    compile_native(kind, native, tmp_path / "model.onnx")
    rows = plausible_rows(kind, native, native.signature)
    thresholds = thresholds_of(kind, native, native.signature)
    answers = native.run(rows, None)["label"]
    assert len(set(answers.tolist())) == 2, "made-up rows reach both classes"
    assert np.isnan(rows["input"]).any()
    assert thresholds
    model = ONNXModel(tmp_path / "model.onnx", 1)
    report = prove(native, model, native.signature, examples=rows, thresholds=thresholds)
    assert report.compiled, report.reason


def test_an_import_makes_up_rows_for_what_cannot_be_compiled(tmp_path: Path) -> None:
    native = opened(saved(tmp_path / "model.txt", train_lightgbm("regression", linear_tree=True)))
    rows = plausible_rows(Kind.LIGHTGBM, native, native.signature)
    assert len(native.run(rows, None)["prediction"]) == len(rows["input"])
    with pytest.raises(CannotCompile, match="linear models"):
        compile_native(Kind.LIGHTGBM, native, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
