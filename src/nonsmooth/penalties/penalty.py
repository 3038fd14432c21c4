"""What a penalty can do: three verbs, which methods, certificates and reports use.

A strength λ and a step are numbers, or tensors that broadcast against the point; a step per coordinate is the
diagonal of the metric in which the prox is taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

Strength = float | Tensor
"""λ ≥ 0: a number, or a tensor that broadcasts against the point."""


class Penalty(ABC):
    """λR(w), a function that need not be differentiable."""

    @abstractmethod
    def terms(self, point: Tensor) -> Tensor:
        """What each coordinate contributes to λR(w), of the shape of `point`."""

    @abstractmethod
    def prox(self, point: Tensor, step: Strength) -> Tensor:
        """Argmin over z of λR(z) + Σⱼ (zⱼ - wⱼ)²/(2·stepⱼ), of the shape of `point`."""

    @abstractmethod
    def subdiff_distance(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The distance of -`gradient` from λ∂R(w), coordinate by coordinate; zero everywhere at a stationary point."""

    def value(self, point: Tensor, dim: int | None = None) -> Tensor:
        """λR(w), summed over everything, or over dimension `dim` alone."""
        terms = self.terms(point)
        return terms.sum() if dim is None else terms.sum(dim)


def check_strength(strength: Strength) -> None:
    """Raise unless every entry is a number of at least 0.

    Raises:
        ValueError: a strength is negative or not a number.
    """
    if not bool((torch.as_tensor(strength) >= 0).all()):
        raise ValueError(f"strength is {strength}; accepted are numbers of at least 0")
