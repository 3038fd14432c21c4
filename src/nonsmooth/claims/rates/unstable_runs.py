"""The runs behind the claim `unstable-convergence`: gaps f - f* under constant steps, in units of αL²."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework import Run
from nonsmooth.claims.huber.huber_data import draw_entries, draw_regression, draw_start
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Recording, Smallest, Trace, loss
from nonsmooth.dynamics.thresholds import diverged
from nonsmooth.problems import (
    Absolute,
    Huber,
    Loss,
    Power,
    Problem,
    PseudoHuber,
    Regression,
    Relu,
    RisingChain,
    l1_norm,
)
from nonsmooth.problems import SupportFunction as Support

LOSSES: Mapping[str, Loss] = {
    "huber": Huber(),
    "absolute regression": Absolute(),
    "pseudo-huber": PseudoHuber(),
    "squared": Power(2.0),
    "quartic": Power(4.0),
}
L1_FEATURES = 20
ROUNDING = 1e-9


def _draw_problem(name: str, first_seed: int, seeds: int) -> tuple[Problem, Tensor]:
    """A problem, and starts of shape (seeds, 1, features)."""
    if name in LOSSES:
        return draw_regression("uniform", first_seed, seeds, LOSSES[name]), draw_start("uniform", first_seed, seeds)
    if name == "relu":
        # Fewer features than samples: with more, some β switches every ReLU off and the run just stops there.
        regression = draw_regression("uniform", first_seed, seeds, shape=(50, 5))
        hinge = Regression(regression.data, -regression.response.abs(), link=Relu(), loss=Absolute(), scale=1 / 50)
        return hinge, draw_start("uniform", first_seed, seeds, 5)
    if name == "absolute value":
        return l1_norm(1, 1.0), draw_start("uniform", first_seed, seeds, 1)
    start = draw_start("uniform", first_seed, seeds, L1_FEATURES)
    return l1_norm(L1_FEATURES, 1.0), start if name == "l1 norm" else start[..., :1].expand_as(start).contiguous()


def measure_gaps(run: Run, *, problem: str, alphas: Sequence[float], steps: int, seeds: int) -> Mapping[str, Any]:
    """Whether runs diverge, and the late largest and the smallest gap: [seed][step size]."""
    function, start = _draw_problem(problem, run.seed, seeds)
    step_size = torch.tensor([alphas], dtype=torch.float64)
    starts = start.expand(-1, len(alphas), -1).contiguous()
    losses = iterate(function, starts, Constant(step_size), steps, {"loss": Trace(loss, range(steps + 1))})["loss"]
    minimizer, minimum, constant = function.minimizer, function.minimum, function.lipschitz
    if minimizer is None or minimum is None:
        raise ValueError("the minimum of this problem is not known")
    gone = diverged(losses.numpy()).tolist()
    if constant is None:
        return {"diverged": gone}
    gaps = losses - minimum
    best = gaps.cummin(dim=0).values
    squared_distance = (start - minimizer).square().sum(-1)
    taken = torch.arange(1, steps + 2, dtype=torch.float64).view(-1, 1, 1)
    classical = squared_distance / (2 * step_size * taken) + step_size * constant.square() / 2
    unit = step_size * constant.square()
    return {
        "diverged": gone,
        "last": (gaps[steps // 2 :].amax(0) / unit).tolist(),
        "best": (best[-1] / unit).tolist(),
        "classical": (best / classical).amax(0).tolist(),
    }


def measure_plane(run: Run, *, tilts: Sequence[float], steps: int) -> Mapping[str, Any]:
    """The worst case in the plane, for each tilt ε and several starts: the largest gap that it keeps returning to.

    At the bottom of the valley and just below 0 the recursion goes one step up, where f is ε, and from there across
    the valley, to 1 + ε - 2ε². It comes back to the same place if the way down takes whole double steps of 2ε, so the
    starts try all phases of the way.
    """
    del run
    rows = [[[0.0, -1.0], [math.sqrt(1 - e * e), e], [-math.sqrt(1 - e * e), e]] for e in tilts]
    problem = Support(torch.tensor(rows, dtype=torch.float64))
    phases = torch.linspace(0, 1, 64, dtype=torch.float64)
    start = torch.stack([torch.full_like(phases, 1e-6), -1e-6 - phases], dim=-1).expand(len(tilts), -1, -1).contiguous()
    record: dict[str, Recording] = {"last": Largest(loss, steps // 2), "best": Smallest(loss)}
    found = iterate(problem, start, Constant(1.0), steps, record)
    return {"tilt": list(tilts), "last": found["last"].amax(-1).tolist(), "best": found["best"].amax(-1).tolist()}


def search_polytopes(run: Run, *, features: int, polytopes: int, starts: int, steps: int) -> Mapping[str, Any]:
    """The largest late gap over random polytopes of 2P + 1 unit vectors that contain 0, and random starts."""
    generator = run.generator()
    vertices = _unit(draw_entries("normal", generator, polytopes, 2 * features, features))
    weights = torch.rand(polytopes, 2 * features, 1, generator=generator, dtype=torch.float64)
    # Minus a positive combination of the others: so that some positive combination of all is 0.
    closing = _unit(-(weights * vertices).sum(1, keepdim=True))
    start = draw_entries("normal", generator, polytopes, starts, features)
    record: dict[str, Recording] = {"last": Largest(loss, steps // 2), "best": Smallest(loss)}
    problem = Support(torch.cat([vertices, closing], dim=1))
    found = iterate(problem, start, Constant(1.0), steps, record, block=polytopes)
    return {
        "last": found["last"].max().item(),
        "best": found["best"].max().item(),
        "above": (found["last"] > 1 + ROUNDING).double().mean().item(),
        "runs": found["last"].numel(),
    }


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return unit


def climb_tilted_sine(run: Run, *, steps: int) -> Mapping[str, Any]:
    """f(x) = |x|/10 + sin x from the flanks of the sine, with the steps that lead from each to one farther out.

    |f'| ≤ 1.1 everywhere. On x = (2n+1)π the slope is -9/10, so steps of 2πm/0.9 lead to a later such point.
    """
    del run
    gone, reached = [], []
    for stride in (1, 2, 3):
        step_size = 2 * math.pi * stride / 0.9
        place, losses = math.pi, []
        for _ in range(steps + 1):
            losses.append(abs(place) / 10 + math.sin(place))
            place -= step_size * (math.copysign(0.1, place) + math.cos(place))
        gone.append(bool(diverged(np.asarray(losses))))
        reached.append(losses[-1])
    return {"diverged": gone, "reached": reached}


def climb_chain(run: Run, *, sizes: Sequence[int]) -> Mapping[str, Any]:
    """On `RisingChain` of n coordinates: the gap after n steps from the minimiser, and from an open set beside it."""
    del run
    ends, beside = [], []
    for size in sizes:
        # Ordered, and far apart as rounding goes: so that no tie decides which term is the largest.
        order = -1e-9 * torch.arange(size, 0, -1, dtype=torch.float64).expand(4, -1)
        shaken = order * (1 + 0.1 * torch.linspace(-1, 1, 4, dtype=torch.float64).unsqueeze(-1) / size)
        start = torch.cat([torch.zeros(1, size, dtype=torch.float64), shaken]).unsqueeze(0)
        problem = RisingChain(size)
        values = problem.value(iterate(problem, start, Constant(1.0), size).point)[0]
        ends.append(values[0].item())
        beside.append(values[1:].min().item())
    return {"size": list(sizes), "last": ends, "beside": beside}


def walk_without_minimizer(run: Run, *, steps: int, seeds: int) -> Mapping[str, Any]:
    """The largest ‖x‖ of a tenth of the steps and of all: functions without a minimiser, and their likes with one.

    Returns:
        `name`; `early` and `late` [name][step size][seed]; nothing is drawn for the first two functions.
    """
    generator = run.generator()
    names, early, late = [], [], []
    for name, left, right in (("max(-x, -2x)", -2.0, -1.0), ("|x|", -1.0, 1.0)):
        places = []
        for alpha in (0.1, 1.0, 10.0):
            x, trail = -1.0, []
            for _ in range(steps):
                x -= alpha * (right if x > 0 else left)
                trail.append(abs(x))
            places.append((extremes.largest(trail[: steps // 10]), extremes.largest(trail)))
        names.append(name)
        early.append([[a] * seeds for a, _ in places])
        late.append([[b] * seeds for _, b in places])
    data = draw_entries("normal", generator, seeds, 40, 2)
    truth = draw_entries("normal", generator, seeds, 2, 1)
    apart = torch.sign(data @ truth).squeeze(-1)
    mixed = torch.sign(draw_entries("normal", generator, seeds, 40))
    for name, labels in (("logistic, separable", apart), ("logistic, mixed", mixed)):
        signed = data * labels.unsqueeze(-1)
        alphas = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64).reshape(-1, 1, 1)
        beta, largest = torch.zeros(3, seeds, 2, dtype=torch.float64), torch.zeros(3, seeds, dtype=torch.float64)
        for step in range(steps):
            margin = torch.einsum("sif,asf->asi", signed, beta)
            beta = beta + alphas * torch.einsum("asi,sif->asf", torch.sigmoid(-margin), signed) / 40
            largest = torch.maximum(largest, torch.linalg.vector_norm(beta, dim=-1))
            if step == steps // 10 - 1:
                early.append(largest.tolist())
        names.append(name)
        late.append(largest.tolist())
    return {"name": names, "early": early, "late": late}
