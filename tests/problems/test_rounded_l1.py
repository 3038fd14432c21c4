"""The C¹ twin of λ‖β‖₁ against torch's Huber loss, autograd and its threshold 2/L."""

import math

import pytest
import torch

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.problems import RoundedL1, Sum, l1_norm, lasso


def test_twin_against_torch_huber_loss_and_autograd():
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, 3, 6, generator=generator, dtype=torch.float64)
    strength, width = torch.tensor([0.3, 1.0, 5.0]), torch.tensor([0.2, 0.7, 2.0])
    problem = RoundedL1(6, strength, width)
    for variant in range(3):
        beta = point[0, variant].clone().requires_grad_()
        delta, lam = width[variant].double().item(), strength[variant].double().item()
        value = (
            lam / delta * torch.nn.functional.huber_loss(beta, torch.zeros(6).double(), reduction="sum", delta=delta)
        )
        value.backward()
        evaluation = problem.evaluate(point)
        assert evaluation.value[0, variant].item() == pytest.approx(value.item(), rel=1e-12)
        assert torch.allclose(evaluation.subgradient[0, variant], beta.grad, rtol=1e-12)
    steepest = torch.stack([torch.zeros(6), torch.full((6,), 1e-3)]).double()
    for variant in range(3):
        slopes = RoundedL1(6, strength[variant], width[variant]).subgradient(steepest.unsqueeze(1))[:, 0]
        ratio = (slopes[1] - slopes[0]).norm() / (steepest[1] - steepest[0]).norm()
        assert ratio.item() == pytest.approx(problem.gradient_lipschitz[0, variant].item())


def test_without_width_it_is_the_kink():
    point = torch.tensor([[[-2.0, 0.0, 1e-300, 3.0]]], dtype=torch.float64)
    evaluation, kink = RoundedL1(4, 2.0, 0.0).evaluate(point), l1_norm(4, 2.0).evaluate(point)
    assert torch.equal(evaluation.value, kink.value)
    assert torch.equal(evaluation.subgradient, kink.subgradient)
    assert RoundedL1(4, 2.0, 0.0).gradient_lipschitz.item() == math.inf


def test_a_sum_adds_values_gradients_and_constants():
    generator = torch.Generator().manual_seed(1)
    data, response = torch.randn(3, 4, 6, generator=generator).double(), torch.randn(3, 4, generator=generator).double()
    smooth, penalty = lasso(data, response, 0.0), RoundedL1(6, torch.tensor([0.5, 2.0]), 0.3)
    both, point = Sum(smooth, penalty), torch.randn(3, 2, 6, generator=generator).double()
    assert torch.equal(both.value(point), smooth.value(point) + penalty.value(point))
    assert torch.equal(both.subgradient(point), smooth.subgradient(point) + penalty.subgradient(point))
    hessian = torch.autograd.functional.hessian(
        lambda b: both.value(b.expand(3, 2, 6))[1, 1], torch.zeros(6, dtype=torch.float64)
    )
    assert both.gradient_lipschitz[1, 1].item() == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item())
    assert torch.equal(both.select(slice(1, 2)).value(point[1:2]), both.value(point)[1:2])


@pytest.mark.parametrize(("features", "strength", "width"), [(0, 1.0, 1.0), (2, 0.0, 1.0), (2, 1.0, -1.0)])
def test_twin_refuses_what_is_not_positive(features, strength, width):
    with pytest.raises(ValueError, match="accepted"):
        RoundedL1(features, strength, width)


@pytest.mark.parametrize(("edge", "converges"), [(0.5, True), (0.99, True), (1.01, False), (5.0, False)])
def test_twin_converges_exactly_below_two_over_l(edge, converges):
    problem = RoundedL1(4, 1.0, 0.1)
    start = torch.linspace(0.11, 0.9, 4, dtype=torch.float64).reshape(1, 1, 4)
    run = iterate(problem, start, Constant(edge * 2 / problem.gradient_lipschitz.item()), 5000)
    assert math.isclose(run.point.abs().max().item(), 0, abs_tol=1e-12) == converges
