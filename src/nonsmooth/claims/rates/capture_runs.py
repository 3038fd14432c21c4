"""The runs behind the claim `capture`: L₂ and its smooth twins from inside a ball."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from nonsmooth.claims.framework import Run
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import (
    Count,
    FirstStep,
    LastStep,
    State,
    Trace,
    active_units,
    log_spaced,
    loss,
    loss_rose,
    norm,
)
from nonsmooth.problems import Link, QuadraticRelu, Relu, Softplus, relu_regression

FEATURES, SAMPLES, RIDGE = 500, 20, 0.01
STEP_SIZES = (1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 1e-2)
CURVE_POINTS = 120
SLOPE = 4e-6
"""Largest slope at a twin's minimiser; by the ridge's strong convexity that is 1e-3 of distance, a tenth of the margin
that the Euclidean start leaves."""


def leave_ball(
    run: Run, link: Link, data: Tensor, response: Tensor, start: Tensor, centre: Tensor, order: float, steps: int
) -> Mapping[str, Any]:
    """Whether each run's loss fell at every step, and when it left the ball of a norm: [step size][seed]."""

    def size(state: State) -> Tensor:
        if order == math.inf:
            return norm(math.inf)(state)
        distance: Tensor = torch.linalg.vector_norm(state.point - centre.unsqueeze(1), dim=-1)
        return distance

    found = iterate(
        relu_regression(data, response, l2=RIDGE, link=link),
        start.unsqueeze(1).expand(-1, len(STEP_SIZES), -1).contiguous(),
        Constant(torch.tensor([STEP_SIZES], dtype=torch.float64)),
        steps,
        {
            "rises": Count(loss_rose),
            "left": FirstStep(lambda state: size(state) >= 1.0),
            "first_crossing": FirstStep(_pattern_changed),
            "last_active": LastStep(lambda state: active_units(state) > 0),
            "loss": Trace(loss, (at := log_spaced(steps, CURVE_POINTS))),
            "size": Trace(size, at),
        },
        # The centre differs between instances, and a quantity sees one block: so all instances form one block here.
        block=None if order == math.inf else len(start),
        progress=run.context.progress,
    )
    example = 0
    return {
        "step_sizes": list(STEP_SIZES),
        "fell": (found["rises"] == 0).T.tolist(),
        **{name: found[name].T.tolist() for name in ("left", "first_crossing", "last_active")},
        "euclidean_start": torch.linalg.vector_norm(start - centre, dim=-1).tolist(),
        "minimiser_size": torch.linalg.vector_norm(centre, ord=math.inf, dim=-1).tolist(),
        "curve_step": list(at),
        "curve_loss": found["loss"][:, example].T.tolist(),
        "curve_size": found["size"][:, example].T.tolist(),
    }


def twin_link(name: str) -> Link:
    """The ReLU or a twin: "relu", "quadratic WIDTH" or "softplus WIDTH"."""
    kind, _, width = name.partition(" ")
    if kind == "relu":
        return Relu()
    return QuadraticRelu(float(width)) if kind == "quadratic" else Softplus(float(width))


def link_label(name: str) -> str:
    """What a reader calls a link."""
    kind, _, width = name.partition(" ")
    return "ReLU" if kind == "relu" else f"{'C¹ ReLU' if kind == 'quadratic' else 'softplus'}, ε = {width}"


def draw_data(first_seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Z₁ ~ U[-1, 1], q₁ ~ U[-1, 0], β₀ ~ U[-1, 1] for each seed, each from its own generator."""
    data, response, start = [], [], []
    for seed in range(first_seed, first_seed + count):
        generator = torch.Generator().manual_seed(seed)
        data.append(torch.rand(SAMPLES, FEATURES, generator=generator, dtype=torch.float64) * 2 - 1)
        response.append(-torch.rand(SAMPLES, generator=generator, dtype=torch.float64))
        start.append(torch.rand(FEATURES, generator=generator, dtype=torch.float64) * 2 - 1)
    return torch.stack(data), torch.stack(response), torch.stack(start)


def find_minimizer(data: Tensor, response: Tensor, link: Link) -> Tensor:
    """The minimiser of L₂: zero for the ReLU; for a twin from the N-dimensional problem, since β* = Zᵀa by the ridge.

    Raises:
        RuntimeError: the twin's problem was not solved.
    """
    problem = relu_regression(data.unsqueeze(0), response.unsqueeze(0), l2=RIDGE, link=link)
    known = problem.minimizer
    if known is not None:
        return known[0, 0]
    basis = torch.linalg.qr(data.T).Q

    def slope(coordinates: Tensor) -> Tensor:
        projected: Tensor = basis.T @ problem.subgradient((basis @ coordinates).reshape(1, 1, -1))[0, 0]
        return projected

    solution = optimize.minimize(
        lambda c: problem.value((basis @ torch.from_numpy(c)).reshape(1, 1, -1)).item(),
        np.zeros(SAMPLES),
        jac=lambda c: slope(torch.from_numpy(c)).numpy(),
        hess=lambda c: torch.func.jacrev(slope)(torch.from_numpy(c)).numpy(),
        method="trust-exact",
        options={"maxiter": 2000, "gtol": SLOPE / 10},
    )
    if not np.abs(solution.jac).max() <= SLOPE:
        raise RuntimeError(f"the twin {link} was not minimised: largest slope {np.abs(solution.jac).max():.2g}")
    minimizer: Tensor = basis @ torch.from_numpy(solution.x)
    return minimizer


def _pattern_changed(state: State) -> Tensor:
    """Whether any pre-activation changed its sign in the last step."""
    now = state.evaluation.preactivation
    if now is None or state.previous is None or state.previous.preactivation is None:
        return torch.zeros_like(state.evaluation.value, dtype=torch.bool)
    return ((now > 0) != (state.previous.preactivation > 0)).any(-1)
