"""Weights of samples: scikit-learn's own with the same, repeated samples, and batches that lean to no side."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet as ReferenceElasticNet
from sklearn.linear_model import Lasso, LogisticRegression

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.estimators.choices import resolve
from nonsmooth.penalties import ElasticNet, GroupL1

EXACT = {"tol": 1e-13, "max_iter": 100_000}
GENERATOR = np.random.default_rng(0)


def weights_for(samples):
    """Between 0 and 3, a tenth of them 0."""
    weights = GENERATOR.uniform(0, 3, samples)
    weights[::10] = 0
    return weights


def reference(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data)


def assert_same(model, other, atol=1e-6):
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=0, atol=atol)
    np.testing.assert_array_equal(model.coef_ != 0, other.coef_ != 0)
    np.testing.assert_allclose(model.intercept_, other.intercept_, rtol=0, atol=atol)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dataset", ["diabetes", "wide"])
def test_lasso_is_that_of_scikit_learn(dataset, fit_intercept, request):
    data, response = request.getfixturevalue(dataset)
    weights = weights_for(len(response))
    model = ProxRegressor(strength=1.0, fit_intercept=fit_intercept).fit(data, response, weights)
    assert_same(model, reference(Lasso(1.0, fit_intercept=fit_intercept, **EXACT), data, response, weights))
    assert np.abs(model.coef_ - ProxRegressor(strength=1.0).fit(data, response).coef_).max() > 0.1


def test_elastic_net_is_that_of_scikit_learn(diabetes):
    weights = weights_for(442)
    model = ProxRegressor(ElasticNet(1.0, l1_ratio=0.3)).fit(*diabetes, sample_weight=weights)
    assert_same(model, reference(ReferenceElasticNet(1.0, l1_ratio=0.3, **EXACT), *diabetes, weights))


def test_two_classes_are_the_logistic_regression_of_scikit_learn(tumours):
    weights = weights_for(569)
    model = ProxClassifier(strength=0.02).fit(*tumours, weights)
    arguments = {"l1_ratio": 1, "solver": "saga", "C": 1 / (0.02 * weights.sum()), "random_state": 0, **EXACT}
    assert_same(model, reference(LogisticRegression(**arguments), *tumours, weights))


def test_three_classes_are_the_logistic_regression_of_scikit_learn(iris):
    weights = weights_for(150)
    model = ProxClassifier(strength=0.02, tol=1e-10).fit(*iris, weights)
    arguments = {"l1_ratio": 1, "solver": "saga", "C": 1 / (0.02 * weights.sum()), "random_state": 0, **EXACT}
    other = reference(LogisticRegression(**arguments), *iris, weights)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(iris[0]), other.predict_proba(iris[0]), atol=1e-6)


def test_the_certificate_is_of_the_weighted_objective(diabetes):
    data, response = diabetes
    weights = weights_for(442)
    model = ProxRegressor(strength=2.0).fit(data, response, weights)
    residual = response - data @ model.coef_ - model.intercept_
    objective = (weights * residual**2).sum() / (2 * weights.sum()) + 2 * np.abs(model.coef_).sum()
    certificate = model.certificate_
    assert certificate.objective == pytest.approx(objective, rel=1e-12)
    assert certificate.converged
    assert 0 <= certificate.gap < 1e-5
    # At a point that is no solution the gap bounds the distance from the minimum, and so would not any smaller number.
    with pytest.warns(ConvergenceWarning):
        early = ProxRegressor(strength=2.0, max_iter=4).fit(data, response, weights).certificate_
    assert early.gap >= early.objective - objective > 1.0


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
@pytest.mark.parametrize("hidden", [(), (5,)])
def test_a_weight_of_zero_removes_and_of_two_repeats(tumours, kind, hidden):
    data, target = tumours[0][:80], tumours[1][:80]
    counts = GENERATOR.integers(0, 3, 80)
    model = kind(strength=0.02, hidden_layer_sizes=hidden, max_iter="auto" if not hidden else 50, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted = model.fit(data, target, counts).predict(data)
        repeated = model.fit(np.repeat(data, counts, axis=0), np.repeat(target, counts)).predict(data)
        unweighted = model.fit(data, target)
    np.testing.assert_allclose(weighted, repeated, atol=1e-6)
    if kind is ProxRegressor:
        assert np.abs(weighted - unweighted.predict(data)).max() > 1e-3


@pytest.mark.parametrize("batch_size", [None, 7])
def test_samples_of_weight_zero_are_as_if_not_there_to_the_last_bit(iris, batch_size):
    data, classes = iris
    counts = GENERATOR.integers(0, 2, 150)
    model = ProxClassifier(strength=0.02, batch_size=batch_size, max_iter=20, tol=1e3, random_state=0)
    weighted = model.fit(data, classes, 0.3 * counts).coef_
    np.testing.assert_array_equal(weighted, model.fit(data[counts > 0], classes[counts > 0]).coef_)


def test_a_class_of_weight_zero_is_none(iris):
    data, classes = iris
    model = ProxClassifier(strength=0.02).fit(data, classes, (classes > 0).astype(float))
    np.testing.assert_array_equal(model.classes_, [1, 2])
    with pytest.raises(ValueError, match="y has one class, 2"):
        model.fit(data, classes, classes == 2)


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1e300])
def test_the_scale_of_weights_does_not_matter(diabetes, scale):
    weights = weights_for(442)
    model, other = (ProxRegressor(strength=1.0).fit(*diabetes, each) for each in (weights, scale * weights))
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-8)


def test_a_path_has_weights_too(wide):
    data, response = wide
    weights = weights_for(71)
    path = ProxRegressor().path(data, response, n_strengths=3, ratio=0.1, sample_weight=weights)
    centred = data - np.average(data, axis=0, weights=weights)
    deviations = response - np.average(response, weights=weights)
    assert path.strengths[0] == pytest.approx(np.abs(centred.T @ (weights * deviations)).max() / weights.sum())
    for strength, model in zip(path.strengths, path.models, strict=True):
        assert_same(model, reference(Lasso(strength, **EXACT), data, response, weights), atol=1e-5)


@pytest.mark.parametrize("penalty", ["L1", GroupL1(1.0, dim=1)])
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_batches_lean_to_no_side(tumours, kind, penalty):
    """Over all batches of one pass the gradient is that of all samples, in whichever order they come."""
    data, target = tumours[0][:60], tumours[1][:60]
    weights = weights_for(60)
    model = kind(penalty, strength=0.05)
    task = model._read(data, target, weights, resolve(model))
    outputs = torch.randn(len(task.inputs), task.outputs, dtype=torch.float64, generator=torch.manual_seed(0))
    whole = task.loss(outputs, task.targets, task.weights)
    parts = [task.loss(outputs[rows], task.targets[rows], task.weights[rows]) for rows in torch.randperm(54).split(6)]
    assert sum(parts) / 9 == pytest.approx(float(whole), rel=1e-12)


def test_batches_end_near_the_solution(tumours):
    weights = np.where(tumours[1] == 0, 5.0, 0.5)
    exact = ProxClassifier(strength=0.05).fit(*tumours, weights)
    batches = ProxClassifier(strength=0.05, batch_size=32, max_iter=200, tol=0.05, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        batches.fit(*tumours, weights)
    minimum = exact.certificate_.objective
    assert 0 <= batches.certificate_.objective - minimum < 0.02 * minimum
    unweighted = ProxClassifier(strength=0.05).fit(*tumours)
    assert abs(unweighted.intercept_ - exact.intercept_)[0] > 0.5
    assert abs(batches.intercept_ - exact.intercept_)[0] < 0.1


def test_single_precision(diabetes):
    weights = weights_for(442)
    model = ProxRegressor(strength=1.0, dtype="float32").fit(*diabetes, weights)
    np.testing.assert_allclose(model.coef_, reference(Lasso(1.0, **EXACT), *diabetes, weights).coef_, atol=0.02)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 441, "inconsistent numbers of samples"),
        (np.ones((442, 2)), r"sample_weight has shape \(442, 2\); accepted is \(442,\)"),
        ([-1.0] + [1.0] * 441, "sample_weight has an entry of -1.0"),
        ([np.nan] + [1.0] * 441, "sample_weight contains NaN"),
        (np.zeros(442), "sample_weight is zero throughout"),
    ],
)
def test_weights_that_are_refused(diabetes, weights, message):
    model = ProxRegressor()
    with pytest.raises(ValueError, match=message):
        model.fit(*diabetes, sample_weight=weights)
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(ValueError, match=message):
        model.path(*diabetes, sample_weight=weights)
