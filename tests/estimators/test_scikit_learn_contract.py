"""scikit-learn's own checks of an estimator, all of them, with no failure expected."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from nonsmooth.estimators import ProxClassifier, ProxClassifierCV, ProxRegressor, ProxRegressorCV
from nonsmooth.penalties import MCP, ElasticNet, GroupL1

pytestmark = pytest.mark.processes

SHORT = {"max_iter": 100, "random_state": 0}

OTHER_CONFIGURATIONS = [
    ProxRegressor(GroupL1(0.001, dim=1), hidden_layer_sizes=(10,), **SHORT),
    ProxClassifier(ElasticNet(0.001), hidden_layer_sizes=(10, 5), activation="tanh", **SHORT),
    ProxRegressor("L1", strength=0.001, hidden_layer_sizes=(8,), batch_size=16, **SHORT),
    ProxClassifier(hidden_layer_sizes=(8,), strength=0.001, batch_size=16, dtype="float32", **SHORT),
    ProxRegressor(batch_size=16, **SHORT),
    ProxClassifier(batch_size=16, **SHORT),
    ProxRegressor(optimizer="adam", lr=0.1, **SHORT),
    ProxClassifier(optimizer="rmsprop", momentum=0.5, **SHORT),
    ProxRegressor(MCP(0.01), fit_intercept=False, max_iter=2_000),
    ProxRegressor(None, warm_start=True, max_iter=500),
    ProxClassifier(None, warm_start=True, max_iter=500),
    ProxRegressor(dtype="float32", max_iter=2_000),
    ProxClassifier(dtype="float32", fit_intercept=False, max_iter=2_000),
]

CHOSEN = [
    ProxRegressorCV(n_strengths=4, ratio=0.1, cv=3, tol=1e-6),
    ProxClassifierCV(n_strengths=4, ratio=0.1, cv=3, choice="one-standard-error", tol=1e-6),
]


def quietly(check, estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@parametrize_with_checks([ProxRegressor(), ProxClassifier(), *CHOSEN])
def test_what_one_gets_without_arguments_passes(estimator, check):
    quietly(check, estimator)


def cannot_hold(estimator):
    """That repeated samples are one with a weight: only where no batch is drawn, and only to rounding."""
    if estimator.batch_size is None and estimator.dtype == "float64":
        return {}
    return {"check_sample_weight_equivalence_on_dense_data": "batches are others, or rounding shows"}


@pytest.mark.slow
@parametrize_with_checks(OTHER_CONFIGURATIONS, expected_failed_checks=cannot_hold)
def test_other_configurations_pass(estimator, check):
    quietly(check, estimator)


@pytest.mark.parametrize("module", ["nonsmooth", "nonsmooth.optim", "nonsmooth.penalties"])
def test_the_rest_of_the_package_does_not_load_scikit_learn(module):
    program = f"import sys, json, {module}; print(json.dumps('sklearn' in sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert json.loads(output) is False
