"""λ means one number: each optimiser ends at the solution of the same LASSO, by its optimality conditions."""

from __future__ import annotations

import functools

import pytest
import torch
from sklearn.linear_model import Lasso

from nonsmooth.optim import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.penalties import L1, GroupL1

GENERATOR = torch.Generator().manual_seed(3)
ROWS, COLUMNS, LAM = 60, 12, 0.2
X = torch.randn(ROWS, COLUMNS, generator=GENERATOR, dtype=torch.float64)
TRUE = torch.tensor([2.0, -1.5, 1.0, -0.7], dtype=torch.float64)
Y = X[:, :4] @ TRUE + 0.5 * torch.randn(ROWS, generator=GENERATOR, dtype=torch.float64)
HESSIAN, LINEAR = X.T @ X / ROWS, X.T @ Y / ROWS

CASES = [
    (ProxSGD, {"lr": 0.1}),
    (ProxSGD, {"lr": 0.1, "fused": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9}),
    (ProxSGD, {"lr": torch.tensor(0.1), "momentum": 0.9, "maximize": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "foreach": True}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.5, "dampening": 0.5}),
    (ProxSGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (ProxAdam, {"lr": 0.02}),
    (ProxAdam, {"lr": 0.02, "betas": (0.5, 0.9), "eps": 0.1}),
    (ProxAdam, {"lr": 0.02, "amsgrad": True, "foreach": True}),
    (ProxAdam, {"lr": 0.02, "weight_decay": 0.1, "fused": True, "maximize": True}),
    (ProxAdamW, {"lr": 0.02, "weight_decay": 0.0}),
    (ProxNAdam, {"lr": 0.02}),
    (ProxNAdam, {"lr": 0.02, "momentum_decay": 0.05, "foreach": True}),
    (ProxRMSprop, {"lr": 0.02}),
    (ProxRMSprop, {"lr": 0.02, "momentum": 0.5, "alpha": 0.9}),
    (ProxRMSprop, {"lr": 0.02, "centered": True, "eps": 0.1}),
    (ProxAdagrad, {"lr": 0.5}),
    (ProxAdagrad, {"lr": 0.5, "lr_decay": 1e-3, "fused": True}),
    (ProxAdagrad, {"lr": 0.5, "initial_accumulator_value": 1.0, "eps": 0.1}),
]


def solve(kind, options, penalty, steps, start=0.0):
    weight = torch.nn.Parameter(torch.full((COLUMNS,), start, dtype=torch.float64))
    optimizer = kind([weight], penalty=penalty, **options)
    sign = -1 if options.get("maximize") else 1
    for _ in range(steps):
        weight.grad = sign * (HESSIAN @ weight.detach() - LINEAR)
        optimizer.step()
    return weight.detach()


def residual(weight, ridge=0.0):
    """The largest distance of -∇f from λ∂|w|, relative to λ."""
    gradient = HESSIAN @ weight - LINEAR + ridge * weight
    at_zero = (gradient.abs() - LAM).clamp(min=0)
    return float(torch.where(weight == 0, at_zero, (gradient + LAM * weight.sign()).abs()).max()) / LAM


@functools.cache
def reference():
    """scikit-learn's solution of the same problem."""
    model = Lasso(alpha=LAM, fit_intercept=False, tol=1e-14, max_iter=100_000)
    return torch.as_tensor(model.fit(X.numpy(), Y.numpy()).coef_)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_the_same_lasso_is_solved(kind, options):
    # Coupled weight decay is a part of the loss, so that the problem is an elastic net.
    ridge = options.get("weight_decay", 0.0)
    weight = solve(kind, options, L1(LAM), 1500, start=1.5)
    assert residual(weight, ridge) <= 1e-9
    if not ridge:
        torch.testing.assert_close(weight, reference(), rtol=1e-8, atol=1e-10)
        assert torch.equal(weight != 0, reference() != 0)
        assert 0 < int((weight == 0).sum()) < COLUMNS


# RMSprop's ε bounds its step where the gradient of a weight in a group is near zero, else it never settles there.
@pytest.mark.parametrize(("kind", "options"), [CASES[2], CASES[7], CASES[12], (ProxRMSprop, {"lr": 0.02, "eps": 0.1})])
def test_groups_solve_the_same_group_lasso(kind, options):
    """Residual by groups of three, by hand: ‖g‖ ≤ λ√3 for a zero group, g = -λ√3 w/‖w‖ for another."""
    penalty = GroupL1(LAM / 2, index=torch.arange(COLUMNS) // 3)
    weight = solve(kind, options, penalty, 900)
    strength = LAM / 2 * 3**0.5
    groups = 0
    for first in range(0, COLUMNS, 3):
        part = weight[first : first + 3]
        gradient = (HESSIAN @ weight - LINEAR)[first : first + 3]
        if part.norm() == 0:
            assert float(gradient.norm()) <= strength
            groups += 1
        else:
            assert float((gradient + strength * part / part.norm()).norm()) / strength <= 1e-9
    assert 0 < groups < COLUMNS // 3


def test_the_residual_above_sees_another_lambda():
    assert residual(solve(ProxSGD, {"lr": 0.1}, L1(LAM * 1.001), 500)) > 5e-4


def test_centred_rmsprop_with_a_tiny_epsilon_does_not_settle_on_a_full_batch():
    """Its variance vanishes and its step grows to α/ε, beyond 2/L; without a penalty, in torch's own, it does too."""
    options = {"lr": 0.02, "centered": True, "eps": 1e-8}
    assert residual(solve(ProxRMSprop, options, L1(LAM), 1500)) > 1e-3
    weight = torch.nn.Parameter(torch.zeros(COLUMNS, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], **options)
    distances = []
    for _ in range(1500):
        weight.grad = HESSIAN @ weight.detach() - LINEAR
        optimizer.step()
        distances.append(float(weight.grad.norm()))
    assert min(distances) < 1e-3
    assert min(distances[-500:]) > 1e-2


def test_centred_rmsprop_of_torch_can_become_nan_once_its_variance_is_rounding():
    """Why a mean that settles is bad news under `centered=True`, with a penalty or without."""
    for kind in (torch.optim.RMSprop, ProxRMSprop):
        weight = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
        optimizer = kind([weight], lr=1e-3, alpha=0.9, centered=True)
        for _ in range(500):
            weight.grad = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
            optimizer.step()
        assert weight.isnan().any()


def test_decoupled_weight_decay_is_a_ridge_that_the_metric_scales():
    """AdamW subtracts α·wd·w outside its metric, so that coordinate j ends with the ridge wd·(√v̂ + ε)."""
    decay, epsilon = 0.2, 1e-2
    options = {"lr": 0.02, "weight_decay": decay, "eps": epsilon, "betas": (0.9, 0.98)}
    weight = solve(ProxAdamW, options, L1(LAM), 2500)
    gradient = HESSIAN @ weight - LINEAR
    ridge = decay * (gradient.abs() + epsilon)  # once nothing moves, v̂ is the square of the loss's gradient
    pull = gradient + ridge * weight + LAM * weight.sign()
    support = weight != 0
    assert float(pull[support].abs().max()) / LAM <= 1e-9
    assert float(gradient[~support].abs().max()) <= LAM
    assert 0 < int(support.sum()) < COLUMNS
