"""The prox of every penalty is the minimiser that brute force, duality or another method finds, and obeys its laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nonsmooth.penalties import MCP, SCAD, GroupL1, Nuclear, SparseGroupL1

GRID = torch.arange(-40_000, 40_001, dtype=torch.float64) * 1e-4
# Off the lattice of points at which two minimisers tie, as they do at the jump of a prox that is not convex.
POINTS = torch.linspace(-3, 3, 31, dtype=torch.float64) + 0.00137
STRENGTHS_AND_STEPS = [(0.01, 1.0), (0.2, 1.0), (0.3, 1.0), (1.0, 0.02), (2.0, 0.5), (0.7, 2.4)]
BEYOND = [(0.01, 3.0), (0.4, 2.5), (0.3, 2.7), (0.5, 4.0), (0.3, 4.69), (0.3, 4.71), (0.2, 20.0)]


def costs(penalty, candidates, points, steps):
    """λR(z) + (z - w)²/(2α) for each point and candidate."""
    return penalty.terms(candidates) + (candidates - points.unsqueeze(-1)).square() / (2 * steps)


@pytest.mark.parametrize(("strength", "step"), STRENGTHS_AND_STEPS)
def test_it_is_the_minimiser_on_a_grid(separable, strength, step):
    penalty = separable.make(strength)
    found = penalty.prox(POINTS, step)
    best = GRID[costs(penalty, GRID, POINTS, step).argmin(-1)]
    torch.testing.assert_close(found, best, rtol=0, atol=1.01e-4)
    assert bool((found == 0).any())


@pytest.mark.parametrize("make", [lambda strength: MCP(strength, 2.5), lambda strength: SCAD(strength, 3.7)])
@pytest.mark.parametrize(("strength", "step"), BEYOND)
def test_beyond_the_largest_step_the_map_is_still_a_global_minimiser(make, strength, step):
    penalty = make(strength)
    found = penalty.proximal_map(POINTS, step)
    own = penalty.terms(found) + (found - POINTS).square() / (2 * step)
    least = costs(penalty, GRID, POINTS, step).min(-1).values
    assert bool((own <= least + 1e-12).all())
    # Steps below and above in one tensor take the same values as one at a time.
    steps = torch.tensor([step, 0.5], dtype=torch.float64).repeat(16)[:31]
    mixed = penalty.proximal_map(POINTS, steps)
    torch.testing.assert_close(mixed, torch.where(steps == step, found, penalty.prox(POINTS, 0.5)), rtol=0, atol=1e-15)


def dual_value(penalty, y, point, steps):
    """max over the dual, ⟨y, w⟩ - ‖y‖²_D/2 for y in the ball of the dual norm; y is scaled into the ball. In numpy."""
    strength = penalty.strength
    if isinstance(penalty, Nuclear):
        excess = np.linalg.norm(y.reshape(y.shape[0], -1), 2) / strength
    else:
        share = penalty.l1_ratio if isinstance(penalty, SparseGroupL1) else 0.0
        numbers = np.arange(y.size).reshape(y.shape)
        if penalty.index is not None:
            groups = [np.flatnonzero(penalty.index.numpy() == g) for g in range(int(penalty.index.max()) + 1)]
        else:
            dims = (penalty.dim,) if isinstance(penalty.dim, int) else penalty.dim
            moved = np.moveaxis(numbers, dims, range(len(dims)))
            groups = list(moved.reshape(int(np.prod(moved.shape[: len(dims)])), -1))
        excess = 0.0
        for number, members in enumerate(groups):
            weight = np.sqrt(len(members)) if penalty.weights is None else float(penalty.weights[number])
            part = y.reshape(-1)[members]
            if weight == 0:
                assert np.abs(part).max() <= 1e-12
                continue
            # The smallest c with ‖S(y, cλr)‖ ≤ cλ(1-r)·weight, by bisection.
            low, high = 0.0, 1e6
            for _ in range(200):
                c = (low + high) / 2
                left = np.maximum(np.abs(part) - c * strength * share, 0)
                low, high = (low, c) if np.linalg.norm(left) <= c * strength * (1 - share) * weight else (c, high)
            excess = max(excess, high)
    assert excess <= 1 + 1e-9  # (w - z)/D is a subgradient of λR at z
    y = y / max(excess, 1.0)
    return float((y * point).sum() - (steps * y**2).sum() / 2)


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 2), diagonal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_its_duality_gap_is_zero(coupled, seed, strength, diagonal):
    penalty, point = coupled.make(strength), coupled.point(seed)
    step = coupled.steps(seed) if diagonal else 0.7
    found = penalty.prox(point, step)
    w, z = point.numpy(), found.numpy()
    steps = step.numpy() if diagonal else np.full(w.shape, step)
    primal = float(penalty.value(found)) + float(((z - w) ** 2 / (2 * steps)).sum())
    assert primal - dual_value(penalty, (w - z) / steps, w, steps) == pytest.approx(0, abs=1e-9 * (1 + primal))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(
    ("penalty", "shape"),
    [(GroupL1(0.5), (2, 2)), (SparseGroupL1(0.5, 0.4), (2, 2)), (Nuclear(0.6), (2, 2)), (Nuclear(0.2), (2, 2))],
    ids=["groups", "sparse groups", "nuclear", "nuclear, weak"],
)
def test_a_search_without_gradients_finds_nothing_better(penalty, shape, seed, diagonal):
    generator = torch.Generator().manual_seed(seed)
    point = torch.randn(shape, generator=generator, dtype=torch.float64)
    step = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64) if diagonal else 0.6

    def objective(z):
        z = torch.as_tensor(z).reshape(shape)
        return float(penalty.value(z) + ((z - point).square() / (2 * step)).sum())

    found = penalty.prox(point, step)
    options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 3000, "maxfev": 3000}
    ends = [
        minimize(objective, start.reshape(-1).numpy(), method="Nelder-Mead", options=options)
        for start in (point, torch.zeros_like(point))
    ]
    best = min(ends, key=lambda end: end.fun)
    assert objective(found) <= best.fun + 1e-12
    assert best.fun <= objective(point) - 1e-3  # the search has got somewhere


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 2), scale=st.floats(0.01, 10), diagonal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_where_it_is_convex_it_is_firmly_non_expansive_in_the_metric(convex, seed, strength, scale, diagonal):
    penalty, x, y = convex.make(strength), convex.point(seed, scale), convex.point(seed + 1, scale)
    step = convex.steps(seed) if diagonal else 0.7
    p, q = penalty.prox(x, step), penalty.prox(y, step)
    inner = float(((p - q) * (x - y) / step).sum())
    assert float(((p - q).square() / step).sum()) <= inner + 1e-11 * (1 + abs(inner))


@given(seed=st.integers(0, 10**6), strength=st.floats(0.01, 2), scale=st.floats(0.01, 10), diagonal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_is_stationary_by_the_penaltys_own_certificate(case, seed, strength, scale, diagonal):
    """0 ∈ (z - w)/step + λ∂R(z)."""
    penalty, point = case.make(strength), case.point(seed, scale)
    step = case.steps(seed) if diagonal else 0.7
    found = penalty.prox(point, step)
    distance = penalty.subdiff_distance(found, (found - point) / step)
    assert float(distance.max()) <= 1e-8 * (1 + float(point.abs().max()))


def test_a_point_that_is_no_prox_is_not_stationary(case):
    """What keeps the test above from passing for any point."""
    penalty, point = case.make(0.3), case.point(3)
    found = penalty.prox(point, 0.7)
    assert bool((found != 0).any())
    distance = penalty.subdiff_distance(found * 1.01, (found * 1.01 - point) / 0.7)
    assert float(distance.max()) > 1e-4


def test_one_step_for_all_is_a_step_by_coordinate(case):
    penalty, point = case.make(0.3), case.point(4)
    alone = penalty.prox(point, 0.7)
    for step in (torch.tensor(0.7, dtype=torch.float64), torch.full(case.shape, 0.7, dtype=torch.float64)):
        torch.testing.assert_close(penalty.prox(point, step), alone, rtol=1e-9, atol=1e-12)
    last = torch.full(case.shape[-1:], 0.7, dtype=torch.float64)  # broadcasts
    torch.testing.assert_close(penalty.prox(point, last), alone, rtol=1e-9, atol=1e-12)


def test_a_step_by_coordinate_is_many_proxes_at_once(separable):
    penalty, point, steps = separable.make(0.4), separable.point(5), separable.steps(5)
    alone = torch.stack([penalty.prox(w, float(step)) for w, step in zip(point, steps, strict=True)])
    torch.testing.assert_close(penalty.prox(point, steps), alone)


@pytest.mark.parametrize("diagonal", [False, True])
def test_in_place_it_is_the_same(case, diagonal):
    for scale in (0.3, 3.0):
        penalty, point = case.make(0.3), case.point(6, scale)
        step = case.steps(6) if diagonal else 0.7
        overwritten = point.clone()
        penalty.prox_(overwritten, step)
        torch.testing.assert_close(overwritten, penalty.proximal_map(point, step), rtol=1e-14, atol=1e-15)
        assert bool(((overwritten == 0) == (penalty.proximal_map(point, step) == 0)).all())


def test_the_point_is_left_as_it_was(case):
    point = case.point(7)
    before = point.clone()
    case.make(0.3).prox(point, case.steps(7))
    case.make(0.3).prox(point, 0.7)
    assert torch.equal(point, before)


@pytest.mark.parametrize("diagonal", [False, True])
def test_without_a_step_or_without_strength_it_is_the_identity(case, diagonal):
    for scale in (1e-3, 1.0, 1e3):
        point = case.point(8, scale, torch.float32)
        for strength, step in ((0.7, 0.0), (0.0, 0.7)):
            steps = torch.full(case.shape, step) if diagonal else step
            assert torch.equal(case.make(strength).prox(point, steps), point)


def test_coordinates_without_a_step_stay_where_they_are(case):
    point, steps = case.point(9), case.steps(9)
    steps.view(-1)[::3] = 0
    found = case.make(0.2).prox(point, steps)
    tolerance = 1e-6 if case.make(1.0).separable else 1e-9
    torch.testing.assert_close(found.view(-1)[::3], point.view(-1)[::3], rtol=tolerance, atol=0)
    distance = case.make(0.2).subdiff_distance(found, torch.where(steps == 0, 0, (found - point) / steps))
    assert distance.isfinite().all()


def test_a_strong_penalty_makes_exact_zeros(case):
    if getattr(case.make(1.0), "weights", None) is not None:
        pytest.skip("one of its groups has no weight")
    for dtype in (torch.float32, torch.float64):
        point = case.point(10, dtype=dtype)
        limit = case.make(1.0).largest_step
        for step in (0.9, case.steps(10, dtype=dtype)):
            strength = 50.0 if limit > 1 else 20.0
            assert bool((case.make(strength).prox(point, step) == 0).all())


@pytest.mark.parametrize("diagonal", [False, True])
def test_autograd_gives_the_slope_of_differences(case, diagonal):
    """Away from kinks and jumps, by central differences."""
    penalty, point = case.make(0.15), case.point(11, 2.0)
    step = case.steps(11) if diagonal else 0.7
    if isinstance(penalty, Nuclear) and diagonal:
        pytest.skip("an iteration, which is not differentiable")
    leaf = point.clone().requires_grad_()
    direction, weights = case.point(12), case.point(13)
    (slope,) = torch.autograd.grad((penalty.proximal_map(leaf, step) * weights).sum(), leaf)
    assert slope.isfinite().all()

    def value(at):
        return float((penalty.proximal_map(at, step) * weights).sum())

    expected = (value(point + 1e-6 * direction) - value(point - 1e-6 * direction)) / 2e-6
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_autograd_passes_through_a_step_by_coordinate(case):
    penalty, point = case.make(0.15), case.point(14, 2.0)
    if isinstance(penalty, Nuclear):
        pytest.skip("an iteration, which is not differentiable")
    steps = case.steps(14).requires_grad_()
    (slope,) = torch.autograd.grad(penalty.proximal_map(point, steps).square().sum(), steps)
    change = 1e-6 * case.point(15)
    after, before = (penalty.proximal_map(point, steps.detach() + sign * change).square().sum() for sign in (1, -1))
    assert float((slope * change).sum()) == pytest.approx(float(after - before) / 2, rel=1e-5, abs=1e-11)
