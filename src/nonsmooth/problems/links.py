"""Links: what a single-layer network applies to its pre-activation, with the slope that a recursion uses.

A slope at a kink is a choice; `kink_slope` makes it, and its default is PyTorch's (ReLU'(0) = 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Link(Protocol):
    """A scalar function applied to each pre-activation."""

    @property
    def slope_lipschitz(self) -> float | None:
        """Lipschitz constant of the slope, None where the slope jumps."""

    @property
    def convex(self) -> bool:
        """Whether the link is convex and non-negative, as the convexity proof of eq. (3) needs."""

    def value(self, preactivation: Tensor) -> Tensor:
        """The link's value, element by element."""

    def slope(self, preactivation: Tensor) -> Tensor:
        """An element of the link's subdifferential, element by element."""


@dataclass(frozen=True)
class Identity:
    """A linear model."""

    slope_lipschitz: float | None = 0.0
    convex: bool = False

    def value(self, preactivation: Tensor) -> Tensor:
        """The pre-activation itself."""
        return preactivation

    def slope(self, preactivation: Tensor) -> Tensor:
        """One everywhere."""
        return torch.ones_like(preactivation)


@dataclass(frozen=True)
class Relu:
    """max(0, u).

    Attributes:
        kink_slope: the slope used at u = 0, in [0, 1].

    Raises:
        ValueError: `kink_slope` is not in the subdifferential [0, 1].
    """

    kink_slope: float = 0.0
    slope_lipschitz: float | None = None
    convex: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.kink_slope <= 1.0:
            raise ValueError(f"kink_slope is {self.kink_slope}; accepted is a number in [0, 1]")

    def value(self, preactivation: Tensor) -> Tensor:
        """max(0, u)."""
        return preactivation.clamp(min=0)

    def slope(self, preactivation: Tensor) -> Tensor:
        """1 above zero, 0 below, `kink_slope` at zero."""
        if self.kink_slope == 0.0:
            return (preactivation > 0).to(preactivation.dtype)
        return torch.heaviside(preactivation, preactivation.new_tensor(self.kink_slope))


@dataclass(frozen=True)
class QuadraticRelu:
    """The C¹ ReLU with a quadratic joint: 0 below -ε, (u+ε)²/4ε within, u above ε.

    Attributes:
        width: ε > 0, half the width of the joint; it is at most ε/4 above the ReLU, at u = 0.

    Raises:
        ValueError: `width` is not positive.
    """

    width: float
    convex: bool = True

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width is {self.width}; accepted is a positive number")

    @property
    def slope_lipschitz(self) -> float | None:
        """1/(2ε), the curvature of the joint."""
        return 0.5 / self.width

    def value(self, preactivation: Tensor) -> Tensor:
        """The joint, and the ReLU outside it."""
        joint = (preactivation + self.width).clamp(0, 2 * self.width).square() / (4 * self.width)
        return joint + (preactivation - self.width).clamp(min=0)

    def slope(self, preactivation: Tensor) -> Tensor:
        """Rises linearly from 0 at -ε to 1 at ε."""
        return ((preactivation + self.width) / (2 * self.width)).clamp(0, 1)


@dataclass(frozen=True)
class Softplus:
    """ε log(1 + exp(u/ε)), smooth everywhere.

    Attributes:
        width: ε > 0; it is at most ε log 2 above the ReLU, at u = 0.

    Raises:
        ValueError: `width` is not positive.
    """

    width: float
    convex: bool = True

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width is {self.width}; accepted is a positive number")

    @property
    def slope_lipschitz(self) -> float | None:
        """1/(4ε), the curvature at zero."""
        return 0.25 / self.width

    def value(self, preactivation: Tensor) -> Tensor:
        """ε log(1 + exp(u/ε)), without overflow."""
        return torch.logaddexp(preactivation / self.width, torch.zeros_like(preactivation)) * self.width

    def slope(self, preactivation: Tensor) -> Tensor:
        """The logistic function of u/ε."""
        return torch.sigmoid(preactivation / self.width)
