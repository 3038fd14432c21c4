"""The runs behind the claim `paradox-2d`: the paper's own, its controls, and random starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nonsmooth.claims.framework import Run
from nonsmooth.claims.kink import dose
from nonsmooth.dynamics import Constant, iterate, proximal_step, subgradient_step
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import Points
from nonsmooth.problems import Problem, RoundedL1, l1_norm

START, ALPHA, REDUCED, STRENGTHS = 0.5053, 0.01, 0.001, (1.0, 100.0)
STEPS = 400
"""Even, and beyond N₀ = 50 of the slower run."""
DECADES, NARROW = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), 0.004
"""Step sizes as α is reduced again and again, and ε of the twin in that run."""
RATIOS = (1.3, 2.7, 5.3, 10.7, 31.3, 100.0)
"""Larger over smaller λ for random starts."""
STEP_SIZES = dict.fromkeys((0.001, 0.003, 0.01, 0.03, 0.1), 3000)
"""α of the twins, with the number of steps: at 0.001, λ = 1 needs 1,000 to walk to zero."""


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


def _problem_and_start(dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor]:
    """Both λ as variants, and the paper's start for each."""
    start = torch.full((1, len(STRENGTHS), 2), START, dtype=dtype)
    return l1_norm(2, torch.tensor(STRENGTHS, dtype=dtype), dtype), start


def _proximal() -> Method:
    return proximal_step(torch.tensor(STRENGTHS))


def paper_run(run: Run, *, dtype: str) -> Mapping[str, Any]:
    """The paper's run: values are [λ][iterate][coordinate]; `paths` are the first steps of one coordinate.

    The step is reduced from either of the two points of the cycle. A reduction by 2.5, which is not a whole number,
    shows that it can matter.
    """
    del run
    problem, start = _problem_and_start(getattr(torch, dtype))
    points = _two_cycle(problem, start, ALPHA)
    values: dict[str, Any] = {"cycle": points.transpose(0, 1).tolist()}
    for name, alpha in (("reduced", REDUCED), ("uneven", ALPHA / 2.5)):
        for index, origin in enumerate(("even", "odd")):
            reduced = _two_cycle(problem, points[index].unsqueeze(0), alpha)
            values[f"{name}_from_{origin}"] = reduced.transpose(0, 1).tolist()
    drawn = iterate(problem, start, Constant(ALPHA), 80, {"path": Points(range(81))})
    return values | {"paths": drawn["path"][:, 0, 0, :].T.tolist()}


def proximal(run: Run) -> Mapping[str, Any]:
    """The same function, α, λ and start with the proximal step: norms over the last two iterates, by λ."""
    del run
    lengths = _two_cycle(*_problem_and_start(), ALPHA, method=_proximal).abs().sum(-1)
    return {"strengths": STRENGTHS, "smallest": lengths.amin(0).tolist(), "largest": lengths.amax(0).tolist()}


def decades(run: Run) -> Mapping[str, Any]:
    """α reduced tenfold again and again: norms [α][variant] for the kink at both λ, then for the narrow twin."""
    del run
    rows: dict[str, Any] = {"alpha": DECADES}
    kink, start = _problem_and_start()
    for name, problem in (("kink", kink), ("twin", RoundedL1(2, torch.tensor(STRENGTHS), NARROW))):
        point, rows[name] = start, []
        for alpha in DECADES:
            points = _two_cycle(problem, point, alpha, steps=1000)
            rows[name].append(points.abs().sum(-1).amax(0).tolist())
            point = points[0].unsqueeze(0)
    return rows


def random_starts(run: Run, *, seeds: int) -> Mapping[str, Any]:
    """Starts from U[-1, 1]²: how the norms at λ = 1 and λ = r compare, for each ratio r.

    `larger` counts the starts in which the larger λ has the larger norm at the last iterate, `separate` those in which
    its smallest norm in the cycle exceeds the other's largest, as in the paper's example, and `reversed` those in
    which its largest is below the other's smallest. `example` is a start for which the last iterate of the larger λ
    has the smaller norm (NaN where there is none).
    """
    start = torch.rand(1, seeds, 2, generator=run.generator(), dtype=torch.float64) * 2 - 1
    reference = _two_cycle(l1_norm(2, 1.0), start, ALPHA, steps=120).abs().sum(-1)
    counts: dict[str, list[int]] = {"larger": [], "separate": [], "reversed": []}
    ratios, example = [], [math.nan, math.nan]
    for ratio in RATIOS:
        norms = _two_cycle(l1_norm(2, ratio), start, ALPHA, steps=120).abs().sum(-1)
        counts["larger"].append(int((norms[1] > reference[1]).sum()))
        counts["separate"].append(int((norms.amin(0) > reference.amax(0)).sum()))
        counts["reversed"].append(int((norms.amax(0) < reference.amin(0)).sum()))
        ratios.append((norms.mean(0) / reference.mean(0))[:200].tolist())
        smaller = torch.nonzero(norms[1] < reference[1])
        if ratio == RATIOS[-1] and len(smaller):
            example = start[0, int(smaller[0])].tolist()
    both = start[0].unsqueeze(1).expand(seeds, len(STRENGTHS), 2)
    ends = iterate(_problem_and_start()[0], both, Constant(ALPHA), 120, method=_proximal)
    zero = int((ends.point == 0).all(-1).all(-1).sum())
    return {"ratio": RATIOS, **counts, "mean_norm_ratio": ratios, "example": example, "proximal_zero": zero}


def twins(run: Run, *, seeds: int) -> Mapping[str, Any]:
    """By how much the whole cycle at λ = 100 lies above that at λ = 1, in the L1 norm over αλ; below 0 if it does not.

    The first start is the paper's, the others are random.
    """

    def gap(last: Tensor, alpha: float) -> Tensor:
        lengths = last.abs().sum(1)
        difference: Tensor = lengths[..., 1].amin(0) - lengths[..., 0].amax(0)
        return difference / (alpha * STRENGTHS[-1])

    start = torch.rand(seeds, 2, generator=run.generator(), dtype=torch.float64) * 2 - 1
    start[0] = START
    return dose.run_twins(partial(RoundedL1, 2), start, STRENGTHS, STEP_SIZES, gap)
