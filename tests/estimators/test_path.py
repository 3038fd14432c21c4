"""Paths of solutions: the same as one by one, from λ_max down, and no trace left on the estimator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.penalties import L0, ElasticNet, GroupL1


def test_a_path_is_that_of_scikit_learn(wide):
    data, response = wide
    path = ProxRegressor(tol=1e-10).path(data, response, n_strengths=6, ratio=0.05)
    centred = data - data.mean(0), response - response.mean()
    strengths, coefs, _ = lasso_path(*centred, alphas=path.strengths, tol=1e-13, max_iter=100_000)
    np.testing.assert_array_equal(strengths, path.strengths)
    np.testing.assert_allclose(path.coefs, coefs.T, atol=1e-6)
    largest = np.abs(centred[0].T @ centred[1]).max() / len(response)
    np.testing.assert_allclose(path.strengths, np.geomspace(largest, 0.05 * largest, 6), rtol=1e-12)
    assert np.count_nonzero(path.coefs[0]) == 0
    np.testing.assert_allclose(path.intercepts, response.mean() - path.coefs @ data.mean(0))


def test_solutions_are_those_of_one_fit_each_and_cost_less(tumours):
    path = ProxClassifier(strength=7.0).path(*tumours, n_strengths=5, ratio=0.1)
    cold = [ProxClassifier(strength=strength).fit(*tumours) for strength in path.strengths]
    np.testing.assert_allclose(path.coefs, [model.coef_ for model in cold], atol=1e-6)
    np.testing.assert_allclose(path.objectives, [model.certificate_.objective for model in cold], rtol=1e-9)
    assert path.n_iter.sum() < 0.9 * sum(model.n_iter_ for model in cold)
    assert all(certificate.converged for certificate in path.certificates)


def test_each_model_of_a_path_stands_alone(diabetes):
    estimator = ProxRegressor(GroupL1(1.0, dim=1))
    path = estimator.path(*diabetes, strengths=[0.5, 5.0, 2.0])
    assert list(path.strengths) == [5.0, 2.0, 0.5]
    assert len(path) == 3
    assert not hasattr(estimator, "module_")
    assert estimator.get_params()["strength"] is None
    for strength, model in zip(path.strengths, path.models, strict=True):
        assert model.get_params()["strength"] == strength
        assert model.n_features_in_ == 10
        alone = ProxRegressor(GroupL1(strength, dim=1)).fit(*diabetes)
        np.testing.assert_allclose(model.predict(diabetes[0]), alone.predict(diabetes[0]), atol=1e-5)
    assert len({id(model.module_) for model in path.models}) == 3


def test_a_network_goes_from_the_smallest_strength_up(iris):
    estimator = ProxClassifier(GroupL1(1.0, dim=1), hidden_layer_sizes=(8,), max_iter=300, random_state=0)
    with pytest.warns(ConvergenceWarning, match="strengths"):
        path = estimator.path(*iris, strengths=[0.1, 0.001])
    assert list(path.strengths) == [0.001, 0.1]
    used = [np.count_nonzero(model.coefs_[0].any(axis=0)) for model in path.models]
    assert used[0] > used[1]
    assert path.models[0].score(*iris) > 0.9
    with pytest.raises(AttributeError, match="coefs_"):
        _ = path.coefs


def test_one_warning_for_all_of_a_path(diabetes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = ProxRegressor(max_iter=5).path(*diabetes, n_strengths=4)
    assert [entry.category for entry in caught] == [ConvergenceWarning]
    assert "3 of 4 strengths" in str(caught[0].message)
    assert [certificate.converged for certificate in path.certificates] == [True, False, False, False]


@pytest.mark.parametrize(
    ("estimator", "arguments", "message"),
    [
        (ProxRegressor(None), {}, "penalty is None"),
        (ProxRegressor(ElasticNet(1.0, l1_ratio=0.0)), {}, "strengths is None.* inf "),
        (ProxRegressor(L0(1.0)), {}, "strengths is None.* 0"),
        (ProxRegressor(hidden_layer_sizes=(3,)), {}, "strengths is None.*hidden layers"),
        (ProxRegressor(), {"strengths": []}, r"strengths is \[\]"),
        (ProxRegressor(), {"strengths": [1.0, -1.0]}, r"strengths is \[1.0, -1.0\]"),
        (ProxRegressor(), {"strengths": [np.nan]}, "strengths is"),
        (ProxRegressor(), {"n_strengths": 0}, "n_strengths is 0"),
        (ProxRegressor(), {"ratio": 1.5}, "ratio is 1.5"),
        (ProxRegressor(strength=-1.0), {}, "strength is -1.0"),
    ],
)
def test_what_cannot_be_a_path_is_refused(diabetes, estimator, arguments, message):
    with pytest.raises(ValueError, match=message):
        estimator.path(*diabetes, **arguments)
