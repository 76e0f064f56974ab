"""XGBoost files: what they tell and answer, and what is refused before the library sees it."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="the tests train their models with XGBoost")
pytest.importorskip("sklearn", reason="the wrapped models need scikit-learn")

import xgboost
from tiny_boosters import COLOURS, coded, frame, numbers, saved, target, train_xgboost

from portico.serving.errors import ArtefactError, ModelRefused
from portico.serving.runtimes.xgboost import XGBoostModel
from portico.serving.signature import AnswerKind, Kind
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SINGLE = numbers().astype(np.float32)


def opened(folder: Path, booster: Any, ending: str = "ubj") -> XGBoostModel:
    return XGBoostModel(saved(folder / f"model.{ending}", booster), 1)


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ArtefactError) as caught:
        XGBoostModel(path, 1)
    return caught.value.message


@pytest.fixture(scope="module")
def document() -> str:
    return bytes(train_xgboost("multi:softprob").save_raw("json")).decode()


# What a file tells.


def test_a_classifier_gives_its_class_and_the_probability_of_each(tmp_path: Path) -> None:
    model = opened(tmp_path, train_xgboost("multi:softprob"))
    assert model.platform == "xgboost_json"
    assert [(s.name, s.datatype, s.shape) for s in model.signature.inputs] == [
        ("input", Datatype.FP32, (-1, 5))
    ]
    assert [(s.name, s.datatype, s.shape) for s in model.signature.outputs] == [
        ("label", Datatype.INT64, (-1,)),
        ("probabilities", Datatype.FP32, (-1, 4)),
    ]
    assert model.signature.answer.kind is AnswerKind.CLASSIFICATION
    assert model.signature.answer.classes == (0, 1, 2, 3)


def test_every_number_may_be_missing(tmp_path: Path) -> None:
    features = opened(tmp_path, train_xgboost("reg:squarederror")).signature.features
    assert [(f.name, f.kind, f.optional) for f in features] == [
        (f"x{i}", Kind.NUMBER, True) for i in range(1, 6)
    ]


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_columns_and_categories_are_named_as_at_training(tmp_path: Path, ending: str) -> None:
    model = opened(tmp_path, train_xgboost("reg:squarederror", categories=True), ending)
    assert [f.name for f in model.signature.features] == ["age", "size", "colour", "mass", "rooms"]
    colour = model.signature.feature_by_name["colour"]
    assert [(c.value, c.label) for c in colour.choices] == list(enumerate(COLOURS))
    assert not colour.closed, "the library takes a category that it never saw"


def test_a_column_of_whole_numbers_is_stepped_through(tmp_path: Path) -> None:
    table = frame().fillna(0).astype({"rooms": int})
    matrix = xgboost.DMatrix(table, target("reg:squarederror"), enable_categorical=True)
    model = opened(tmp_path, xgboost.train({}, matrix, 2))
    assert [f.step for f in model.signature.features] == [None, None, None, None, 1.0]


# What it answers.


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
@pytest.mark.parametrize(
    "objective",
    [
        "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:gamma",
        "reg:tweedie", "reg:logistic", "reg:quantileerror", "count:poisson", "survival:cox",
        "rank:pairwise", "rank:ndcg", "binary:logistic", "binary:logitraw", "binary:hinge",
        "multi:softprob", "multi:softmax",
    ],
)  # fmt: skip
def test_the_answer_is_that_of_the_library(tmp_path: Path, objective: str, booster: str) -> None:
    trained = train_xgboost(objective, booster=booster)
    given = opened(tmp_path, trained).run({"input": SINGLE}, None)
    expected = trained.predict(xgboost.DMatrix(SINGLE))
    match objective:
        case "binary:logistic":
            np.testing.assert_array_equal(given["label"], expected > 0.5)
            np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, rtol=1e-6)
            np.testing.assert_allclose(given["probabilities"][:, 1], expected, rtol=1e-6)
        case "multi:softmax":
            np.testing.assert_array_equal(given["label"], expected)
        case "multi:softprob":
            np.testing.assert_allclose(given["probabilities"], expected, rtol=1e-5)
        case _:
            np.testing.assert_allclose(given["prediction"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_codes_stand_for_the_categories(tmp_path: Path, ending: str) -> None:
    trained = train_xgboost("reg:squarederror", categories=True)
    given = opened(tmp_path, trained, ending).run(
        {"input": coded(frame()).astype(np.float32)}, None
    )
    matrix = xgboost.DMatrix(frame(), enable_categorical=True)
    np.testing.assert_array_equal(given["prediction"], trained.predict(matrix))


def test_a_wrapped_model_answers_with_the_rounds_up_to_its_best(tmp_path: Path) -> None:
    wrapped = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, max_depth=6)
    labels = np.random.default_rng(0).integers(0, 2, len(SINGLE))
    wrapped.fit(SINGLE[:300], labels[:300], eval_set=[(SINGLE[300:], labels[300:])], verbose=False)
    assert wrapped.best_iteration + 1 < wrapped.get_booster().num_boosted_rounds()
    given = opened(tmp_path, wrapped, "json").run({"input": SINGLE}, None)
    np.testing.assert_array_equal(given["probabilities"], wrapped.predict_proba(SINGLE))
    np.testing.assert_array_equal(given["label"], wrapped.predict(SINGLE))


def test_several_labels_at_once_are_a_row_of_values(tmp_path: Path) -> None:
    labels = np.stack([target("binary"), 1 - target("binary")], axis=1)
    wrapped = xgboost.XGBClassifier(n_estimators=3).fit(SINGLE, labels)
    model = opened(tmp_path, wrapped)
    assert [(s.name, s.shape) for s in model.signature.outputs] == [("prediction", (-1, 2))]
    given = model.run({"input": SINGLE}, None)["prediction"]
    np.testing.assert_array_equal(given, wrapped.predict_proba(SINGLE))


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    model = opened(tmp_path, train_xgboost("reg:squarederror"))
    with pytest.raises(ModelRefused, match="5 columns are expected"):
        model.run({"input": SINGLE[:, :4]}, None)


def test_what_the_library_refuses_is_refused_without_its_source_lines(tmp_path: Path) -> None:
    model = opened(tmp_path, train_xgboost("reg:squarederror", booster="gblinear"))
    with pytest.raises(ModelRefused, match="Input data contains `inf`") as caught:
        model.run({"input": np.full((1, 5), np.inf, dtype=np.float32)}, None)
    assert ".cc" not in caught.value.message


# What is refused.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"binf" + bytes(200), "in no format that XGBoost reads today"),
        (b"\x00\x00\x00\x3f" + bytes(200), "in no format that XGBoost reads today"),
        (pickle.dumps({"learner": 1}), "is a pickle"),
        (b"", "in no format"),
        (b'{"learner": 3}', "has no 'learner'"),
        (b"{}", "has no 'learner'"),
        (b'{"learner": {}, "version": [3, 2, 0]}', "'learner_model_param' is missing"),
        (b"{L" + b"\xff" * 30, "damaged or cut short"),
        (b"{L\x00\x00\x00\x00\x00\x00\x00\x01a" + b"[" * 5000, "nested deeper"),
        (b"{U\x01a[$d#L\x00\x00\x7f\xff\xff\xff\xff\xff", "values are announced"),
        (b"{" + b'"a":{' * 5000, "damaged or cut short"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path / "model.json", content)


def test_a_refusal_says_how_to_bring_an_old_file_over(tmp_path: Path) -> None:
    assert "booster.save_model('model.json')" in refusal(tmp_path / "model.json", b"binf")


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, ending: str) -> None:
    whole = bytes(train_xgboost("binary:logistic", rounds=2).save_raw(ending))
    for size in range(0, len(whole) - 1, len(whole) // 40):
        refusal(tmp_path / f"model.{ending}", whole[:size])


def tree(model: dict[str, Any]) -> dict[str, Any]:
    return next(
        t
        for t in model["learner"]["gradient_booster"]["model"]["trees"]
        if len(t["left_children"]) > 3
    )


def looped(model: dict[str, Any]) -> None:
    tree(model)["left_children"][1] = 0


def outside(model: dict[str, Any]) -> None:
    tree(model)["right_children"][0] = 2_000_000_000


def negative(model: dict[str, Any]) -> None:
    tree(model)["left_children"][0] = -7


def widowed(model: dict[str, Any]) -> None:
    tree(model)["left_children"][0] = -1


def without_column(model: dict[str, Any]) -> None:
    tree(model)["split_indices"][0] = 5


def absurd_nodes(model: dict[str, Any]) -> None:
    tree(model)["tree_param"]["num_nodes"] = "2000000000"


def absurd_features(model: dict[str, Any]) -> None:
    model["learner"]["learner_model_param"]["num_feature"] = "4000000000"


def absurd_classes(model: dict[str, Any]) -> None:
    model["learner"]["learner_model_param"]["num_class"] = "9999999"


def other_classes(model: dict[str, Any]) -> None:
    model["learner"]["objective"]["softmax_multiclass_param"]["num_class"] = "40"


def wrong_score(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["tree_info"][0] = 4


def wrong_rounds(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["iteration_indptr"][1] = 10_000


def short_array(model: dict[str, Any]) -> None:
    tree(model)["split_conditions"].pop()


def no_number(model: dict[str, Any]) -> None:
    tree(model)["split_conditions"][0] = "3"


def nested(model: dict[str, Any]) -> None:
    tree(model)["split_conditions"][0] = [1, 2]


def too_large(model: dict[str, Any]) -> None:
    tree(model)["split_conditions"][0] = 1e300


def without_categories(model: dict[str, Any]) -> None:
    tree(model)["split_type"][0] = 1


def unknown_objective(model: dict[str, Any]) -> None:
    model["learner"]["objective"]["name"] = "reg:magic"


def many_names(model: dict[str, Any]) -> None:
    model["learner"]["feature_names"] = ["a"] * 5


def no_trees(model: dict[str, Any]) -> None:
    model["learner"]["gradient_booster"]["model"]["trees"] = None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (looped, "a node with two parents"),
        (outside, "a child outside the tree"),
        (negative, "a child outside the tree"),
        (widowed, "a child outside the tree"),
        (without_column, "splits a column that the model has not"),
        (absurd_nodes, "num_nodes is '2000000000'"),
        (absurd_features, "num_feature is '4000000000'"),
        (absurd_classes, "num_class is '9999999'"),
        (other_classes, "numbers of classes do not agree"),
        (wrong_score, "adds to a score that is not there"),
        (wrong_rounds, "rounds are out of order"),
        (short_array, "split_conditions of tree"),
        (no_number, "something else than numbers"),
        (nested, "is damaged"),
        (too_large, "a number that is not finite"),
        (without_categories, "categories that are not there"),
        (unknown_objective, "'reg:magic' is not known"),
        (many_names, "1 feature_names for 5 columns"),
        (no_trees, "wrong types"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_before_the_library_sees_it(
    tmp_path: Path, document: str, damage: Callable[[dict[str, Any]], None], reason: str
) -> None:
    model = json.loads(document)
    damage(model)
    assert reason in refusal(tmp_path / "model.json", json.dumps(model).encode())


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_damaged_bytes_are_refused_or_answered_and_never_a_crash(
    tmp_path: Path, ending: str
) -> None:
    whole = bytes(train_xgboost("multi:softprob", categories=True, rounds=2).save_raw(ending))
    rng = np.random.default_rng(0)
    path = tmp_path / f"model.{ending}"
    answered = 0
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 2):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            model = XGBoostModel(path, 1)
        except ArtefactError:
            continue
        width = model.signature.inputs[0].shape[1]
        rows = np.resize(coded(frame())[:20].astype(np.float32), (20, width))
        assert len(model.run({"input": rows}, None)) == len(model.signature.outputs)
        answered += 1
    assert 0 < answered < 400
