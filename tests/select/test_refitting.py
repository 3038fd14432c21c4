"""Zeros stay zero under every optimizer, in every forward pass, and the others lose their shrinkage."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from torch import nn

import nonsmooth as ns
from nonsmooth.select import refit

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "AMSGrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, foreach=False),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=5),
    "ProxAdam": lambda p: ns.ProxAdam(p, lr=0.01),
}
INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
TARGETS = INPUTS.sum(1, keepdim=True).sin()


def sparse_network(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    with torch.no_grad():
        model[0].weight[torch.rand(5, 6) < 0.5] = 0
        model[0].bias[0] = 0
    return model


def zeros_of(model):
    return {name: parameter.detach() == 0 for name, parameter in model.named_parameters() if parameter.ndim > 1}


def train(model, optimizer, steps=15, seen=None):
    def closure():
        optimizer.zero_grad()
        loss = (model(INPUTS) - TARGETS).square().mean()
        loss.backward()
        if seen is not None:
            seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_zero_in_every_pass(name):
    model, seen = sparse_network(), []
    masks, before = (
        {"0.weight": model[0].weight.detach() == 0},
        {n: p.detach().clone() for n, p in model.named_parameters()},
    )
    found = refit(model, lambda m: train(m, OPTIMIZERS[name](m.parameters()), seen=seen))
    for weights in [*seen, dict(model.named_parameters())]:
        for key, mask in masks.items():
            assert not weights[key][mask].any()
    for key, mask in masks.items():
        assert bool((model.get_parameter(key) != before[key])[~mask].all())
    assert bool((model[0].bias != before["0.bias"]).all())  # a bias that is zero is no zero of a penalty
    assert found.written == ()
    assert (found.zeros, found.entries) == (int(masks["0.weight"].sum()), 30)
    # Without being held they leave zero at once: the test can fail.
    free = sparse_network()
    train(free, OPTIMIZERS[name](free.parameters()))
    assert all(bool(free.get_parameter(key)[mask].any()) for key, mask in masks.items())


def test_an_optimizer_with_a_past_does_not_leak():
    """Its momentum still pulls at what has been set to zero since."""
    model = sparse_network()
    masks = zeros_of(model)
    optimizer = train(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    with torch.no_grad():
        for key, mask in masks.items():
            model.get_parameter(key)[mask] = 0
    seen = []
    refit(model, lambda m: train(m, optimizer, seen=seen))
    assert not any(bool(weights[key][mask].any()) for weights in seen for key, mask in masks.items())


def test_an_optimizer_that_mixes_the_entries_of_a_matrix_does_not_leak():
    """As Muon, whose step is an orthogonal matrix: a gradient of zero does not mean a step of zero."""

    class Orthogonal(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure):
            with torch.enable_grad():
                closure()
            for group in self.param_groups:
                for parameter in group["params"]:
                    left, _, right = torch.linalg.svd(parameter.grad.reshape(len(parameter), -1), full_matrices=False)
                    parameter.sub_((left @ right).reshape(parameter.shape), alpha=0.05)

    model, seen = sparse_network(), []
    masks = zeros_of(model)
    found = refit(model, lambda m: train(m, Orthogonal(m.parameters()), seen=seen))
    assert not any(bool(weights[key][mask].any()) for weights in seen for key, mask in masks.items())
    assert found.written == ()


def test_after_refitting_nothing_is_held():
    model = sparse_network()
    refit(model, lambda m: None)
    masks = zeros_of(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert any(bool(model.get_parameter(key)[mask].any()) for key, mask in masks.items())


def test_nothing_is_held_after_an_exception():
    model = sparse_network()
    with pytest.raises(ZeroDivisionError):
        refit(model, lambda m: 1 / 0)
    test_after_refitting_nothing_is_held()
    masks = zeros_of(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert any(bool(model.get_parameter(key)[mask].any()) for key, mask in masks.items())


def test_what_else_writes_to_zeros_is_told_and_undone():
    model = sparse_network()
    masks = zeros_of(model)

    def fit(m):
        with torch.no_grad():
            m[0].weight.add_(1.0)

    with pytest.warns(UserWarning, match=r"has written to zeros of 0\.weight"):
        found = refit(model, fit)
    assert found.written == ("0.weight",)
    assert not model[0].weight[masks["0.weight"]].any()
    assert bool(model[0].weight[~masks["0.weight"]].all())


def test_a_parameter_that_was_exchanged_keeps_its_zeros():
    model = sparse_network()
    masks = zeros_of(model)

    def fit(m):
        m[0].weight = nn.Parameter(torch.ones(5, 6))

    with pytest.warns(UserWarning, match="has written to zeros"):
        refit(model, fit)
    assert torch.equal(model[0].weight == 0, masks["0.weight"])


def test_an_infinite_gradient_leaves_zeros():
    model = sparse_network()
    masks = zeros_of(model)

    def fit(m):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        (m(INPUTS).sum() * torch.inf).backward()
        optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refit(model, fit)
    assert not model[0].weight[masks["0.weight"]].any()


def test_sparse_gradients_and_frozen_parameters():
    model = nn.Sequential(nn.EmbeddingBag(8, 3, sparse=True), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[1].weight[0, 0] = 0
    model[1].weight.requires_grad_(False)

    def fit(m):
        optimizer = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1)
        m(torch.arange(8).reshape(2, 4)).sum().backward()
        optimizer.step()

    refit(model, fit)
    assert torch.equal(model[0].weight.any(1), torch.arange(8) % 2 == 1)
    assert model[1].weight[0, 0] == 0


def test_refitting_the_lasso_is_least_squares_on_its_support():
    data, response = load_diabetes(return_X_y=True)
    data, response = data / data.std(0), response - response.mean()
    coef = Lasso(10.0, fit_intercept=False, tol=1e-10).fit(data, response).coef_
    support = np.flatnonzero(coef)
    assert 0 < len(support) < len(coef)
    model = nn.Linear(10, 1, bias=False, dtype=torch.float64)
    model.weight.data = torch.tensor(coef)[None]
    inputs, targets = torch.as_tensor(data), torch.as_tensor(response)[:, None]

    def fit(m):
        optimizer = torch.optim.LBFGS(m.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

        def closure():
            optimizer.zero_grad()
            loss = (m(inputs) - targets).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    found = refit(model, fit, score=lambda m: -(m(inputs) - targets).square().squeeze(1))
    expected = np.linalg.lstsq(data[:, support], response, rcond=None)[0]
    assert model.weight.detach().numpy()[0, support] == pytest.approx(expected, rel=1e-5)
    assert np.abs(expected).sum() > np.abs(coef).sum()  # the shrinkage is gone
    residuals = [(response - data @ w) ** 2 for w in (coef, model.weight.detach().numpy()[0])]
    assert found.before == pytest.approx(-residuals[0].mean())
    assert found.after == pytest.approx(-residuals[1].mean())
    assert found.error == pytest.approx((residuals[0] - residuals[1]).std(ddof=1) / np.sqrt(len(response)))
    assert str(found).startswith("6 of 10 weights held at zero; score ")


def test_a_score_that_falls_is_warned_of():
    model, scores = sparse_network(), iter([0.9, 0.8, 0.8, 0.9])
    with pytest.warns(UserWarning, match=r"lowered the score from 0\.9 to 0\.8"):
        found = refit(model, lambda m: None, score=lambda m: next(scores))
    assert found.change == pytest.approx(-0.1)
    assert np.isnan(found.error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refit(model, lambda m: None, score=lambda m: next(scores)).change > 0


def test_modes_are_as_the_training_left_them():
    model = sparse_network().train()
    modes = []

    def score(m):
        m.eval()
        return 0.0

    refit(model, lambda m: modes.append(m.training), score=score)
    assert modes == [True]
    assert model.training


def test_what_is_held_can_be_chosen():
    model = sparse_network()
    found = refit(
        model, lambda m: train(m, torch.optim.SGD(m.parameters(), lr=0.1)), include=["0.bias"], exclude=["2.*"]
    )
    assert model[0].bias[0] == 0
    assert found.entries == 35  # with the five biases
    with pytest.raises(ValueError, match=r"model has no zeros in 2\.weight"):
        refit(model, lambda m: None, exclude=["0.*"])


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [("model", TypeError, "model is a str"), (nn.Linear(3, 3), ValueError, "model has no zeros in weight")],
)
def test_what_cannot_be_refitted_is_refused(model, error, message):
    with pytest.raises(error, match=message):
        refit(model, lambda m: pytest.fail("it was trained"))
