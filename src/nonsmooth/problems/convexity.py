"""Numerical tests of a regression: is it convex, is 0 a minimiser, is it a kink?"""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from nonsmooth.problems.regression import Regression


def convexity_excess(problem: Regression, segments: int, generator: torch.Generator) -> Tensor:
    """How far f lies above the chord at a random point of each segment, relative to the chord; negative if below.

    Half of the segments are long; half are short ones that cross one sample's kink, where a failure would show. Along
    random segments a single concave kink among many convex ones is often missed: see `slope_jumps`.

    Args:
        problem: of one instance.
        segments: their number.
        generator: where they come from.

    Returns:
        One number for each segment, shape (segments,).
    """
    ends = torch.rand(2, segments, problem.features, generator=generator, dtype=torch.float64) * 2 - 1
    row = torch.randint(problem.samples, (segments // 2,), generator=generator)
    normal = problem.data[0, row]
    near = ends[0, : segments // 2]
    # Shift to the hyperplane z·β = 0 and step off it to both sides.
    base = near - normal * ((near * normal).sum(-1) / normal.square().sum(-1)).unsqueeze(-1)
    half = torch.rand(segments // 2, 1, generator=generator, dtype=torch.float64) * 0.05
    ends[0, : segments // 2], ends[1, : segments // 2] = base - half * normal, base + half * normal
    weight = torch.rand(segments, generator=generator, dtype=torch.float64)
    middle = torch.lerp(ends[0], ends[1], weight.unsqueeze(-1))
    values = problem.value(torch.cat([ends[0], ends[1], middle]).unsqueeze(0))[0]
    first, second, between = values.reshape(3, segments)
    chord = torch.lerp(first, second, weight)
    excess: Tensor = (between - chord) / chord.abs().clamp(min=1)
    return excess


def slope_jumps(problem: Regression, generator: torch.Generator) -> Tensor:
    """How much the slope along zᵢ rises where β crosses zᵢᵀβ = 0 at a random place, over 2‖y‖∞‖zᵢ‖: shape (samples,).

    Under a ReLU and the squared loss the closed form is -yᵢ/‖y‖∞. Between these kinks f is a sum of convex quadratics,
    so that it is convex if and only if no slope falls there.
    """
    normal = unit(problem.data[0])
    point = torch.rand(normal.shape, generator=generator, dtype=torch.float64) * 2 - 1
    point = point - normal * (point * normal).sum(-1, keepdim=True)
    ahead, behind = (problem.subgradient((point + side * 1e-9 * normal).unsqueeze(0))[0] for side in (1, -1))
    scale = 2 * problem.response.abs().max() * torch.linalg.vector_norm(problem.data[0], dim=-1)
    rise: Tensor = ((ahead - behind) * normal).sum(-1)
    return rise / scale


def distance_to_subdifferential_at_zero(problem: Regression) -> float:
    """Min ‖-2 Σ yᵢ sᵢ zᵢ + λ₁v‖ over the choices sᵢ in [0, 1] and v in [-1, 1]^P that the two kinks leave.

    For y ≤ 0 the choice s = 0, v = 0 gives zero at once; a positive yᵢ gives zero too, since the ReLU hides the
    sample on one side, which is why stationarity is not optimality there.
    """
    data, response = problem.data[0].numpy(), problem.response[0].numpy()
    samples, features = data.shape
    strength = float(problem.l1.max())
    columns, low, high = [-2 * response[:, None] * data], [np.zeros(samples)], [np.ones(samples)]
    if strength > 0:
        columns.append(strength * np.eye(features))
        low.append(-np.ones(features))
        high.append(np.ones(features))
    bounds = np.concatenate(low), np.concatenate(high)
    solution = optimize.lsq_linear(np.concatenate(columns).T, np.zeros(features), bounds)
    return float(np.sqrt(2 * solution.cost))


def unit(vectors: Tensor) -> Tensor:
    """The vectors scaled to length 1 along the last dimension; zero where one is zero."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=1e-300)


def directions(features: int, count: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors, shape (1, count, features)."""
    return unit(torch.randn(1, count, features, generator=generator, dtype=torch.float64))


def smallest_kink(problem: Regression, generator: torch.Generator) -> float:
    """The smallest f'(0; d) + f'(0; -d) over 200 random directions d: zero if f is differentiable at 0.

    The one-sided slope is the limit of the gradient from inside the piece that d enters, so it is exact.
    """
    drawn, tiny = directions(problem.features, 200, generator), 1e-12
    forward = (problem.subgradient(tiny * drawn) * drawn).sum(-1)
    backward = (problem.subgradient(-tiny * drawn) * drawn).sum(-1)
    return float((forward - backward).min())


def lowest_found(problem: Regression, generator: torch.Generator) -> float:
    """The smallest (f(β) - f(0)) / f(0) over random directions and the negative subgradients there, many lengths."""
    drawn = directions(problem.features, 100, generator)
    steepest = -problem.subgradient(1e-9 * directions(problem.features, 100, generator))
    drawn = unit(torch.cat([drawn, steepest], dim=1))
    lengths = torch.logspace(-4, 1, 11, dtype=torch.float64)
    points = (lengths[:, None, None] * drawn[0]).reshape(1, -1, problem.features)
    zero = problem.value(torch.zeros(1, 1, problem.features, dtype=torch.float64))
    return float(((problem.value(points) - zero) / zero.clamp(min=1e-12)).min())
