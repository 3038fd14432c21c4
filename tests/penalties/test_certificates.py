"""Distance to the subdifferential, value and λ_max, against autograd, brute force and the prox itself."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.penalties import L0, L1, MCP, ElasticNet, GroupL1, Nuclear, SparseGroupL1


def by_group(penalty, values):
    """Norms of a tensor by coordinate, by group, or as a whole, as the penalty's distance has them."""
    if penalty.separable:
        return values.abs()
    return values.norm().reshape(()) if isinstance(penalty, Nuclear) else penalty.groups(values.shape).norms(values)


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 3))
@settings(max_examples=15, deadline=None)
def test_away_from_kinks_the_distance_is_that_of_the_gradient_by_autograd(case, seed, strength):
    penalty, point = case.make(strength), case.point(seed, 2.0).requires_grad_()
    gradient = case.point(seed + 1)
    value = penalty.value(point)
    (slope,) = torch.autograd.grad(value, point) if value.requires_grad else (torch.zeros_like(point),)
    point = point.detach()
    expected = by_group(penalty, gradient + slope)
    if isinstance(penalty, Nuclear) and min(point.flatten(1).shape) < max(point.flatten(1).shape):
        # At full rank nothing is free but the directions outside the smaller space, which a gradient does not leave.
        distance = penalty.subdiff_distance(point, -slope)
        torch.testing.assert_close(distance, torch.zeros_like(distance), atol=1e-10, rtol=0)
        return
    torch.testing.assert_close(penalty.subdiff_distance(point, gradient), expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(penalty.subgradient(point), slope, rtol=1e-9, atol=1e-10)


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 3))
@settings(max_examples=15, deadline=None)
def test_the_distance_at_a_kink_is_the_least_rate_of_descent(convex, seed, strength):
    """dist(-g, λ∂R(w)) is the steepest descent of f + λR at w: no direction descends faster, and one does so."""
    penalty = convex.make(strength)
    point = penalty.prox(convex.point(seed), 0.9)
    gradient = convex.point(seed + 1)
    distance = float(penalty.subdiff_distance(point, gradient).norm())
    move = 1e-9  # far below the norm of any group that is not zero, which can be 1e-5
    # The proximal point of the linearised objective moves along the steepest descent.
    following = penalty.prox(point - move * gradient, move)
    assert float((following - point).norm()) / move == pytest.approx(distance, rel=1e-3, abs=1e-4)


def test_lam_max_is_where_the_prox_leaves_zero(convex):
    gradient = convex.point(3)
    if getattr(convex.make(1.0), "weights", None) is not None:
        pytest.skip("a group without a weight is never zero")
    largest = float(convex.make(1.0).lam_max(gradient))
    for step in (0.9, convex.steps(3)):
        assert bool((convex.make(largest * (1 + 1e-9)).prox(-step * gradient, step) == 0).all())
        assert not bool((convex.make(largest * (1 - 1e-6)).prox(-step * gradient, step) == 0).all())
    zero = torch.zeros_like(gradient)
    assert float(convex.make(largest * (1 + 1e-9)).subdiff_distance(zero, gradient).max()) == 0
    assert float(convex.make(largest * (1 - 1e-6)).subdiff_distance(zero, gradient).max()) > 0


def test_lam_max_is_where_zero_stops_to_be_stationary(jumping):
    gradient = jumping.point(3)
    largest = float(jumping.make(1.0).lam_max(gradient))
    zero = torch.zeros_like(gradient)
    if isinstance(jumping.make(1.0), L0):
        assert largest == 0
        assert float(jumping.make(1e-3).subdiff_distance(zero, gradient).max()) == 0
        return
    assert largest == pytest.approx(float(gradient.abs().max()) / jumping.slope_at_zero)
    # A small step finds the local minimum at zero where there is one.
    assert bool((jumping.make(largest * (1 + 1e-6)).prox(-1e-3 * gradient, 1e-3) == 0).all())
    assert not bool((jumping.make(largest * (1 - 1e-6)).prox(-1e-3 * gradient, 1e-3) == 0).all())


def test_lam_max_in_closed_form():
    gradient = torch.tensor([[3.0, -4.0], [1.0, 0.0]], dtype=torch.float64)
    assert float(L1(0.3).lam_max(gradient)) == 4
    assert float(L1(0.3, weights=torch.tensor([1.0, 8.0])).lam_max(gradient)) == 3
    assert float(L1(0.3, weights=torch.tensor([0.0, 8.0])).lam_max(gradient)) == math.inf
    assert float(ElasticNet(0.3, 0.5).lam_max(gradient)) == 8
    assert float(GroupL1(0.3).lam_max(gradient)) == pytest.approx(5 / 2**0.5)
    assert float(GroupL1(0.3, weights=torch.tensor([1.0, 0.1])).lam_max(gradient)) == pytest.approx(10)
    assert float(SparseGroupL1(0.3, 0.0).lam_max(gradient)) == pytest.approx(5 / 2**0.5)
    assert float(SparseGroupL1(0.3, 1.0).lam_max(gradient)) == 4
    assert float(Nuclear(0.3).lam_max(gradient)) == pytest.approx(float(torch.linalg.matrix_norm(gradient, 2)))


def test_values_in_closed_form():
    point = torch.tensor([[3.0, -4.0], [0.0, 0.5]], dtype=torch.float64)
    assert float(L1(2.0).value(point)) == 15
    assert float(L0(2.0).value(point)) == 6
    assert float(ElasticNet(2.0, 0.25).value(point)) == pytest.approx(2 * (0.25 * 7.5 + 0.75 * 25.25 / 2))
    assert float(GroupL1(2.0).value(point)) == pytest.approx(2 * 2**0.5 * 5.5)
    assert float(GroupL1(2.0, weights=torch.tensor([1.0, 4.0])).value(point)) == pytest.approx(2 * (5 + 2))
    assert float(SparseGroupL1(2.0, 0.25).value(point)) == pytest.approx(2 * (0.25 * 7.5 + 0.75 * 2**0.5 * 5.5))
    # Up to γλ: λ|w| - w²/(2γ); from there on γλ²/2.
    assert float(MCP(2.0, 1.75).value(point)) == pytest.approx(2 * 3 - 9 / 3.5 + 1.75 * 2 + (2 * 0.5 - 0.25 / 3.5))
    assert float(Nuclear(2.0).value(torch.diag(torch.tensor([3.0, -4.0])))) == pytest.approx(14)


def test_the_value_is_the_integral_of_the_slope(separable):
    penalty = separable.make(0.8)
    if isinstance(penalty, L0):
        pytest.skip("a jump")
    size = torch.linspace(0, 6, 600_001, dtype=torch.float64)
    slope = penalty.magnitude_slope(size, 0.8)
    integral = torch.cumulative_trapezoid(slope, size)
    torch.testing.assert_close(penalty.magnitude_terms(size[1:], 0.8), integral, rtol=1e-7, atol=1e-9)


def test_weights_by_coordinate_are_strengths_by_coordinate(separable):
    """λcⱼ, compared with a penalty for each coordinate that has this λ."""
    point, gradient, steps = separable.point(4, 2.0), separable.point(5), separable.steps(4)
    weights = torch.linspace(0, 2, 12, dtype=torch.float64)
    weighed = separable.make(0.5, weights=weights)
    strengths = separable.make(0.5 * weights)
    alone = [separable.make(0.5 * float(c)) for c in weights]
    for penalty in (weighed, strengths):
        for step in (0.7, steps):
            each = step if isinstance(step, torch.Tensor) else torch.full((12,), step)
            found = torch.stack([p.prox(w, float(a)) for p, w, a in zip(alone, point, each, strict=True)])
            torch.testing.assert_close(penalty.prox(point, step), found)
            overwritten = point.clone()
            penalty.prox_(overwritten, step)
            torch.testing.assert_close(overwritten, found)
        found = torch.stack([p.subdiff_distance(w, g) for p, w, g in zip(alone, point, gradient, strict=True)])
        torch.testing.assert_close(penalty.subdiff_distance(point, gradient), found)
        assert float(penalty.value(point)) == pytest.approx(
            sum(float(p.value(w)) for p, w in zip(alone, point, strict=True))
        )
    assert float(weighed.prox(point, 0.7)[0]) == float(point[0])


def test_a_strength_by_variant_broadcasts(separable):
    points = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strengths = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    together = separable.make(strengths[None, :, None])
    for i, strength in enumerate(strengths):
        alone = separable.make(float(strength))
        torch.testing.assert_close(together.prox(points, 0.7)[:, i], alone.prox(points[:, i], 0.7))
        torch.testing.assert_close(together.value(points, dim=-1)[:, i], alone.value(points[:, i], dim=-1))


def test_weights_of_groups_are_strengths_of_groups():
    point = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    steps = 0.1 + torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    for step in (0.7, steps):
        found = GroupL1(0.4, weights=weights).prox(point, step)
        each = step if isinstance(step, torch.Tensor) else torch.full((3, 4), step)
        for row in range(3):
            alone = GroupL1(0.4 * float(weights[row]), weights=torch.ones(1)).prox(
                point[row : row + 1], each[row : row + 1]
            )
            torch.testing.assert_close(found[row : row + 1], alone)


def test_the_low_rank_prox_lowers_the_rank_and_its_certificate_sees_it():
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(8, 2, generator=generator, dtype=torch.float64) @ torch.randn(
        2, 6, generator=generator, dtype=torch.float64
    )
    noisy = point + 0.01 * torch.randn(8, 6, generator=generator, dtype=torch.float64)
    for step in (0.5, 0.4 + 0.2 * torch.rand(8, 6, generator=generator, dtype=torch.float64)):
        found = Nuclear(0.5).prox(noisy, step)
        assert int((torch.linalg.svdvals(found) > 1e-9).sum()) == 2
        assert float(Nuclear(0.5).subdiff_distance(found, (found - noisy) / step)) <= 1e-9
