"""scikit-learn files: what fitting left behind becomes a signature, and pickles stay shut."""

from __future__ import annotations

import io
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the tests train their models with scikit-learn")

import joblib
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from portico.serving.allowance import Allowance
from portico.serving.codecs.rows import tensors_from_csv, tensors_from_rows
from portico.serving.errors import (
    ArtefactError,
    ArtefactNotAllowed,
    InvalidInput,
    ModelFailed,
    ModelRefused,
)
from portico.serving.runtimes.registry import open_runtime
from portico.serving.runtimes.sklearn import SklearnModel
from portico.serving.signature import AnswerKind, Kind
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

X = np.array([[0, 0, 1], [1, 0, 2], [8, 1, 3], [9, 1, 4]], dtype=np.float64)
CLASSES = [0, 0, 1, 1]


def dumped(content: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(content, file)
    return file.getvalue()


def opened(estimator: Any) -> SklearnModel:
    return SklearnModel(dumped(estimator), "model.joblib")


def refusal(content: Any) -> str:
    data = content if isinstance(content, bytes) else dumped(content)
    with pytest.raises(ArtefactError) as caught:
        SklearnModel(data, "model.joblib")
    return caught.value.message


def outputs(model: SklearnModel) -> dict[str, tuple[Datatype, tuple[int, ...]]]:
    return {s.name: (s.datatype, s.shape) for s in model.signature.outputs}


def ask(model: SklearnModel, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    answer = model.run(tensors_from_rows(model.signature, rows), None)
    return {name: array.tolist() for name, array in answer.items()}


# Estimators over a matrix.


@pytest.mark.parametrize(
    ("classes", "datatype"),
    [
        ([3, 3, 7, 7], Datatype.INT64),
        (["no", "no", "yes", "yes"], Datatype.BYTES),
        ([False, False, True, True], Datatype.BOOL),
    ],
)
def test_a_classifier_gives_its_class_and_the_probability_of_each(
    classes: list[Any], datatype: Datatype
) -> None:
    model = opened(LogisticRegression().fit(X, classes))
    assert model.platform == "sklearn_joblib"
    assert outputs(model) == {
        "label": (datatype, (-1,)),
        "probabilities": (Datatype.FP64, (-1, 2)),
    }
    answer = model.signature.answer
    assert (answer.kind, answer.label, answer.scores) == (
        AnswerKind.CLASSIFICATION,
        "label",
        "probabilities",
    )
    assert answer.classes == (classes[0], classes[-1])
    given = model.run({"input": X}, None)
    assert given["label"].tolist() == classes
    np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1)


def test_only_the_outputs_asked_for_are_made_in_that_order() -> None:
    model = opened(LogisticRegression().fit(X, CLASSES))
    assert list(model.run({"input": X}, ("probabilities", "label"))) == ["probabilities", "label"]
    assert list(model.run({"input": X}, ("label",))) == ["label"]


def test_a_classifier_without_probabilities_gives_the_class_alone() -> None:
    model = opened(LinearSVC().fit(X, ["a", "a", "b", "b"]))
    assert outputs(model) == {"label": (Datatype.BYTES, (-1,))}
    assert model.signature.answer.kind is AnswerKind.CLASSIFICATION
    assert model.signature.answer.classes == ("a", "b")


def test_a_regressor_gives_a_value() -> None:
    model = opened(LinearRegression().fit(X, [1.0, 2.0, 3.0, 4.0]))
    assert outputs(model) == {"prediction": (Datatype.FP64, (-1,))}
    assert model.signature.answer.value == "prediction"


def test_a_regressor_of_whole_numbers_is_no_classifier() -> None:
    class Rounded(LinearRegression):
        def predict(self, X: Any) -> Any:  # noqa: N803
            return super().predict(X).astype(np.int64)

    globals()["Rounded"] = Rounded  # Pickle finds classes by their module.
    Rounded.__qualname__ = "Rounded"
    model = opened(Rounded().fit(X, [1, 2, 3, 4]))
    assert outputs(model) == {"prediction": (Datatype.INT64, (-1,))}
    assert model.signature.answer.kind is not AnswerKind.CLASSIFICATION


def test_a_regressor_of_several_values_gives_a_row_of_them() -> None:
    model = opened(LinearRegression().fit(X, np.stack([X[:, 0], X[:, 2]], axis=1)))
    assert outputs(model) == {"prediction": (Datatype.FP64, (-1, 2))}
    np.testing.assert_allclose(model.run({"input": X}, None)["prediction"], X[:, [0, 2]], atol=1e-9)


def test_a_classifier_of_several_labels_gives_a_row_of_them() -> None:
    labels = np.array([[0, 1], [0, 0], [1, 1], [1, 0]])
    model = opened(MultiOutputClassifier(DecisionTreeClassifier()).fit(X, labels))
    assert outputs(model)["label"] == (Datatype.INT64, (-1, 2))
    assert model.run({"input": X}, ("label",))["label"].tolist() == labels.tolist()
    assert outputs(model)["probabilities"] == (Datatype.FP64, (-1, 2, 2))


def test_labels_with_different_numbers_of_classes_come_without_probabilities() -> None:
    labels = np.array([[0, 1], [0, 0], [1, 2], [1, 0]])
    model = opened(DecisionTreeClassifier().fit(X, labels))
    assert outputs(model) == {"label": (Datatype.INT64, (-1, 2))}
    assert model.run({"input": X}, None)["label"].tolist() == labels.tolist()


def test_a_clusterer_gives_the_number_of_the_cluster() -> None:
    model = opened(KMeans(2, n_init=1, random_state=0).fit(X))
    given = model.run({"input": X}, None)["prediction"]
    assert given.dtype == np.int32
    assert given[0] == given[1] != given[2] == given[3]
    assert outputs(model) == {"prediction": (Datatype.INT32, (-1,))}


def test_an_outlier_detector_gives_1_or_minus_1() -> None:
    model = opened(IsolationForest(n_estimators=5, random_state=0).fit(X))
    assert set(model.run({"input": X}, None)["prediction"].tolist()) <= {1, -1}


def test_a_transformer_gives_features() -> None:
    model = opened(PCA(2).fit(X))
    assert outputs(model) == {"features": (Datatype.FP64, (-1, 2))}
    assert model.signature.answer.kind is AnswerKind.TENSORS


def test_a_transformer_that_gives_a_sparse_matrix_gives_a_dense_one_here() -> None:
    model = opened(OneHotEncoder().fit(X[:, :1]))
    assert model.run({"input": X[:2, :1]}, None)["features"].tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_columns_are_named_as_they_were_at_fitting() -> None:
    frame = pd.DataFrame(X, columns=["petal length (cm)", "b", "c"])
    model = opened(LinearRegression().fit(frame, [1.0, 2.0, 3.0, 4.0]))
    assert [f.name for f in model.signature.features] == ["petal length (cm)", "b", "c"]
    assert [(s.name, s.shape) for s in model.signature.inputs] == [("input", (-1, 3))]
    row = {"c": 1, "b": 0, "petal length (cm)": 0}
    assert ask(model, row)["prediction"] == pytest.approx([1.0])


def test_columns_without_names_are_numbered() -> None:
    model = opened(LinearRegression().fit(X, CLASSES))
    assert [f.name for f in model.signature.features] == ["x1", "x2", "x3"]


def test_no_rows_are_refused_by_the_model() -> None:
    model = opened(LinearRegression().fit(X, CLASSES))
    with pytest.raises(ModelRefused, match="0 sample"):
        model.run({"input": X[:0]}, None)


# Pipelines over a frame.


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [22.0, np.nan, 35.0, 54.0, 41.0, 19.0],
            "town": ["Ulm", "Bonn", "Ulm", np.nan, "Bonn", "Ulm"],
            "class": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0],
            "job": ["smith", "baker", "smith", "baker", "smith", "baker"],
        }
    )


@pytest.fixture(scope="module")
def people_model(people: pd.DataFrame) -> SklearnModel:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["town"]),
            ("classes", OneHotEncoder(handle_unknown="error"), ["class"]),
            ("jobs", OrdinalEncoder(handle_unknown="error"), ["job"]),
        ]
    )
    return opened(make_pipeline(columns, LogisticRegression()).fit(people, [0, 1, 0, 1, 1, 0]))


ADA = {"age": 30, "town": "Ulm", "class": 2, "job": "smith"}


def test_a_frame_of_texts_and_numbers_is_one_input_a_column(people_model: SklearnModel) -> None:
    number, text = Datatype.FP64, Datatype.BYTES
    assert [(s.name, s.datatype, s.shape) for s in people_model.signature.inputs] == [
        ("age", number, (-1, 1)),
        ("town", text, (-1, 1)),
        ("class", number, (-1, 1)),
        ("job", text, (-1, 1)),
    ]


def test_what_encoders_saw_are_the_choices(people_model: SklearnModel) -> None:
    told = {
        f.name: (f.kind, [c.value for c in f.choices], f.closed and bool(f.choices), f.optional)
        for f in people_model.signature.features
    }
    assert told == {
        "age": (Kind.NUMBER, [], False, True),
        "town": (Kind.TEXT, ["Bonn", "Ulm"], False, True),
        "class": (Kind.NUMBER, [1.0, 2.0, 3.0], True, False),
        "job": (Kind.TEXT, ["baker", "smith"], True, False),
    }


def test_a_row_is_answered_as_the_pipeline_does(
    people_model: SklearnModel, people: pd.DataFrame
) -> None:
    rows = people.replace({np.nan: None}).to_dict("records")
    given = ask(people_model, *rows)
    assert given["label"] == people_model._estimator.predict(people).tolist()
    expected = people_model._estimator.predict_proba(people)
    np.testing.assert_allclose(given["probabilities"], expected)


def test_a_table_with_gaps_is_answered(people_model: SklearnModel) -> None:
    text = "age,town,class,job\n,Bonn,2,baker\n30,,1,smith\n"
    assert len(people_model.run(tensors_from_csv(people_model.signature, text), None)["label"]) == 2


def test_a_category_that_may_be_unknown_is_answered(people_model: SklearnModel) -> None:
    assert len(ask(people_model, {**ADA, "town": "Paris"})["label"]) == 1


def test_a_category_that_must_be_known_is_refused_where_it_stands(
    people_model: SklearnModel,
) -> None:
    with pytest.raises(InvalidInput, match=r"rows\[0\]\.job: is 'pilot'.*baker, smith"):
        ask(people_model, {**ADA, "job": "pilot"})


def test_an_unknown_category_in_a_tensor_is_refused_by_the_model(
    people_model: SklearnModel,
) -> None:
    tensors = tensors_from_rows(people_model.signature, [ADA])
    tensors["job"] = np.array([["pilot"]], dtype=object)
    with pytest.raises(ModelRefused, match=r"unknown categories.*pilot"):
        people_model.run(tensors, None)


def test_a_missing_value_that_the_model_cannot_fill_is_refused(people_model: SklearnModel) -> None:
    with pytest.raises(InvalidInput, match="is missing"):
        ask(people_model, {**ADA, "class": None})


def test_columns_of_different_lengths_are_refused_by_the_model(people_model: SklearnModel) -> None:
    tensors = tensors_from_rows(people_model.signature, [ADA, ADA])
    tensors["age"] = tensors["age"][:1]
    with pytest.raises(ModelRefused, match="same length"):
        people_model.run(tensors, None)


@pytest.mark.parametrize(
    "town", [["town"], slice("town", "town"), [1], [-3], slice(1, 2), [False, True, False, False]]
)
def test_columns_may_be_chosen_in_every_way_that_scikit_learn_takes(
    people: pd.DataFrame, town: Any
) -> None:
    columns = ColumnTransformer(
        [("town", OneHotEncoder(), town), ("age", SimpleImputer(), ["age"])]
    )
    model = opened(make_pipeline(columns, LinearRegression()).fit(people, range(6)))
    kinds = {f.name: f.kind for f in model.signature.features}
    assert kinds["town"] is Kind.TEXT
    assert kinds["age"] is Kind.NUMBER
    assert "class" not in kinds, "nothing looks at it"
    assert [c.value for c in model.signature.feature_by_name["town"].choices] == ["Bonn", "Ulm"]


def test_a_frame_of_one_number_is_a_matrix() -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0]})
    columns = ColumnTransformer([("size", StandardScaler(), ["size"])])
    model = opened(make_pipeline(columns, LinearRegression()).fit(frame, [2.0, 4.0, 6.0]))
    assert [s.name for s in model.signature.inputs] == ["input"]
    assert ask(model, {"size": 5})["prediction"] == pytest.approx([10.0])


def test_an_encoder_may_be_the_first_step_of_a_pipeline() -> None:
    frame = pd.DataFrame({"town": ["Ulm", None, "Bonn"], "size": ["s", "m", "s"]})
    model = opened(make_pipeline(OneHotEncoder(), LinearRegression()).fit(frame, [1.0, 2.0, 3.0]))
    assert [(f.name, f.kind, f.optional) for f in model.signature.features] == [
        ("town", Kind.TEXT, True),
        ("size", Kind.TEXT, False),
    ]
    rows = ({"town": "Ulm", "size": "s"}, {"town": None, "size": "m"})
    assert ask(model, *rows)["prediction"] == pytest.approx([1.0, 2.0])


def test_texts_of_a_matrix_are_handed_on_as_a_matrix() -> None:
    matrix = np.array([["a", "x"], ["b", "y"], ["a", "y"]], dtype=object)
    model = opened(make_pipeline(OneHotEncoder(), LinearRegression()).fit(matrix, [1.0, 2.0, 3.0]))
    assert [f.name for f in model.signature.features] == ["x1", "x2"]
    assert ask(model, {"x1": "b", "x2": "y"})["prediction"] == pytest.approx([2.0])


def test_columns_of_a_matrix_may_be_encoded_too() -> None:
    columns = ColumnTransformer([("first", OneHotEncoder(), [0])], remainder="passthrough")
    model = opened(make_pipeline(columns, LinearRegression()).fit(X, CLASSES))
    assert [c.value for c in model.signature.features[0].choices] == [0.0, 1.0, 8.0, 9.0]
    assert len(ask(model, {"x1": 8, "x2": 0, "x3": 1})["prediction"]) == 1


def _lengths(frame: Any) -> Any:
    return frame.apply(lambda column: column.str.len())


def test_a_column_that_two_steps_see_keeps_what_each_of_them_knows() -> None:
    frame = pd.DataFrame({"word": ["a", "bb", "a", "bb"]})
    columns = ColumnTransformer(
        [
            ("known", OneHotEncoder(), ["word"]),
            ("length", FunctionTransformer(_lengths), ["word"]),
        ]
    )
    model = opened(make_pipeline(columns, LinearRegression()).fit(frame, [1.0, 2.0, 1.0, 2.0]))
    feature = model.signature.features[0]
    assert (feature.kind, [c.value for c in feature.choices]) == (Kind.TEXT, ["a", "bb"])
    assert ask(model, {"word": "bb"})["prediction"] == pytest.approx([2.0])


def test_a_column_may_be_called_like_the_matrix(people: pd.DataFrame) -> None:
    frame = people[["age", "job"]].rename(columns={"age": "input"}).fillna(0)
    columns = ColumnTransformer([("job", OneHotEncoder(), ["job"])], remainder="passthrough")
    model = opened(make_pipeline(columns, LinearRegression()).fit(frame, range(6)))
    assert [s.name for s in model.signature.inputs] == ["input", "job"]
    assert len(ask(model, {"input": 3, "job": "baker"})["prediction"]) == 1


def test_gradient_boosting_takes_missing_numbers() -> None:
    model = opened(HistGradientBoostingRegressor(max_iter=2).fit(X, CLASSES))
    assert all(f.optional for f in model.signature.features)
    assert len(ask(model, {"x1": None, "x2": 1, "x3": 2})["prediction"]) == 1


# Texts.


def test_a_pipeline_over_texts_takes_one_text_a_row() -> None:
    texts = ["good film", "great film", "bad film", "awful film"]
    model = opened(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, CLASSES))
    assert [(s.name, s.datatype, s.shape) for s in model.signature.inputs] == [
        ("text", Datatype.BYTES, (-1,))
    ]
    assert [(f.name, f.kind) for f in model.signature.features] == [("text", Kind.TEXT)]
    assert ask(model, {"text": "a great one"}, {"text": "awful"})["label"] == [0, 1]
    assert ask(model, {"text": "Ünknøwn ☃"})["label"]


def test_a_text_column_beside_others_is_vectorised() -> None:
    frame = pd.DataFrame({"text": ["good", "bad", "good", "bad"], "stars": [5.0, 1.0, 4.0, 2.0]})
    columns = ColumnTransformer(
        [("words", TfidfVectorizer(), "text"), ("stars", StandardScaler(), ["stars"])]
    )
    model = opened(make_pipeline(columns, LogisticRegression()).fit(frame, [1, 0, 1, 0]))
    assert [(f.name, f.kind) for f in model.signature.features] == [
        ("text", Kind.TEXT),
        ("stars", Kind.NUMBER),
    ]
    assert ask(model, {"text": "bad", "stars": 1})["label"] == [0]


# What a run costs.


def jobs_used(monkeypatch: pytest.MonkeyPatch, model: SklearnModel) -> list[int]:
    """Return with how many jobs joblib ran during an answer."""
    used: list[int] = []
    real = joblib.Parallel.__call__

    def call(self: Any, iterable: Any) -> Any:
        result = real(self, iterable)
        used.append(int(self._effective_n_jobs()))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(joblib.Parallel, "__call__", call)
        model.run({"input": X}, None)
    return used


def test_a_request_is_one_thread_whatever_the_model_was_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forest = RandomForestClassifier(4, n_jobs=2, random_state=0)
    for estimator in (
        forest,
        make_pipeline(StandardScaler(), forest),
        VotingClassifier([("forest", forest)], n_jobs=2),
        CalibratedClassifierCV(forest, cv=2, n_jobs=2),
    ):
        with joblib.parallel_config("threading"):
            estimator.fit(X, CLASSES)
        used = jobs_used(monkeypatch, opened(estimator))
        assert used, "the model never asked for jobs"
        assert set(used) == {1}, type(estimator).__name__


# What is refused.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model": 1}, "holds a dict; a fitted estimator is expected"),
        ([1, 2], "holds a list"),
        (LogisticRegression, "a fitted estimator is expected"),
        (DBSCAN().fit(X), "holds a DBSCAN"),
        (LogisticRegression(), "LogisticRegression is not fitted"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "Pipeline is not fitted"),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "not fitted"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value.split()[-1],
)
def test_what_is_no_fitted_estimator_is_refused(content: Any, reason: str) -> None:
    assert reason in refusal(content)


class Handmade:
    """Predicts, and is no estimator of scikit-learn's."""

    n_features_in_ = 2

    def predict(self, x: Any) -> Any:
        return x.sum(axis=1)


def test_what_only_looks_like_an_estimator_is_refused_with_a_reason() -> None:
    assert "Handmade" in refusal(Handmade())


@pytest.mark.parametrize("data", [b"", b"no pickle", dumped(LogisticRegression())[:-20]])
def test_a_corrupted_file_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("'model.joblib' cannot be opened: ")


def test_what_the_model_raises_otherwise_is_its_own_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = opened(LinearRegression().fit(X, CLASSES))

    def predict(_: Any) -> None:
        raise KeyError("/secret")

    monkeypatch.setattr(model._estimator, "predict", predict)
    with pytest.raises(ModelFailed) as caught:
        model.run({"input": X}, None)
    assert caught.value.message == "the model failed on this input"


# Files that execute code.


class Canary:
    """Leaves a file where it is opened."""

    def __init__(self, sign: Path) -> None:
        self._sign = sign

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._sign),)


@pytest.fixture
def canary(tmp_path: Path) -> tuple[Path, Path]:
    """A pickle, and what stands there once it was opened."""
    artefact, sign = tmp_path / "model.joblib", tmp_path / "opened"
    artefact.write_bytes(pickle.dumps(Canary(sign)))
    return artefact, sign


def test_a_pickle_is_not_opened_unless_it_was_allowed(
    canary: tuple[Path, Path], tmp_path: Path
) -> None:
    artefact, sign = canary
    allowance = Allowance(tmp_path / "allowed.json")
    with pytest.raises(ArtefactNotAllowed, match=r"portico models allow PATH"):
        open_runtime(artefact, 1, allowance)
    assert not sign.exists()
    allowance.allow(artefact)
    with pytest.raises(ArtefactError, match="holds a NoneType"):
        open_runtime(artefact, 1, allowance)
    assert sign.exists(), "the canary does not sing, so the test proves nothing"


def test_an_allowed_file_is_not_opened_once_its_content_changed(
    canary: tuple[Path, Path], tmp_path: Path
) -> None:
    artefact, sign = canary
    evil = artefact.read_bytes()
    artefact.write_bytes(dumped(LinearRegression().fit(X, CLASSES)))
    allowance = Allowance(tmp_path / "allowed.json")
    allowance.allow(artefact)
    assert open_runtime(artefact, 1, allowance).platform == "sklearn_joblib"
    artefact.write_bytes(evil)
    with pytest.raises(ArtefactNotAllowed):
        open_runtime(artefact, 1, allowance)
    assert not sign.exists()


def test_files_of_other_frameworks_are_told_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"\.onnx, \.joblib"):
        open_runtime(tmp_path / "model.h5", 1, Allowance(tmp_path / "allowed.json"))


HOUSES = pd.DataFrame(
    {
        "town": ["Ulm", "Bonn"] * 10,
        "garden": [True, False, False, True] * 5,
        "rooms": [float(n) for n in range(20)],
        "advert": ["bright and quiet", "near the station"] * 10,
    }
)


def _house_steps(estimator: Any) -> Any:
    columns = ColumnTransformer(
        [("kinds", OneHotEncoder(), ["town", "garden"]), ("rooms", StandardScaler(), ["rooms"])]
    )
    return make_pipeline(columns, estimator)


@pytest.mark.parametrize(
    "model",
    [
        GridSearchCV(_house_steps(LogisticRegression()), {"logisticregression__C": [1, 2]}, cv=2),
        CalibratedClassifierCV(_house_steps(LogisticRegression()), cv=2),
        VotingClassifier([("one", _house_steps(LogisticRegression()))]),
        TransformedTargetRegressor(_house_steps(LinearRegression())),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_wraps_a_pipeline_is_asked_as_the_pipeline_is(model: Any) -> None:
    served = opened(model.fit(HOUSES, [0, 1] * 10))
    kinds = {f.name: f.kind for f in served.signature.features}
    assert kinds == {"town": Kind.TEXT, "garden": Kind.BOOLEAN, "rooms": Kind.NUMBER}
    rows = [{"town": "Ulm", "garden": True, "rooms": 3}]
    answer = served.run(tensors_from_rows(served.signature, rows), None)
    wanted = model.predict(HOUSES.head(1).assign(garden=True, rooms=3.0))
    assert next(iter(answer.values())).tolist() == pytest.approx(wanted.tolist())


def test_an_empty_text_is_a_text_for_what_reads_texts() -> None:
    columns = ColumnTransformer([("advert", TfidfVectorizer(), "advert")])
    served = opened(make_pipeline(columns, LogisticRegression()).fit(HOUSES, [0, 1] * 10))
    tensors = tensors_from_rows(served.signature, [{"advert": ""}])
    assert served.run(tensors, None)["label"].shape == (1,)
