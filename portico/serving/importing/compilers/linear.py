"""Linear models, discriminants, naive Bayes, networks and others that are a product of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import linear_model, naive_bayes
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVC, LinearSVR

from portico.serving.importing.compilers.arithmetic import (
    expit,
    finite,
    interpolated,
    normalized,
    positive,
    softmax,
    two_sided,
)
from portico.serving.importing.compilers.dispatch import Classes, classifier, predict, predictor
from portico.serving.importing.compilers.graph import DOUBLE
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.importing.compilers.tables import Table
    from portico.serving.tensors import Array


def affine(graph: Graph, value: Value, weights: Array, offset: Any) -> Value:
    """Return ``value @ weights + offset`` in double."""
    product = graph.matmul(value, np.asarray(weights, dtype=np.float64))
    return graph.add("Add", product, np.asarray(offset, dtype=np.float64))


@predictor(
    linear_model.ARDRegression,
    linear_model.BayesianRidge,
    linear_model.ElasticNet,
    linear_model.ElasticNetCV,
    linear_model.HuberRegressor,
    linear_model.Lars,
    linear_model.LarsCV,
    linear_model.Lasso,
    linear_model.LassoCV,
    linear_model.LassoLars,
    linear_model.LassoLarsCV,
    linear_model.LassoLarsIC,
    linear_model.LinearRegression,
    linear_model.MultiTaskElasticNet,
    linear_model.MultiTaskElasticNetCV,
    linear_model.MultiTaskLasso,
    linear_model.MultiTaskLassoCV,
    linear_model.OrthogonalMatchingPursuit,
    linear_model.OrthogonalMatchingPursuitCV,
    linear_model.QuantileRegressor,
    linear_model.Ridge,
    linear_model.RidgeCV,
    linear_model.SGDRegressor,
    linear_model.TheilSenRegressor,
    LinearSVR,
)
def _linear(graph: Graph, model: Any, table: Table) -> Value:
    return affine(graph, finite(graph, table), model.coef_.T, model.intercept_)


@predictor(
    linear_model.GammaRegressor, linear_model.PoissonRegressor, linear_model.TweedieRegressor
)
def _generalised(graph: Graph, model: Any, table: Table) -> Value:
    raw = _linear(graph, model, table)
    link = type(model._base_loss.link).__name__
    if link == "IdentityLink":
        return raw
    if link == "LogLink":
        return graph.add("Exp", raw)
    raise CannotCompile(f"there is no compiler for the link {link}")


@predictor(linear_model.RANSACRegressor)
def _ransac(graph: Graph, model: Any, table: Table) -> Value:
    return predict(graph, model.estimator_, table)


@predictor(PLSRegression, PLSCanonical, CCA)
def _least_squares(graph: Graph, model: Any, table: Table) -> Value:
    centred = graph.add("Sub", finite(graph, table), model._x_mean)
    value = affine(graph, centred, model.coef_.T, model.intercept_)
    return graph.reshape(value, -1) if model._predict_1d else value


@predictor(IsotonicRegression)
def _isotonic(graph: Graph, model: IsotonicRegression, table: Table) -> Value:
    return isotonic(graph, model, graph.reshape(finite(graph, table), -1))


def isotonic(graph: Graph, model: IsotonicRegression, value: Value) -> Value:
    """Return the isotonic function of a vector."""
    places, levels = model.X_thresholds_, model.y_thresholds_
    made = interpolated(graph, value, places, levels)
    if model.out_of_bounds == "clip":
        return made
    beyond = graph.add(
        "Or",
        graph.add("Less", value, float(places[0])),
        graph.add("Greater", value, float(places[-1])),
    )
    if model.out_of_bounds == "nan":
        return graph.add("Where", beyond, np.nan, made)
    return graph.refuse_where(beyond, "a number lies beyond the range of the training", made)


@predictor(DummyRegressor)
def _dummy(graph: Graph, model: DummyRegressor, table: Table) -> Value:
    constant = np.ravel(model.constant_).astype(np.float64)
    value = graph.add("Add", _zero_column(graph, table), constant)
    return graph.reshape(value, -1) if model.n_outputs_ == 1 else value


@classifier(DummyClassifier)
def _dummy_classifier(graph: Graph, model: DummyClassifier, table: Table) -> Classes:
    if model.strategy not in ("prior", "most_frequent", "constant") or model.n_outputs_ > 1:
        raise CannotCompile("a DummyClassifier that guesses at random gives no answer twice")
    if model.strategy == "constant":
        prior = (model.classes_ == model.constant).astype(np.float64)
    else:
        prior = np.asarray(model.class_prior_)
    hot = np.eye(len(prior))[prior.argmax()]
    value = prior if model.strategy == "prior" else hot
    probabilities = graph.add("Add", _zero_column(graph, table), value)
    return Classes(graph.argmax(probabilities), probabilities)


def _zero_column(graph: Graph, table: Table) -> Value:
    """Return zeros for each row, whatever the rows hold."""
    value = graph.columns(table.numbers(graph), [0])
    return graph.cast(graph.add("Less", value, -np.inf), DOUBLE)


def decided(graph: Graph, scores: Value, width: int) -> Value:
    """Return the classes that scores speak for: ``[rows, 1]`` of two, or ``[rows, classes]``."""
    return positive(graph, scores) if width == 1 else graph.argmax(scores)


@classifier(
    LinearSVC,
    linear_model.Perceptron,
    linear_model.RidgeClassifier,
    linear_model.RidgeClassifierCV,
)
def _linear_classifier(graph: Graph, model: Any, table: Table) -> Classes:
    chosen, scores = _chosen_by_line(graph, model, table)
    return Classes(chosen, None, scores)


def _chosen_by_line(graph: Graph, model: Any, table: Table) -> tuple[Value, Value]:
    """Return the chosen places and the scores, ``[rows, 1]`` for two classes."""
    if model.classes_.ndim != 1 or not isinstance(model.classes_, np.ndarray):
        raise CannotCompile("a linear classifier of several labels has no compiler")
    weights = np.atleast_2d(model.coef_)
    scores = affine(graph, finite(graph, table), weights.T, np.ravel(model.intercept_))
    return decided(graph, scores, len(weights)), scores


@classifier(linear_model.LogisticRegression, linear_model.LogisticRegressionCV)
def _logistic(graph: Graph, model: Any, table: Table) -> Classes:
    chosen, scores = _chosen_by_line(graph, model, table)
    if len(model.classes_) <= 2:
        return Classes(chosen, two_sided(graph, expit(graph, scores)), scores)
    return Classes(chosen, softmax(graph, scores), scores)


@classifier(LinearDiscriminantAnalysis)
def _discriminant(graph: Graph, model: Any, table: Table) -> Classes:
    return _logistic(graph, model, table)


@classifier(linear_model.SGDClassifier)
def _descent(graph: Graph, model: Any, table: Table) -> Classes:
    chosen, scores = _chosen_by_line(graph, model, table)
    if model.loss == "log_loss":
        likely = expit(graph, scores)
    elif model.loss == "modified_huber":
        clipped = graph.add("Clip", scores, -1.0, 1.0)
        likely = graph.add("Div", graph.add("Add", clipped, 1.0), 2.0)
    else:
        return Classes(chosen, None, scores)
    if len(model.classes_) == 2:
        return Classes(chosen, two_sided(graph, likely), scores)
    return Classes(chosen, normalized(graph, likely), scores)


@classifier(QuadraticDiscriminantAnalysis)
def _quadratic(graph: Graph, model: Any, table: Table) -> Classes:
    value = finite(graph, table)
    norms = []
    for mean, scaling, rotation in zip(
        model.means_, model.scalings_, model.rotations_, strict=True
    ):
        centred = graph.add("Sub", value, mean)
        turned = graph.matmul(centred, rotation * scaling**-0.5)
        norms.append(graph.sum(graph.add("Mul", turned, turned), keep=True))
    logs = np.array([np.log(scaling).sum() for scaling in model.scalings_])
    spread = graph.add("Mul", graph.add("Add", graph.concat(norms), logs), -0.5)
    return _from_logs(graph, graph.add("Add", spread, np.log(model.priors_)))


def _from_logs(graph: Graph, logs: Value) -> Classes:
    return Classes(graph.argmax(logs), softmax(graph, logs))


@classifier(naive_bayes.GaussianNB)
def _gaussian(graph: Graph, model: Any, table: Table) -> Classes:
    value = finite(graph, table)
    norms = []
    for mean, variance in zip(model.theta_, model.var_, strict=True):
        apart = graph.add("Sub", value, mean)
        squares = graph.add("Div", graph.add("Mul", apart, apart), variance)
        norms.append(graph.sum(squares, keep=True))
    constant = np.log(model.class_prior_) - 0.5 * np.log(2 * np.pi * model.var_).sum(axis=1)
    half = graph.add("Mul", graph.concat(norms), 0.5)
    return _from_logs(graph, graph.add("Sub", constant, half))


@classifier(naive_bayes.MultinomialNB, naive_bayes.ComplementNB, naive_bayes.BernoulliNB)
def _bayes(graph: Graph, model: Any, table: Table) -> Classes:
    value = finite(graph, table)
    weights, offset = model.feature_log_prob_, model.class_log_prior_
    if isinstance(model, naive_bayes.BernoulliNB):
        if model.binarize is not None:
            value = graph.cast(graph.add("Greater", value, float(model.binarize)), DOUBLE)
        absent = np.log(1 - np.exp(weights))
        weights, offset = weights - absent, offset + absent.sum(axis=1)
    else:
        value = _not_negative(graph, value, type(model).__name__)
        if isinstance(model, naive_bayes.ComplementNB) and len(model.classes_) > 1:
            offset = np.zeros(len(weights))
    return _from_logs(graph, affine(graph, value, weights.T, offset))


def _not_negative(graph: Graph, value: Value, who: str) -> Value:
    """Refuse negative numbers where scikit-learn does."""
    if who != "MultinomialNB":
        return value
    negative = graph.add("Less", value, 0.0)
    return graph.refuse_where(negative, "a number is negative, which counts never are", value)


def _network(graph: Graph, model: Any, table: Table) -> Value:
    value = finite(graph, table)
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    for number, (weights, offset) in enumerate(layers, start=1):
        value = affine(graph, value, weights, offset)
        kind = model.activation if number < len(layers) else model.out_activation_
        if kind == "softmax":
            value = softmax(graph, value)
        elif kind == "logistic":
            value = expit(graph, value)
        elif kind != "identity":
            value = graph.add({"relu": "Relu", "tanh": "Tanh"}[kind], value)
    return value


@predictor(MLPRegressor)
def _network_regressor(graph: Graph, model: Any, table: Table) -> Value:
    value = _network(graph, model, table)
    return graph.reshape(value, -1) if model.n_outputs_ == 1 else value


@classifier(MLPClassifier)
def _network_classifier(graph: Graph, model: Any, table: Table) -> Classes:
    if model._label_binarizer.y_type_ not in ("binary", "multiclass"):
        raise CannotCompile("a network for several labels has no compiler")
    value = _network(graph, model, table)
    if model.n_outputs_ == 1:
        return Classes(positive(graph, value, 0.5), two_sided(graph, value))
    return Classes(graph.argmax(value), value)


@predictor(GaussianMixture, BayesianGaussianMixture)
def _mixture(graph: Graph, model: Any, table: Table) -> Value:
    value = finite(graph, table)
    # At its own mean, nothing but its constant is left of a component.
    constant = np.diag(model._estimate_weighted_log_prob(model.means_))
    norms = []
    for mean, precision in zip(model.means_, _precisions(model), strict=True):
        turned = affine(graph, value, precision, -(mean @ precision))
        norms.append(graph.sum(graph.add("Mul", turned, turned), keep=True))
    likely = graph.add("Sub", constant, graph.add("Mul", graph.concat(norms), 0.5))
    return graph.argmax(likely)


def _precisions(model: Any) -> list[Array]:
    """Return the Cholesky factor of each component's precision as a matrix."""
    factors, count = model.precisions_cholesky_, len(model.means_)
    eye = np.eye(model.n_features_in_)
    match model.covariance_type:
        case "full":
            return list(factors)
        case "tied":
            return [factors] * count
        case "diag":
            return [np.diag(factor) for factor in factors]
        case _:
            return [factor * eye for factor in factors]


@predictor(KMeans, MiniBatchKMeans)
def _nearest_centre(graph: Graph, model: Any, table: Table) -> Value:
    centres = model.cluster_centers_.astype(np.float64)
    offset = (centres**2).sum(axis=1)
    apart = affine(graph, finite(graph, table), -2 * centres.T, offset)
    return graph.add("ArgMin", apart, axis=1, keepdims=0)
