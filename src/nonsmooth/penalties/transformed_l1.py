"""The transformed L1 penalty: between the number of non-zero weights (a → 0) and their L1 norm (a → ∞).

Ma, Miao, Niu & Zhang (2019), "Transformed ℓ1 regularization for learning sparse deep neural networks"; the closed form
of the prox is Zhang & Xin's (2017), "Minimization of transformed L1 penalty: closed form representation and iterative
thresholding algorithms".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Penalty, Strength, check_strength


@dataclass(frozen=True, eq=False)
class TransformedL1(Penalty):
    """λ Σ ρ(wⱼ) with ρ(w) = (a+1)|w|/(a+|w|): bounded by a+1, slope (a+1)/a at zero, concave on each side of it.

    It is not convex. Where λ·step > a²/(2(a+1)) its prox jumps, from zero to √(2λ·step·(a+1)) - a.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        shape: a > 0.

    Raises:
        ValueError: a strength is negative, or `shape` is not positive.
    """

    strength: Strength
    shape: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not self.shape > 0:
            raise ValueError(f"shape is {self.shape}; accepted is a positive number")

    def terms(self, point: Tensor) -> Tensor:
        """λ(a+1)|wⱼ|/(a+|wⱼ|)."""
        size = point.abs()
        return self.strength * ((self.shape + 1) * size / (self.shape + size))

    def threshold(self, step: Strength, dtype: torch.dtype = torch.float64) -> Tensor:
        """The largest |w| that the prox sends to zero, as a tensor of the shape of λ·step."""
        a = self.shape
        weight = torch.as_tensor(self.strength * step, dtype=dtype)
        continuous = weight * (a + 1) / a
        jumping = (2 * weight * (a + 1)).sqrt() - a / 2
        return torch.where(weight <= a**2 / (2 * (a + 1)), continuous, jumping)

    def prox(self, point: Tensor, step: Strength) -> Tensor:
        """The closed form of Zhang & Xin: the largest root of a cubic above the threshold, exactly zero up to it."""
        a = self.shape
        # Up to the threshold the cubic may have no such root; and most weights lie there, which saves their cosines.
        kept = ~(point.abs() <= self.threshold(step, point.dtype).to(point.device))
        weight = torch.as_tensor(self.strength * step, dtype=point.dtype, device=point.device)
        weight, chosen = weight.expand_as(point)[kept], point[kept]
        size = chosen.abs()
        cosine = (1 - 13.5 * a * (a + 1) * weight / (a + size).pow(3)).clamp(-1, 1)
        root = (2 / 3) * (a + size) * torch.cos(torch.acos(cosine) / 3) - 2 * a / 3 + size / 3
        return torch.zeros_like(point).masked_scatter(kept, torch.copysign(root, chosen))

    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """|gⱼ + λρ'(wⱼ)| where wⱼ ≠ 0, max(|gⱼ| - λ(a+1)/a, 0) where wⱼ = 0."""
        a = self.shape
        slope = self.strength * (a * (a + 1) / (a + point.abs()) ** 2)
        at_zero = (gradient.abs() - slope).clamp(min=0)
        return torch.where(point == 0, at_zero, (gradient + slope * torch.sign(point)).abs())
