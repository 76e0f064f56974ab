"""Estimators made of estimators: votes, stacks, bags, calibration, one against the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, RFECV
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from portico.serving.importing.compilers.arithmetic import (
    expit,
    in_order,
    normalized,
    one_hot,
    positive,
    softmax,
    two_sided,
)
from portico.serving.importing.compilers.dispatch import (
    Classes,
    classifier,
    classify,
    predict,
    predictor,
)
from portico.serving.importing.compilers.graph import DOUBLE, INT64
from portico.serving.importing.compilers.linear import isotonic
from portico.serving.importing.compilers.scaling import function, selected
from portico.serving.importing.compilers.tables import Table, numbers, side_by_side
from portico.serving.importing.compilers.trees import added_up, leaf_values, single
from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.importing.compilers.graph import Graph, Value
    from portico.serving.tensors import Array


def probabilities_of(graph: Graph, estimator: Any, table: Table) -> Value:
    """Compile ``predict_proba``.

    Raises:
        CannotCompile: the compiled classifier has no probabilities.
    """
    made = classify(graph, estimator, table).probabilities
    if made is None:
        raise CannotCompile(f"the probabilities of {type(estimator).__name__} have no compiler")
    return made


def score_of(graph: Graph, estimator: Any, table: Table) -> Value:
    """Compile ``decision_function``, as a matrix.

    Raises:
        CannotCompile: the compiled classifier has no scores.
    """
    made = classify(graph, estimator, table).scores
    if made is None:
        raise CannotCompile(f"the scores of {type(estimator).__name__} have no compiler")
    return made


def _column(graph: Graph, vector: Value) -> Value:
    return graph.reshape(vector, -1, 1)


def _average(graph: Graph, values: Sequence[Value], weights: Sequence[float] | None) -> Value:
    """Return the weighted mean of values of one shape."""
    if weights is None:
        return graph.add("Div", in_order(graph, values), float(len(values)))
    weighted = [graph.add("Mul", v, float(w)) for v, w in zip(values, weights, strict=True)]
    return graph.add("Div", in_order(graph, weighted), float(np.sum(weights)))


@classifier(VotingClassifier)
def _vote(graph: Graph, model: VotingClassifier, table: Table) -> Classes:
    if isinstance(model.classes_, list):
        raise CannotCompile("a vote on several labels has no compiler")
    weights = model._weights_not_none
    if model.voting == "soft":
        mean = _average(
            graph, [probabilities_of(graph, e, table) for e in model.estimators_], weights
        )
        return Classes(graph.argmax(mean), mean)
    # The members were trained on the classes' places.
    hot = [
        one_hot(graph, _renumbered(graph, e, table), len(model.classes_)) for e in model.estimators_
    ]
    return Classes(graph.argmax(_average(graph, hot, weights)))


def _renumbered(graph: Graph, estimator: Any, table: Table) -> Value:
    """Return the places that a member chose, which are its class values."""
    chosen = classify(graph, estimator, table).chosen
    return graph.add("Gather", np.asarray(estimator.classes_, dtype=np.int64), chosen)


@predictor(VotingRegressor)
def _mean_vote(graph: Graph, model: VotingRegressor, table: Table) -> Value:
    answers = [predict(graph, each, table) for each in model.estimators_]
    return _average(graph, answers, model._weights_not_none)


@classifier(StackingClassifier)
def _stack(graph: Graph, model: StackingClassifier, table: Table) -> Classes:
    return classify(graph, model.final_estimator_, _stacked(graph, model, table))


@predictor(StackingRegressor)
def _stack_regressor(graph: Graph, model: StackingRegressor, table: Table) -> Value:
    return predict(graph, model.final_estimator_, _stacked(graph, model, table))


def _stacked(graph: Graph, model: Any, table: Table) -> Table:
    answers = []
    for estimator, method in zip(model.estimators_, model.stack_method_, strict=True):
        classes = len(getattr(estimator, "classes_", ()))
        if method == "predict_proba":
            value = probabilities_of(graph, estimator, table)
            kept = [1] if classes == 2 else list(range(classes))
            answers.append(numbers(graph.columns(value, kept), len(kept)))
        elif method == "decision_function":
            width = 1 if classes == 2 else classes
            answers.append(numbers(score_of(graph, estimator, table), width))
        elif is_regressor(estimator):
            answers.append(numbers(_column(graph, predict(graph, estimator, table)), 1))
        else:
            chosen = _renumbered(graph, estimator, table)
            answers.append(numbers(_column(graph, graph.cast(chosen, DOUBLE)), 1))
    return side_by_side([*answers, table] if model.passthrough else answers)


@classifier(BaggingClassifier)
def _bag(graph: Graph, model: BaggingClassifier, table: Table) -> Classes:
    count, classes = len(model.estimators_), len(model.classes_)
    if _are_whole_trees(model, DecisionTreeClassifier):
        trees = [each.tree_ for each in model.estimators_]
        total = added_up(graph, leaf_values(graph, trees, single(graph, table)), count)
    else:
        total = in_order(graph, [_bagged(graph, *m, table, classes) for m in _members(model)])
    mean = graph.add("Div", total, float(model.n_estimators))
    return Classes(graph.argmax(mean), mean)


def _bagged(graph: Graph, estimator: Any, picked: Sequence[int], table: Table, count: int) -> Value:
    answer = classify(graph, estimator, table.pick(graph, picked))
    seen = np.asarray(estimator.classes_, dtype=np.int64)
    own = answer.probabilities if hasattr(estimator, "predict_proba") else None
    if own is None:
        own = one_hot(graph, answer.chosen, len(seen))
    return own if len(seen) == count else graph.matmul(own, np.eye(count)[seen])


def _are_whole_trees(model: Any, kind: type) -> bool:
    """Tell whether all members are trees that see all columns and all classes."""
    return all(
        type(each) is kind
        and len(picked) == model.n_features_in_
        and np.array_equal(picked, np.arange(model.n_features_in_))
        and len(getattr(each, "classes_", ())) == len(getattr(model, "classes_", ()))
        for each, picked in _members(model)
    )


def _members(model: Any) -> list[tuple[Any, list[int]]]:
    return [
        (each, [int(i) for i in picked])
        for each, picked in zip(model.estimators_, model.estimators_features_, strict=True)
    ]


@predictor(BaggingRegressor)
def _bag_regressor(graph: Graph, model: BaggingRegressor, table: Table) -> Value:
    if _are_whole_trees(model, DecisionTreeRegressor):
        trees = [each.tree_ for each in model.estimators_]
        leaves = leaf_values(graph, trees, single(graph, table))
        total = graph.reshape(added_up(graph, leaves, len(trees)), -1)
    else:
        total = in_order(
            graph, [predict(graph, e, table.pick(graph, picked)) for e, picked in _members(model)]
        )
    return graph.add("Div", total, float(model.n_estimators))


@classifier(CalibratedClassifierCV)
def _calibrated(graph: Graph, model: CalibratedClassifierCV, table: Table) -> Classes:
    members = [_calibrated_one(graph, each, table) for each in model.calibrated_classifiers_]
    mean = _average(graph, members, None)
    return Classes(graph.argmax(mean), mean)


def _calibrated_one(graph: Graph, model: Any, table: Table) -> Value:
    classes = len(model.classes)
    has_scores = hasattr(model.estimator, "decision_function")
    if not np.array_equal(model.estimator.classes_, model.classes):
        raise CannotCompile("a calibrated member saw only some of the classes")
    scores = (score_of if has_scores else probabilities_of)(graph, model.estimator, table)
    if model.method == "temperature":
        return _tempered(graph, model, scores, has_scores=has_scores)
    if classes == 2 and not has_scores:
        scores = graph.columns(scores, [1])
    curves = [
        _curve(graph, calibrator, graph.columns(scores, place))
        for place, calibrator in enumerate(model.calibrators)
    ]
    made = graph.concat([_column(graph, curve) for curve in curves])
    return two_sided(graph, made) if classes == 2 else normalized(graph, made)


def _curve(graph: Graph, calibrator: Any, score: Value) -> Value:
    if hasattr(calibrator, "a_"):
        line = graph.add("Add", graph.add("Mul", score, float(calibrator.a_)), float(calibrator.b_))
        return expit(graph, graph.add("Neg", line))
    return isotonic(graph, calibrator, score)


def _tempered(graph: Graph, model: Any, scores: Value, *, has_scores: bool) -> Value:
    beta = float(model.calibrators[0].beta_)
    if not has_scores:
        scores = graph.add("Log", graph.add("Add", scores, 1e-12))
    elif len(model.classes) == 2:
        scores = graph.concat([graph.add("Neg", scores), scores])
    return softmax(graph, graph.add("Mul", scores, beta))


@classifier(OneVsRestClassifier)
def _one_against_rest(graph: Graph, model: OneVsRestClassifier, table: Table) -> Classes:
    if model.multilabel_:
        raise CannotCompile("one against the rest on several labels has no compiler")
    members = [classify(graph, each, table) for each in model.estimators_]
    raw = [m.scores or _second(graph, m) for m in members]
    scores = graph.concat(raw)
    if any(m.probabilities is None for m in members):
        probabilities = None
    elif len(members) == 1:
        probabilities = two_sided(graph, _second(graph, members[0]))
    else:
        joined = graph.concat([_second(graph, m) for m in members])
        probabilities = normalized(graph, joined, else_uniform=False)
    if len(members) > 1:
        return Classes(graph.argmax(scores), probabilities, scores)
    bound = 0.0 if members[0].scores else 0.5
    return Classes(positive(graph, scores, bound), probabilities, scores)


def _second(graph: Graph, answer: Classes) -> Value:
    if answer.probabilities is None:
        raise CannotCompile("a member of one against the rest has neither scores nor probabilities")
    return graph.columns(answer.probabilities, [1])


@classifier(OneVsOneClassifier)
def _one_against_one(graph: Graph, model: OneVsOneClassifier, table: Table) -> Classes:
    members = [classify(graph, each, table) for each in model.estimators_]
    chosen = graph.concat([_column(graph, m.chosen) for m in members])
    trust = graph.concat([m.scores or _second(graph, m) for m in members])
    first, second = np.triu_indices(len(model.classes_), k=1)
    signs = np.zeros((len(members), len(model.classes_)))
    signs[np.arange(len(members)), first], signs[np.arange(len(members)), second] = -1, 1
    votes_second = graph.cast(chosen, DOUBLE)
    votes = graph.add(
        "Add",
        graph.matmul(votes_second, np.maximum(signs, 0)),
        graph.matmul(graph.add("Sub", 1.0, votes_second), np.maximum(-signs, 0)),
    )
    summed = graph.matmul(trust, signs)
    bound = graph.add("Mul", graph.add("Add", graph.add("Abs", summed), 1.0), 3.0)
    scores = graph.add("Add", votes, graph.add("Div", summed, bound))
    return Classes(graph.argmax(scores), None, scores)


@classifier(MultiOutputClassifier)
def _many_labels(graph: Graph, model: MultiOutputClassifier, table: Table) -> Classes:
    members = [classify(graph, each, table) for each in model.estimators_]
    chosen = graph.concat([_column(graph, m.chosen) for m in members])
    if any(m.probabilities is None for m in members) or len(set(map(len, model.classes_))) > 1:
        return Classes(chosen)
    stacked = [graph.add("Unsqueeze", m.probabilities or "", np.array([1])) for m in members]
    return Classes(chosen, graph.concat(stacked))


@predictor(MultiOutputRegressor)
def _many_values(graph: Graph, model: MultiOutputRegressor, table: Table) -> Value:
    return graph.concat([_column(graph, predict(graph, e, table)) for e in model.estimators_])


@predictor(RegressorChain)
def _chain(graph: Graph, model: RegressorChain, table: Table) -> Value:
    answers: list[Value] = []
    for estimator in model.estimators_:
        answers.append(_column(graph, predict(graph, estimator, table)))
        table = side_by_side([table, numbers(answers[-1], 1)])
    return graph.columns(graph.concat(answers), np.argsort(model.order_).tolist())


@classifier(ClassifierChain)
def _label_chain(graph: Graph, model: ClassifierChain, table: Table) -> Classes:
    if getattr(model, "chain_method", "predict") != "predict":
        raise CannotCompile("a ClassifierChain that hands on probabilities has no compiler")
    chosen, likely = [], []
    for estimator in model.estimators_:
        answer = classify(graph, estimator, table)
        values = graph.add(
            "Gather", np.asarray(estimator.classes_, dtype=np.float64), answer.chosen
        )
        chosen.append(_column(graph, values))
        if answer.probabilities is not None:
            likely.append(graph.columns(answer.probabilities, [1]))
        table = side_by_side([table, numbers(chosen[-1], 1)])
    order: Array = np.argsort(model.order_)
    labels = graph.cast(graph.columns(graph.concat(chosen), order), INT64)
    if len(likely) < len(chosen):
        return Classes(labels)
    return Classes(labels, graph.columns(graph.concat(likely), order))


@classifier(FixedThresholdClassifier, TunedThresholdClassifierCV)
def _thresholded(graph: Graph, model: Any, table: Table) -> Classes:
    answer = classify(graph, model.estimator_, table)
    method = model._curve_scorer._response_method if hasattr(model, "best_threshold_") else None
    asked = method or model.response_method
    has_probabilities = answer.probabilities is not None
    use_scores = asked == "decision_function" or (asked == "auto" and not has_probabilities)
    bound = getattr(model, "best_threshold_", getattr(model, "threshold", "auto"))
    if bound == "auto":
        bound = 0.0 if use_scores else 0.5
    score = answer.scores if use_scores else _second(graph, answer)
    positive_label = getattr(model, "pos_label", None)
    if score is None or positive_label not in (None, model.classes_[1]):
        raise CannotCompile("a threshold on another score than that of the second class")
    at_least = graph.add("GreaterOrEqual", graph.reshape(score, -1), float(bound))
    return answer._replace(chosen=graph.cast(at_least, INT64))


@classifier(SelfTrainingClassifier)
def _self_trained(graph: Graph, model: Any, table: Table) -> Classes:
    return classify(graph, model.estimator_, table)


@classifier(RFE, RFECV)
def _eliminated(graph: Graph, model: Any, table: Table) -> Classes:
    return classify(graph, model.estimator_, selected(graph, model, table))


@predictor(RFE, RFECV)
def _eliminated_regressor(graph: Graph, model: Any, table: Table) -> Value:
    return predict(graph, model.estimator_, selected(graph, model, table))


@predictor(TransformedTargetRegressor)
def _transformed_target(graph: Graph, model: TransformedTargetRegressor, table: Table) -> Value:
    raw = predict(graph, model.regressor_, table)
    step = model.transformer_
    if isinstance(step, FunctionTransformer):
        if step.inverse_func is None:
            return raw
        return function(graph, step.inverse_func, raw, step.inv_kw_args)
    if isinstance(step, StandardScaler):
        scaled = graph.add("Mul", raw, float(step.scale_[0])) if step.with_std else raw
        return graph.add("Add", scaled, float(step.mean_[0])) if step.with_mean else scaled
    if isinstance(step, MinMaxScaler):
        shifted = graph.add("Sub", raw, float(step.min_[0]))
        return graph.add("Div", shifted, float(step.scale_[0]))
    raise CannotCompile(f"a target transformed by {type(step).__name__} has no compiler")
