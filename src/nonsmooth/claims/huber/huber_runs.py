"""Runs on the Huber regression and its relatives, which the claims of §4 make experiments of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.claims.framework import Run
from nonsmooth.claims.huber.huber_data import LOSSES, curvature_of, draw_regression, draw_start, interpolant
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Recording, State, Trace, evenly_spaced
from nonsmooth.dynamics.recording import loss as loss_value
from nonsmooth.dynamics.thresholds import (
    diverged,
    find_threshold,
    gradient_quotient,
    growth_exponent,
    largest_gradient_quotient,
    top_direction,
    turning_share,
    two_cycle_amplitude,
)
from nonsmooth.problems.convexity import unit

NEAR_STEPS, FAR_STEPS = 40, 1000
CONVERGED = 1e-6
"""A run has converged if its loss, at the end, is below this share of the first loss."""
EARLY = 100
"""Steps of the early window; the late one is the last tenth of a run."""
RISE_WINDOW = 20
"""Within so many steps a first rise of the loss shows."""
PAPER_ALPHAS = (0.1, 1.0, 10.0)
"""Of Figure 3."""
DISTANCES = tuple(float(t) for t in np.geomspace(1e-3, 1e3, 31))
"""From the minimum, at which growth is measured."""
LATE = 100
"""Steps at the end of a run whose points are looked at."""


def losses(
    run: Run, *, loss: str, entries: str, start: str, steps: int, alphas: Sequence[float], seeds: int
) -> Mapping[str, Any]:
    """How the losses of all seeds and step sizes go: rows are seeds, columns α."""
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss])
    step_size = torch.tensor([alphas], dtype=torch.float64)
    points = draw_start(start, run.seed, seeds).expand(-1, len(alphas), -1).contiguous()
    every, progress = {"loss": Trace(loss_value, range(steps + 1))}, run.context.progress
    found: np.ndarray = iterate(problem, points, Constant(step_size), steps, every, progress=progress)["loss"].numpy()
    tenth, constant = max(1, steps // 10), problem.gradient_lipschitz
    at = list(evenly_spaced(min(EARLY, steps), EARLY + 1))
    with np.errstate(invalid="ignore", over="ignore"):
        late_largest = found[-tenth:].max(axis=0)
    return {
        "edge": [] if constant is None else (2 / constant)[:, 0].tolist(),
        "diverged": diverged(found).tolist(),
        "late_largest": late_largest.tolist(),
        "relative_largest": (found[1 : RISE_WINDOW + 1].max(axis=0) / found[0]).tolist(),
        "first_step": (found[1] / found[0]).tolist(),
        "early_frequency": turning_share(found[: EARLY + 1], found[0]).tolist(),
        "late_frequency": turning_share(found[-tenth - 1 :], found[0]).tolist(),
        "trace_at": at,
        "trace": found[at][:, 0, [list(alphas).index(alpha) for alpha in PAPER_ALPHAS]].T.tolist(),
    }


def growth(run: Run, *, loss: str, entries: str, steps: int, alphas: Sequence[float], seeds: int) -> Mapping[str, Any]:
    """Growth exponents along the top direction and on the orbit: rows are seeds, columns distances or step sizes."""
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss])
    minimiser, direction = interpolant(problem), top_direction(problem)
    step_size = torch.tensor([alphas], dtype=torch.float64)
    start = draw_start("uniform", run.seed, seeds).expand(-1, len(alphas), -1).contiguous()

    def exponent(state: State) -> Tensor:
        # To the nearest minimiser, or to any other: the residuals along the ray are the same.
        inner: Tensor = (state.evaluation.subgradient * (state.point - minimiser)).sum(-1)
        return inner / state.evaluation.value

    def amplitude(state: State) -> Tensor:
        along: Tensor = ((state.point - minimiser) * direction).sum(-1)
        return along.abs()

    late = range(steps - LATE + 1, steps + 1)
    record = {
        "loss": Trace(loss_value, range(steps + 1)),
        "exponent": Trace(exponent, late),
        "amplitude": Trace(amplitude, late),
    }
    # One block, since the quantities above hold the data of all instances.
    found = iterate(problem, start, Constant(step_size), steps, record, block=seeds, progress=run.context.progress)
    gone = torch.from_numpy(diverged(found["loss"].numpy()))
    moving = ~gone & (found["loss"][-LATE:].amax(0) >= CONVERGED * found["loss"][0])
    visited = found["amplitude"].median(0).values
    distances = torch.tensor(DISTANCES, dtype=torch.float64).view(1, -1, 1)

    def where_moving(values: Tensor) -> list[Any]:
        kept: list[Any] = torch.where(moving, values, torch.nan).tolist()
        return kept

    return {
        "edge": (2 / curvature_of(entries, run.seed, seeds))[:, 0].tolist(),
        "diverged": gone.tolist(),
        "moving": moving.tolist(),
        "orbit_exponent": where_moving(found["exponent"].median(0).values),
        "orbit_exponent_largest": where_moving(found["exponent"].amax(0)),
        "top_exponent": where_moving(
            growth_exponent(problem, minimiser + visited.unsqueeze(-1) * direction, minimiser)
        ),
        "amplitude": where_moving(visited),
        "amplitude_predicted": two_cycle_amplitude(problem, minimiser, direction, step_size.expand(seeds, -1)).tolist(),
        "distance": list(DISTANCES),
        "exponent": growth_exponent(problem, minimiser + distances * direction, minimiser).tolist(),
    }


def quotients(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """The largest gradient quotients found, in units of L: rows are seeds, columns distances from the minimiser."""
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss])
    smoothness = curvature_of(entries, run.seed, seeds)
    generator, minimiser = run.generator(), interpolant(problem)
    distances = (1e-4, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    shape = (problem.instances, len(distances), problem.features)
    radius = torch.tensor(distances, dtype=torch.float64).view(1, -1, 1)
    centre = minimiser + radius * unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    direction = unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    # The quotients of random pairs enter the maximum too.
    first = gradient_quotient(problem, centre, centre + radius * direction)
    largest, direction = largest_gradient_quotient(problem, centre, direction, first)
    # Along the direction found, pairs of every length across the minimiser: none may exceed L, however close.
    lengths = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 100.0], dtype=torch.float64).view(1, -1, 1)
    half = lengths / 2 * direction[:, :1]
    across = gradient_quotient(problem, minimiser - half, minimiser + half)
    return {
        "smoothness": smoothness[:, 0].tolist(),
        "distance": list(distances),
        "quotient": (largest / smoothness).tolist(),
        "length": lengths.flatten().tolist(),
        "across": (across / smoothness).tolist(),
    }


def near(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """Thresholds in units of 2/L, for starts off the minimiser along the top direction: rows are seeds."""
    problem, distances = draw_regression(entries, run.seed, seeds, LOSSES[loss]), (1e-4, 1e-3, 1e-2, 3e-2)
    start = interpolant(problem) + torch.tensor(distances, dtype=torch.float64).view(1, -1, 1) * top_direction(problem)
    edge = (2 / curvature_of(entries, run.seed, seeds)).expand(-1, len(distances))
    recordings = _first_and_late(NEAR_STEPS // 2)

    def stable(step_size: Tensor) -> Tensor:
        found = iterate(problem, start, Constant(step_size), NEAR_STEPS, recordings)
        return found["late"] < found["first"][0]

    critical = find_threshold(stable, 1e-6 * edge, 100 * edge, tolerance=1e-5).estimate
    return {"distance": list(distances), "ratio": (critical / edge).tolist()}


def _first_and_late(since: int) -> dict[str, Recording]:
    """The first loss, and the largest from a step on."""
    return {"first": Trace(loss_value, [0]), "late": Largest(loss_value, since)}


def far(run: Run, *, loss: str, start: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """Thresholds in units of 2/L between convergence and its absence, from a random start: one per seed."""
    return _far(run, loss, start, entries, seeds, FAR_STEPS)


def shorter(run: Run, *, entries: str, seeds: int, steps: int) -> Mapping[str, Any]:
    """The same for Huber in runs of another length."""
    return _far(run, "huber", "uniform", entries, seeds, steps)


def _far(run: Run, loss_name: str, start: str, entries: str, seeds: int, steps: int) -> Mapping[str, Any]:
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss_name])
    points, edge = draw_start(start, run.seed, seeds), 2 / curvature_of(entries, run.seed, seeds)
    recordings = _first_and_late(steps - steps // 10)

    def stable(step_size: Tensor) -> Tensor:
        found = iterate(problem, points, Constant(step_size), steps, recordings)
        return found["late"] < CONVERGED * found["first"][0]

    critical = find_threshold(stable, 0.5 * edge, 4 * edge, tolerance=4e-3).estimate
    return {"ratio": (critical / edge)[:, 0].tolist()}


def sweep(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """What one seed's run reaches at each step size: the largest loss over its last tenth, relative to the first."""
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss])
    smoothness = curvature_of(entries, run.seed, seeds)
    ratios = torch.cat([torch.logspace(-0.5, 0.5, 21, dtype=torch.float64), torch.tensor([0.99, 1.01, 8.0, 30.0])])
    ratios = ratios.sort().values
    starts = draw_start("uniform", run.seed, seeds).expand(-1, len(ratios), -1).contiguous()
    recordings = _first_and_late(FAR_STEPS - FAR_STEPS // 10)
    found = iterate(problem, starts, Constant(2 / smoothness * ratios), FAR_STEPS, recordings)
    reached = (found["late"] / found["first"][0])[0].nan_to_num(nan=torch.inf)
    return {"ratio": ratios.tolist(), "reached": reached.tolist()}
