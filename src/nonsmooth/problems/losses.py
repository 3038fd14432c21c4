"""Losses of a residual, with their derivatives and constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Loss(Protocol):
    """A convex, even function of a residual r = y - prediction."""

    @property
    def slope_bound(self) -> float | None:
        """Largest absolute derivative, None where it is unbounded."""

    @property
    def curvature_bound(self) -> float:
        """Lipschitz constant of the derivative."""

    def value(self, residual: Tensor) -> Tensor:
        """The loss, element by element."""

    def slope(self, residual: Tensor) -> Tensor:
        """Its derivative with respect to the residual, element by element."""


@dataclass(frozen=True)
class Squared:
    """r², as in eq. (3) and (11): without the factor 1/2 that scikit-learn and glmnet have."""

    slope_bound: float | None = None
    curvature_bound: float = 2.0

    def value(self, residual: Tensor) -> Tensor:
        """r²."""
        return residual.square()

    def slope(self, residual: Tensor) -> Tensor:
        """2r."""
        return 2 * residual


@dataclass(frozen=True)
class Huber:
    """r²/2 where |r| < δ, δ(|r| - δ/2) elsewhere, as in eq. (13) with δ = 1.

    It is C¹ and its derivative is 1-Lipschitz, so it *is* L-smooth in the sense of eq. (5).

    Attributes:
        delta: δ > 0, where the quadratic meets the straight line.

    Raises:
        ValueError: `delta` is not positive.
    """

    delta: float = 1.0
    curvature_bound: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"delta is {self.delta}; accepted is a positive number")

    @property
    def slope_bound(self) -> float | None:
        """δ."""
        return self.delta

    def value(self, residual: Tensor) -> Tensor:
        """Quadratic near zero, straight outside."""
        inner = residual.abs().clamp(max=self.delta)
        return inner * (residual.abs() - inner / 2)

    def slope(self, residual: Tensor) -> Tensor:
        """The residual, clipped to [-δ, δ]."""
        return residual.clamp(-self.delta, self.delta)
