"""The four activations: distances to their twins, derivatives, kinks, memory formats."""

import math

import pytest
import torch
from torch import nn

from nonsmooth.models import ACTIVATIONS, PiecewiseLinearGELU, SmoothReLU

GRID = torch.linspace(-6, 6, 120_001, dtype=torch.float64)
TWINS = [(SmoothReLU, nn.ReLU), (PiecewiseLinearGELU, nn.GELU)]


def slope(module, points):
    points = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(points).sum(), points)
    return gradient


def slope_jump(module, point, reach=1e-7):
    """Difference of the one-sided secants at a point: 0 for a differentiable function as the reach goes to 0."""
    at = torch.tensor([point - reach, point, point + reach], dtype=torch.float64)
    below, middle, above = module(at).tolist()
    return (above - 2 * middle + below) / reach


@pytest.mark.parametrize(("twin", "original"), TWINS)
def test_the_distance_to_the_original_is_what_the_twin_says(twin, original):
    largest = (twin()(GRID) - original()(GRID)).abs().max().item()
    assert largest <= twin().distance + 1e-12
    assert largest > 0.85 * twin().distance


def test_the_twins_are_far_closer_to_their_originals_than_these_are_to_each_other():
    between = (nn.GELU()(GRID) - nn.ReLU()(GRID)).abs().max().item()
    assert between == pytest.approx(0.17, abs=0.001)
    assert max(SmoothReLU().distance, PiecewiseLinearGELU().distance) < between / 6


@pytest.mark.parametrize("twin", [SmoothReLU, PiecewiseLinearGELU])
def test_far_from_zero_a_twin_is_exactly_zero_and_exactly_the_identity(twin):
    far = torch.tensor([4.0, 7.5, 1e6, 1e30])
    assert torch.equal(twin()(far), far)
    assert torch.equal(twin()(-far), torch.zeros(4))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_is_that_of_central_differences(name):
    module, step = ACTIVATIONS[name].make(), 1e-6
    points = GRID[:-1] + 3.1e-5  # between the grid's points, which include the kinks
    secants = (module(points + step) - module(points - step)) / (2 * step)
    torch.testing.assert_close(slope(module, points), secants, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["smooth-relu", "piecewise-linear-gelu"])
def test_gradcheck_away_from_the_kinks(name):
    points = torch.tensor([-5.0, -1.3, -0.07, 0.03, 0.4, 1.7, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ACTIVATIONS[name].make(), (points,))


def test_smooth_relu_is_the_quadratic_between_and_has_no_kink():
    module = SmoothReLU(0.5)
    points = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    torch.testing.assert_close(module(points), (points + 0.5) ** 2 / 2)
    assert max(abs(slope_jump(module, p)) for p in (-0.5, 0.0, 0.5)) < 1e-6
    slopes = slope(module, GRID)
    assert (slopes.diff() / GRID.diff()).max().item() == pytest.approx(1 / (2 * 0.5), rel=1e-3)


def test_piecewise_linear_gelu_has_its_kinks_at_the_knots_and_nowhere_else():
    module = PiecewiseLinearGELU()
    assert 0.0 in module.knots
    assert len(module.knots) == 17
    inner = [knot for knot in module.knots if abs(knot) < 3]
    assert min(abs(slope_jump(module, knot)) for knot in inner) > 1e-3
    slopes = slope(module, GRID)
    changes = GRID[1:][slopes.diff().abs() > 1e-9]
    assert all(min(abs(change - knot) for knot in module.knots) < 1e-3 for change in changes.tolist())
    inner_values = torch.tensor(inner, dtype=torch.float64)
    torch.testing.assert_close(module(inner_values), nn.functional.gelu(inner_values))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_table_says_which_are_smooth_and_which_shape_they_have(name):
    about = ACTIVATIONS[name]
    assert about.name == name
    jump = abs(slope_jump(about.make(), 0.0, reach=1e-9))
    assert (jump < 1e-5) is about.smooth
    at = torch.tensor([-0.75], dtype=torch.float64)
    assert (about.make()(at).item() == 0) is (about.shape == "relu")


@pytest.mark.parametrize("name", ["smooth-relu", "piecewise-linear-gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_formats_give_the_same_values_and_keep_their_format(name, dtype):
    module = ACTIVATIONS[name].make()
    plain = torch.randn(3, 5, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    last = plain.contiguous(memory_format=torch.channels_last)
    assert torch.equal(module(plain), module(last))
    assert torch.equal(slope(module, plain), slope(module, last))
    assert module(last).is_contiguous(memory_format=torch.channels_last)
    assert module(plain).dtype == dtype
    assert torch.equal(module(plain.transpose(1, 3)), module(plain).transpose(1, 3))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_not_a_number_stays_so_and_breaks_nothing(name):
    outputs = ACTIVATIONS[name].make()(torch.tensor([math.nan, 1e38, -1e38]))
    assert outputs.isnan().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: SmoothReLU(0), "half_width is 0"),
        (lambda: PiecewiseLinearGELU(bound=-1), "bound is -1"),
        (lambda: PiecewiseLinearGELU(pieces=7), "pieces is 7"),
    ],
)
def test_bad_widths_are_named(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()
