"""Gradients through a step with `differentiable=True`, against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, MCP, ElasticNet, GroupL1

# Not SGD with momentum: torch detaches the first gradient, which its buffer starts from.
CASES = [
    (ProxSGD, {"lr": 0.1}),
    (ProxAdam, {"lr": 0.1}),
    (ProxAdam, {"lr": 0.1, "amsgrad": True}),
    (ProxAdamW, {"lr": 0.1}),
    (ProxNAdam, {"lr": 0.1}),
    (ProxRMSprop, {"lr": 0.04, "momentum": 0.5}),
    (ProxRMSprop, {"lr": 0.05, "centered": True}),
    (ProxAdagrad, {"lr": 0.1}),
]
# Away from the kinks: one weight is thresholded to zero, the others stay well above.
POINT = torch.tensor([[0.8, -1.3, 0.001], [1.1, 0.9, -0.7]], dtype=torch.float64)
GRADIENT = torch.tensor([[0.5, -0.4, 0.02], [0.9, -0.8, 0.3]], dtype=torch.float64)


def steps_of(kind, options, penalty):
    # In these two torch itself overwrites, in its second step, what autograd needs of the first.
    steps = 1 if options.get("amsgrad") or options.get("centered") else 2

    def after(point, gradient):
        weight = point.clone()
        optimizer = kind([weight], differentiable=True, penalty=penalty, **options)
        for _ in range(steps):
            weight.grad = gradient + 0.1 * weight
            optimizer.step()
        return weight

    return after


@pytest.mark.parametrize(
    "penalty", [L1(0.2), ElasticNet(0.2, 0.4), MCP(0.2), GroupL1(0.1)], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_gradients_pass_through_the_prox(kind, options, penalty):
    after = steps_of(kind, options, penalty)
    assert gradcheck(after, (POINT.clone().requires_grad_(), GRADIENT.clone().requires_grad_()))


@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[1]])
def test_second_derivatives_pass_through_the_prox(kind, options):
    after = steps_of(kind, options, L1(0.2))
    assert gradgradcheck(after, (POINT.clone().requires_grad_(), GRADIENT.clone().requires_grad_()))


def test_a_weight_at_zero_has_no_derivative_and_the_others_one():
    point = POINT.clone().requires_grad_()
    steps_of(ProxSGD, {"lr": 0.1}, L1(0.2))(point, GRADIENT).sum().backward()
    assert point.grad[0, 2] == 0
    assert bool((point.grad[1] > 0.9).all())


def test_the_step_size_has_a_derivative():
    """Hypergradients: dw/dα = -(g + λ sign(w)) after one step."""
    rate = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    weight = POINT.clone()
    optimizer = ProxSGD([weight], lr=rate, differentiable=True, penalty=L1(0.2))
    weight.grad = GRADIENT.clone()
    optimizer.step()
    weight[1, 0].backward()
    torch.testing.assert_close(rate.grad, torch.tensor(-(0.9 + 0.2), dtype=torch.float64))


@pytest.mark.parametrize("kind", [ProxSGD, ProxAdam])
def test_without_that_option_no_graph_is_kept(kind):
    weight = torch.nn.Parameter(POINT.clone())
    optimizer = kind([weight], penalty=L1(0.2))
    weight.grad = GRADIENT.clone()
    with torch.enable_grad():
        optimizer.step()
    assert weight.grad_fn is None
    assert weight.is_leaf
