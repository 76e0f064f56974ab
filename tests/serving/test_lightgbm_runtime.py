"""LightGBM texts: what they tell and answer, and what is refused before the library sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="the tests train their models with LightGBM")
pytest.importorskip("pandas", reason="the categories come from a data frame")

from tiny_boosters import COLOURS, coded, frame, numbers, saved, train_lightgbm

from portico.serving.errors import ArtefactError, ModelRefused
from portico.serving.runtimes.lightgbm import LightGBMModel
from portico.serving.signature import AnswerKind
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: Path, booster: Any) -> LightGBMModel:
    return LightGBMModel(saved(folder / "model.txt", booster), 1)


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ArtefactError) as caught:
        LightGBMModel(path, 1)
    return caught.value.message


@pytest.fixture(scope="module")
def text() -> str:
    """A classifier of four classes that asks for categories."""
    model: str = train_lightgbm("multiclass", categories=True).model_to_string()
    assert "num_cat=1" in model
    return model


# What a file tells.


def test_a_classifier_gives_its_class_and_the_probability_of_each(tmp_path: Path) -> None:
    model = opened(tmp_path, train_lightgbm("multiclass"))
    assert model.platform == "lightgbm_text"
    assert [(s.name, s.datatype, s.shape) for s in model.signature.inputs] == [
        ("input", Datatype.FP64, (-1, 5))
    ]
    assert [(s.name, s.datatype, s.shape) for s in model.signature.outputs] == [
        ("label", Datatype.INT64, (-1,)),
        ("probabilities", Datatype.FP64, (-1, 4)),
    ]
    assert model.signature.answer.kind is AnswerKind.CLASSIFICATION
    assert model.signature.answer.classes == (0, 1, 2, 3)


def test_columns_and_categories_are_named_as_at_training(tmp_path: Path) -> None:
    model = opened(tmp_path, train_lightgbm("regression", categories=True))
    assert [f.name for f in model.signature.features] == ["age", "size", "colour", "mass", "rooms"]
    assert all(f.optional for f in model.signature.features)
    colour = model.signature.feature_by_name["colour"]
    assert [(c.value, c.label) for c in colour.choices] == list(enumerate(COLOURS))
    assert not colour.closed, "the library takes a category that it never saw"


# What it answers.


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"linear_tree": True},
        {"reg_sqrt": True, "sigmoid": 2.0},
    ],
    ids=lambda params: "-".join(params) or "plain",
)
@pytest.mark.parametrize(
    "objective",
    [
        "regression", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie",
        "cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg", "binary",
        "multiclass", "multiclassova",
    ],
)  # fmt: skip
def test_the_answer_is_that_of_the_library(
    tmp_path: Path, objective: str, params: dict[str, Any]
) -> None:
    trained = train_lightgbm(objective, categories="linear_tree" not in params, **params)
    rows = numbers() if "linear_tree" in params else coded(frame())
    given = opened(tmp_path, trained).run({"input": rows}, None)
    expected = trained.predict(numbers() if "linear_tree" in params else frame())
    match objective:
        case "binary":
            np.testing.assert_array_equal(given["label"], expected > 0.5)
            np.testing.assert_array_equal(given["probabilities"][:, 1], expected)
        case "multiclass" | "multiclassova":
            np.testing.assert_array_equal(given["label"], expected.argmax(axis=1))
            np.testing.assert_array_equal(given["probabilities"], expected)
        case _:
            np.testing.assert_array_equal(given["prediction"], expected)


def test_an_objective_of_ones_own_gives_its_scores(tmp_path: Path) -> None:
    trained = train_lightgbm("binary")
    text = trained.model_to_string().replace("\nobjective=binary sigmoid:1", "")
    path = tmp_path / "model.txt"
    path.write_text(text)
    given = LightGBMModel(path, 1).run({"input": numbers()}, None)["prediction"]
    np.testing.assert_array_equal(given, trained.predict(numbers(), raw_score=True))


def test_lines_may_end_as_windows_ends_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert LightGBMModel(path, 1).signature.answer.classes == (0, 1, 2, 3)


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    model = opened(tmp_path, train_lightgbm("regression"))
    with pytest.raises(ModelRefused, match="5 columns are expected"):
        model.run({"input": numbers()[:, :4]}, None)


# What is refused.


@pytest.mark.parametrize(
    "content", [b"", b"labels\ncat\ndog\n", b"tree\n", b"\x80\x04]\x94.", b"tree\nversion=v\xff"]
)
def test_another_text_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is no text model of LightGBM" in refusal(tmp_path / "model.txt", content)


def test_a_text_that_is_cut_short_is_refused(tmp_path: Path, text: str) -> None:
    end = text.index("end of trees")
    for size in range(0, end, end // 40):
        refusal(tmp_path / "model.txt", text[:size])


@pytest.mark.parametrize(
    ("pattern", "replacement", "reason"),
    [
        (r"max_feature_idx=\d+", "max_feature_idx=999999999", "max_feature_idx is '999999999'"),
        (r"max_feature_idx=\d+", "max_feature_idx=7", "5 names for 8 columns"),
        (r"max_feature_idx=\d+", "max_feature_idx=1", "a column that the model has not"),
        (r"max_feature_idx=.*", "", "max_feature_idx is ''"),
        (r"num_tree_per_iteration=\d+", "num_tree_per_iteration=5", "5 scores a row for 4 classes"),
        (r"num_tree_per_iteration=\d+", "num_tree_per_iteration=0", "0 scores a row for 4 classes"),
        (r"num_class:\d", "num_class:900000", "num_class is '900000'"),
        (r"objective=.*", "objective=magic", "objective 'magic' is not known"),
        (r"objective=.*", "objective=multiclass num_class:4;rm", "is not known"),
        (r"num_leaves=\d+", "num_leaves=2000000000", "num_leaves is '2000000000'"),
        (r"num_leaves=\d+", "num_leaves=3", "leaf_value of tree 0 holds"),
        (r"num_leaves=\d+", "num_leaves=0", "leaf_value of tree 0 holds"),
        (r"left_child=\S+", "left_child=0", "two parents"),
        (r"left_child=\S+", "left_child=1000000", "a child outside the tree"),
        (r"right_child=\S+", "right_child=-1000000", "a child outside the tree"),
        (r"split_feature=\d+", "split_feature=9", "a column that the model has not"),
        (r"split_feature=\d+", "split_feature=-1", "a column that the model has not"),
        (r"split_feature=\d+", "split_feature=99999999999999999999", "that is no number"),
        (r"leaf_value=\S+", "leaf_value=inf", "a leaf that is no number"),
        (r"leaf_value=\S+", "leaf_value=abc", "something else than numbers"),
        (r"leaf_value=\S+", "leaf_value=1-", "something that is no number"),
        (r"cat_boundaries=0 \d+", "cat_boundaries=0 99999999", "categories out of order"),
        (r"cat_boundaries=0 \d+", "cat_boundaries=0 -1", "categories out of order"),
        (r"cat_threshold=\d+", "cat_threshold=99999999999", "a set of categories that is none"),
        (r"num_cat=1", "num_cat=3", "cat_boundaries of tree"),
        (r"is_linear=0", "is_linear=1", "leaf_const of tree 0 holds 0 numbers"),
        (r"pandas_categorical:.*", "pandas_categorical:[[", "pandas categories cannot be read"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_before_the_library_sees_it(
    tmp_path: Path, text: str, pattern: str, replacement: str, reason: str
) -> None:
    damaged, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1
    assert reason in refusal(tmp_path / "model.txt", damaged)


def test_wrong_sizes_of_trees_do_no_harm(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.txt"
    path.write_text(re.sub(r"tree_sizes=.*", "tree_sizes=1 99999999999", text))
    assert LightGBMModel(path, 1).signature.answer.classes == (0, 1, 2, 3)


def test_a_chain_of_many_nodes_is_refused(tmp_path: Path, text: str) -> None:
    inner = 20_000
    block = "\n".join(
        [
            f"Tree=0\nnum_leaves={inner + 1}\nnum_cat=0",
            "split_feature=" + " ".join(["0"] * inner),
            "threshold=" + " ".join(["0"] * inner),
            "decision_type=" + " ".join(["2"] * inner),
            "left_child=" + " ".join([*map(str, range(1, inner)), "-1"]),
            "right_child=" + " ".join(str(-i - 2) for i in range(inner)),
            "leaf_value=" + " ".join(["0"] * (inner + 1)),
        ]
    )
    head = text[: text.index("Tree=0")]
    assert "deeper than" in refusal(tmp_path / "model.txt", f"{head}{block}\n\n\nend of trees\n")


def test_damaged_bytes_are_refused_or_answered_and_never_a_crash(tmp_path: Path, text: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "model.txt"
    answered = 0
    for _ in range(400):
        content = bytearray(text.encode())
        for place in rng.integers(0, text.index("end of trees"), 3):
            content[place] = rng.choice(list(b"0123456789-.e \n="))
        path.write_bytes(content)
        try:
            model = LightGBMModel(path, 1)
        except ArtefactError:
            continue
        width = model.signature.inputs[0].shape[1]
        rows = np.resize(coded(frame())[:20], (20, width))
        assert len(model.run({"input": rows}, None)) == len(model.signature.outputs)
        answered += 1
    assert 0 < answered < 400


def test_a_file_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(ArtefactError, match="has 10,737,418,240 bytes; at most"):
        LightGBMModel(path, 1)
