"""Worst-case functions: the members of two classes on which a first-order method is as slow as its bound allows.

For every accuracy ε there is a worst function of its own, on the line, at distance 1 from its minimiser:

- Among convex functions with a 1-Lipschitz gradient, for steps of 1/L: the Huber function of width 2ε. It takes
  1/(4ε) steps (Drori and Teboulle 2014 show that LR²/(4k+2) is the exact worst gap after k steps).
- Among convex functions that are 1-Lipschitz, for steps of ε: 2ε|x|. It takes 1/(4ε²) steps.

For *every* subgradient method the worst one has as many coordinates as the method has steps (Nesterov 2004, §3.2.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem


class SlopedLine(Problem):
    """f(x) = c · huber_w(x)/w: slope ±c outside [-w, w], a parabola inside; c|x| for w = 0.

    Args:
        slope: c > 0 for each variant, shape (variants,).
        width: w ≥ 0 for each variant, likewise.

    Raises:
        ValueError: shapes differ, a slope is not positive or a width negative.
    """

    def __init__(self, slope: Tensor, width: Tensor) -> None:
        if slope.ndim != 1 or slope.shape != width.shape:
            raise ValueError(f"slope has shape {tuple(slope.shape)}, width {tuple(width.shape)}; accepted is one each")
        if not (bool((slope > 0).all()) and bool((width >= 0).all())):
            raise ValueError(f"slope is {slope} and width is {width}; accepted are slopes > 0 and widths ≥ 0")
        self.slope, self.width = slope.unsqueeze(0), width.unsqueeze(0)

    @property
    def instances(self) -> int:
        """One."""
        return 1

    @property
    def features(self) -> int:
        """One."""
        return 1

    @property
    def bytes_per_instance(self) -> int:
        """Two numbers a variant."""
        return 2 * self.slope.nbytes

    def select(self, instances: slice) -> Problem:
        """The same problem."""
        return self

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient; sign(0) = 0 at the kink."""
        place = point.squeeze(-1)
        distance = place.abs()
        divisor = torch.where(self.width > 0, self.width, 1.0)
        straight = distance - self.width / 2
        value = self.slope * torch.where(distance >= self.width, straight, distance.square() / (2 * divisor))
        ramp = torch.where(distance >= self.width, place.sign(), place / divisor)
        gradient = (self.slope * ramp).unsqueeze(-1)
        return Evaluation(value, gradient, gradient)

    @property
    def minimizer(self) -> Tensor | None:
        """Zero."""
        return self.slope.new_zeros(1, 1, 1)

    @property
    def lipschitz(self) -> Tensor | None:
        """The slope c."""
        return self.slope

    @property
    def gradient_lipschitz(self) -> Tensor | None:
        """c/w, None if a variant has a kink."""
        return self.slope / self.width if bool((self.width > 0).all()) else None


class LargestCoordinate(Problem):
    """f(x) = maxᵢ xᵢ + ‖x‖²/(2√n): from 0, no subgradient method falls below 0 within n - 1 steps.

    Its minimiser has all entries -1/√n, at distance 1 from 0, and its minimum is -1/(2√n): so a gap below
    ε = 1/(2√n) takes at least n = 1/(4ε²) steps. The subgradient is that of the first largest coordinate.

    Args:
        features: n.

    Raises:
        ValueError: `features` is not positive.
    """

    def __init__(self, features: int) -> None:
        if features < 1:
            raise ValueError(f"features is {features}; accepted is a number of at least 1")
        self._features = features

    @property
    def instances(self) -> int:
        """One."""
        return 1

    @property
    def features(self) -> int:
        """N."""
        return self._features

    @property
    def bytes_per_instance(self) -> int:
        """It has no data."""
        return 0

    def select(self, instances: slice) -> Problem:
        """The same problem."""
        return self

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient."""
        weight = self._features**-0.5
        largest, index = point.max(-1, keepdim=True)
        value = largest.squeeze(-1) + weight / 2 * point.square().sum(-1)
        gradient = (weight * point).scatter_add(-1, index, torch.ones_like(largest))
        return Evaluation(value, gradient, gradient)

    @property
    def minimizer(self) -> Tensor | None:
        """All entries -1/√n."""
        return torch.full((1, 1, self._features), -(self._features**-0.5), dtype=torch.float64)
