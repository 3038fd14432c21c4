"""λ‖w‖₁, the LASSO penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Penalty, Strength, check_strength


@dataclass(frozen=True, eq=False)
class L1(Penalty):
    """λ‖w‖₁ = λ Σ|wⱼ|.

    Attributes:
        strength: λ ≥ 0, a number or a tensor that broadcasts against the point.

    Raises:
        ValueError: a strength is negative.
    """

    strength: Strength

    def __post_init__(self) -> None:
        check_strength(self.strength)

    def terms(self, point: Tensor) -> Tensor:
        """λ|wⱼ|."""
        return self.strength * point.abs()

    def prox(self, point: Tensor, step: Strength) -> Tensor:
        """The soft threshold S(w, λ·step) = sign(w)·max(|w| - λ·step, 0); its zeros are exact."""
        threshold = torch.as_tensor(self.strength * step, dtype=point.dtype, device=point.device)
        return point - torch.clamp(point, -threshold, threshold)

    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """|gⱼ + λ sign(wⱼ)| where wⱼ ≠ 0, max(|gⱼ| - λ, 0) where wⱼ = 0."""
        at_zero = (gradient.abs() - self.strength).clamp(min=0)
        return torch.where(point == 0, at_zero, (gradient + self.strength * torch.sign(point)).abs())
