"""Linear models against solvers of other authors, and certificates against what a solution has to satisfy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet as ReferenceElasticNet
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, MultiTaskLasso, lasso_path

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, TransformedL1

EXACT = {"tol": 1e-13, "max_iter": 100_000}
AGREEMENT = 1e-6


@pytest.fixture(autouse=True)
def _no_warning_is_overlooked():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        yield


def reference(model, *data):
    """A solver told to go on as long as it can; that it then says so is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data)


def assert_same(model, other):
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=0, atol=AGREEMENT)
    np.testing.assert_array_equal(model.coef_ != 0, other.coef_ != 0)
    assert model.coef_.shape == other.coef_.shape
    assert np.shape(model.intercept_) == np.shape(other.intercept_)


@pytest.mark.parametrize("strength", [10.0, 1.0, 0.1])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_lasso_is_that_of_scikit_learn(diabetes, strength, fit_intercept):
    model = ProxRegressor(strength=strength, fit_intercept=fit_intercept).fit(*diabetes)
    other = reference(Lasso(strength, fit_intercept=fit_intercept, **EXACT), *diabetes)
    assert_same(model, other)
    assert model.intercept_ == pytest.approx(other.intercept_, abs=AGREEMENT)
    np.testing.assert_allclose(model.predict(diabetes[0]), other.predict(diabetes[0]), atol=1e-5)


@pytest.mark.parametrize("strength", [10.0, 1.0, 0.1])
def test_lasso_with_more_features_than_samples(wide, strength):
    model = ProxRegressor(strength=strength).fit(*wide)
    assert_same(model, reference(Lasso(strength, **EXACT), *wide))
    assert model.n_iter_ < 5_000


def test_features_of_any_offset(diabetes):
    """Centring is part of the fit: an offset of a million costs digits, not convergence."""
    shifted = diabetes[0] + 1e6 * np.arange(10)
    model, plain = (ProxRegressor(strength=1.0).fit(data, diabetes[1]) for data in (shifted, diabetes[0]))
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-5)
    np.testing.assert_allclose(model.predict(shifted), plain.predict(diabetes[0]), atol=1e-3)


def test_elastic_net(diabetes):
    model = ProxRegressor(ElasticNet(1.0, l1_ratio=0.3)).fit(*diabetes)
    assert_same(model, reference(ReferenceElasticNet(1.0, l1_ratio=0.3, **EXACT), *diabetes))


def test_no_penalty_is_least_squares(diabetes):
    model = ProxRegressor(None, tol=1e-10).fit(*diabetes)
    np.testing.assert_allclose(model.coef_, LinearRegression().fit(*diabetes).coef_, atol=AGREEMENT)


def test_groups_of_one_feature_in_all_responses_are_the_multi_task_lasso(diabetes):
    data, response = diabetes
    responses = np.stack([response, response[::-1] + 20 * data[:, 0], response**2 / 100], axis=1)
    # MultiTaskLasso has no weights; GroupL1 weighs a group by the root of its size, √3.
    model = ProxRegressor(GroupL1(5.0, dim=1)).fit(data, responses)
    other = reference(MultiTaskLasso(5.0 * 3**0.5, **EXACT), data, responses)
    assert_same(model, other)
    np.testing.assert_allclose(model.intercept_, other.intercept_, atol=AGREEMENT)
    assert 0 < (model.coef_ == 0).all(0).sum() < 10


def test_several_responses_are_fitted_as_each_alone(diabetes):
    data, response = diabetes
    responses = np.stack([response, response[::-1]], axis=1)
    together = ProxRegressor(strength=1.0, tol=1e-10).fit(data, responses)
    for column in range(2):
        alone = ProxRegressor(strength=1.0, tol=1e-10).fit(data, responses[:, column])
        np.testing.assert_allclose(together.coef_[column], alone.coef_, atol=AGREEMENT)
        np.testing.assert_allclose(together.predict(data)[:, column], alone.predict(data), atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 0.01])
def test_two_classes_are_the_logistic_regression_of_scikit_learn(tumours, strength):
    data, classes = tumours
    model = ProxClassifier(strength=strength).fit(data, classes)
    arguments = {"l1_ratio": 1, "solver": "saga", "C": 1 / (strength * len(classes)), "random_state": 0, **EXACT}
    other = reference(LogisticRegression(**arguments), data, classes)
    assert_same(model, other)
    np.testing.assert_allclose(model.intercept_, other.intercept_, atol=AGREEMENT)
    np.testing.assert_allclose(model.predict_proba(data), other.predict_proba(data), atol=AGREEMENT)
    np.testing.assert_allclose(model.decision_function(data), other.decision_function(data), atol=1e-5)


def test_three_classes_are_the_logistic_regression_of_scikit_learn(iris):
    data, classes = iris
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    model = ProxClassifier(strength=0.01, tol=1e-10).fit(data, names)
    other = LogisticRegression(l1_ratio=1, solver="saga", C=1 / (0.01 * len(classes)), random_state=0, **EXACT)
    reference(other, data, names)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=AGREEMENT)
    # A constant added to all intercepts changes nothing.
    np.testing.assert_allclose(np.diff(model.intercept_), np.diff(other.intercept_), atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(data), other.predict_proba(data), atol=AGREEMENT)
    np.testing.assert_array_equal(model.classes_, other.classes_)


@pytest.mark.parametrize("dataset", ["diabetes", "wide"])
def test_from_lambda_max_on_all_weights_are_zero_and_not_below(dataset, request):
    data, response = request.getfixturevalue(dataset)
    largest = np.abs((data - data.mean(0)).T @ (response - response.mean())).max() / len(response)
    for strength, number in ((largest, 0), (2 * largest, 0), (0.999 * largest, 1)):
        model = ProxRegressor(strength=strength).fit(data, response)
        assert np.count_nonzero(model.coef_) == number
    assert model.intercept_ == pytest.approx(response.mean() - model.coef_ @ data.mean(0))


def test_from_lambda_max_on_all_weights_of_a_classifier_are_zero(tumours):
    data, classes = tumours
    largest = np.abs((data - data.mean(0)).T @ (classes - classes.mean())).max() / len(classes)
    assert np.count_nonzero(ProxClassifier(strength=largest).fit(data, classes).coef_) == 0
    assert np.count_nonzero(ProxClassifier(strength=0.999 * largest).fit(data, classes).coef_) == 1
    shares = ProxClassifier(strength=largest).fit(data, classes).predict_proba(data[:1])
    np.testing.assert_allclose(shares[0], [1 - classes.mean(), classes.mean()])


def test_the_certificate_is_of_the_documented_objective(diabetes):
    data, response = diabetes
    model = ProxRegressor(strength=2.0).fit(data, response)
    residual = response - data @ model.coef_ - model.intercept_
    loss = (residual**2).sum() / (2 * len(response))
    certificate = model.certificate_
    assert certificate.objective == pytest.approx(loss + 2 * np.abs(model.coef_).sum(), rel=1e-12)
    assert certificate.zeros == np.count_nonzero(model.coef_ == 0)
    # 0 ∈ ∇f + λ∂‖·‖₁, from the data.
    slope = -data.T @ residual / len(response)
    active = model.coef_ != 0
    distance = np.where(active, np.abs(slope + 2 * np.sign(model.coef_)), np.maximum(np.abs(slope) - 2, 0))
    assert certificate.converged
    assert distance.max() / 2 <= 1.01e-8
    assert 0 <= certificate.gap < 1e-5


def test_the_certificate_of_a_classifier_is_of_the_documented_objective(iris):
    data, classes = iris
    model = ProxClassifier(strength=0.05).fit(data, classes)
    outputs = data @ model.coef_.T + model.intercept_
    likelihood = outputs[np.arange(150), classes] - np.log(np.exp(outputs).sum(1))
    objective = -likelihood.mean() + 0.05 * np.abs(model.coef_).sum()
    assert model.certificate_.objective == pytest.approx(objective, rel=1e-12)
    assert model.certificate_.converged


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_stopping_early_is_said_and_certified(kind, tumours):
    with pytest.warns(ConvergenceWarning, match="after 3 passes"):
        model = kind(strength=0.01, max_iter=3).fit(*tumours)
    assert not model.certificate_.converged
    assert model.certificate_.relative_residual > 1e-8
    assert model.n_iter_ == 3


def test_the_order_of_samples_does_not_matter_on_the_full_batch(tumours):
    order = np.random.default_rng(0).permutation(len(tumours[1]))
    model = ProxClassifier(strength=0.02).fit(*tumours)
    shuffled = ProxClassifier(strength=0.02).fit(tumours[0][order], tumours[1][order])
    np.testing.assert_allclose(shuffled.coef_, model.coef_, atol=AGREEMENT)


def test_warm_start_goes_on_from_the_earlier_solution(tumours):
    model = ProxClassifier(strength=0.02, warm_start=True).fit(*tumours)
    before = model.coef_
    assert model.n_iter_ > 100
    model.fit(*tumours)
    assert model.n_iter_ == 1
    np.testing.assert_allclose(model.coef_, before, rtol=1e-12)
    model.set_params(strength=0.015).fit(*tumours)
    cold = ProxClassifier(strength=0.015).fit(*tumours)
    assert model.n_iter_ < cold.n_iter_
    np.testing.assert_allclose(model.coef_, cold.coef_, atol=AGREEMENT)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "nadam", "rmsprop", "adagrad"])
def test_strength_means_the_same_under_each_optimiser(diabetes, optimizer):
    data, response = diabetes[0], (diabetes[1] - diabetes[1].mean()) / diabetes[1].std()
    model = ProxRegressor(
        strength=0.05, optimizer=optimizer, lr=0.05, max_iter=20_000, tol=1e-6, lr_schedule="constant"
    ).fit(data, response)
    np.testing.assert_allclose(model.coef_, reference(Lasso(0.05, **EXACT), data, response).coef_, atol=1e-5)


def test_single_precision_solves_to_what_single_precision_can_show(diabetes):
    model = ProxRegressor(strength=1.0, dtype="float32").fit(*diabetes)
    other = reference(Lasso(1.0, **EXACT), *diabetes)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=0.02)
    np.testing.assert_array_equal(model.coef_ == 0, other.coef_ == 0)
    assert model.coef_.dtype == model.predict(diabetes[0]).dtype == np.float64
    assert not np.array_equal(model.coef_, ProxRegressor(strength=1.0).fit(*diabetes).coef_)


@pytest.mark.parametrize("name", ["prostate", "diabetes64", "glmnet_quickstart"])
@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_real_data(shared_data, name, ratio):
    with np.load(shared_data / "lasso" / f"{name}.npz") as stored:
        data, response = stored["X"].astype(float), stored["y"].astype(float)
    strength = ratio * np.abs((data - data.mean(0)).T @ (response - response.mean())).max() / len(response)
    model = ProxRegressor(strength=strength, tol=1e-10).fit(data, response)
    other = reference(Lasso(strength, **EXACT), data, response)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-6 * np.abs(other.coef_).max())
    np.testing.assert_array_equal(model.coef_ != 0, other.coef_ != 0)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_four_thousand_genes(shared_data, ratio):
    with np.load(shared_data / "lasso" / "riboflavin.npz") as stored:
        data, response = stored["X"].astype(float), stored["y"].astype(float)
    strength = ratio * np.abs((data - data.mean(0)).T @ (response - response.mean())).max() / len(response)
    model = ProxRegressor(L1(strength)).fit(data, response)
    _, coefs, _ = lasso_path(data - data.mean(0), response - response.mean(), alphas=[strength], **EXACT)
    np.testing.assert_allclose(model.coef_, coefs[:, 0], atol=AGREEMENT)


@pytest.mark.parametrize(
    ("penalty", "function"),
    [
        (MCP(0.3, gamma=3.0), lambda w: np.where(np.abs(w) < 0.9, 0.3 * np.abs(w) - w**2 / 6, 0.135)),
        (L0(0.3), lambda w: 0.3 * (w != 0)),
        (TransformedL1(0.3, shape=1.0), lambda w: 0.3 * 2 * np.abs(w) / (1 + np.abs(w))),
    ],
    ids=["MCP", "L0", "TransformedL1"],
)
def test_penalties_that_are_not_convex_end_at_the_minimum_where_features_are_orthogonal(penalty, function):
    """Then each coefficient has a problem of its own, which a grid solves."""
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(40), generator.normal(size=(40, 6))]))
    data = basis[:, 1:] * 40**0.5
    response = data @ np.array([0.1, 0.25, 0.6, 0.85, -1.5, 0.0]) + 2
    grid = np.append(np.arange(-2, 2, 1e-4), 0.0)
    alone = data.T @ response / 40
    best = [grid[np.argmin((w - grid) ** 2 / 2 + function(grid))] for w in alone]
    model = ProxRegressor(penalty).fit(data, response)
    np.testing.assert_allclose(model.coef_, best, atol=1e-4)
    assert model.certificate_.converged
    assert 0 < np.count_nonzero(model.coef_) < 6


def test_penalties_that_are_not_convex_converge_on_correlated_features(iris):
    for penalty in (MCP(0.5), SCAD(0.1), TransformedL1(0.1), L0(0.1)):
        model = ProxRegressor(penalty, fit_intercept=False).fit(*iris)
        assert model.certificate_.converged, penalty
        assert np.count_nonzero(model.coef_), penalty
