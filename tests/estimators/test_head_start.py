"""The head start of convex linear models: its solutions are other solvers', and the certificate stays the judge."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet as ReferenceElasticNet
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, MultiTaskLasso

from nonsmooth.estimators import ProxClassifier, ProxRegressor, training
from nonsmooth.estimators.choices import resolve
from nonsmooth.estimators.head_start import _Part, head_start
from nonsmooth.estimators.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from nonsmooth.estimators.networks import coefficients, intercepts, linear_layers
from nonsmooth.penalties import L0, L1, MCP, ElasticNet, GroupL1, Nuclear, Penalty, SparseGroupL1

EXACT = {"tol": 1e-14, "max_iter": 1_000_000}
GENERATOR = np.random.default_rng(0)
DATA = GENERATOR.normal(size=(60, 12))
RESPONSE = DATA[:, :4] @ [3.0, -2.0, 1.0, 0.5] + GENERATOR.normal(size=60)
RESPONSES = np.stack([RESPONSE, RESPONSE[::-1], DATA[:, 5]], axis=1)
CLASSES = np.digitize(RESPONSE + GENERATOR.normal(size=60), [-1.5, 1.5])
WEIGHTS = GENERATOR.uniform(0.1, 3, 60)


def alone(model, data, target, weights=None, start=None):
    """What the head start makes of a model, without the optimiser: coefficients, intercepts, steps."""
    choices = resolve(model)
    assert choices.has_head_start
    task = model._read(data, target, weights, choices)
    network = task.untrained(choices, torch.Generator()) if start is None else start(task, choices)
    steps = head_start(network, task, choices)
    found = task.for_the_data(network, choices)
    return coefficients(found)[0], intercepts(found)[0], steps


def reference(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data)


def assert_close(found, other):
    """To 1e-8 of the largest entry, and zero in the same places."""
    other = np.atleast_2d(other)
    np.testing.assert_allclose(found, other, rtol=0, atol=1e-8 * np.abs(other).max())
    np.testing.assert_array_equal(found != 0, other != 0)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("strength", [1.0, 0.1, 0.01])
def test_lasso_and_elastic_net(strength, weights):
    for penalty, other in (
        (L1(strength), Lasso(strength, **EXACT)),
        (ElasticNet(strength, l1_ratio=0.7), ReferenceElasticNet(strength, l1_ratio=0.7, **EXACT)),
    ):
        coef, intercept, steps = alone(ProxRegressor(penalty, tol=1e-10), DATA, RESPONSE, weights)
        reference(other, DATA, RESPONSE, weights)
        assert_close(coef, other.coef_)
        assert intercept == pytest.approx(other.intercept_, abs=1e-8)
        assert 0 < steps < 1_000


@pytest.mark.parametrize("strength", [2.0, 0.2])
def test_more_features_than_samples_are_solved_on_few_of_them(wide, monkeypatch, strength):
    """Never with more than half of the features."""
    looked_at = []
    minimize = _Part.minimize
    monkeypatch.setattr(_Part, "minimize", lambda self, *a: looked_at.append(self.features) or minimize(self, *a))
    coef, _, _ = alone(ProxRegressor(strength=strength, tol=1e-10), *wide)
    assert_close(coef, reference(Lasso(strength, **EXACT), *wide).coef_)
    assert 10 <= max(looked_at) < 250


def test_groups_of_columns_are_the_multi_task_lasso():
    coef, intercept, _ = alone(ProxRegressor(GroupL1(0.3, dim=1), tol=1e-10), DATA, RESPONSES)
    other = reference(MultiTaskLasso(0.3 * 3**0.5, **EXACT), DATA, RESPONSES)
    assert_close(coef, other.coef_)
    assert 0 < (coef == 0).all(0).sum() < 12
    np.testing.assert_allclose(intercept, other.intercept_, atol=1e-8)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression(classes, weights):
    target = np.minimum(CLASSES, classes - 1)
    total = 60 if weights is None else weights.sum()
    coef, intercept, _ = alone(ProxClassifier(strength=0.03, tol=1e-10), DATA, target, weights)
    other = LogisticRegression(l1_ratio=1, solver="saga", C=1 / (0.03 * total), random_state=0, **EXACT)
    reference(other, DATA, target, weights)
    assert_close(coef, other.coef_)
    difference = intercept - other.intercept_
    # With three classes a constant added to all intercepts changes nothing.
    np.testing.assert_allclose(difference - (difference.mean() if classes == 3 else 0), 0, atol=1e-8)


def test_no_penalty_is_least_squares():
    coef, _, _ = alone(ProxRegressor(None, tol=1e-10), DATA, RESPONSE)
    np.testing.assert_allclose(coef[0], LinearRegression().fit(DATA, RESPONSE).coef_, rtol=1e-8)


@dataclass(frozen=True, eq=False)
class Ridge(Penalty):
    """λ‖W‖_F, a penalty that the package does not have, of no kind that a working set knows."""

    convex: ClassVar[bool] = True
    strength: float

    def value(self, point, dim=None):
        return self.strength * point.norm()

    def proximal_map(self, point, step):
        return point * max(1 - self.strength * step / max(float(point.norm()), 1e-300), 0)

    def subdiff_distance(self, point, gradient):
        if not point.any():
            return (gradient.norm() - self.strength).clamp(min=0)
        return (gradient + self.strength * point / point.norm()).norm()

    def subgradient(self, point):
        return self.strength * point / point.norm() if point.any() else torch.zeros_like(point)

    def lam_max(self, gradient_at_zero):
        return gradient_at_zero.norm()


SOME_FREE = torch.tensor([0.0, 1, 1, 2, 1, 1, 0.5, 1, 1, 0, 1, 1])

CONVEX = {
    "L1": L1(1.0),
    "L1, weights": L1(1.0, weights=SOME_FREE),
    "L1, weights by entry": L1(1.0, weights=torch.rand(3, 12, generator=torch.manual_seed(0))),
    "ElasticNet": ElasticNet(1.0, l1_ratio=0.5),
    "GroupL1, columns": GroupL1(1.0, dim=1),
    "GroupL1, columns from the end": GroupL1(1.0, dim=-1, weights=SOME_FREE + 0.5),
    "GroupL1, rows": GroupL1(1.0, dim=0),
    "GroupL1, labels": GroupL1(1.0, dim=1, index=[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
    "SparseGroupL1": SparseGroupL1(1.0, dim=1, l1_ratio=0.3),
    "SparseGroupL1, rows": SparseGroupL1(1.0, dim=0),
    "Nuclear": Nuclear(1.0),
    "a new one": Ridge(1.0),
}


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
@pytest.mark.parametrize("name", CONVEX)
def test_paths_with_and_without_agree(kind, name):
    target, strengths = (RESPONSES, [0.5, 0.1]) if kind is ProxRegressor else (CLASSES, [0.1, 0.02])
    penalty, options = CONVEX[name], {"strengths": strengths, "sample_weight": WEIGHTS}
    head = kind(penalty, tol=1e-9).path(DATA, target, **options)
    without = kind(penalty, tol=1e-9, optimizer="sgd").path(DATA, target, **options)
    np.testing.assert_allclose(head.coefs, without.coefs, atol=1e-6)
    np.testing.assert_allclose(head.objectives, without.objectives, rtol=1e-12)
    assert all(certificate.converged for certificate in head.certificates)
    if kind is ProxRegressor:
        for one, other in zip(head.certificates, without.certificates, strict=True):
            assert (one.gap is None) is (other.gap is None)
    assert head.n_iter.sum() < without.n_iter.sum()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(CONVEX)), st.sampled_from([ProxRegressor, ProxClassifier]), st.integers(1, 60),
    st.floats(-3, 1), st.floats(-2, 2), st.integers(0, 2**31 - 1),
)  # fmt: skip
def test_the_objective_is_never_higher_than_at_the_start(name, kind, most, strength, size, seed):
    model = kind(CONVEX[name], strength=10**strength, max_iter=most, tol=1e-6)
    before = []

    def start(task, choices):
        network = task.untrained(choices, torch.Generator())
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                entries = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
                parameter.copy_(10**size * entries * (entries > -0.3))
        before.append((task, choices, copy.deepcopy(network), network))
        return network

    _, _, steps = alone(model, DATA, RESPONSES if kind is ProxRegressor else CLASSES, WEIGHTS, start)
    ((task, choices, first, last),) = before
    with torch.no_grad():
        values = [
            float(task.loss(network(task.inputs), task.targets, task.weights))
            + float(choices.penalty.value(linear_layers(network)[0].weight))
            for network in (first, last)
        ]
    assert values[1] <= values[0] * (1 + 1e-13)
    assert 0 <= steps <= most


def test_features_of_very_different_scales_take_no_longer():
    """A unit for each feature: as if they were standardised, with the weights of the penalty to match."""
    scales = 10 ** np.linspace(-4, 4, 12)
    spread = DATA / DATA.std(0)
    model = ProxRegressor(L1(0.1, weights=torch.from_numpy(1 / scales)), tol=1e-10)
    coef, _, steps = alone(model, spread / scales, RESPONSE)
    expected, _, plain = alone(ProxRegressor(strength=0.1, tol=1e-10), spread, RESPONSE)
    np.testing.assert_allclose(coef / scales, expected, atol=1e-8)
    assert steps <= plain + 50
    # With one λ for all scales, where small features have no chance.
    small, _, _ = alone(ProxRegressor(strength=0.1, tol=1e-10), spread / scales, RESPONSE)
    other = reference(Lasso(0.1, **EXACT), spread / scales, RESPONSE)
    np.testing.assert_allclose(small[0] / scales, other.coef_ / scales, atol=1e-7)


def test_nearly_equal_features():
    near = np.c_[DATA, DATA[:, :3] + 1e-4 * GENERATOR.normal(size=(60, 3))]
    model = ProxRegressor(strength=0.1).fit(near, RESPONSE)
    other = reference(Lasso(0.1, **EXACT), near, RESPONSE)
    np.testing.assert_allclose(model.predict(near), other.predict(near), atol=1e-5)
    assert model.certificate_.converged


@pytest.mark.parametrize("penalty", ["L1", "GroupL1", None])
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_constant_and_repeated_features(kind, penalty):
    target = RESPONSE if kind is ProxRegressor else np.minimum(CLASSES, 1)
    same = np.c_[DATA[:, :3], np.full(60, 7.0), np.zeros(60), DATA[:, 0]]
    choice = GroupL1(0.05, dim=1) if penalty == "GroupL1" else penalty
    model = kind(choice, tol=1e-7).fit(same, target)
    plain = kind(choice, tol=1e-7).fit(DATA[:, :3], target)
    assert model.certificate_.converged
    np.testing.assert_array_equal(model.coef_.reshape(-1)[3:5], 0)
    np.testing.assert_allclose(model._outputs(same), plain._outputs(DATA[:, :3]), atol=1e-4)


@pytest.mark.parametrize("weights", [None, torch.from_numpy(WEIGHTS / WEIGHTS.mean())], ids=["", "weighted"])
@pytest.mark.parametrize(
    ("loss", "targets", "outputs"),
    [
        (SquaredError(), torch.from_numpy(RESPONSES), 3),
        (BinaryCrossEntropy(), torch.from_numpy(np.minimum(CLASSES, 1).astype(float)), 1),
        (CrossEntropy(), torch.from_numpy(CLASSES), 3),
    ],
)
def test_slopes_are_those_of_autograd(loss, targets, outputs, weights):
    point = torch.randn(60, outputs, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True)
    (expected,) = torch.autograd.grad(loss(point, targets, weights), point)
    torch.testing.assert_close(loss.slope(point.detach(), targets, weights), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "arguments",
    [
        {"penalty": MCP(0.1)},
        {"penalty": L0(0.1)},
        {"optimizer": "sgd"},
        {"optimizer": "adam"},
        {"lr": 0.01},
        {"momentum": 0.5},
        {"lr_schedule": "constant"},
        {"batch_size": 20},
        {"hidden_layer_sizes": (3,)},
        {"dtype": "float32"},
    ],
    ids=lambda arguments: next(iter(arguments.items())),
)
@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_where_anything_is_chosen_otherwise_there_is_none(monkeypatch, kind, arguments):
    def refuse(*_):
        raise AssertionError("a head start")

    monkeypatch.setattr(training, "head_start", refuse)
    target = RESPONSE if kind is ProxRegressor else CLASSES
    kind(max_iter=3, tol=1e6, random_state=0, **arguments).fit(DATA, target)
    with pytest.raises(AssertionError, match="a head start"):
        kind(max_iter=3, tol=1e6).fit(DATA, target)


@pytest.mark.parametrize("kind", [ProxRegressor, ProxClassifier])
def test_the_certificate_is_the_judge_whatever_the_head_start_says(monkeypatch, kind):
    target = RESPONSE if kind is ProxRegressor else CLASSES
    model = kind(strength=0.1).fit(DATA, target)

    def astray(network, *_):
        with torch.no_grad():
            network[0].weight.fill_(1.0)
        return 7

    monkeypatch.setattr(training, "head_start", astray)
    other = kind(strength=0.1).fit(DATA, target)
    assert other.certificate_.converged
    assert other.n_iter_ > 7 + 20
    np.testing.assert_allclose(other.coef_, model.coef_, atol=1e-6)
    monkeypatch.setattr(training, "head_start", lambda *_: 5)
    with pytest.warns(ConvergenceWarning, match="after 5 passes"):
        kind(strength=0.1, max_iter=5).fit(DATA, target)


def test_where_rounding_is_in_the_way_it_ends_with_its_steps():
    """A tolerance of 0 is out of reach, and the optimiser's turn comes as well."""
    with pytest.warns(ConvergenceWarning):
        model = ProxRegressor(strength=0.1, tol=0, max_iter=3_000).fit(DATA, RESPONSE)
    assert model.n_iter_ == 3_000
    assert_close(model.coef_[None], reference(Lasso(0.1, **EXACT), DATA, RESPONSE).coef_)
