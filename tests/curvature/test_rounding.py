"""No error is said to be smaller than rounding makes it."""

import copy

import pytest
import torch
from torch import nn

from nonsmooth.curvature import kink_gap, sharpness

EPS = torch.finfo(torch.float32).eps


def networks(seed):
    torch.manual_seed(seed)
    width, count, scale = [(8, 20, 10.0), (30, 200, 1.0), (100, 60, 1.0)][seed % 3]
    model = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
    rows, targets = scale * torch.randn(count, 5), torch.randn(count, 1)
    exact = copy.deepcopy(model).double()

    def single():
        return (model(rows) - targets).square().mean()

    def double():
        return (exact(rows.double()) - targets.double()).square().mean()

    return (single, model), (double, exact)


@pytest.mark.parametrize("seed", range(9))
def test_an_eigenvalue_in_single_precision_lies_within_its_error(seed):
    (single, model), (double, exact) = networks(seed)
    found = sharpness(single, model.parameters(), tolerance=1e-7, max_products=60)
    right = sharpness(double, exact.parameters(), tolerance=1e-12, max_products=200)
    assert abs(found.value - right.value) <= found.error
    assert min(found.error, found.residual) >= EPS * found.value


@pytest.mark.parametrize("seed", range(9))
def test_curvatures_of_a_kink_gap_in_single_precision_lie_within_its_rounding(seed):
    (single, model), (double, exact) = networks(seed)
    found = kink_gap(single, model.parameters())
    right = kink_gap(double, exact.parameters(), direction=found.direction.double())
    for k, rounding in enumerate(found.rounding):
        size = max(abs(found.differences[k]), abs(found.hessian))
        assert abs(found.gaps[k] - right.gaps[k]) <= 2 * rounding
        assert abs(found.hessian - right.hessian) <= rounding * size
        assert rounding >= EPS


def test_a_gap_at_a_minimum_is_known_no_better_than_its_numbers():
    weight = torch.zeros(3, requires_grad=True)
    curvature = torch.tensor([0.1, 0.3, 0.7])
    found = kink_gap(lambda: curvature @ weight.square(), [weight])
    assert all(gap <= rounding for gap, rounding in zip(found.gaps, found.rounding, strict=True))
    assert min(found.rounding) >= EPS


def test_the_error_of_an_eigenvalue_of_one_number_is_its_rounding():
    weight = torch.ones(1, requires_grad=True)
    found = sharpness(lambda: 0.1 * weight**4, [weight])
    assert found.converged
    assert EPS * found.value <= found.error <= 100 * EPS * found.value


@pytest.mark.parametrize("method", ["double backward", "finite differences"])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, 1e-40), (torch.float32, 1e-24), (torch.float32, 1e30)]
    + [(torch.float64, 10.0**power) for power in (-310, -200, 200, 300)],
)
def test_the_squares_of_a_hessian_s_entries_need_not_fit_into_its_numbers(dtype, scale, method):
    curvatures = torch.tensor([3.0, 7.0, 0.5], dtype=dtype)
    weight = torch.ones(3, dtype=dtype, requires_grad=True)
    found = sharpness(lambda: scale * (curvatures @ weight.square()) / 2, [weight], method=method)
    assert found.converged
    assert abs(found.value / scale - 7.0) <= max(1e-3, 2 * found.error / scale) < 0.02
