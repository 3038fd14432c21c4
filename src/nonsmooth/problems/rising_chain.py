"""The function on which constant steps lead away from the minimiser, by the logarithm of their number."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem


class RisingChain(Problem):
    """f(x) = max over i ≤ n+1 of hᵢ·x, with hᵢ = (a₁, ..., aᵢ₋₁, -b, 0, ...), hₙ₊₁ = (a₁, ..., aₙ), aⱼ = rb/(n+1-j).

    The construction of Harvey, Liaw, Plan & Randhawa (2019, "Tight analyses for non-smooth stochastic gradient
    descent", lower bound for Lipschitz functions), who have bⱼ for steps 1/√t; with a constant b it is one for constant
    steps. The minimum is 0, at 0. Of several largest terms the first gives the subgradient, so that from 0 the t-th
    step raises coordinate t by αb and lowers each earlier one by αaⱼ: they stay positive as long as r < 1, and after n
    steps f = αΣ aⱼ(b - (n-j)aⱼ), about αb²·r(1-r)·ln n. An open set of starts beside 0 does the same.

    Args:
        features: n.
        ratio: r in (0, 1). Of the multiples of αL² 0.43 gives the largest in many dimensions, 0.219 ln n.

    Raises:
        ValueError: `features` is not positive, or `ratio` is outside (0, 1).
    """

    def __init__(self, features: int, ratio: float = 0.43) -> None:
        if features < 1 or not 0 < ratio < 1:
            raise ValueError(f"features is {features} and ratio {ratio}; accepted are features ≥ 1 and 0 < ratio < 1")
        weights = ratio / torch.arange(features, 0, -1, dtype=torch.float64)
        squares = weights.square()
        # The longest row decides L, which is to be 1.
        longest = torch.maximum((squares.cumsum(0) - squares + 1).max(), squares.sum()).sqrt()
        self.weights, self.fall = weights / longest, float(1 / longest)

    @property
    def instances(self) -> int:
        """One."""
        return 1

    @property
    def features(self) -> int:
        """N."""
        return len(self.weights)

    @property
    def bytes_per_instance(self) -> int:
        """The weights."""
        return self.weights.nbytes

    def select(self, instances: slice) -> RisingChain:
        """The problem itself."""
        del instances
        return self

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient: the sums of a prefix, less one entry."""
        sums = (self.weights * point).cumsum(-1)
        terms = torch.cat([torch.zeros_like(sums[..., :1]), sums], dim=-1)
        terms[..., :-1] -= self.fall * point
        value, index = terms.max(-1, keepdim=True)
        place = torch.arange(self.features)
        gradient = self.weights * (place < index) - self.fall * (place == index).to(point.dtype)
        return Evaluation(value.squeeze(-1), gradient, gradient)

    @property
    def minimizer(self) -> Tensor:
        """Zero: a positive combination of all hᵢ is 0."""
        return torch.zeros(1, 1, self.features, dtype=torch.float64)

    @property
    def lipschitz(self) -> Tensor:
        """1, the norm of the longest hᵢ."""
        return torch.ones(1, 1, dtype=torch.float64)
