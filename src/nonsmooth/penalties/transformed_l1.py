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

from nonsmooth.penalties.extremes import product, root_of_product
from nonsmooth.penalties.penalty import Step, Strength, check_above
from nonsmooth.penalties.scalars import tensor_like
from nonsmooth.penalties.separable import SeparablePenalty, is_above

NEAR_ONE = (1e-3, 1e3)
"""Shapes whose powers, and their products with common weights, stay in the range of every type."""


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

    def extreme(self, point: Tensor, step: Step) -> bool:
        """Whether λ or the step leave the range of the point's type, or the shape's powers might."""
        far = point.dtype != torch.promote_types(point.dtype, torch.float64) and self._is_far()
        return far or super().extreme(point, step)

    def _is_far(self) -> bool:
        """Whether the shape is so small or so large that each ratio has to be taken by itself."""
        return not NEAR_ONE[0] <= self.shape <= NEAR_ONE[1]

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
        """With y = √(2λ·step·(a+1)): y²/(2a) up to y = a, and the tangent y - a/2 from there on."""
        a = self.shape
        root = root_of_product(weight, a + 1, weight, 2)
        if self._is_far():
            return (root / a).clamp(max=1) * root.clamp(max=a) / 2 + (root - a).clamp(min=0)
        return root.clamp(max=a).square() / (2 * a) + (root - a).clamp(min=0)

    def magnitude_prox(self, size: Tensor, strength: Strength, step: Step) -> Tensor:
        """The closed form of Zhang & Xin: the largest root of a cubic above the threshold, exactly zero up to it.

        Their 2(a+s)/3·cos(φ/3) - 2a/3 + s/3 is s - 4(a+s)/3·sin²(φ/6), which has all of its digits for a small λ·step.
        """
        a = self.shape
        weight = tensor_like(product(strength, step, size), size)
        # So that its cube is a number; nothing is left of the shrinkage beyond.
        kind = torch.finfo(size.dtype)
        base = (a + size).clamp(max=kind.max / 2 if self._is_far() else kind.max**0.3)
        if self._is_far():
            share = 6.75 * (a / base) * ((a + 1) / base) * (weight / base)
        else:
            share = 6.75 * a * (a + 1) * weight / base.pow(3)
        # sin²(φ/2), off the ends, where arcsine and root have no slope. Below the threshold there may be no root.
        share = share.clamp(kind.tiny * kind.eps, 1 - kind.eps)
        root = size - (4 / 3) * base * torch.sin(torch.asin(share.sqrt()) / 3).square()
        return root * is_above(size, self._threshold(weight))
