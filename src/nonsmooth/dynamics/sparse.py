"""Methods for an L1 penalty that are no optimisers of `nonsmooth.optim`, as update rules for `iterate`.

Each rule sees the gradient of the loss without its penalty, and its own strength λ. A strength is a number or a tensor
that broadcasts against points of shape (instances, variants, features): by variant, it has shape (1, variants, 1).
Rules with memory start afresh in each block of instances, so hand `iterate` a function that makes one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.dynamics.recording import State
from nonsmooth.penalties import L1, Penalty
from nonsmooth.penalties.penalty import Strength


class AcceleratedProximal:
    """FISTA (Beck & Teboulle 2009), restarted where the momentum points uphill (O'Donoghue & Candès 2015).

    The ensemble's point is the extrapolated one, where FISTA asks for gradients; one step of proximal gradient from it
    gives the iterate proper.
    """

    def __init__(self, penalty: Penalty) -> None:
        self._penalty = penalty
        self._last: Tensor | None = None
        self._inertia: Tensor | None = None

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step, and the extrapolation beyond it."""
        if self._last is None or self._inertia is None:
            self._last, self._inertia = state.point, torch.ones_like(state.point[..., :1])
        forward = torch.addcmul(state.point, state.evaluation.gradient, step_size, value=-1)
        here = self._penalty.prox(forward, step_size)
        move = here - self._last
        uphill = ((state.point - here) * move).sum(-1, keepdim=True) > 0
        inertia = torch.where(uphill, 1.0, self._inertia)
        following = (1 + (1 + 4 * inertia.square()).sqrt()) / 2
        self._last, self._inertia = here, following
        return here + (inertia - 1) / following * move


class SplitPositive:
    """w = u - v with u, v ≥ 0, both moved by projected (stochastic) gradients: Bottou (2010), Table 1, LASSO row.

    u ← [u - α(λ + g)]₊ and v ← [v - α(λ - g)]₊. The split doubles the curvature: α < 1/L is stable.
    """

    def __init__(self, strength: Strength) -> None:
        self._strength = strength
        self._parts: tuple[Tensor, Tensor] | None = None

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        positive, negative = self._parts or (state.point.clamp(min=0), (-state.point).clamp(min=0))
        gradient = state.evaluation.gradient
        positive = (positive - step_size * (self._strength + gradient)).clamp(min=0)
        negative = (negative - step_size * (self._strength - gradient)).clamp(min=0)
        self._parts = positive, negative
        return positive - negative


class TruncatedGradient:
    """Truncated gradient (Langford, Li & Zhang 2009): plain steps, and every K-th of them a truncation by K·αλ.

    Args:
        strength: λ, the "gravity" of the paper.
        every: K. With K = 1 and no ceiling it is proximal gradient.
        ceiling: θ, the size above which a weight is left alone; None for no such size.

    Raises:
        ValueError: `every` is less than 1.
    """

    def __init__(self, strength: Strength, every: int = 10, ceiling: float | None = None) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; accepted are numbers of at least 1")
        self._penalty, self._every, self._ceiling = L1(strength), every, ceiling

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        forward = torch.addcmul(state.point, state.evaluation.gradient, step_size, value=-1)
        if (state.step + 1) % self._every:
            return forward
        truncated = self._penalty.prox(forward, step_size * self._every)
        if self._ceiling is None:
            return truncated
        return torch.where(forward.abs() <= self._ceiling, truncated, forward)


class CumulativePenalty:
    """The truncated gradient with cumulative penalties (Tsuruoka, Tsujii & Ananiadou 2009).

    u is the penalty that a weight could have received since the start, q the one that it did; a weight is truncated by
    the difference, and never across zero.
    """

    def __init__(self, strength: Strength) -> None:
        self._strength = strength
        self._due: Tensor | float = 0.0
        self._received: Tensor | float = 0.0

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        forward = torch.addcmul(state.point, state.evaluation.gradient, step_size, value=-1)
        self._due = self._due + step_size * self._strength
        from_above = (forward - (self._due + self._received)).clamp(min=0)
        from_below = (forward + (self._due - self._received)).clamp(max=0)
        point = torch.where(forward > 0, from_above, torch.where(forward < 0, from_below, forward))
        self._received = self._received + (point - forward)
        return point


class ZeroAtCrossing:
    """What is *not* a prox: a plain subgradient step, and zero for each weight whose sign the step would change.

    A weight that lands on zero leaves it again by the loss's gradient alone, whatever λ is.
    """

    def __init__(self, strength: Strength) -> None:
        self._strength = strength

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        direction = state.evaluation.gradient + self._strength * torch.sign(state.point)
        moved = state.point - step_size * direction
        return torch.where(moved * state.point < 0, 0.0, moved)
