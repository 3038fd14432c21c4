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
    def curvature_bound(self) -> float | None:
        """Lipschitz constant of the derivative, None where there is none."""

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


@dataclass(frozen=True)
class PseudoHuber:
    """δ²(√(1 + (r/δ)²) - 1): Huber's curvature at zero and slope at infinity, without its two joints.

    It has derivatives of every order, so what it shares with Huber is not owed to the missing second derivative.

    Attributes:
        delta: δ > 0, the slope that it tends to.

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
        """δ, approached and not attained."""
        return self.delta

    def value(self, residual: Tensor) -> Tensor:
        """Written as r²/(1 + √(1 + (r/δ)²)), which keeps its digits at small r."""
        return residual.square() / (1 + (1 + (residual / self.delta).square()).sqrt())

    def slope(self, residual: Tensor) -> Tensor:
        """r/√(1 + (r/δ)²)."""
        return residual / (1 + (residual / self.delta).square()).sqrt()


@dataclass(frozen=True)
class Absolute:
    """|r|: bounded slope, and a kink at zero, so no constant L of eq. (5)."""

    slope_bound: float | None = 1.0
    curvature_bound: float | None = None

    def value(self, residual: Tensor) -> Tensor:
        """|r|."""
        return residual.abs()

    def slope(self, residual: Tensor) -> Tensor:
        """The sign of the residual, 0 at 0 as PyTorch has it."""
        return residual.sign()


@dataclass(frozen=True)
class Power:
    """|r|^p / p for p > 1: r²/2, with Huber's curvature, for p = 2.

    Attributes:
        exponent: p, the growth of the loss everywhere.

    Raises:
        ValueError: `exponent` is not above 1.
    """

    exponent: float
    slope_bound: float | None = None

    def __post_init__(self) -> None:
        if not self.exponent > 1:
            raise ValueError(f"exponent is {self.exponent}; accepted is a number above 1")

    @property
    def curvature_bound(self) -> float | None:
        """1 for p = 2; for any other p the second derivative is unbounded, at zero or at infinity."""
        return 1.0 if self.exponent == 2 else None

    def value(self, residual: Tensor) -> Tensor:
        """|r|^p / p."""
        return residual.abs().pow(self.exponent) / self.exponent

    def slope(self, residual: Tensor) -> Tensor:
        """sign(r)·|r|^(p-1)."""
        return residual.sign() * residual.abs().pow(self.exponent - 1)
