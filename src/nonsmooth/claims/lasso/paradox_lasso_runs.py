"""The runs behind the claim `paradox-lasso`, and where one more draw of the data would fall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from nonsmooth.claims.framework import Run
from nonsmooth.claims.framework.quantity import CONFIDENCE
from nonsmooth.claims.kink import dose
from nonsmooth.claims.lasso.lasso_data import FEATURES, LassoData, draw_lasso
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.optimizer_rule import OptimizerRule
from nonsmooth.dynamics.recording import Trace, norm
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1
from nonsmooth.problems import RoundedL1, Sum, lasso
from nonsmooth.problems.lasso_reference import largest_useful_strength, lasso_reference

LARGE, ALPHA = 10.0, 0.01
TWIN_STEPS = {0.01: 3000, 0.02: 1500, 0.04: 750}
"""α of the twins, each with the steps that walk from 1 to 0 three times at λ = 0.1."""

Norms = NDArray[np.float64]


def iterated(
    method_of: Callable[[Tensor], Callable[[], Method]],
    run: Run,
    drawn: LassoData,
    strengths: Tensor,
    step_sizes: Sequence[float],
    steps: int,
) -> Mapping[str, Any]:
    """The norms at the end of a recursion, by pair of step size and strength (first index) and by seed (second)."""
    recorded = iterate(
        lasso(drawn.data, drawn.response, strengths),
        drawn.starts(strengths.shape[-1]),
        Constant(torch.tensor([step_sizes], dtype=torch.float64)),
        steps,
        {"norm": Trace(norm(1), (steps // 4, steps // 2, steps - 1, steps))},
        method=method_of(strengths),
        progress=run.context.progress,
    )
    quarter, half, previous, last = recorded["norm"].mT
    return {
        "last": last.tolist(),
        "cycle": ((previous + last) / 2).tolist(),
        "half_way": half.tolist(),
        "quarter_way": quarter.tolist(),
        "zeros": (recorded.point == 0).sum(-1).T.tolist(),
    }


def proximal_gradient(strengths: Tensor) -> Callable[[], Method]:
    """By the package's optimizer."""
    penalty = L1(strengths.unsqueeze(-1))
    return lambda: OptimizerRule(lambda parameters, step_size: ProxSGD(parameters, lr=step_size, penalty=penalty))


def certified(
    run: Run, drawn: LassoData, strengths: Tensor, step_sizes: Sequence[float], steps: int
) -> Mapping[str, Any]:
    """The solutions, each with its duality gap."""
    del run, step_sizes, steps
    reference = lasso_reference(drawn.data, drawn.response, strengths, tolerance=1e-6)
    return {
        "last": reference.point.abs().sum(-1).T.tolist(),
        "zeros": (reference.point == 0).sum(-1).T.tolist(),
        "gap": reference.gap.T.tolist(),
        "largest_useful_strength": largest_useful_strength(drawn.data, drawn.response).tolist(),
    }


def twins(run: Run, *, seeds: int) -> Mapping[str, Any]:
    """By how much the whole cycle at λ = 10 lies above that at λ = 0.1, in the L1 norm over P·αλ/2."""
    drawn = draw_lasso(run.seed, seeds)

    def rounded(strength: Tensor, width: Tensor) -> Sum:
        return Sum(lasso(drawn.data, drawn.response, 0.0), RoundedL1(FEATURES, strength, width))

    def gap(last: Tensor, alpha: float) -> Tensor:
        lengths = last.abs().sum(1)
        difference: Tensor = lengths[..., 1].amin(0) - lengths[..., 0].amax(0)
        return difference / floor(LARGE, alpha)

    return dose.run_twins(rounded, drawn.start, (0.1, LARGE), TWIN_STEPS, gap)


def floor(strength: float, step_size: float = ALPHA) -> float:
    """P·αλ/2: P weights on the two-cycle {γ, γ-αλ}, each of mean magnitude αλ/2."""
    return FEATURES * step_size * strength / 2


def spread(samples: Norms) -> tuple[float, float]:
    """Where one more draw falls with 95 % probability: mean ± t·s·√(1+1/n)."""
    count = len(samples)
    if count < 2:
        return float(samples[0]), float(samples[0])
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * samples.std(ddof=1) * (1 + 1 / count) ** 0.5)
    return float(samples.mean()) - half, float(samples.mean()) + half


def fits(number: float, samples: Norms) -> bool:
    """Whether the number could be one more draw."""
    low, high = spread(samples)
    return low <= number <= high
