"""Real data: the optimisers end at the support and the coefficients of coordinate descent, and at published ones."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxNAdam, ProxRMSprop, ProxSGD, SteadyAdam
from nonsmooth.penalties import L1

TOLERANCE = 1e-8


@functools.cache
def problem(path, name):
    """X, y and λ: λ_max/10 on standardised data, glmnet's own data and λ as they are."""
    loaded = np.load(path / f"{name}.npz")
    data, response = loaded["X"], loaded["y"]
    if name == "glmnet_quickstart":
        return data, response, float(loaded["beta_cvx_lambda"])
    data = (data - data.mean(0)) / data.std(0)
    response = (response - response.mean()) / response.std()
    return data, response, 0.1 * float(np.abs(data.T @ response).max()) / len(response)


@pytest.fixture
def folder(shared_data):
    path = shared_data / "lasso"
    if not path.is_dir():
        pytest.skip(f"needs data that the project does not ship: {path} does not exist")
    return path


def solve(data, response, lam, make, steps):
    """Full-batch steps until the optimality residual, computed here, is below TOLERANCE·λ; the point, or None."""
    X, y = torch.from_numpy(data), torch.from_numpy(response)
    rows = len(y)
    small = X @ X.T if X.shape[1] > rows else X.T @ X
    largest = float(torch.linalg.eigvalsh(small)[-1]) / rows
    weight = torch.nn.Parameter(torch.zeros(X.shape[1], dtype=torch.float64))
    optimizer = make([weight], lam, largest)
    gram, linear = (None, None) if X.shape[1] > rows else (small / rows, X.T @ y / rows)
    for step in range(steps):
        w = weight.detach()
        gradient = X.T @ (X @ w - y) / rows if gram is None else gram @ w - linear
        if step % 10 == 0:
            distance = torch.where(w == 0, (gradient.abs() - lam).clamp(min=0), (gradient + lam * w.sign()).abs())
            if float(distance.max()) <= TOLERANCE * lam:
                return w.numpy()
        weight.grad = gradient
        optimizer.step()
    return None


# At a solution an adaptive step is α/λ on the support: α in units of λ/L.
OPTIMISERS = {
    "SGD": lambda p, lam, largest: ProxSGD(p, lr=1.9 / largest, penalty=L1(lam)),
    "SGD, Nesterov": lambda p, lam, largest: ProxSGD(p, lr=1 / largest, momentum=0.95, nesterov=True, penalty=L1(lam)),
    "Adam": lambda p, lam, largest: ProxAdam(p, lr=4 * lam / largest, penalty=L1(lam)),
    "AMSGrad": lambda p, lam, largest: ProxAdam(p, lr=20 * lam / largest, amsgrad=True, penalty=L1(lam)),
    "NAdam": lambda p, lam, largest: ProxNAdam(p, lr=4 * lam / largest, penalty=L1(lam)),
    "RMSprop": lambda p, lam, largest: ProxRMSprop(p, lr=lam / largest, penalty=L1(lam)),
    "Adagrad": lambda p, lam, largest: ProxAdagrad(p, lr=0.1, penalty=L1(lam)),
    "steady Adam": lambda p, lam, largest: SteadyAdam(p, lr=4 * lam / largest, penalty=L1(lam)),
}


def celer_solution(data, response, lam):
    celer = pytest.importorskip("celer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return celer.Lasso(lam, fit_intercept=False, tol=1e-14).fit(data, response).coef_


def skglm_solution(data, response, lam):
    skglm = pytest.importorskip("skglm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return skglm.Lasso(lam, fit_intercept=False, tol=1e-13).fit(data, response).coef_


def assert_same(found, expected):
    assert found is not None
    np.testing.assert_array_equal(np.sign(found), np.sign(expected))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("data_set", ["prostate", "diabetes64"])
def test_the_support_and_the_coefficients_are_those_of_celer(folder, data_set, name):
    data, response, lam = problem(folder, data_set)
    assert_same(solve(data, response, lam, OPTIMISERS[name], 5000), celer_solution(data, response, lam))


@pytest.mark.slow  # skglm compiles itself first
@pytest.mark.parametrize("data_set", ["prostate", "diabetes64"])
def test_they_are_those_of_skglm_as_well(folder, data_set):
    data, response, lam = problem(folder, data_set)
    assert_same(solve(data, response, lam, OPTIMISERS["Adam"], 5000), skglm_solution(data, response, lam))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_published_solution_of_glmnets_example_is_reached(folder, name):
    data, response, lam = problem(folder, "glmnet_quickstart")
    published = np.load(folder / "glmnet_quickstart.npz")["beta_cvx"]
    assert_same(solve(data, response, lam, OPTIMISERS[name], 5000), published)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda p, lam, largest: ProxSGD(p, lr=1 / largest, momentum=0.99, nesterov=True, penalty=L1(lam)),
        lambda p, lam, largest: ProxAdam(p, lr=100 * lam / largest, betas=(0.99, 0.999), penalty=L1(lam)),
    ],
    ids=["SGD, Nesterov", "Adam"],
)
def test_the_genes_of_riboflavin_are_those_of_celer(folder, make):
    """71 rows, 4,088 columns: the slowest directions need momentum of 0.99."""
    data, response, lam = problem(folder, "riboflavin")
    assert_same(solve(data, response, lam, make, 40_000), celer_solution(data, response, lam))
