"""The runs behind the claim `step-sizes`: every schedule on one problem, as variants of one ensemble."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework import Run
from nonsmooth.dynamics import Constant, Diminishing, Reducing, iterate
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import State, Trace, log_spaced, loss, norm
from nonsmooth.dynamics.step_sizes import StepSize
from nonsmooth.problems import Problem, RoundedL1, l1_norm, lasso, relu_regression

SCHEDULES: Mapping[str, StepSize] = {
    "constant": Constant(1.0),
    "diminishing, p = 0.5": Diminishing(1.0, 0.5),
    "diminishing, p = 1": Diminishing(1.0, 1.0),
    "summable, p = 2": Diminishing(1.0, 2.0),
    "StepLR(30, 0.1)": Reducing(1.0, 0.1, 30),
    "StepLR(30, 0.5)": Reducing(1.0, 0.5, 30),
    "StepLR(100, 0.5)": Reducing(1.0, 0.5, 100),
    "StepLR(300, 0.5)": Reducing(1.0, 0.5, 300),
}
"""Step sizes for α₀ = 1; StepLR(30, 0.1) is the example in PyTorch's documentation."""
DIMINISHING, HARMONIC, REDUCING = "diminishing, p = 0.5", "diminishing, p = 1", "StepLR(30, 0.1)"
INFINITE = (DIMINISHING, HARMONIC)
FINITE = tuple(name for name in SCHEDULES if name.startswith(("StepLR", "summable")))
STEP_SIZES: Mapping[str, tuple[float, ...]] = {
    "L3": (0.005, 0.01, 0.02, 0.05, 0.1),
    "L4": (0.005, 0.02, 0.06),
    "L2": (0.01, 0.1, 1.0),
    "L3 twin": (0.005, 0.01, 0.02, 0.05, 0.1),
    "least squares": (0.0005, 0.002, 0.01),
}
"""α₀ by problem; the last two problems are differentiable, and there every α₀ is below 2/L."""
SMOOTH = ("L3 twin", "least squares")
FEATURES_L3 = 100
WIDTH = 0.1
"""ε of the C¹ twin of L3."""
PENALTY = 0.1
"""λ₁ of L4: one of the two values that §3 names for its small penalty, and below λ_max."""
STEPS = 1000
LENGTHS = (100, 200, 300, 500, STEPS)
"""Steps after which the runs are compared."""
AT_MINIMUM = 1e-9
"""A gap below this share of the first one counts as none."""


def sum_schedules(run: Run) -> Mapping[str, Any]:
    """Σα_t for α₀ = 1: partial sums at powers of ten and to infinity, over the runs (`travel`), and their last term."""
    del run
    at, schedules = [10**k for k in range(1, 5)], SCHEDULES.values()
    sums = [np.cumsum([schedule.factor(t) for t in range(at[-1])]) for schedule in schedules]
    return {
        "names": list(SCHEDULES),
        "lengths": at,
        "sums": [[float(running[n - 1]) for n in at] for running in sums],
        "limits": [schedule.total for schedule in schedules],
        "last": [schedule.factor(STEPS - 1) for schedule in schedules],
        "travel": [math.fsum(schedule.factor(t) for t in range(STEPS)) for schedule in schedules],
    }


def run_along(run: Run, *, problem: str, steps: int, seeds: int) -> Mapping[str, Any]:
    """Gaps f - f* by schedule and α₀: at the start, half-way and at the end by seed, and medians along the run."""
    at = tuple(sorted({steps // 2, *log_spaced(steps, 40)}))
    found = run_problem(problem, seeds, run.seed, at)
    return {
        "start": found.gap[0, 0, 0].tolist(),
        "half": found.gap[:, :, at.index(steps // 2)].tolist(),
        "end": found.gap[:, :, -1].tolist(),
        "median": found.gap.quantile(0.5, dim=-1).tolist(),
        "steps": at,
        "alpha": STEP_SIZES[problem],
        "farthest": found.start.abs().amax(-1).tolist(),
        "certificate": found.certificate,
    }


def run_lengths(run: Run, *, problem: str, seeds: int) -> Mapping[str, Any]:
    """Gap f - f* and ‖β‖∞ after chosen numbers of steps: [schedule][α₀][length][seed]."""
    found = run_problem(problem, seeds, run.seed, (0, *LENGTHS))
    return {
        "gap": found.gap[:, :, 1:].tolist(),
        "size": found.size[:, :, 1:].tolist(),
        "start": found.gap[0, 0, 0].tolist(),
        "farthest": found.start.abs().amax(-1).tolist(),
    }


class Gaps(NamedTuple):
    """What all schedules and step sizes do on one problem.

    Attributes:
        gap: f - f*, shape (schedules, step sizes α₀, recorded steps, seeds).
        size: ‖β‖∞, likewise.
        start: β₀, shape (seeds, P).
        certificate: the largest duality gap of the minima that were computed; 0 where they are known.
    """

    gap: Tensor
    size: Tensor
    start: Tensor
    certificate: float


def run_problem(name: str, seeds: int, first_seed: int, at: Sequence[int]) -> Gaps:
    """Run all schedules and step sizes on one problem.

    Args:
        name: a key of `STEP_SIZES`.
        seeds: number of instances.
        first_seed: seed of their random numbers.
        at: recorded steps; the last of them ends the run.
    """
    generator = torch.Generator().manual_seed(first_seed)
    problem, start, minimum, certificate = _problem(name, seeds, generator)
    alphas, schedules = STEP_SIZES[name], list(SCHEDULES.values())
    initial = torch.tensor(alphas, dtype=torch.float64).repeat(len(schedules))
    run = iterate(
        problem,
        start.unsqueeze(1).expand(-1, len(initial), -1).contiguous(),
        Constant(initial),
        at[-1],
        {"loss": Trace(loss, at), "size": Trace(norm(math.inf), at)},
        method=lambda: _scheduled_step(schedules, len(alphas)),
    )
    gap, size = (
        # Recorded step, seed, schedule, α₀ → schedule, α₀, recorded step, seed.
        kept.reshape(len(at), seeds, len(schedules), len(alphas)).permute(2, 3, 0, 1)
        for kept in (run["loss"] - minimum.reshape(1, -1, 1), run["size"])
    )
    return Gaps(gap, size, start, certificate)


def _scheduled_step(schedules: Sequence[StepSize], repeats: int) -> Method:
    """The subgradient step with a schedule of its own for each variant, schedules varying slowest."""
    factors = torch.tensor([[s.factor(t) for s in schedules] for t in range(STEPS)], dtype=torch.float64)
    factors = factors.repeat_interleave(repeats, dim=1).unsqueeze(-1)

    def step(state: State, step_size: Tensor) -> Tensor:
        return torch.addcmul(state.point, state.evaluation.subgradient, step_size * factors[state.step], value=-1)

    return step


def _problem(name: str, seeds: int, generator: torch.Generator) -> tuple[Problem, Tensor, Tensor, float]:
    """A problem, starts of shape (seeds, P), its minima of shape (seeds,), and how certain they are."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1

    if name in ("L3", "L3 twin"):
        kink, twin = l1_norm(FEATURES_L3, 1.0), RoundedL1(FEATURES_L3, 1.0, WIDTH)
        problem: Problem = kink if name == "L3" else twin
        return problem, uniform(seeds, FEATURES_L3), torch.zeros(seeds, dtype=torch.float64), 0.0
    data, start = uniform(seeds, 20, 500), uniform(seeds, 500)
    if name == "L2":
        response = -uniform(seeds, 20).abs()
        return relu_regression(data, response, l2=0.01), start, response.square().sum(-1), 0.0
    response = uniform(seeds, 20)
    if name == "least squares":  # 20 equations, 500 unknowns: the minimum is 0
        return lasso(data, response, 0.0), start, torch.zeros(seeds, dtype=torch.float64), 0.0
    solved = [_lasso_minimum(w.numpy(), y.numpy()) for w, y in zip(data, response, strict=True)]
    minimum = torch.tensor([value for value, _ in solved], dtype=torch.float64)
    return lasso(data, response, PENALTY), start, minimum, extremes.largest(certificate for _, certificate in solved)


def _lasso_minimum(data: np.ndarray, response: np.ndarray) -> tuple[float, float]:
    """The minimum of eq. (11) by coordinate descent, and its duality gap.

    scikit-learn minimises ‖y - Wβ‖²/2N + a‖β‖₁, half of eq. (11) if a = λ₁/2. The dual of eq. (11) is
    θ·y - N‖θ‖²/4 over ‖Wᵀθ‖∞ ≤ λ₁, and θ = 2(y - Wβ)/N, scaled until it is feasible, is nearly its solution.
    """
    from sklearn.linear_model import Lasso  # noqa: PLC0415 - scikit-learn is slow to import and only needed here

    count = len(response)
    model = Lasso(alpha=PENALTY / 2, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(data, response)
    residual = response - data @ model.coef_
    value = float(residual @ residual / count + PENALTY * np.abs(model.coef_).sum())
    dual = 2 * residual / count
    dual *= extremes.smallest(1.0, PENALTY / float(np.abs(data.T @ dual).max()))
    return value, value - float(dual @ response - count * (dual @ dual) / 4)
