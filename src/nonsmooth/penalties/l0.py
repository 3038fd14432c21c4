"""λ times the number of weights that are not zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import root_of_product
from nonsmooth.penalties.penalty import Step, Strength
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.penalties.separable import SeparablePenalty, keep_above


@dataclass(frozen=True, eq=False)
class L0(SeparablePenalty):
    """λ Σ cⱼ[wⱼ ≠ 0], whose prox is the hard threshold at √(2λ·step).

    It is discontinuous. Every point is stationary in the coordinates at which it is zero, so that `lam_max` is 0 and a
    certificate of stationarity says little; the step decides which of the stationary points a method can stay at.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" or "components".

    Raises:
        ValueError: a strength or a weight is negative, or the rule is not known.
    """

    convex: ClassVar[bool] = False

    strength: Strength

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """λ where s > 0."""
        return strength * (size != 0).to(size.dtype)

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """0 where s > 0, infinite at 0 for λ > 0."""
        jump = torch.where(tensor_like(strength, size) > 0, math.inf, 0.0)
        return torch.where(size == 0, jump, 0.0).to(size.dtype)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """S where s > √(2λ·step), else 0."""
        return keep_above(size, root_of_product(strength, step, size, 2))
