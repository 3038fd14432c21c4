"""The closed form of λ‖β‖₁, its C¹ twin and its proximal step, against exact rationals, autograd and torch."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.claims.absolute_value import HuberisedL1, cycle, proximal_step, settling_steps
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.problems import l1_norm


@given(st.integers(-(10**6), 10**6).filter(bool), st.integers(10**4, 10**6))
@settings(deadline=None)
def test_the_closed_form_is_the_recursion_in_rational_arithmetic(numerator, travel):
    """Eq. (8) run in exact fractions; the sizes keep the float64 division exact enough for the floor."""
    start, step = Fraction(numerator, 2**20), Fraction(travel, 2**20) + Fraction(1, 2**25)
    point, steps = start, 0
    while abs(point) >= step:
        point -= step if point > 0 else -step
        steps += 1
    after = point - (step if point > 0 else -step if point < 0 else 0)
    tensor = torch.tensor(float(start), dtype=torch.float64)
    assert settling_steps(tensor, float(step)).item() == steps
    first, second = cycle(tensor, float(step))
    assert first.item() == pytest.approx(float(point), abs=1e-9)
    if point:
        assert second.item() == pytest.approx(float(after), abs=1e-9)


def test_twin_against_torch_huber_loss_and_autograd():
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, 3, 6, generator=generator, dtype=torch.float64)
    strength, width = torch.tensor([0.3, 1.0, 5.0]), torch.tensor([0.2, 0.7, 2.0])
    problem = HuberisedL1(6, strength, width)
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
        slopes = HuberisedL1(6, strength[variant], width[variant]).subgradient(steepest.unsqueeze(1))[:, 0]
        ratio = (slopes[1] - slopes[0]).norm() / (steepest[1] - steepest[0]).norm()
        assert ratio.item() == pytest.approx(problem.gradient_lipschitz[0, variant].item())


def test_proximal_step_is_softshrink_and_reaches_zero():
    start = torch.tensor([[[0.5053, -0.0049, 0.0]]], dtype=torch.float64)
    run = iterate(l1_norm(3, 1.0), start, Constant(0.01), 1, method=lambda: proximal_step(1.0))
    assert torch.allclose(run.point, torch.nn.functional.softshrink(start, 0.01))
    run = iterate(l1_norm(3, 1.0), start, Constant(0.01), 60, method=lambda: proximal_step(1.0))
    assert bool((run.point == 0).all())


@pytest.mark.parametrize(("features", "strength", "width"), [(0, 1.0, 1.0), (2, 0.0, 1.0), (2, 1.0, -1.0)])
def test_twin_refuses_what_is_not_positive(features, strength, width):
    with pytest.raises(ValueError, match="accepted"):
        HuberisedL1(features, strength, width)


@pytest.mark.parametrize(("edge", "converges"), [(0.5, True), (0.99, True), (1.01, False), (5.0, False)])
def test_twin_converges_exactly_below_two_over_l(edge, converges):
    problem = HuberisedL1(4, 1.0, 0.1)
    start = torch.linspace(0.11, 0.9, 4, dtype=torch.float64).reshape(1, 1, 4)
    run = iterate(problem, start, Constant(edge * 2 / problem.gradient_lipschitz.item()), 5000)
    assert math.isclose(run.point.abs().max().item(), 0, abs_tol=1e-12) == converges
