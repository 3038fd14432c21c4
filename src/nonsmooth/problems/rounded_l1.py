"""λ‖β‖₁ with its kink rounded off: a C¹ twin."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem


class RoundedL1(Problem):
    """λ Σ h(βⱼ), h(b) = b²/(2ε) where |b| < ε and |b| - ε/2 elsewhere: λ‖β‖₁ with its kink rounded off.

    It is C¹, has the minimiser 0 and the Lipschitz constant λ√P of λ‖β‖₁, and unlike λ‖β‖₁ it is L-smooth in the
    sense of eq. (5), with L = λ/ε. Outside (-ε, ε) a gradient step is the subgradient step of λ‖β‖₁. A width of 0
    leaves the kink, where L is infinite.

    Args:
        features: P.
        strength: λ > 0, a number or a tensor of shape (variants,).
        width: ε ≥ 0, likewise.

    Raises:
        ValueError: `features` is less than 1, a strength is not positive, or a width is negative.
    """

    def __init__(self, features: int, strength: float | Tensor, width: float | Tensor) -> None:
        if features < 1:
            raise ValueError(f"features is {features}; accepted is a number of at least 1")
        if not bool((torch.as_tensor(strength) > 0).all()):
            raise ValueError(f"strength is {strength}; accepted are positive numbers")
        if not bool((torch.as_tensor(width) >= 0).all()):
            raise ValueError(f"width is {width}; accepted are numbers of at least 0")
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

    def select(self, instances: slice) -> RoundedL1:
        """The problem itself, which all instances share."""
        del instances
        return self

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and gradient."""
        width, strength = self.width.unsqueeze(-1), self.strength.unsqueeze(-1)
        # At width 0 the quotient is ±∞, or 0 at 0 itself, which is the sign.
        slope = (point / width.clamp_min(torch.finfo(width.dtype).tiny)).clamp(-1, 1)
        value = (strength * slope * (point - width * slope / 2)).sum(-1)
        gradient = strength * slope
        return Evaluation(value, gradient, gradient)

    @property
    def minimizer(self) -> Tensor:
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
