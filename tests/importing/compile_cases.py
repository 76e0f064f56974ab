"""Fitted models for the table of what compiles: estimators, pipelines, and the rows to try them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline, make_union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(240, 5)) * [1, 10, 0.1, 3, 1] + [0, 50, 0, -3, 1]
CLASSES = ((X[:, 0] + X[:, 3] + X[:, 1] / 10) > 2).astype(int) + (X[:, 4] > 1.6)
TWO = np.where(CLASSES > 0, "yes", "no")
VALUE = 3 * X[:, 0] - X[:, 1] / 5 + X[:, 3] ** 2 + 20
HOLED = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)

FRAME = pd.DataFrame(
    {
        "age": HOLED[:, 0] * 15 + 40,
        "fare": np.abs(HOLED[:, 1]),
        "port": RANDOM.choice(["S", "C", "Q", None], size=240, p=[0.6, 0.2, 0.1, 0.1]),
        "deck": RANDOM.choice(["low", "mid", "high"], size=240),
        "rank": RANDOM.integers(1, 4, size=240),
        "alone": RANDOM.random(240) < 0.5,
    }
)
SURVIVED = ((FRAME["deck"] == "high") | (FRAME["alone"] & (X[:, 0] > 0))).astype(int).to_numpy()

_SUBJECTS = ("the parcel", "my order", "Your shop", "the driver", "Customer Service", "it")
_VERDICTS = ("was great", "is broken", "never came", "arrived early", "did NOT work", "is fine")
_ENDS = ("thanks!", "refund, please.", "again?", "I'm happy - 5 stars", "terrible 1/5", "")
TEXTS = np.array(
    [
        f"{RANDOM.choice(_SUBJECTS)} {RANDOM.choice(_VERDICTS)}; {RANDOM.choice(_ENDS)}"
        for _ in range(160)
    ],
    dtype=object,
)
MOOD = np.array([int(any(w in t for w in ("broken", "never", "NOT", "terr"))) for t in TEXTS])


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: as the table says it.
        fit: returns the fitted model.
        rows: examples, as the model was trained on.
    """

    name: str
    fit: Callable[[], Any]
    rows: Any


def _fitted(model: Any, rows: Any, target: Any = None) -> Case:
    return Case(type(model).__name__, lambda: model.fit(rows, target), rows)


def classifiers() -> Iterator[Case]:
    """Yield classifiers of two named or three numbered classes."""
    for model in (
        linear_model.LogisticRegression(max_iter=2000),
        linear_model.SGDClassifier(loss="log_loss", random_state=0),
        linear_model.RidgeClassifier(),
        linear_model.Perceptron(random_state=0),
        discriminant_analysis.LinearDiscriminantAnalysis(),
        discriminant_analysis.QuadraticDiscriminantAnalysis(),
        naive_bayes.GaussianNB(),
        naive_bayes.BernoulliNB(),
        tree.DecisionTreeClassifier(random_state=0),
        tree.ExtraTreeClassifier(random_state=0),
        ensemble.RandomForestClassifier(40, random_state=0),
        ensemble.ExtraTreesClassifier(40, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
        ensemble.AdaBoostClassifier(n_estimators=10, random_state=0),
        ensemble.BaggingClassifier(n_estimators=5, max_features=0.8, random_state=0),
        svm.LinearSVC(random_state=0),
        svm.SVC(),
        neighbors.KNeighborsClassifier(),
        neighbors.NearestCentroid(),
        neural_network.MLPClassifier((8,), max_iter=60, random_state=0),
        gaussian_process.GaussianProcessClassifier(),
        multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=2000)),
        multiclass.OneVsOneClassifier(svm.LinearSVC(random_state=0)),
        multioutput.ClassifierChain(linear_model.LogisticRegression(max_iter=2000)),
        model_selection.FixedThresholdClassifier(
            linear_model.LogisticRegression(max_iter=2000), threshold=0.3
        ),
    ):
        if isinstance(model, multioutput.ClassifierChain):
            target: Any = np.column_stack([CLASSES > 0, CLASSES > 1]).astype(int)
        elif isinstance(model, model_selection.FixedThresholdClassifier | svm.SVC):
            target = (CLASSES > 0).astype(int)
        elif isinstance(model, linear_model.RidgeClassifier | ensemble.AdaBoostClassifier):
            target = TWO
        else:
            target = CLASSES
        yield _fitted(model, X, target)


def regressors() -> Iterator[Case]:
    """Yield regressors."""
    for model in (
        linear_model.LinearRegression(),
        linear_model.Ridge(),
        linear_model.Lasso(),
        linear_model.ElasticNet(),
        linear_model.HuberRegressor(max_iter=2000),
        linear_model.BayesianRidge(),
        linear_model.PoissonRegressor(max_iter=2000),
        cross_decomposition.PLSRegression(),
        svm.SVR(),
        neighbors.KNeighborsRegressor(),
        neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0),
        gaussian_process.GaussianProcessRegressor(alpha=0.1),
        tree.DecisionTreeRegressor(random_state=0),
        ensemble.RandomForestRegressor(40, random_state=0),
        ensemble.ExtraTreesRegressor(40, random_state=0),
        ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
        ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=0),
        ensemble.AdaBoostRegressor(n_estimators=10, random_state=0),
        ensemble.BaggingRegressor(n_estimators=5, random_state=0),
        compose.TransformedTargetRegressor(
            linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1
        ),
        multioutput.MultiOutputRegressor(linear_model.Ridge()),
    ):
        is_multiple = isinstance(model, multioutput.MultiOutputRegressor)
        yield _fitted(model, X, np.column_stack([VALUE, -VALUE]) if is_multiple else np.abs(VALUE))


def others() -> Iterator[Case]:
    """Yield clusters, outlier detectors and transformers."""
    yield _fitted(cluster.KMeans(4, n_init=1, random_state=0), X)
    yield _fitted(mixture.GaussianMixture(3, random_state=0), X)
    yield _fitted(ensemble.IsolationForest(n_estimators=20, random_state=0), X)
    yield _fitted(svm.OneClassSVM(), X)
    yield _fitted(decomposition.PCA(3), X)
    yield _fitted(preprocessing.QuantileTransformer(n_quantiles=50), X)


def _numbers() -> Any:
    return make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())


def _texts() -> Any:
    return make_pipeline(
        impute.SimpleImputer(strategy="most_frequent"),
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
    )


def _columns() -> Any:
    return compose.ColumnTransformer(
        [
            ("numbers", _numbers(), ["age", "fare"]),
            ("port", _texts(), ["port"]),
            (
                "deck",
                preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                ["deck"],
            ),
        ],
        remainder="passthrough",
    )


def pipelines() -> Iterator[Case]:
    """Yield pipelines of several shapes."""
    for name, model, rows, target in (
        (
            "scaler → logistic regression",
            make_pipeline(
                preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000)
            ),
            X,
            CLASSES,
        ),
        (
            "imputer with indicator → power transformer → random forest",
            make_pipeline(
                impute.SimpleImputer(add_indicator=True),
                preprocessing.PowerTransformer(),
                ensemble.RandomForestClassifier(40, random_state=0),
            ),
            HOLED,
            CLASSES,
        ),
        (
            "polynomial features → selection → ridge",
            make_pipeline(
                preprocessing.PolynomialFeatures(2),
                feature_selection.SelectKBest(k=8),
                linear_model.Ridge(),
            ),
            X,
            CLASSES,
        ),
        (
            "union of PCA and bins → gradient boosting",
            make_pipeline(
                make_union(
                    decomposition.PCA(2),
                    preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
                ),
                ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
            ),
            X,
            CLASSES,
        ),
        (
            "data frame: imputers, scaler, one-hot, ordinal → random forest",
            make_pipeline(_columns(), ensemble.RandomForestClassifier(40, random_state=0)),
            FRAME,
            SURVIVED,
        ),
        (
            "data frame: imputers, scaler, one-hot, ordinal → logistic regression",
            make_pipeline(_columns(), linear_model.LogisticRegression(max_iter=2000)),
            FRAME,
            SURVIVED,
        ),
        (
            "data frame: one-hot that refuses unknown categories → SVC",
            make_pipeline(
                compose.ColumnTransformer(
                    [
                        ("deck", preprocessing.OneHotEncoder(drop="first"), ["deck", "rank"]),
                        ("numbers", _numbers(), ["age"]),
                    ]
                ),
                svm.SVC(),
            ),
            FRAME,
            SURVIVED,
        ),
        (
            "data frame: infrequent and target encoding → histogram gradient boosting",
            make_pipeline(
                compose.ColumnTransformer(
                    [
                        (
                            "rare",
                            preprocessing.OneHotEncoder(
                                min_frequency=30,
                                handle_unknown="infrequent_if_exist",
                                sparse_output=False,
                            ),
                            ["port"],
                        ),
                        ("target", preprocessing.TargetEncoder(random_state=0), ["deck"]),
                    ],
                    remainder="passthrough",
                ),
                ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=0),
            ),
            FRAME,
            SURVIVED,
        ),
        (
            "data frame: ordinal → histogram gradient boosting with categories",
            make_pipeline(
                compose.ColumnTransformer(
                    [
                        (
                            "texts",
                            preprocessing.OrdinalEncoder(
                                handle_unknown="use_encoded_value", unknown_value=np.nan
                            ),
                            ["port", "deck"],
                        ),
                        ("numbers", "passthrough", ["age", "fare", "rank"]),
                    ],
                ),
                ensemble.HistGradientBoostingClassifier(
                    max_iter=20, categorical_features=[0, 1], random_state=0
                ),
            ),
            FRAME,
            SURVIVED,
        ),
        (
            "TF-IDF → logistic regression",
            make_pipeline(
                feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression()
            ),
            TEXTS,
            MOOD,
        ),
        (
            "counts of one and two words without stop words → naive Bayes",
            make_pipeline(
                feature_extraction.text.CountVectorizer(ngram_range=(1, 2), stop_words="english"),
                naive_bayes.MultinomialNB(),
            ),
            TEXTS,
            MOOD,
        ),
        (
            "data frame: TF-IDF of a column beside numbers → linear SVC",
            make_pipeline(
                compose.ColumnTransformer(
                    [
                        (
                            "review",
                            feature_extraction.text.TfidfVectorizer(sublinear_tf=True),
                            "review",
                        ),
                        ("numbers", _numbers(), ["age"]),
                    ]
                ),
                svm.LinearSVC(),
            ),
            pd.DataFrame({"review": TEXTS, "age": HOLED[:160, 0]}),
            MOOD,
        ),
        (
            "scaler → XGBClassifier",
            make_pipeline(preprocessing.StandardScaler(), xgboost.XGBClassifier(n_estimators=10)),
            HOLED,
            CLASSES,
        ),
        (
            "data frame: imputers, scaler, one-hot, ordinal → LGBMClassifier",
            make_pipeline(_columns(), lightgbm.LGBMClassifier(n_estimators=10, verbosity=-1)),
            FRAME,
            SURVIVED,
        ),
        (
            "scaler → calibrated linear SVC",
            make_pipeline(
                preprocessing.StandardScaler(),
                calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3),
            ),
            X,
            CLASSES,
        ),
        (
            "random forest, calibrated with isotonic curves",
            calibration.CalibratedClassifierCV(
                ensemble.RandomForestClassifier(10, random_state=0), cv=3, method="isotonic"
            ),
            X,
            CLASSES,
        ),
        (
            "vote of forest, logistic regression and naive Bayes",
            ensemble.VotingClassifier(
                [
                    ("forest", ensemble.RandomForestClassifier(20, random_state=0)),
                    ("line", linear_model.LogisticRegression(max_iter=2000)),
                    ("bayes", naive_bayes.GaussianNB()),
                ],
                voting="soft",
            ),
            X,
            CLASSES,
        ),
        (
            "stack of forest and scaled SVC under logistic regression",
            ensemble.StackingClassifier(
                [
                    ("forest", ensemble.RandomForestClassifier(20, random_state=0)),
                    ("svc", make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC())),
                ],
                cv=3,
            ),
            X,
            CLASSES,
        ),
        (
            "grid search over a scaled forest",
            model_selection.GridSearchCV(
                make_pipeline(
                    preprocessing.MinMaxScaler(),
                    ensemble.RandomForestClassifier(10, random_state=0),
                ),
                {"randomforestclassifier__max_depth": [3, 5]},
                cv=2,
            ),
            X,
            CLASSES,
        ),
        (
            "a function of one's own → ridge",
            make_pipeline(preprocessing.FunctionTransformer(np.cbrt), linear_model.Ridge()),
            X,
            VALUE,
        ),
    ):
        yield Case(
            name, lambda model=model, rows=rows, target=target: model.fit(rows, target), rows
        )


SECTIONS: dict[str, Callable[[], Iterator[Case]]] = {
    "Classifiers": classifiers,
    "Regressors": regressors,
    "Clusters, outliers, transformers": others,
    "Pipelines and estimators of estimators": pipelines,
}
