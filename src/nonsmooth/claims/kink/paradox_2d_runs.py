"""The runs behind the claim `paradox-2d`: the paper's own, its two controls, and random starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nonsmooth.dynamics import Constant, iterate, proximal_step, subgradient_step
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import Points
from nonsmooth.problems import Problem, RoundedL1, l1_norm

START = 0.5053
STEP_SIZE, REDUCED = 0.01, 0.001
STRENGTHS = (1.0, 100.0)
STEPS = 400
"""Even, and beyond N₀ = 50 of the slower run."""
WIDTHS = (0.0001, 0.001, 0.004, 0.006, 0.1, 0.4, 0.6, 1.0)
"""ε of the twins: α exceeds 2/L = 2ε/λ at both λ up to 0.004, at neither from 0.6 on."""
DECADES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Step sizes of the run in which α is reduced again and again."""
NARROW = 0.004
"""ε of the twin in that run."""
RATIOS = (1.3, 2.7, 5.3, 10.7, 31.3, 100.0)
"""Larger over smaller λ for random starts."""
VANISHED = 1e-9
"""An L1 norm below this has converged to the minimum 0."""


def _proximal() -> Method:
    """The proximal step at both strengths."""
    return proximal_step(torch.tensor(STRENGTHS))


def _two_cycle(
    problem: Problem,
    start: Tensor,
    alpha: float,
    steps: int = STEPS,
    method: Callable[[], Method] = lambda: subgradient_step,
) -> Tensor:
    """The iterates `steps` and `steps` + 1, shape (2, variants, features)."""
    run = iterate(problem, start, Constant(alpha), steps + 1, {"cycle": Points((steps, steps + 1))}, method=method)
    return run["cycle"][:, :, 0, :].movedim(1, -1)


def paper_run(dtype: torch.dtype) -> Mapping[str, Any]:
    """The paper's run: values are [λ][iterate][coordinate]; `paths` are the first steps of one coordinate.

    After the run at α = 0.01 the step is reduced from either of the two points of the cycle: "once the algorithm
    seems to have converged" does not say which. A reduction by 2.5, which is not a whole number, shows that it can
    matter.
    """
    problem = l1_norm(2, torch.tensor(STRENGTHS, dtype=dtype), dtype)
    start = torch.full((1, len(STRENGTHS), 2), START, dtype=dtype)
    points = _two_cycle(problem, start, STEP_SIZE)
    values: dict[str, Any] = {"cycle": points.transpose(0, 1).tolist()}
    for name, alpha in (("reduced", REDUCED), ("uneven", STEP_SIZE / 2.5)):
        for index, origin in enumerate(("even", "odd")):
            reduced = _two_cycle(problem, points[index].unsqueeze(0), alpha)
            values[f"{name}_from_{origin}"] = reduced.transpose(0, 1).tolist()
    drawn = iterate(problem, start, Constant(STEP_SIZE), 80, {"path": Points(range(81))})
    return values | {"paths": drawn["path"][:, 0, 0, :].T.tolist()}


def _norms(points: Tensor) -> dict[str, list[float]]:
    """Smallest and largest L1 norm over the last two iterates, per variant."""
    lengths = points.abs().sum(-1)
    return {"smallest": lengths.amin(0).tolist(), "largest": lengths.amax(0).tolist()}


def proximal_run() -> Mapping[str, Any]:
    """The same function, step size, strengths and start, with the proximal step."""
    problem = l1_norm(2, torch.tensor(STRENGTHS, dtype=torch.float64))
    start = torch.full((1, len(STRENGTHS), 2), START, dtype=torch.float64)
    return {"strengths": STRENGTHS, **_norms(_two_cycle(problem, start, STEP_SIZE, method=_proximal))}


def twin_run() -> Mapping[str, Any]:
    """The twins at both λ: for each width ε the norms in the last two iterates, and α as a multiple of 2/L."""
    strength = torch.tensor(STRENGTHS, dtype=torch.float64).repeat(len(WIDTHS))
    width = torch.tensor(WIDTHS, dtype=torch.float64).repeat_interleave(len(STRENGTHS))
    problem = RoundedL1(2, strength, width)
    start = torch.full((1, len(strength), 2), START, dtype=torch.float64)
    points = _two_cycle(problem, start, STEP_SIZE, steps=6000)
    return {
        "strength": strength.tolist(),
        "width": width.tolist(),
        "edge": (STEP_SIZE * problem.gradient_lipschitz[0] / 2).tolist(),
        "coordinates": points[..., 0].T.tolist(),
        **_norms(points),
    }


def decades() -> Mapping[str, Any]:
    """α reduced tenfold again and again: norms [α][variant] for the kink at both λ, then for the narrow twin."""
    kink = l1_norm(2, torch.tensor(STRENGTHS, dtype=torch.float64))
    twin = RoundedL1(2, torch.tensor(STRENGTHS), NARROW)
    rows: dict[str, Any] = {"alpha": DECADES}
    for name, problem in (("kink", kink), ("twin", twin)):
        point = torch.full((1, len(STRENGTHS), 2), START, dtype=torch.float64)
        norms = []
        for alpha in DECADES:
            points = _two_cycle(problem, point, alpha, steps=1000)
            norms.append(points.abs().sum(-1).amax(0).tolist())
            point = points[0].unsqueeze(0)
        rows[name] = norms
    return rows


def random_starts(starts: int, seed: int) -> Mapping[str, Any]:
    """Starts from U[-1, 1]²: how the norms at λ = 1 and λ = r compare, for each ratio r.

    `larger` counts the starts in which the larger λ has the larger norm at the last iterate, `separate` those in which
    its smallest norm in the cycle exceeds the other's largest, as in the paper's example, and `reversed` those in
    which its largest is below the other's smallest. `example` is a start for which the last iterate of the larger λ
    has the smaller norm (NaN where there is none).
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(1, starts, 2, generator=generator, dtype=torch.float64) * 2 - 1
    reference = _two_cycle(l1_norm(2, 1.0), start, STEP_SIZE, steps=120).abs().sum(-1)
    counts: dict[str, list[int]] = {"larger": [], "separate": [], "reversed": []}
    ratios, example = [], [math.nan, math.nan]
    for ratio in RATIOS:
        norms = _two_cycle(l1_norm(2, ratio), start, STEP_SIZE, steps=120).abs().sum(-1)
        larger = norms[1] > reference[1]
        counts["larger"].append(int(larger.sum()))
        counts["separate"].append(int((norms.amin(0) > reference.amax(0)).sum()))
        counts["reversed"].append(int((norms.amax(0) < reference.amin(0)).sum()))
        ratios.append((norms.mean(0) / reference.mean(0))[:200].tolist())
        smaller = torch.nonzero(norms[1] < reference[1])
        if ratio == RATIOS[-1] and len(smaller):
            example = start[0, int(smaller[0])].tolist()
    both = start[0].unsqueeze(1).expand(starts, len(STRENGTHS), 2)
    problem = l1_norm(2, torch.tensor(STRENGTHS, dtype=torch.float64))
    proximal = iterate(problem, both, Constant(STEP_SIZE), 120, method=_proximal)
    zero = int((proximal.point == 0).all(-1).all(-1).sum())
    return {"ratio": RATIOS, **counts, "mean_norm_ratio": ratios, "example": example, "proximal_zero": zero}
