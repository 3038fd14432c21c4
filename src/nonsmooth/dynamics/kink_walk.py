"""Weights that the penalty holds at the kink while the loss pulls on them: each with a drift and a noise of its own.

`stationary_law` knows the penalty and noise alone. In a network that learns, the loss's gradient at a weight has a mean
(the drift), a spread from batch to batch (the noise), and a slope along the weight (the curvature); all differ from
weight to weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Walks:
    """Where the weights were, over the recorded steps.

    Attributes:
        magnitude: mean |w| of each weight.
        below: of each threshold, the share of steps that each weight spent below it, shape (thresholds, weights).
    """

    magnitude: Tensor
    below: Tensor


def walk_at_kink(
    lr: float,
    strength: float,
    drift: Tensor,
    noise: Tensor,
    slope: Tensor | float = 0.0,
    centre: Tensor | float = 0.0,
    *,
    steps: int,
    burn_in: int,
    generator: torch.Generator,
    thresholds: Sequence[float] = (),
) -> Walks:
    """Simulate w ← w - α(λ sign w + g + h(w - c) + σξ), ξ standard normal, for independent weights.

    Without noise and slope, and with |g| < λ, w ends uniform on (-α(λ+g), α(λ-g)), so that E|w| = α(λ² + g²)/(2λ):
    up and down steps of different lengths, a rotation of a circle of length 2αλ. With noise alone E|w| =
    α(λ² + σ²)/(2λ) (`subgradient_mean`).

    Args:
        lr: α.
        strength: λ > 0.
        drift: g of each weight, shape (weights,).
        noise: σ ≥ 0, likewise.
        slope: h, a number or likewise.
        centre: c, the weight at which the drift is g.
        steps: recorded.
        burn_in: steps before them; weights start uniform on ±αλ.
        generator: of starts and noise.
        thresholds: for `Walks.below`.
    """
    draw = torch.empty_like(drift)
    weight = draw.uniform_(-1, 1, generator=generator).mul(lr * strength)
    magnitude, below = torch.zeros_like(drift), torch.zeros(len(thresholds), *drift.shape)
    for step in range(burn_in + steps):
        gradient = draw.normal_(generator=generator).mul_(noise).add_(drift).add_(weight.sign(), alpha=strength)
        if isinstance(slope, Tensor) or slope:
            gradient.add_(slope * (weight - centre))
        weight = weight.sub_(gradient, alpha=lr)
        if step >= burn_in:
            size = weight.abs()
            magnitude += size
            for index, threshold in enumerate(thresholds):
                below[index] += size < threshold
    return Walks(magnitude / steps, below / steps)
