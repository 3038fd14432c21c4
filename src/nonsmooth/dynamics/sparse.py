"""The remedies that the paper names for an L1 penalty, as update rules for `iterate`.

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


class Proximal:
    """Proximal gradient, w ← prox(w - αg): ISTA for the L1 penalty on a full batch, proximal SGD on samples of it."""

    def __init__(self, penalty: Penalty) -> None:
        self._penalty = penalty

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        forward = torch.addcmul(state.point, state.evaluation.gradient, step_size, value=-1)
        return self._penalty.prox(forward, step_size)


class AcceleratedProximal:
    """FISTA (Beck & Teboulle 2009), restarted where the momentum points uphill (O'Donoghue & Candès 2015).

    The ensemble's point is the extrapolated one, where FISTA asks for gradients; one step of `Proximal` from it gives
    the iterate proper.
    """

    def __init__(self, penalty: Penalty) -> None:
        self._step = Proximal(penalty)
        self._last: Tensor | None = None
        self._inertia: Tensor | None = None

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step, and the extrapolation beyond it."""
        if self._last is None or self._inertia is None:
            self._last, self._inertia = state.point, torch.ones_like(state.point[..., :1])
        here = self._step(state, step_size)
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


class DualAveraging:
    """l1-RDA (Xiao 2009): w_{t+1} = c - (√t/γ)·S(ḡ_t, λ), ḡ_t the mean of all gradients so far.

    The step size that `iterate` hands over is 1/γ.

    Args:
        strength: λ.
        centre: c, what the penalty pulls towards; Xiao's 0 forgets the start, the start itself keeps it.
    """

    def __init__(self, strength: Strength, centre: Strength = 0.0) -> None:
        self._penalty, self._centre = L1(strength), centre
        self._sum: Tensor | float = 0.0

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        count = state.step + 1
        self._sum = self._sum + state.evaluation.gradient
        point: Tensor = self._centre - step_size * count**0.5 * self._penalty.prox(self._sum / count, 1.0)
        return point


class ExtendedDualAveraging:
    """xRDA (Siegel, Chen & Xu 2020), between proximal SGD with momentum (a = 0) and dual averaging (a = 1).

    With the step size h and the weights v = M/(1 + (M-1)·r/max r), r a running mean of |w|:
    s ← a·s + h·v, y ← a·y + (1-a)·w, V ← e^(-1/m)·V + (1 - e^(-1/m))·g, y ← y - h·V, w ← S(y, λs).
    M = 1 solves the LASSO with λ; a larger M a weighted one, in which small weights pay up to M·λ.

    Args:
        strength: λ.
        averaging: a in [0, 1].
        amplification: M ≥ 1.
        time_scale: m, in steps, of both running means; the authors' recipe, in units of their step size 1, has 9.5.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self, strength: Strength, averaging: float = 0.5, amplification: float = 1.0, time_scale: float = 9.5
    ) -> None:
        if not 0 <= averaging <= 1:
            raise ValueError(f"averaging is {averaging}; accepted is a number in [0, 1]")
        if not amplification >= 1:
            raise ValueError(f"amplification is {amplification}; accepted is a number of at least 1")
        if not time_scale > 0:
            raise ValueError(f"time_scale is {time_scale}; accepted is a positive number")
        self._penalty, self._averaging, self._amplification = L1(strength), averaging, amplification
        self._decay = float(torch.tensor(-1 / time_scale, dtype=torch.float64).exp())
        self._size: Tensor | float = 0.0
        self._velocity: Tensor | float = 0.0
        self._due: Tensor | float = 0.0
        self._forward: Tensor | None = None

    def __call__(self, state: State, step_size: Tensor) -> Tensor:
        """The step."""
        keep, a = self._decay, self._averaging
        self._size = keep * self._size + (1 - keep) * state.point.abs()
        self._velocity = keep * self._velocity + (1 - keep) * state.evaluation.gradient
        self._due = a * self._due + step_size * adaptive_weights(self._size, self._amplification)
        forward = state.point if self._forward is None else self._forward
        self._forward = a * forward + (1 - a) * state.point - step_size * self._velocity
        return self._penalty.prox(self._forward, self._due)


def adaptive_weights(size: Tensor, amplification: float) -> Tensor:
    """V = M/(1 + (M-1)·r/max r) of xRDA: 1 for the largest size, M for zero, and M for all if all are zero."""
    largest = size.amax(-1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    return amplification / (1 + (amplification - 1) * size / largest)


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
