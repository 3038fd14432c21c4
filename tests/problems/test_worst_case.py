"""The worst-case functions against autograd, brute force and their published bounds."""

import pytest
import torch

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Smallest, loss
from nonsmooth.problems import LargestCoordinate, QuadraticChain, RoundedLargestCoordinate, SlopedLine

WIDTHS = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)
SLOPES = torch.tensor([2.0, 1.0, 0.3], dtype=torch.float64)


def test_the_line_is_huber():
    problem = SlopedLine(SLOPES, WIDTHS)
    for x in (-1.0, -0.1, -0.05, 0.0, 0.05, 0.3, 2.0):
        point = torch.full((1, 3, 1), x, dtype=torch.float64)
        for v in range(3):
            free = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            width = float(WIDTHS[v])
            if width:
                huber = torch.nn.functional.huber_loss(free, torch.zeros_like(free), delta=width) / width
            else:
                huber = free.abs()
            value = SLOPES[v] * huber
            (slope,) = torch.autograd.grad(value, free)
            evaluation = problem.evaluate(point)
            assert evaluation.value[0, v].item() == pytest.approx(value.item())
            assert evaluation.subgradient[0, v, 0].item() == pytest.approx(slope.item())


def test_the_lines_constants():
    assert SlopedLine(SLOPES, WIDTHS).gradient_lipschitz is None
    smooth = SlopedLine(SLOPES[1:], WIDTHS[1:])
    torch.testing.assert_close(smooth.gradient_lipschitz, torch.tensor([[10.0, 0.6]], dtype=torch.float64))
    with pytest.raises(ValueError, match="slope"):
        SlopedLine(-SLOPES, WIDTHS)


@pytest.mark.parametrize("size", [4, 9, 49])
def test_no_step_size_beats_the_bound_and_the_minimum_is_right(size):
    problem = LargestCoordinate(size)
    generator = torch.Generator().manual_seed(0)
    around = problem.minimizer + 0.1 * torch.randn(1, 1000, size, generator=generator, dtype=torch.float64)
    assert (problem.value(around) >= problem.minimum).all()
    assert problem.minimum.item() == pytest.approx(-0.5 * size**-0.5)
    alphas = torch.logspace(-3, 1, 40, dtype=torch.float64).reshape(1, -1)
    start = torch.zeros(1, 40, size, dtype=torch.float64)
    best = iterate(problem, start, Constant(alphas), size - 1, {"best": Smallest(loss)})["best"]
    assert (best >= 0).all()


@pytest.mark.parametrize(
    "problem", [RoundedLargestCoordinate(9, 0.1), RoundedLargestCoordinate(9, 2.0), QuadraticChain(9)]
)
def test_smooth_worst_cases_against_autograd_and_their_constants(problem):
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(1, 50, 9, generator=generator, dtype=torch.float64)
    free = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(problem.value(free).sum(), free)
    torch.testing.assert_close(problem.subgradient(points), slope)
    assert problem.subgradient(problem.minimizer).abs().max() < 1e-14
    assert torch.linalg.vector_norm(problem.minimizer).item() == pytest.approx(1)
    assert (problem.value(points) > problem.minimum).all()
    hessian = torch.func.hessian(lambda x: problem.value(x.reshape(1, 1, -1))[0, 0])
    curvatures = [torch.linalg.eigvalsh(hessian(x)).max().item() for x in points[0]]
    constant = problem.gradient_lipschitz.item()
    assert max(curvatures) <= constant * (1 + 1e-12)
    two = torch.zeros(9, dtype=torch.float64) - 100 * torch.eye(9, dtype=torch.float64)[2:].sum(0)
    steepest = max([*curvatures, torch.linalg.eigvalsh(hessian(two)).max().item()])
    assert steepest > 0.9 * constant


def test_the_rounded_one_lies_between_the_original_and_its_width_below():
    points = torch.randn(1, 50, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    below = LargestCoordinate(9).value(points) - RoundedLargestCoordinate(9, 0.3).value(points)
    assert (below > 0).all()
    assert (below < 0.3 * 2.1973).all()
    with pytest.raises(ValueError, match="width"):
        RoundedLargestCoordinate(9, 0.0)
