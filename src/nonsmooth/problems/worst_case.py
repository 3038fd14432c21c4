"""Worst-case functions: the members of two classes on which a first-order method is as slow as its bound allows.

For every accuracy ε there is a worst function of its own, on the line, at distance 1 from its minimiser:

- Among convex functions with a 1-Lipschitz gradient, for steps of 1/L: the Huber function of width 2ε. It takes
  1/(4ε) steps (Drori and Teboulle 2014 show that LR²/(4k+2) is the exact worst gap after k steps).
- Among convex functions that are 1-Lipschitz, for steps of ε: 2ε|x|. It takes 1/(4ε²) steps.

Under *every* constant step the worst ones have more coordinates the smaller ε is: on the chain of n = 1/(2√ε) a
gradient step informs one neighbour more (Nesterov 2004, §2.1.2), and on the largest of n = 1/(4ε²) a subgradient step
lowers one coordinate (Nesterov 2004, §3.2.1). All of them start at distance 1 from the minimiser.
"""

from __future__ import annotations

import math

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


class RoundedLargestCoordinate(LargestCoordinate):
    """`LargestCoordinate` rounded by the log-sum-exp: f(x) = w·log meanᵢ exp(xᵢ/w) + ‖x‖²/(2√n).

    It is C^∞, lies less than w·log n below the original, and has the same minimiser and the Lipschitz constant
    L = 1/(2w) + 1/√n of ∇f (Nesterov 2005, "Smooth minimization of non-smooth functions", with the Euclidean norm).

    Args:
        features: n.
        width: w > 0.

    Raises:
        ValueError: `features` or `width` is not positive.
    """

    def __init__(self, features: int, width: float) -> None:
        super().__init__(features)
        if not width > 0:
            raise ValueError(f"width is {width}; accepted is a positive number")
        self._width = width

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and gradient."""
        weight, scaled = self._features**-0.5, point / self._width
        value = self._width * (scaled.logsumexp(-1) - math.log(self._features)) + weight / 2 * point.square().sum(-1)
        gradient = torch.softmax(scaled, -1) + weight * point
        return Evaluation(value, gradient, gradient)

    @property
    def gradient_lipschitz(self) -> Tensor:
        """1/(2w) + 1/√n: the variance of a unit vector's entries is at most a half."""
        return torch.full((1, 1), 0.5 / self._width + self._features**-0.5, dtype=torch.float64)


class QuadraticChain(LargestCoordinate):
    """f(x) = (x₁² + Σ(xᵢ - xᵢ₊₁)² + xₙ²)/8 - x₁/(4R), with R such that the minimiser lies at distance 1 from 0.

    ∇f has the Lipschitz constant 1. From 0 a first-order method has found at most k coordinates after k steps.

    Args:
        features: n.

    Raises:
        ValueError: `features` is not positive.
    """

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and gradient."""
        product = 2 * point
        product[..., 1:] -= point[..., :-1]
        product[..., :-1] -= point[..., 1:]
        pull = torch.zeros_like(point[0, 0])
        pull[0] = 1 / self._profile().norm()
        value = ((product / 2 - pull) * point).sum(-1) / 4
        gradient = (product - pull) / 4
        return Evaluation(value, gradient, gradient)

    def _profile(self) -> Tensor:
        return 1 - torch.arange(1, self._features + 1, dtype=torch.float64) / (self._features + 1)

    @property
    def minimizer(self) -> Tensor:
        """xᵢ in proportion to 1 - i/(n+1), of norm 1."""
        profile = self._profile()
        minimizer: Tensor = (profile / profile.norm()).reshape(1, 1, -1)
        return minimizer

    @property
    def gradient_lipschitz(self) -> Tensor:
        """1, of which the largest eigenvalue falls short by less than 1/n²·π²/4."""
        return torch.ones(1, 1, dtype=torch.float64)
