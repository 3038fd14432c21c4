"""Networks with hidden layers, and batches: what is learned, certified and reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import ConvergenceWarning

from nonsmooth.estimators import ProxClassifier, ProxRegressor
from nonsmooth.penalties import L1, GroupL1

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def bent() -> tuple[np.ndarray, np.ndarray]:
    """A response that is not linear, in two of eight features."""
    data = np.random.default_rng(0).normal(size=(300, 8))
    return data, 1.3 * (np.abs(data[:, 1]) + np.abs(data[:, 4]))


def weights_of(model):
    return np.concatenate([weights.ravel() for weights in model.coefs_])


def test_a_network_learns_what_a_linear_model_cannot(bent):
    network = ProxRegressor(strength=1e-3, hidden_layer_sizes=(20,), random_state=0).fit(*bent)
    assert network.score(*bent) > 0.95
    assert ProxRegressor(strength=1e-3).fit(*bent).score(*bent) < 0.5


def test_groups_of_inputs_select_the_features_that_matter(bent):
    model = ProxRegressor(
        GroupL1(0.01, dim=1), hidden_layer_sizes=(20,), batch_size=20, max_iter=60, random_state=0
    ).fit(*bent)
    assert set(np.flatnonzero(model.coefs_[0].any(axis=0))) == {1, 4}
    assert model.score(*bent) > 0.9
    # A feature that is not selected has no say at all.
    changed = bent[0].copy()
    changed[:, [0, 2, 3, 5, 6, 7]] = 1e3
    np.testing.assert_array_equal(model.predict(changed), model.predict(bent[0]))


def test_a_larger_strength_leaves_fewer_weights(bent):
    counts = [
        np.count_nonzero(
            weights_of(ProxRegressor(L1(strength), hidden_layer_sizes=(20,), max_iter=500, random_state=0).fit(*bent))
        )
        for strength in (1e-4, 1e-2, 10.0)
    ]
    assert counts[0] > counts[1] > counts[2] == 0


def test_the_certificate_of_a_network_is_of_the_documented_objective(bent):
    model = ProxRegressor(
        strength=0.01, hidden_layer_sizes=(6, 5), activation="tanh", max_iter=300, random_state=0
    ).fit(*bent)
    values = bent[0]
    for layer, (weights, intercepts) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        values = values @ weights.T + intercepts
        values = np.tanh(values) if layer < 2 else values
    np.testing.assert_allclose(model.predict(bent[0]), values[:, 0], rtol=1e-10)
    objective = ((bent[1] - values[:, 0]) ** 2).sum() / 600 + 0.01 * np.abs(weights_of(model)).sum()
    assert model.certificate_.objective == pytest.approx(objective, rel=1e-10)
    assert [tensor.penalty for tensor in model.certificate_.tensors].count("L1") == 3
    assert model.certificate_.penalized == 6 * 8 + 5 * 6 + 5
    assert model.certificate_.gap is None


def test_a_network_is_certified_only_where_it_is_stationary(bent):
    arguments = {"strength": 0.05, "hidden_layer_sizes": (4,), "activation": "tanh", "random_state": 0}
    short = ProxRegressor(max_iter=20, **arguments).fit(*bent)
    assert not short.certificate_.converged
    long = ProxRegressor(max_iter=5_000, tol=1e-4, **arguments).fit(*bent)
    assert long.certificate_.converged
    assert long.n_iter_ < 5_000


@pytest.mark.parametrize(
    "arguments", [{"hidden_layer_sizes": (10,)}, {"batch_size": 32}, {"hidden_layer_sizes": (10,), "batch_size": 32}]
)
def test_the_same_random_state_gives_the_same_bits(bent, arguments):
    arguments = {**arguments, "strength": 0.01, "max_iter": 20}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (ProxRegressor(random_state=seed, **arguments).fit(*bent) for seed in (3, 3, 4))
    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    assert not np.array_equal(weights_of(first), weights_of(other))
    assert torch.equal(torch.get_rng_state(), before), "the generator that all of a program shares is not drawn from"


def test_batches_come_near_the_solution_of_the_full_batch():
    data, response = make_regression(200, 20, n_informative=5, noise=10.0, random_state=0)
    whole = ProxRegressor(strength=1.0).fit(data, response)
    parts = ProxRegressor(strength=1.0, batch_size=20, random_state=0).fit(data, response)
    assert whole.certificate_.objective <= parts.certificate_.objective
    assert parts.certificate_.objective == pytest.approx(whole.certificate_.objective, rel=1e-5)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=0.02)
    assert not parts.certificate_.converged


def test_batches_that_hold_everything_are_the_full_batch(diabetes):
    arguments = {"strength": 1.0, "lr": 0.2, "momentum": 0.5, "lr_schedule": "constant", "max_iter": 50}
    parts = ProxRegressor(batch_size=10_000, **arguments).fit(*diabetes)
    np.testing.assert_array_equal(parts.coef_, ProxRegressor(**arguments).fit(*diabetes).coef_)


def test_digits_with_a_sparse_network():
    data, digits = load_digits(return_X_y=True)
    data = data / 16
    model = ProxClassifier(
        strength=1e-3, hidden_layer_sizes=(32,), batch_size=100, max_iter=20, random_state=0, dtype="float32"
    ).fit(data[:1200], digits[:1200])
    assert model.score(data[1200:], digits[1200:]) > 0.88
    weights = weights_of(model)
    assert np.mean(weights == 0) > 0.3
    np.testing.assert_array_equal(weights, weights.astype(np.float32))


def test_without_intercepts_a_network_maps_zero_to_zero(bent):
    model = ProxRegressor(hidden_layer_sizes=(5,), fit_intercept=False, max_iter=20, random_state=0).fit(*bent)
    assert model.predict(np.zeros((1, 8))) == 0
    assert [list(intercepts) for intercepts in model.intercepts_] == [[0] * 5, [0]]


def test_several_responses_and_warm_start_of_a_network(bent):
    responses = np.stack([bent[1], -bent[1]], axis=1)
    model = ProxRegressor(strength=1e-3, hidden_layer_sizes=(10,), max_iter=100, warm_start=True, random_state=0).fit(
        bent[0], responses
    )
    assert model.predict(bent[0]).shape == (300, 2)
    first = model.certificate_.objective
    model.fit(bent[0], responses)
    assert model.certificate_.objective < first


def test_a_step_that_is_too_large_is_refused_with_its_number(diabetes):
    with pytest.raises(ValueError, match=r"lr is 1000.0.*objective is (inf|nan)"):
        ProxRegressor(lr=1000.0).fit(*diabetes)


def test_the_warning_names_the_estimator(bent):
    with pytest.warns(ConvergenceWarning, match="ProxRegressor is not at an optimum"):
        ProxRegressor(hidden_layer_sizes=(3,), max_iter=2).fit(*bent)
