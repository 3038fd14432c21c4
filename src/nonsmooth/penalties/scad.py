"""The smoothly clipped absolute deviation penalty (Fan & Li 2001), which leaves large weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Step, Strength, check_above
from nonsmooth.penalties.separable import SeparablePenalty


@dataclass(frozen=True, eq=False)
class SCAD(SeparablePenalty):
    """Slope λ up to λ, falling linearly to 0 at γλ, 0 from there on; with weights, λ is λcⱼ.

    It is weakly convex with modulus 1/(γ-1): `prox` is a single point for steps below γ-1. Beyond, `proximal_map`
    returns a global minimiser, whose fixed points are stationary as well.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        gamma: γ > 2, Fan and Li's a.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" or "components".

    Raises:
        ValueError: a strength or a weight is negative, γ is not above 2, or the rule is not known.
    """

    convex: ClassVar[bool] = False

    strength: Strength
    gamma: float = 3.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above("gamma", self.gamma, 2)

    @property
    def largest_step(self) -> float:
        """γ - 1."""
        return self.gamma - 1

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """The integral of the slope."""
        strength = torch.as_tensor(strength, dtype=size.dtype, device=size.device)
        flat = torch.minimum(size, strength)
        falling = torch.minimum(size, self.gamma * strength) - flat
        return strength * flat + strength * falling - falling.square() / (2 * (self.gamma - 1))

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λ up to λ, then (γλ - s)/(γ - 1), and 0 from γλ on."""
        strength = torch.as_tensor(strength, dtype=size.dtype, device=size.device)
        return torch.minimum(strength, (self.gamma * strength - size) / (self.gamma - 1)).clamp(min=0)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """The best of the minimisers of the three pieces; at infinity the point."""
        gamma = self.gamma
        step = torch.as_tensor(step, dtype=size.dtype, device=size.device)
        strength = torch.as_tensor(strength, dtype=size.dtype, device=size.device).expand_as(size)
        first = torch.minimum((size - strength * step).clamp(min=0), strength)
        third = torch.maximum(size, gamma * strength)
        # The middle piece is convex only for steps below γ - 1; else its minimum lies at an end, where the others are.
        convex = step < gamma - 1
        middle = ((gamma - 1) * size - step * gamma * strength) / torch.where(convex, gamma - 1 - step, 1)
        second = torch.where(convex, torch.minimum(torch.maximum(middle, strength), gamma * strength), first)
        best, cost = first, self._cost(first, size, strength, step)
        for candidate in (second, third):
            other = self._cost(candidate, size, strength, step)
            best, cost = torch.where(other < cost, candidate, best), torch.minimum(other, cost)
        best = torch.where((step == 0) | torch.isinf(size), size, best)
        return torch.where(torch.isnan(size), size, best)

    def _cost(self, candidate: Tensor, size: Tensor, strength: Tensor, step: Tensor) -> Tensor:
        return step * self.magnitude_terms(candidate, strength) + (candidate - size).square() / 2
