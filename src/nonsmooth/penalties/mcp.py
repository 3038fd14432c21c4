"""The minimax concave penalty (Zhang 2010), which leaves large weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import WIDE, beyond, product, root_of_product
from nonsmooth.penalties.penalty import Step, Strength, check_above
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.penalties.separable import SeparablePenalty, keep_above, may_look


@dataclass(frozen=True, eq=False)
class MCP(SeparablePenalty):
    """Σ λ|wⱼ| - wⱼ²/(2γ) up to |wⱼ| = γλ, and γλ²/2 from there on; with weights, λ is λcⱼ.

    It is weakly convex with modulus 1/γ: `prox` is a single point for steps below γ. Beyond, `proximal_map` returns a
    global minimiser, the hard threshold at λ√(γ·step), whose fixed points are stationary as well.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        gamma: γ > 0; the larger, the nearer to the L1 norm.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" or "components".

    Raises:
        ValueError: a strength or a weight is negative, γ is not positive, or the rule is not known.
    """

    convex: ClassVar[bool] = False

    strength: Strength
    gamma: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above("gamma", self.gamma, 0)

    @property
    def largest_step(self) -> float:
        """γ."""
        return self.gamma

    def extreme(self, point: Tensor, step: Step) -> bool:
        """Whether λ, γ, their product or the step leave the range of the point's type."""
        return super().extreme(point, step) or beyond(point.dtype, self.strength, self.gamma, self.gamma)

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """The integral of the slope."""
        capped = torch.minimum(size, tensor_like(self.gamma * strength, size))
        return strength * capped - capped.square() / (2 * self.gamma)

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """max(λ - s/γ, 0)."""
        return (strength - size / self.gamma).clamp(min=0)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """The firm threshold for steps below γ, a hard threshold from there on."""
        step = tensor_like(step, size)
        strength = tensor_like(strength, size)
        single = step < self.gamma
        if may_look(size) and bool(single.all()):
            return self._firm(size, strength, step)
        threshold: Any = product(strength, root_of_product(self.gamma, step, size), size)
        hard = keep_above(size, threshold)
        return torch.where(single, self._firm(size, strength, torch.where(single, step, 0)), hard)

    def _firm(self, size: Tensor, strength: Tensor, step: Tensor) -> Tensor:
        """A soft threshold by step·(γλ - s)₊/(γ - step), which is exactly 0 from s = γλ on."""
        if self.gamma > WIDE:
            shrinkage = (strength - size / self.gamma).clamp(min=0) * (step / (1 - step / self.gamma))
        else:
            flat: Any = product(self.gamma, strength, size)
            shrinkage = (flat - size).clamp(min=0) * (step / (self.gamma - step))
        return size - torch.minimum(shrinkage, size)
