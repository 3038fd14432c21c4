"""λ‖w‖₁, the LASSO penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import product
from nonsmooth.penalties.group_prox import metric_block_threshold
from nonsmooth.penalties.groups import along
from nonsmooth.penalties.penalty import Step, Strength
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.penalties.separable import SeparablePenalty, may_look


@dataclass(frozen=True, eq=False)
class L1(SeparablePenalty):
    """λ‖w‖₁ = λ Σ cⱼ|wⱼ|.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" (the default: Σ|z|, which zeroes both parts together) or "components"
            (Σ|Re z| + |Im z|).

    Raises:
        ValueError: a strength or a weight is negative, or the rule is not known.
    """

    convex: ClassVar[bool] = True
    is_norm: ClassVar[bool] = True

    strength: Strength

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """λs."""
        return strength * size

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λ."""
        return strength * torch.ones_like(size)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """max(s - λ·step, 0)."""
        return (size - product(strength, step, size)).clamp(min=0)

    def prox_(self, point: Tensor, step: Step) -> None:
        """The soft threshold in place: no buffer for a number, one for a step per coordinate."""
        if point.is_complex() or self.extreme(point, step):
            super().prox_(point, step)
            return
        soft_threshold_(point, self.scaled_strength(point), step)

    def limited_prox_(self, point: Tensor, step: Tensor, limit: Tensor) -> None:
        """The soft threshold at λ·step or the limit, whichever is smaller: the same, in fewer passes."""
        if point.is_complex():
            super().limited_prox_(point, step, limit)
            return
        threshold = torch.minimum(step.mul_(self.scaled_strength(point)), limit, out=limit)
        lowest = torch.neg(threshold, out=step)
        # w minus the middle one of w, -t and t.
        point.sub_(torch.clamp(point, lowest, threshold, out=lowest))

    def two_step_prox(self, point: Tensor, strength: Strength, step: Tensor) -> Tensor:
        """Magnitudes are groups of two real coordinates, in a diagonal metric."""
        parts = torch.view_as_real(point)
        steps = torch.view_as_real(step).expand_as(parts)
        each = tensor_like(strength, parts).expand(point.shape).reshape(-1)
        groups = along(parts.shape, tuple(range(point.ndim)))
        return torch.view_as_complex(metric_block_threshold(parts, each, steps, groups).contiguous())


def soft_threshold_(point: Tensor, strength: Strength, step: Step) -> None:
    """S(w, t) = sign(w)·max(|w| - t, 0) in place, with t = λ·step.

    Args:
        point: w, real.
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        step: α ≥ 0, a number or a tensor that broadcasts against the point.
    """
    if not isinstance(strength, Tensor):
        if not isinstance(step, Tensor):
            torch.ops.aten.softshrink.out(point, product(strength, step, point), out=point)
            return
        strength, step = step, strength
    # The middle one of w - t, 0 and w + t: with λ or the step as a factor of the sums, t needs no memory.
    if isinstance(step, Tensor) or _may_overflow(strength, step, point):
        strength, step = product(strength, step, point), 1.0
    above = torch.add(point, strength, alpha=step).clamp_(max=0)
    point.sub_(strength, alpha=step)
    torch.maximum(point, above.to(point.dtype), out=point)


def _may_overflow(values: Tensor, factor: float, point: Tensor) -> bool:
    """Whether a product may leave the range of the point's type; a look is worth it where the factor is above 1."""
    if factor <= 1 or not values.numel():
        return False
    return not may_look(values) or float(values.detach().max()) * factor > torch.finfo(point.dtype).max
