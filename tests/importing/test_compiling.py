"""What compiles gives the original's answers, and docs/compiling.md says what does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the tests train their models with scikit-learn")
pytest.importorskip("xgboost", reason="the table holds boosters")
pytest.importorskip("lightgbm", reason="the table holds boosters")

import pandas as pd
from compile_table import DOCS, MODELS, compiled_model, line, opened, proven, tensors_of
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from portico.serving.errors import ModelRefused
from portico.serving.importing.compilers.sklearn import compile_sklearn
from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.examples import examples_for
from portico.serving.importing.parity import prove
from portico.serving.importing.thresholds import split_thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.manifest import ParityReport

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"

RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(200, 3))
Y = (X[:, 0] > X[:, 1] ** 2).astype(int)


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Keep libraries from waiting for cores that other tests use."""
    with threadpool_limits(1):
        yield


def told(title: str) -> dict[str, str]:
    """Return the facts that the docs tell of each model of a section."""
    section = DOCS.read_text().split(f"### {title}\n")[1].split("###")[0]
    rows = [re.split(r" \| ", row.strip("| ")) for row in section.splitlines()[3:] if row]
    return {row[0]: " | ".join(row[:4]) for row in rows if len(row) == 6}


@pytest.mark.parametrize("title", MODELS)
def test_the_docs_tell_what_compiles_and_how_well(title: str, tmp_path: Path) -> None:
    made = {name: line(name, make, tmp_path).facts for name, make in MODELS[title]()}
    assert told(title) == made


def test_a_large_forest_is_at_least_25_times_faster_for_one_row(tmp_path: Path) -> None:
    forest = RandomForestClassifier(300, random_state=0).fit(X, Y)
    report = proven(forest, X, tmp_path)
    assert report.compiled
    assert report.speeds[0].native > 25 * report.speeds[0].compiled


def test_inputs_and_outputs_are_those_of_the_original(tmp_path: Path) -> None:
    forest = RandomForestClassifier(5).fit(X, np.array(["no", "yes"])[Y])
    native = opened(forest)
    compiled = compiled_model(forest, native.signature, tmp_path)
    assert compiled.signature.inputs == native.signature.inputs
    assert compiled.signature.outputs == native.signature.outputs


def test_a_frame_is_taken_column_by_column_with_the_unused_ones_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": "x", "age": X[:, 0], "sex": np.where(Y, "f", "m")})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"]), (StandardScaler(), ["age"])),
        LogisticRegression(),
    ).fit(frame, Y)
    native = opened(model)
    assert [spec.name for spec in native.signature.inputs] == ["age", "sex"]
    assert proven(model, frame, tmp_path).compiled


def test_an_unknown_category_is_refused_with_a_sentence(tmp_path: Path) -> None:
    frame = pd.DataFrame({"sex": np.where(Y, "f", "m")})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, Y)
    native = opened(model)
    compiled = compiled_model(model, native.signature, tmp_path)
    with pytest.raises(ModelRefused, match="input: a category is none of those the model was"):
        compiled.run({"sex": np.array([["d"]], dtype=object)}, None)


def test_infinite_numbers_are_refused_behind_texts_and_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": X[:, 0], "sex": np.where(Y, "f", "m")})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"]), (StandardScaler(), ["age"])),
        LogisticRegression(),
    ).fit(frame, Y)
    native = opened(model)
    compiled = compiled_model(model, native.signature, tmp_path)
    rows = {"sex": np.array([["f"]], dtype=object), "age": np.array([[np.nan]])}
    for runtime in (native, compiled):
        with pytest.raises(ModelRefused):
            runtime.run(rows, None)


def test_a_missing_number_is_refused_where_the_original_refuses_it(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    compiled = compiled_model(model, opened(model).signature, tmp_path)
    with pytest.raises(ModelRefused, match="a number is missing, infinite or too large"):
        compiled.run({"input": np.array([[0.0, np.nan, 0.0]])}, None)


def test_trees_that_learned_of_missing_values_send_them_the_same_way(tmp_path: Path) -> None:
    holed = np.where(RANDOM.random(X.shape) < 0.2, np.nan, X)
    for model in (
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
    ):
        report = proven(model.fit(holed, Y), holed, tmp_path)
        assert report.compiled, report.reason


def test_histogram_trees_keep_categories_of_a_frame(tmp_path: Path) -> None:
    frame = pd.DataFrame({"colour": RANDOM.integers(0, 12, 200), "size": X[:, 0]})
    target = frame["colour"].isin([1, 4, 5, 9]).to_numpy().astype(int)
    model = HistGradientBoostingClassifier(max_iter=10, categorical_features=["colour"])
    native = opened(model.fit(frame, target))
    compiled = compiled_model(model, native.signature, tmp_path)
    rows = tensors_of(native.signature, frame)
    rows["input"][:20, 0] = [np.nan, -1, 77, 3.5] * 5
    report = prove(native, compiled, native.signature, examples=rows)
    assert report.compiled, report.reason


def text_report(texts: list[str], folder: Path, **options: Any) -> ParityReport:
    labels = [i % 2 for i in range(len(texts))]
    model = make_pipeline(TfidfVectorizer(**options), LogisticRegression()).fit(texts, labels)
    return proven(model, np.array(texts, dtype=object), folder)


TEXTS = [
    "Ärger über ÖLPREISE in Österreich",
    "Wetter in ÖSTERREICH: sonnig, über 30 Grad",
    "МОСКВА слезам не верит",  # noqa: RUF001 Cyrillic on purpose
    "Москва и Дунай; ДУНАЙ зимой",
    "ΟΔΟΣ ΟΔΥΣΣΕΩΣ 12",
    "οδος οδυσσεως στην Αθήνα",
    "İSTANBUL ve istanbul'da yağmur",
    "東京 の 天気 は 晴れ_です x_1",
    "l'École d'été — ÉCOLE, naïve",
    "I am not here; you are NOT there",
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"ngram_range": (1, 3), "stop_words": ["not", "in", "über"]},
        {"token_pattern": r"(?u)\b\w+\b", "binary": True, "norm": "l1"},
        {"token_pattern": r"[a-z]+", "sublinear_tf": True, "use_idf": False},
        {"token_pattern": r"\w{3,}", "max_features": 12},
    ],
    ids=str,
)
def test_texts_of_all_scripts_become_the_same_words(
    options: dict[str, Any], tmp_path: Path
) -> None:
    report = text_report(TEXTS, tmp_path, **options)
    assert report.compiled, report.checks


def test_texts_without_any_word_are_answered(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(ngram_range=(2, 2)), LogisticRegression())
    native = opened(model.fit(TEXTS, [i % 2 for i in range(10)]))
    compiled = compiled_model(model, native.signature, tmp_path)
    for texts in (["", "  "], ["one"]):
        rows = {"text": np.array(texts, dtype=object)}
        expected, found = native.run(rows, None), compiled.run(rows, None)
        assert np.allclose(expected["probabilities"], found["probabilities"], atol=1e-12)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (make_pipeline(FunctionTransformer(np.sinc), LogisticRegression()), "calls 'sinc'"),
        (type("Mine", (DecisionTreeClassifier,), {})(), "no compiler for Mine"),
    ],
)
def test_what_only_python_can_run_is_told(model: Any, reason: str) -> None:
    model.fit(X, Y)
    # A class of the test itself cannot be dumped, and needs no signature of its own either.
    signature = opened(LogisticRegression().fit(X, Y)).signature
    with pytest.raises(CannotCompile, match=reason):
        compile_sklearn(model, signature)


@pytest.mark.parametrize("options", [{"analyzer": "char"}, {"strip_accents": "unicode"}])
def test_vectorisers_without_an_equal_are_told(options: dict[str, Any]) -> None:
    model = make_pipeline(TfidfVectorizer(**options), LogisticRegression())
    native = opened(model.fit(TEXTS, [i % 2 for i in range(10)]))
    with pytest.raises(CannotCompile, match=r"words|accents"):
        compile_sklearn(model, native.signature)


def test_thresholds_behind_scalers_are_told_as_inputs() -> None:
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=1)).fit(
        X * 1000 + 5, Y
    )
    native = opened(model)
    ((name, values),) = split_thresholds(model, native.signature).items()
    column = [f.name for f in native.signature.features].index(name)
    at = 1000 * X[:, column] + 5
    split = model[0].transform(X * 1000 + 5)[:, column] <= model[1].tree_.threshold[0]
    assert at[split].max() < min(values)
    assert max(values) < at[~split].min()


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the folder of real data is not here")
def test_the_titanic_pipelines_compile(tmp_path: Path) -> None:
    table = pd.read_csv(ASSETS / "titanic.csv")
    rows = table[["pclass", "sex", "age", "fare", "sibsp", "parch", "name"]]
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    for last in (RandomForestClassifier(100, random_state=0), LogisticRegression(max_iter=500)):
        columns = ColumnTransformer(
            [
                ("numbers", numbers, ["age", "fare", "sibsp", "parch"]),
                ("sex", OneHotEncoder(handle_unknown="ignore"), ["sex", "pclass"]),
            ]
        )
        report = proven(make_pipeline(columns, last).fit(rows, table["survived"]), rows, tmp_path)
        assert report.compiled, report.reason


@pytest.mark.skipif(not ASSETS.is_dir(), reason="the folder of real data is not here")
def test_the_penguins_compile_without_examples(tmp_path: Path) -> None:
    table = pd.read_csv(ASSETS / "penguins.csv")
    rows = table.drop(columns=["species", "year"])
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="unknown"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    )
    model = make_pipeline(
        make_column_transformer((texts, ["island", "sex"]), remainder="passthrough"),
        HistGradientBoostingClassifier(max_iter=20),
    ).fit(rows, table["species"])
    native = opened(model)
    compiled = compiled_model(model, native.signature, tmp_path)
    rows_made = examples_for(native.signature, model)
    report = prove(native, compiled, native.signature, examples=rows_made)
    assert report.compiled, report.reason
    assert len(set(native.run(rows_made, None)["label"])) > 1
