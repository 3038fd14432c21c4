"""Step sizes: constant, diminishing and reducing, in the paper's words (§1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nonsmooth.extras import require


class StepSize(Protocol):
    """α_t as a function of t = 0, 1, ...; the first step from the start uses α_0."""

    @property
    def initial(self) -> float | Tensor:
        """α_0, a number or a tensor that broadcasts to (instances, variants)."""

    def factor(self, step: int) -> float:
        """α_t / α_0."""

    @property
    def total(self) -> float:
        """Σ α_t / α_0, infinity where the series diverges (assumption A.3 of Davis et al. 2020)."""


def _check_initial(initial: float | Tensor) -> None:
    if not bool((torch.as_tensor(initial) > 0).all()):
        raise ValueError(f"initial step size is {initial}; accepted are positive numbers")


@dataclass(frozen=True)
class Constant:
    """α_t = α_0."""

    initial: float | Tensor

    def __post_init__(self) -> None:
        _check_initial(self.initial)

    def factor(self, step: int) -> float:
        """1."""
        return 1.0

    @property
    def total(self) -> float:
        """Diverges."""
        return math.inf


@dataclass(frozen=True)
class Diminishing:
    """α_t = α_0 / (t+1)^p: tends to 0, and its sum diverges if and only if p ≤ 1.

    Attributes:
        initial: α_0.
        power: p > 0.
    """

    initial: float | Tensor
    power: float

    def __post_init__(self) -> None:
        _check_initial(self.initial)
        if not self.power > 0:
            raise ValueError(f"power is {self.power}; accepted is a positive number")

    def factor(self, step: int) -> float:
        """(t+1)^-p."""
        return float((step + 1) ** -self.power)

    @property
    def total(self) -> float:
        """ζ(p) for p > 1, else infinity."""
        if self.power <= 1:
            return math.inf
        require("sklearn", "Diminishing.total")
        from scipy.special import zeta  # noqa: PLC0415 - scipy is heavy and only this property needs it

        return float(zeta(self.power))


@dataclass(frozen=True)
class Reducing:
    """α_t = α_0 γ^⌊t/every⌋, the paper's "reducing" regime: torch.optim.lr_scheduler.StepLR.

    Attributes:
        initial: α_0.
        gamma: γ in (0, 1).
        every: number of steps between two reductions.
    """

    initial: float | Tensor
    gamma: float
    every: int

    def __post_init__(self) -> None:
        _check_initial(self.initial)
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; accepted is a number in (0, 1)")
        if self.every < 1:
            raise ValueError(f"every is {self.every}; accepted is a number of at least 1")

    def factor(self, step: int) -> float:
        """γ^⌊t/every⌋."""
        return float(self.gamma ** (step // self.every))

    @property
    def total(self) -> float:
        """every/(1-γ): a convergent geometric series."""
        return self.every / (1 - self.gamma)
