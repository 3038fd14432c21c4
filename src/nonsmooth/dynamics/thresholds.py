"""Where the behaviour of a recursion changes with its step size, and the constants that theory compares it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nonsmooth import curvature
from nonsmooth.deprecation import renamed_arguments
from nonsmooth.problems import Problem, Regression

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """The bracket that bisection leaves; all tensors lie on (instances, variants).

    Attributes:
        below: the largest value at which the condition was seen to hold; 0 where it fails at the smallest one tried.
        above: the smallest value at which it was seen to fail; infinite where it holds at the largest one tried.
    """

    below: Tensor
    above: Tensor

    @property
    def estimate(self) -> Tensor:
        """The geometric mean of the two ends: 0 or infinity where there is no change in the range tried."""
        # Of the two ends, 0 and infinity never meet: the other one is the end of the range.
        estimate: Tensor = (self.below * self.above).sqrt()
        return estimate


def find_threshold(holds: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: float = 1e-6) -> Threshold:
    """Bisect, on a logarithmic scale and for all runs at once, for the value above which a condition fails.

    With a condition such as "the run converges" and step sizes for values, it finds the edge of stability.

    Args:
        holds: values, shape (instances, variants) → whether the condition holds; true below one value and false
            above it.
        low: the smallest values to try, > 0.
        high: the largest, above `low`.
        tolerance: relative width of the bracket at which to stop.

    Returns:
        The bracket.

    Raises:
        ValueError: the range is empty, or the tolerance not positive.
    """
    if not bool(((low > 0) & (high > low)).all()):
        raise ValueError(f"low is {low} and high is {high}; accepted are 0 < low < high")
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; accepted is a positive number")
    never, always = ~holds(low), holds(high)
    always = always & ~never
    below, above = low.clone(), high.clone()
    changes = ~never & ~always
    while bool((changes & (above > below * (1 + tolerance))).any()):
        middle = (below * above).sqrt()
        held = holds(middle)
        below, above = torch.where(held, middle, below), torch.where(held, above, middle)
    below = torch.where(always, high, below).masked_fill(never, 0.0)
    above = torch.where(never, low, above).masked_fill(always, torch.inf)
    return Threshold(below, above)


def diverged(losses: Array, factor: float = 10.0) -> NDArray[np.bool_]:
    """Whether runs went off: the last tenth's largest loss is not finite, or far above the first hundredth's.

    Args:
        losses: at all steps, the start included, shape (steps + 1, ...).
        factor: how many times as large is far above; a loss that grows in proportion to the steps reaches 100.

    Returns:
        Booleans of the remaining shape.
    """
    steps = len(losses) - 1
    first = losses[: max(1, steps // 100) + 1].max(axis=0)
    last = losses[-max(1, steps // 10) :].max(axis=0)
    gone: NDArray[np.bool_] = ~np.isfinite(last) | (last > factor * first)
    return gone


def turning_share(losses: Array, first: Array, vanished: float = 1e-12) -> Array:
    """The share of steps at which the loss turns from falling to rising or from rising to falling.

    Args:
        losses: at consecutive steps, shape (steps, ...).
        first: the first losses, of the remaining shape.
        vanished: below this share of the first loss a change is the rounding of a converged run, and counts as none.

    Returns:
        Shares between 0 (monotone) and 1 (a turn at every step).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.diff(losses, axis=0)
        signs = np.where(np.abs(change) > vanished * first, np.sign(change), 0.0)
        share: Array = (signs[1:] * signs[:-1] < 0).mean(axis=0)
    return share


def gradient_quotient(problem: Problem, first: Tensor, second: Tensor) -> Tensor:
    """‖∇f(x) - ∇f(y)‖/‖x - y‖: at most L for every pair, if eq. (5) holds with L.

    Args:
        problem: f.
        first: x, shape (instances, variants, features).
        second: y, likewise.

    Returns:
        The quotients, shape (instances, variants).
    """
    return curvature.gradient_quotient(first - second, problem.subgradient(first) - problem.subgradient(second))


@renamed_arguments(minimiser="minimizer")
def growth_exponent(problem: Problem, point: Tensor, minimizer: Tensor, minimum: Tensor | float = 0.0) -> Tensor:
    """The local exponent d log(f - f*)/d log t at x = x* + t·v, exactly: ⟨∇f(x), x - x*⟩/(f(x) - f*).

    2 where f grows quadratically along the ray from x* through x, 1 where it grows in proportion to the distance.

    Args:
        problem: f.
        point: x, shape (instances, variants, features).
        minimizer: x*, which broadcasts to that shape.
        minimum: f*, which broadcasts to (instances, variants).

    Returns:
        The exponents, shape (instances, variants).
    """
    evaluation = problem.evaluate(point)
    exponent: Tensor = (evaluation.subgradient * (point - minimizer)).sum(-1) / (evaluation.value - minimum)
    return exponent


def top_direction(problem: Regression) -> Tensor:
    """v₁, the right singular vector of Z to σ_max: along it a linear model's loss is most curved.

    Returns:
        Unit vectors, shape (instances, 1, features); the first of their largest entries is positive.
    """
    vector: Tensor = torch.linalg.svd(problem.data, full_matrices=False).Vh[:, :1]
    largest = vector.gather(-1, vector.abs().argmax(-1, keepdim=True))
    return vector * largest.sign()
