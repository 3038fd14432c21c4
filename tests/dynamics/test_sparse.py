"""The update rules for an L1 penalty: fixed points against scikit-learn, recursions against naive loops."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.optimizer_rule import OptimizerRule
from nonsmooth.dynamics.recording import Trace
from nonsmooth.dynamics.sparse import (
    AcceleratedProximal,
    CumulativePenalty,
    SplitPositive,
    TruncatedGradient,
    ZeroAtCrossing,
)
from nonsmooth.dynamics.support import Flicker, zeros
from nonsmooth.optim import RDA, XRDA, ProxAdam, ProxSGD
from nonsmooth.penalties import L1, TransformedL1
from nonsmooth.problems import l1_norm, lasso
from nonsmooth.problems.lasso_reference import lasso_reference

STRENGTHS = torch.tensor([[0.05, 0.3, 20.0]], dtype=torch.float64)
BY_POINT = STRENGTHS.unsqueeze(-1)


@pytest.fixture(scope="module")
def small():
    """Two draws of 30×8 with a signal, where every method converges fast."""
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(2, 30, 8, generator=generator, dtype=torch.float64)
    signal = torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64)
    response = data @ signal + 0.5 * torch.randn(2, 30, generator=generator, dtype=torch.float64)
    start = 2 * torch.rand(2, 1, 8, generator=generator, dtype=torch.float64) - 1
    reference = lasso_reference(data, response, STRENGTHS)
    assert reference.gap.max() < 1e-13
    return data, response, start.expand(2, 3, 8).contiguous(), reference.point


def optimizer_rule(make, penalty=None, **options):
    """Makes update rules out of an optimiser of this package."""
    chosen = L1(BY_POINT) if penalty is None else penalty
    return lambda: OptimizerRule(lambda parameters, lr: make(parameters, lr=lr, penalty=chosen, **options))


CONVERGENT = {
    "proximal": (optimizer_rule(ProxSGD), 0.1, 2000, 1e-12),
    "momentum": (optimizer_rule(ProxSGD, momentum=0.9), 0.05, 2000, 1e-12),
    "ProxAdam": (optimizer_rule(ProxAdam), 0.02, 4000, 1e-10),
    "FISTA": (lambda: AcceleratedProximal(L1(BY_POINT)), 0.1, 600, 1e-10),
    "u/v split": (lambda: SplitPositive(BY_POINT), 0.1, 2000, 1e-12),
    "truncated, K = 1": (lambda: TruncatedGradient(BY_POINT, every=1), 0.1, 2000, 1e-12),
    "xRDA, a = 0": (optimizer_rule(XRDA, averaging=0.0, time_scale=0.475), 0.05, 2000, 1e-10),
    "xRDA, a = 0.9": (optimizer_rule(XRDA, averaging=0.9, time_scale=0.475), 0.05, 2000, 1e-10),
    "RDA": (optimizer_rule(RDA), 1.0, 4000, 2e-2),
    "cumulative": (lambda: CumulativePenalty(BY_POINT), 0.1, 4000, 1e-6),
}


@pytest.mark.parametrize("name", CONVERGENT)
def test_it_ends_at_scikit_learns_solution_with_its_exact_zeros(small, name):
    data, response, start, solution = small
    method, step_size, steps, tolerance = CONVERGENT[name]
    point = iterate(lasso(data, response, STRENGTHS), start, Constant(step_size), steps, method=method).point
    if name == "FISTA":
        point = iterate(
            lasso(data, response, STRENGTHS), point, Constant(step_size), 1, method=CONVERGENT["proximal"][0]
        ).point
    torch.testing.assert_close(point, solution, rtol=0, atol=tolerance)
    assert torch.equal(point == 0, solution == 0)
    assert bool((point == 0).any(-1).any())


def test_zero_at_crossing_is_not_a_prox(small):
    """The wrong threshold: in the same budget it has neither the solution nor its zeros."""
    data, response, start, solution = small
    problem = lasso(data, response, STRENGTHS)
    run = iterate(problem, start, Constant(0.1), 2000, {"zeros": Trace(zeros, range(1900, 2000))},
                  method=lambda: ZeroAtCrossing(BY_POINT))  # fmt: skip
    assert (run.point - solution).abs().max() > 1e-2
    assert len(run["zeros"][:, 0, 2].unique()) > 1


def test_truncating_every_tenth_step_is_biased(small):
    data, response, start, solution = small
    problem = lasso(data, response, STRENGTHS)
    point = iterate(problem, start, Constant(0.1), 2000, method=lambda: TruncatedGradient(BY_POINT)).point
    assert (point - solution)[:, :2].abs().max() > 1e-3


def naive(rule, steps, start, data, response, strength):
    """One instance and variant, coordinate by coordinate in Python floats; `rule` sees (t, w, g)."""
    points, w = [], list(start)
    for t in range(steps):
        residual = [sum(z * b for z, b in zip(row, w, strict=True)) - y for row, y in zip(data, response, strict=True)]
        g = [2 / len(data) * sum(r * row[j] for r, row in zip(residual, data, strict=True)) for j in range(len(w))]
        w = rule(t, w, g, strength)
        points.append(w)
    return points[-1]


def soft(x, t):
    return math.copysign(max(abs(x) - t, 0.0), x)


def naive_split(start, step):
    u, v = [max(b, 0.0) for b in start], [max(-b, 0.0) for b in start]

    def rule(t, w, g, strength):
        for j, slope in enumerate(g):
            u[j] = max(u[j] - step * (strength + slope), 0.0)
            v[j] = max(v[j] - step * (strength - slope), 0.0)
        return [a - b for a, b in zip(u, v, strict=True)]

    return rule


def naive_cumulative(step):
    received, due = [0.0] * 8, [0.0]

    def rule(t, w, g, strength):
        due[0] += step * strength
        points = []
        for j, (b, slope) in enumerate(zip(w, g, strict=True)):
            half = b - step * slope
            if half > 0:
                now = max(0.0, half - (due[0] + received[j]))
            elif half < 0:
                now = min(0.0, half + (due[0] - received[j]))
            else:
                now = half
            received[j] += now - half
            points.append(now)
        return points

    return rule


def naive_truncated(step, every, ceiling):
    def rule(t, w, g, strength):
        half = [b - step * slope for b, slope in zip(w, g, strict=True)]
        if (t + 1) % every:
            return half
        return [soft(b, every * step * strength) if abs(b) <= ceiling else b for b in half]

    return rule


LOOPS = {
    "u/v split": (lambda: SplitPositive(BY_POINT), 0.1, lambda start: naive_split(start, 0.1)),
    "cumulative": (lambda: CumulativePenalty(BY_POINT), 0.1, lambda start: naive_cumulative(0.1)),
    "truncated": (
        lambda: TruncatedGradient(BY_POINT, every=3, ceiling=0.8), 0.1, lambda start: naive_truncated(0.1, 3, 0.8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_it_is_the_recursion_that_a_naive_loop_runs(small, name):
    data, response, start, _ = small
    method, step_size, rule = LOOPS[name]
    run = iterate(lasso(data, response, STRENGTHS), start, Constant(step_size), 60, method=method, block=1)
    for i in range(2):
        for j, strength in enumerate(STRENGTHS[0].tolist()):
            begin = start[i, j].tolist()
            expected = naive(rule(begin), 60, begin, data[i].tolist(), response[i].tolist(), strength)
            np.testing.assert_allclose(run.point[i, j], expected, rtol=1e-9, atol=1e-12)


def test_transformed_l1_by_proximal_gradient_is_stationary_for_its_own_penalty(small):
    data, response, start, _ = small
    penalty, problem = TransformedL1(BY_POINT), lasso(data, response, STRENGTHS)
    point = iterate(problem, start, Constant(0.1), 2000, method=optimizer_rule(ProxSGD, penalty)).point
    assert penalty.subdiff_distance(point, problem.evaluate(point).gradient).max() < 1e-10
    assert L1(BY_POINT).subdiff_distance(point, problem.evaluate(point).gradient).max() > 1e-3


def test_flicker_counts_the_changes_of_sign_and_support():
    """From 0.25 and 0.05 with αλ = 0.1: the first reaches its two-cycle at step 3, the second is on its own from 0."""
    start = torch.tensor([[[0.25, 0.05]]], dtype=torch.float64)
    problem = l1_norm(2, 1.0)
    run = iterate(problem, start, Constant(0.1), 4, {"all": Flicker(), "late": Flicker(since=3)})
    assert run["all"].item() == pytest.approx((1 + 1 + 2 + 2) / 4)
    assert run["late"].item() == 2
    proximal = iterate(problem, start, Constant(0.1), 9, {"late": Flicker(5)}, method=optimizer_rule(ProxSGD, L1(1.0)))
    assert proximal["late"].item() == 0
    assert torch.equal(proximal.point, torch.zeros_like(start))


def test_flicker_needs_two_states():
    with pytest.raises(ValueError, match="fewer than two states"):
        iterate(l1_norm(1, 1.0), torch.ones(1, 1, 1, dtype=torch.float64), Constant(0.1), 4, {"f": Flicker(since=4)})


def test_truncating_less_often_than_every_step_is_refused():
    with pytest.raises(ValueError, match="every is 0"):
        TruncatedGradient(0.1, every=0)
