"""λ‖β‖₁ near its kink: the closed form of the subgradient method, a C¹ twin without the kink, and the proximal step.

On λ‖β‖₁ every coordinate moves by αλ a step, towards zero. Proposition 3.2 of the paper follows: after n steps the
coordinate lies at γ in (0, αλ) (or at -γ), and from then on alternates between γ and γ - αλ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.dynamics.ensemble import Method
from nonsmooth.dynamics.recording import State
from nonsmooth.problems import Evaluation, Problem


def settling_steps(start: Tensor, travel: float | Tensor) -> Tensor:
    """How many steps a coordinate takes until |β| < αλ: n = ⌊|β₀|/αλ⌋, of Proposition 3.2.

    Args:
        start: β₀, any shape.
        travel: αλ, the length of a step; broadcasts to the shape of `start`.

    Returns:
        Whole numbers in the dtype of `start`, of its shape. N₀ of a vector is their maximum.
    """
    return torch.floor(start.abs() / travel)


def cycle(start: Tensor, travel: float | Tensor) -> tuple[Tensor, Tensor]:
    """The two points between which a coordinate ends, eq. (10): what it is after n steps, and one step later.

    Args:
        start: β₀, any shape, without zeros.
        travel: αλ; broadcasts to the shape of `start`.

    Returns:
        ±γ and ±(γ - αλ), with the sign of the start, both of its shape.
    """
    first = start.abs() - settling_steps(start, travel) * travel
    return torch.sign(start) * first, torch.sign(start) * (first - travel)


class HuberisedL1(Problem):
    """λ Σ h(βⱼ), h(b) = b²/(2ε) where |b| < ε and |b| - ε/2 elsewhere: λ‖β‖₁ with its kink rounded off.

    It is C¹, has the minimiser 0 and the Lipschitz constant λ√P of λ‖β‖₁, and unlike λ‖β‖₁ it is L-smooth in the
    sense of eq. (5), with L = λ/ε. Outside (-ε, ε) a gradient step is the subgradient step of λ‖β‖₁.

    Args:
        features: P.
        strength: λ > 0, a number or a tensor of shape (variants,).
        width: ε > 0, likewise.

    Raises:
        ValueError: `features` is less than 1, or a strength or width is not positive.
    """

    def __init__(self, features: int, strength: float | Tensor, width: float | Tensor) -> None:
        if features < 1:
            raise ValueError(f"features is {features}; accepted is a number of at least 1")
        for name, number in (("strength", strength), ("width", width)):
            if not bool((torch.as_tensor(number) > 0).all()):
                raise ValueError(f"{name} is {number}; accepted are positive numbers")
        self._features = features
        self.strength = torch.as_tensor(strength, dtype=torch.float64).reshape(1, -1)
        self.width = torch.as_tensor(width, dtype=torch.float64).reshape(1, -1)

    @property
    def instances(self) -> int:
        """One: there is no data."""
        return 1

    @property
    def features(self) -> int:
        """P."""
        return self._features

    @property
    def bytes_per_instance(self) -> int:
        """No data is read."""
        return 0

    def select(self, instances: slice) -> HuberisedL1:
        """The problem itself, which all instances share."""
        del instances
        return self

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and gradient."""
        width, strength = self.width.unsqueeze(-1), self.strength.unsqueeze(-1)
        slope = (point / width).clamp(-1, 1)
        value = (strength * slope * (point - width * slope / 2)).sum(-1)
        gradient = strength * slope
        return Evaluation(value, gradient, gradient)

    @property
    def minimiser(self) -> Tensor:
        """Zero."""
        return torch.zeros(1, 1, self.features, dtype=torch.float64)

    @property
    def lipschitz(self) -> Tensor:
        """λ√P."""
        constant: Tensor = self.strength * self.features**0.5
        return constant

    @property
    def gradient_lipschitz(self) -> Tensor:
        """L = λ/ε."""
        return self.strength / self.width


def proximal_step(strength: float | Tensor) -> Method:
    """The proximal gradient step of f + λ‖β‖₁: a gradient step of f, then the soft threshold at αλ.

    Args:
        strength: λ, a number or a tensor of shape (variants,).
    """
    weight = torch.as_tensor(strength, dtype=torch.float64).reshape(1, -1, 1)

    def step(state: State, step_size: Tensor) -> Tensor:
        moved = state.point - step_size * state.evaluation.gradient
        threshold = step_size * weight.to(moved.dtype)
        return moved - torch.maximum(torch.minimum(moved, threshold), -threshold)

    return step
