"""The runs behind the claim `rate`: steps until the gap f - f* falls to an accuracy ε."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework import Run
from nonsmooth.dynamics import Constant, Diminishing, iterate
from nonsmooth.dynamics.recording import FirstStep, State, Trace, loss
from nonsmooth.problems import (
    LargestCoordinate,
    Problem,
    QuadraticChain,
    Regression,
    RoundedLargestCoordinate,
    l1_norm,
)

ON_LINE = ("smooth worst case", "non-smooth worst case")
BOUND, SMOOTH, SHARP, SHARP_ROOT = (
    "every subgradient method",
    "typical smooth",
    "typical sharp, tuned",
    "typical sharp, 1/√t",
)
CHAIN_STEPS = (0.5, 1.0, 1.5, 1.9)
"""Constant steps on the chain, in 1/L."""
KINK_STEPS = (0.25, 0.5, 1.0, 2.0)
"""Constant steps on the largest coordinate, in 1/√n, which is 2ε."""
TWIN_STEPS = (1.0, 4.0)
"""Constant steps on the rounded largest coordinate, in its own 1/L."""
ACCURACIES = tuple(float(e) for e in np.geomspace(0.5, 5e-4, 13))
"""Of the typical problems, as shares of the first gap."""


def walk_on_line(run: Run, *, family: str, accuracies: Sequence[float]) -> Mapping[str, Any]:
    """The worst functions of one variable under the step of theory: 1/L for each ε, or ε/L²."""
    del run
    smooth = family == ON_LINE[0]
    steps = [
        _steps_on_line(slope=2 * e, width=2 * e if smooth else 0.0, step_size=1.0 if smooth else e, accuracy=e)
        for e in accuracies
    ]
    return {"accuracy": list(accuracies), "steps": steps}


def meet_bound(run: Run, *, sizes: Sequence[int]) -> Mapping[str, Any]:
    """Steps from 0 to a gap of 1/(2√n) on the largest of n coordinates, by the best of several constant steps."""
    del run
    accuracies, steps = [0.5 * size**-0.5 for size in sizes], []
    for size, accuracy in zip(sizes, accuracies, strict=True):
        # Just below the bound, or rounding would decide whether the gap is reached at the n-th step.
        alphas, target = [a * size**-0.5 for a in KINK_STEPS[1:]], accuracy * (1 - 1e-9)
        start = torch.zeros(1, size, dtype=torch.float64)
        steps.append(_steps_to(LargestCoordinate(size), start, alphas, target, 4 * size).min().item())
    return {"accuracy": accuracies, "steps": steps}


def solve_typical(run: Run, *, family: str, seeds: int) -> Mapping[str, Any]:
    """Steps until the best gap so far is ε times the first one: [seed][ε]."""
    steps = (_smooth_regression if family == SMOOTH else _sharp_norm)(run.seed, seeds)
    return {"accuracy": list(ACCURACIES), "steps": steps}


def solve_diminishing(run: Run, *, seeds: int, steps: int) -> Mapping[str, Any]:
    """The same on ‖β‖₁ under α₀/√(t+1)."""
    return {
        "accuracy": list(ACCURACIES),
        "steps": _sharp_norm_diminishing(run.seed, seeds, steps, run.context.progress),
    }


def search_chain(run: Run, *, sizes: Sequence[int]) -> Mapping[str, Any]:
    """Steps from 0 to a gap of 1/(8n²) on the chain of n, which has L = R = 1: [size][step]."""
    del run
    accuracies, start = [1 / (8 * n * n) for n in sizes], [torch.zeros(1, n, dtype=torch.float64) for n in sizes]
    steps = [
        _steps_to(QuadraticChain(n), zero, CHAIN_STEPS, e, n * n)[0].tolist()
        for n, zero, e in zip(sizes, start, accuracies, strict=True)
    ]
    return {"accuracy": accuracies, "steps": steps}


def search_largest(run: Run, *, sizes: Sequence[int], seeds: int) -> Mapping[str, Any]:
    """Steps to a gap of ε = 1/(2√n) on the largest of n, from random starts at distance 1: [size][seed][step]."""
    generator, steps = run.generator(), []
    for n in sizes:
        problem, alphas = LargestCoordinate(n), [a * n**-0.5 for a in KINK_STEPS]
        start = _around(problem, generator, seeds)
        steps.append(_steps_to(problem, start, alphas, 0.5 * n**-0.5, n + n // 4).tolist())
    return {"accuracy": [0.5 * n**-0.5 for n in sizes], "steps": steps}


def search_rounded(run: Run, *, width: float, moving: bool, sizes: Sequence[int], seeds: int) -> Mapping[str, Any]:
    """The same from the same starts, rounded over a width, or over ε times that: [size][seed][step]."""
    generator, steps = run.generator(), []
    for n in sizes:
        accuracy = 0.5 * n**-0.5
        problem = RoundedLargestCoordinate(n, width * accuracy if moving else width)
        constant = problem.gradient_lipschitz.item()
        # With the step 1/L the gap is at most L/2k after k steps; half as many are enough in all that were tried.
        longest = math.ceil(constant / (4 * accuracy)) + 2
        start = _around(problem, generator, seeds)
        steps.append(_steps_to(problem, start, [a / constant for a in TWIN_STEPS], accuracy, longest).tolist())
    return {"accuracy": [0.5 * n**-0.5 for n in sizes], "steps": steps}


def _steps_on_line(*, slope: float, width: float, step_size: float, accuracy: float) -> int:
    """Steps of the recursion on `problems.SlopedLine` from x = 1 until f ≤ ε.

    Plain floats: a tensor of one element would cost a hundred times as much, and there are millions of steps.
    """
    point, steps = 1.0, 0
    while True:
        distance = abs(point)
        value = slope * (distance - width / 2 if distance >= width else distance * distance / (2 * width))
        if value <= accuracy:
            return steps
        ramp = (1.0 if point > 0 else -1.0) if distance >= width else point / width
        point -= step_size * slope * ramp
        steps += 1


def _steps_to(problem: Problem, start: Tensor, alphas: Sequence[float], accuracy: float, longest: int) -> Tensor:
    """Steps until the gap lies below ε, by start and step size; infinity where `longest` steps do not suffice.

    Args:
        problem: one instance, whose minimum is known.
        start: shape (seeds, features).
        alphas: constant step sizes.
        accuracy: ε.
        longest: most steps.
    """
    minimum = problem.minimum
    if minimum is None:
        raise ValueError("the minimum of this problem is not known")
    starts = start.unsqueeze(1).expand(-1, len(alphas), -1).contiguous()
    reached = FirstStep(lambda state: state.evaluation.value - minimum < accuracy)
    alpha = torch.tensor([alphas], dtype=torch.float64)
    first = iterate(problem, starts, Constant(alpha), longest, {"first": reached})["first"].double()
    steps: Tensor = first.masked_fill(first < 0, torch.inf)
    return steps


def _around(problem: Problem, generator: torch.Generator, seeds: int) -> Tensor:
    """Starts at distance 1 from the minimiser in random directions, shape (seeds, features)."""
    direction = torch.randn(seeds, problem.features, generator=generator, dtype=torch.float64)
    minimizer = problem.minimizer
    if minimizer is None:
        raise ValueError("the minimiser of this problem is not known")
    start: Tensor = minimizer[0, 0] + direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    return start


def _smooth_regression(first_seed: int, count: int) -> list[list[float]]:
    """Least squares 20×50 from 0 under 1/L: steps to each accuracy [seed][ε]."""
    generators = _generators(first_seed, count)
    data = torch.stack([torch.rand(20, 50, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])
    response = torch.stack([torch.rand(20, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])
    problem = Regression(data, response)
    curvature = problem.gradient_lipschitz
    start = torch.zeros(count, 1, 50, dtype=torch.float64)
    step_size = Constant(1 / curvature) if curvature is not None else Constant(1.0)
    run = iterate(problem, start, step_size, 20_000, {"loss": Trace(loss, range(20_001))})
    return _first_steps(run["loss"][..., 0].numpy())


def _sharp_norm(first_seed: int, count: int) -> list[list[float]]:
    """‖β‖₁ under the step that the classical bound asks for at each accuracy: steps to it [seed][ε]."""
    start = _uniform_starts(first_seed, count)
    features = start.shape[-1]
    norm = l1_norm(features, 1.0)
    targets = norm.value(start) * torch.tensor([ACCURACIES], dtype=torch.float64)

    def reached(state: State) -> Tensor:
        return state.evaluation.value <= targets

    longest = int(features / float(targets.min()) * 1.5) + 2
    variants = start.expand(-1, len(ACCURACIES), -1).contiguous()
    # G² = P: the step size that the bound R²/(2αk) + αG²/2 asks for at accuracy ε.
    run = iterate(norm, variants, Constant(targets / features), longest, {"first": FirstStep(reached)}, block=count)
    return [[float(step) if step >= 0 else float("inf") for step in row] for row in run["first"].tolist()]


def _sharp_norm_diminishing(
    first_seed: int, count: int, steps: int, progress: Callable[[float], None] | None
) -> list[list[float]]:
    """‖β‖₁ under R/√P/√(t+1): steps to each accuracy [seed][ε]."""
    start = _uniform_starts(first_seed, count)
    features = start.shape[-1]
    schedule = Diminishing(torch.linalg.vector_norm(start, dim=-1) / features**0.5, 0.5)
    record = {"loss": Trace(loss, range(steps + 1))}
    run = iterate(l1_norm(features, 1.0), start, schedule, steps, record, progress=progress)
    return _first_steps(run["loss"][..., 0].numpy())


def _generators(first_seed: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(first_seed, first_seed + count)]


def _uniform_starts(first_seed: int, count: int) -> Tensor:
    generators = _generators(first_seed, count)
    return torch.stack([torch.rand(1, 100, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])


def _first_steps(values: np.ndarray) -> list[list[float]]:
    """From f - f* at each step, shape (steps, seeds), with f* = 0: when its running minimum falls to ε · f₀."""
    best = np.minimum.accumulate(values, axis=0) / values[:1]
    # `best` never rises, so its negative is sorted.
    rows = [np.searchsorted(-best[:, seed], [-e for e in ACCURACIES]) for seed in range(best.shape[1])]
    return [[float(step) if step < len(best) else float("inf") for step in row] for row in rows]


def fit_exponent(
    accuracies: Sequence[float], steps: Sequence[float] | np.ndarray, span: str = "all", least: int = 3
) -> float:
    """The slope of log steps on log 1/ε; NaN where an accuracy was not reached, or fewer than three are left.

    The first accuracies take a step or two, where counting in whole steps hides the exponent: those with fewer than
    `least` steps are left out. Of typical problems those not reached are left out, too (`least` = 0).
    """
    pairs = [(-math.log(e), float(k)) for e, k in zip(accuracies, steps, strict=True) if k >= least]
    if least == 0:
        pairs = [(x, k) for x, k in pairs if math.isfinite(k)]
    parts = {"the three smallest": slice(-3, None), "the three largest": slice(None, 3)}
    pairs = pairs[parts.get(span, slice(None))]
    if len(pairs) < 3 or not all(math.isfinite(k) for _, k in pairs):
        return math.nan
    return float(np.polyfit([x for x, _ in pairs], np.log([extremes.largest(k, 1.0) for _, k in pairs]), 1)[0])
