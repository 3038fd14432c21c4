"""The transformed L1 penalty: between the number of non-zero weights (a → 0) and their L1 norm (a → ∞).

Ma, Miao, Niu & Zhang (2019), "Transformed ℓ1 regularization for learning sparse deep neural networks"; the closed form
of the prox is Zhang & Xin's (2017), "Minimization of transformed L1 penalty: closed form representation and iterative
thresholding algorithms".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Step, Strength, check_above
from nonsmooth.penalties.separable import SeparablePenalty


@dataclass(frozen=True, eq=False)
class TransformedL1(SeparablePenalty):
    """λ Σ cⱼρ(wⱼ) with ρ(w) = (a+1)|w|/(a+|w|): bounded by a+1, slope (a+1)/a at zero, concave on each side of it.

    It is not convex. Where λ·step > a²/(2(a+1)) its prox jumps, from zero to √(2λ·step·(a+1)) - a.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.
        shape: a > 0.
        weights: cⱼ ≥ 0 as a tensor that broadcasts against the point; None for 1.
        complex_rule: "magnitude" or "components".

    Raises:
        ValueError: a strength or a weight is negative, `shape` is not positive, or the rule is not known.
    """

    convex: ClassVar[bool] = False

    strength: Strength
    shape: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above("shape", self.shape, 0)

    def magnitude_terms(self, size: Tensor, strength: Strength) -> Tensor:
        """λ(a+1)s/(a+s), and its limit λ(a+1) at infinity."""
        a = self.shape
        return strength * (a + 1) * torch.where(torch.isinf(size), 1.0, size / (a + size))

    def magnitude_slope(self, size: Tensor, strength: Strength) -> Tensor:
        """λa(a+1)/(a+s)²."""
        a = self.shape
        return strength * (a * (a + 1) / (a + size) ** 2)

    def threshold(self, step: Step, dtype: torch.dtype = torch.float64) -> Tensor:
        """The largest |w| that the prox sends to zero, as a tensor of the shape of λ·step."""
        return self._threshold(torch.as_tensor(self.strength * step, dtype=dtype))

    def _threshold(self, weight: Tensor) -> Tensor:
        a = self.shape
        jumping = (2 * weight * (a + 1)).sqrt() - a / 2
        return torch.where(weight <= a**2 / (2 * (a + 1)), weight * (a + 1) / a, jumping)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """The closed form of Zhang & Xin: the largest root of a cubic above the threshold, exactly zero up to it."""
        a = self.shape
        weight = torch.as_tensor(strength * step, dtype=size.dtype, device=size.device)
        # Up to the threshold the cubic may have no such root. At infinity the root is the point.
        cosine = (1 - 13.5 * a * (a + 1) * weight / (a + size).pow(3)).clamp(-1, 1)
        root = (2 / 3) * (a + size) * torch.cos(torch.acos(cosine) / 3) - 2 * a / 3 + size / 3
        root = torch.where((weight == 0) | torch.isinf(size), size, root)
        return torch.where(size <= self._threshold(weight), torch.zeros_like(size), root)
