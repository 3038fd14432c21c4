"""The smoothly clipped absolute deviation penalty (Fan & Li 2001), which leaves large weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import WIDE, beyond, product, root_of_product
from nonsmooth.penalties.penalty import Step, Strength, check_above
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.penalties.separable import SeparablePenalty, may_look


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

    def extreme(self, point: Tensor, step: Step) -> bool:
        """Whether λ, γ, their product or the step leave the range of the point's type."""
        return super().extreme(point, step) or beyond(point.dtype, self.strength, self.gamma, self.gamma)

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """The integral of the slope."""
        strength = tensor_like(strength, size)
        flat = torch.minimum(size, strength)
        falling = torch.minimum(size, self.gamma * strength) - flat
        return strength * flat + strength * falling - falling.square() / (2 * (self.gamma - 1))

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λ up to λ, then (γλ - s)/(γ - 1), and 0 from γλ on."""
        strength = tensor_like(strength, size)
        return torch.minimum(strength, (self.gamma * strength - size) / (self.gamma - 1)).clamp(min=0)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """A soft threshold by the slope at the result for steps below γ - 1; from there on it jumps."""
        step = tensor_like(step, size)
        strength = tensor_like(strength, size)
        single = step < self.gamma - 1
        if may_look(size) and bool(single.all()):
            return self._continuous(size, strength, step)
        return torch.where(
            single,
            self._continuous(size, strength, torch.where(single, step, 0)),
            self._jumping(size, strength, step),
        )

    def _continuous(self, size: Tensor, strength: Tensor, step: Tensor) -> Tensor:
        """The shrinkage is step·λ up to λ(1 + step), and falls linearly to 0 at γλ."""
        if self.gamma > WIDE:
            falling = (strength - size / self.gamma).clamp(min=0) * (step / (1 - (1 + step) / self.gamma))
        else:
            flat: Any = product(self.gamma, strength, size)
            falling = (flat - size).clamp(min=0) * (step / (self.gamma - 1 - step))
        threshold: Any = product(strength, step, size)
        return size - torch.minimum(torch.minimum(falling, threshold), size)

    def _jumping(self, size: Tensor, strength: Tensor, step: Tensor) -> Tensor:
        """Nothing between λ and γλ is a minimiser: soft threshold up to where the costs of both sides are equal."""
        # The mean of γ+1 and the step is where the soft threshold is positive at the jump, else the geometric mean.
        top = self.gamma + 1
        middle = torch.where(step < top, step / 2 + top / 2, root_of_product(top, step, size))
        jump = product(strength, middle, size)
        threshold: Any = product(strength, step, size)
        soft = size - torch.minimum(threshold, size)
        return torch.where(size <= jump, soft, size)
