"""Every penalty against brute force on a grid, PyTorch's own soft threshold, and the laws of a prox."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nonsmooth.penalties import L1, TransformedL1

CASES = {
    "L1": L1,
    "transformed L1, a = 1": lambda strength: TransformedL1(strength, 1.0),
    "transformed L1, a = 0.3": lambda strength: TransformedL1(strength, 0.3),
}
# a²/(2(a+1)) is 1/4 for a = 1 and 0.0346 for a = 0.3: strengths × steps on either side of both.
WEIGHTS = [(0.01, 1.0), (0.2, 1.0), (0.3, 1.0), (1.0, 0.02), (2.0, 0.5)]
POINTS = torch.linspace(-3, 3, 31, dtype=torch.float64)


def brute_force(penalty, points, step):
    """argmin on a grid that contains zero, with spacing 1e-4."""
    grid = torch.arange(-35_000, 35_001, dtype=torch.float64) * 1e-4
    costs = penalty.terms(grid) + (grid - points.unsqueeze(-1)).square() / (2 * step)
    return grid[costs.argmin(-1)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("strength", "step"), WEIGHTS)
def test_prox_is_the_minimiser_that_a_grid_finds(case, strength, step):
    penalty = CASES[case](strength)
    # Off the grid of points at which two minimisers tie, as they do at the jump of a prox that is not convex.
    points = POINTS + 0.00137
    found = penalty.prox(points, step)
    torch.testing.assert_close(found, brute_force(penalty, points, step), rtol=0, atol=1.01e-4)
    assert bool((found == 0).any())


def test_l1_prox_is_pytorchs_softshrink():
    points = torch.cat([POINTS, torch.tensor([0.0, -0.0, 0.7, -0.7], dtype=torch.float64)])
    expected = torch.nn.functional.softshrink(points, 0.7)
    torch.testing.assert_close(L1(1.4).prox(points, 0.5), expected, rtol=0, atol=1e-15)
    assert bool(((L1(1.4).prox(points, 0.5) == 0) == (expected == 0)).all())


@pytest.mark.parametrize("case", CASES)
def test_a_step_by_coordinate_is_many_proxes_at_once(case):
    penalty, points = CASES[case](0.4), torch.tensor([-2.0, 0.5, 0.9, 3.0], dtype=torch.float64)
    steps = torch.tensor([0.1, 2.0, 0.5, 1.0], dtype=torch.float64)
    alone = torch.stack([penalty.prox(point, float(step)) for point, step in zip(points, steps, strict=True)])
    torch.testing.assert_close(penalty.prox(points, steps), alone)


@pytest.mark.parametrize("case", CASES)
def test_a_strength_by_variant_broadcasts(case):
    points = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strengths = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    together = CASES[case](strengths[None, :, None])
    for i, strength in enumerate(strengths):
        alone = CASES[case](float(strength))
        torch.testing.assert_close(together.prox(points, 0.7)[:, i], alone.prox(points[:, i], 0.7))
        torch.testing.assert_close(together.value(points, dim=-1)[:, i], alone.value(points[:, i], dim=-1))


@pytest.mark.parametrize(
    ("strength", "threshold"), [(0.1, 0.2), (0.25, 0.5), (1.0, 1.5)], ids=["below", "where they meet", "above"]
)
def test_transformed_l1_threshold_in_both_regimes(strength, threshold):
    """With a = 1: λ(a+1)/a = 2λ up to λ = 1/4, √(4λ) - 1/2 from there on."""
    penalty = TransformedL1(strength, 1.0)
    assert penalty.threshold(1.0).item() == pytest.approx(threshold)
    around = torch.tensor([threshold - 1e-9, threshold + 1e-9], dtype=torch.float64)
    inside, outside = penalty.prox(around, 1.0)
    assert inside == 0
    assert outside.item() == pytest.approx(max(0.0, (4 * strength) ** 0.5 - 1), abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@given(point=st.floats(-5, 5), strength=st.floats(0.01, 3), step=st.floats(0.01, 2))
def test_a_prox_is_stationary_by_the_penaltys_own_certificate(case, point, strength, step):
    """0 ∈ (z - w)/step + λ∂R(z): what ties `prox` and `subdiff_distance` together."""
    penalty, w = CASES[case](strength), torch.tensor([point], dtype=torch.float64)
    z = penalty.prox(w, step)
    # Near a jump the cosine loses half its digits: a hundred roundings of the square root stay far below the claim.
    assert penalty.subdiff_distance(z, (z - w) / step).item() <= 1e-6 * (1 + abs(point) / step)


@pytest.mark.parametrize("case", CASES)
def test_away_from_zero_the_distance_is_that_of_the_gradient_by_autograd(case):
    penalty = CASES[case](0.7)
    point = torch.tensor([-2.0, -0.1, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(penalty.value(point), point)
    gradient = torch.tensor([0.3, -0.2, 0.1, -1.0], dtype=torch.float64)
    torch.testing.assert_close(penalty.subdiff_distance(point.detach(), gradient), (slope + gradient).abs())


def test_at_zero_the_distance_is_that_from_an_interval():
    zero, gradient = torch.zeros(3), torch.tensor([0.5, -1.5, 3.0])
    torch.testing.assert_close(L1(1.0).subdiff_distance(zero, gradient), torch.tensor([0.0, 0.5, 2.0]))
    # (a+1)/a = 2 for a = 1
    torch.testing.assert_close(TransformedL1(1.0).subdiff_distance(zero, gradient), torch.tensor([0.0, 0.0, 1.0]))


@given(first=st.floats(-5, 5), second=st.floats(-5, 5))
def test_the_l1_prox_is_firmly_non_expansive(first, second):
    x, y = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    p, q = L1(0.8).prox(x, 1.0), L1(0.8).prox(y, 1.0)
    assert (p - q) ** 2 <= (p - q) * (x - y) + 1e-12


@pytest.mark.parametrize(
    "make", [lambda: L1(-1.0), lambda: TransformedL1(float("nan")), lambda: L1(torch.tensor([-1]))]
)
def test_a_negative_strength_is_refused(make):
    with pytest.raises(ValueError, match="strength"):
        make()


def test_a_shape_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="shape is 0"):
        TransformedL1(1.0, 0.0)
