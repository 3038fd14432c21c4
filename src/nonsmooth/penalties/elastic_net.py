"""λ(r‖w‖₁ + (1-r)‖w‖²/2), the elastic net (Zou & Hastie 2005), in scikit-learn's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.extremes import product
from nonsmooth.penalties.l1 import soft_threshold_
from nonsmooth.penalties.penalty import Step, Strength, check_share
from nonsmooth.penalties.separable import SeparablePenalty


@dataclass(frozen=True, eq=False)
class ElasticNet(SeparablePenalty):
    """λ Σ cⱼ(r|wⱼ| + (1-r)wⱼ²/2).

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        l1_ratio: r in [0, 1], the share of the L1 part.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" or "components".

    Raises:
        ValueError: a strength or a weight is negative, the ratio is outside [0, 1], or the rule is not known.
    """

    convex: ClassVar[bool] = True

    strength: Strength
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("l1_ratio", self.l1_ratio)

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """λ(rs + (1-r)s²/2)."""
        return strength * (self.l1_ratio * size + (1 - self.l1_ratio) / 2 * size.square())

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λ(r + (1-r)s)."""
        return strength * (self.l1_ratio + (1 - self.l1_ratio) * size)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """max(s - λr·step, 0)/(1 + λ(1-r)·step)."""
        kept = (size - product(strength * self.l1_ratio, step, size)).clamp(min=0)
        return kept / (1 + product(strength * (1 - self.l1_ratio), step, size))

    def conjugate(self, dual: Tensor) -> Tensor | None:
        """Σ max(|uⱼ| - λr, 0)²/(2λ(1-r)), infinite where λ(1-r) = 0 and |uⱼ| > λr."""
        if dual.is_complex():
            return None
        strength = self.scaled_strength(dual)
        square = (dual.abs() - self.l1_ratio * strength).clamp(min=0).square()
        # 0/0 where the coordinate is feasible in any case.
        return (
            (square / (2 * (1 - self.l1_ratio) * strength * torch.ones_like(square)))
            .nan_to_num(nan=0.0, posinf=torch.inf)
            .sum()
        )

    def prox_(self, point: Tensor, step: Step) -> None:
        """The soft threshold in place, then the division."""
        if point.is_complex() or self.extreme(point, step):
            super().prox_(point, step)
            return
        strength = self.scaled_strength(point)
        soft_threshold_(point, self.l1_ratio * strength, step)
        shrinkage = product((1 - self.l1_ratio) * strength, step, point)
        point.div_(shrinkage.add_(1).to(point.dtype) if isinstance(shrinkage, Tensor) else 1 + shrinkage)
