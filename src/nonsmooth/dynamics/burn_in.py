"""When an ensemble at a kink has forgotten its start: told from the data, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth.dynamics.kink_ensemble import KinkEnsemble

FIRST_WINDOW = 64
"""Steps of the first window; each further one is as long as all before it together."""

TOLERANCE = 0.002
"""Windows agree if they differ by less, of the mean of |w|, of the probability of a flip and of that of a zero."""

ERRORS = 3.0
"""Standard errors that count as agreement in any case."""

AGREEMENTS = 2
"""Successive agreements that end burn-in: three windows, over which time grows by a factor of eight."""

STRAGGLERS = 0.001
"""Share of the coordinates that may still be on their way to the kink."""


@dataclass(frozen=True)
class BurnIn:
    """How burn-in ended.

    Attributes:
        settled: whether it was over.
        steps: taken.
        drift: relative change of the mean of |w| between the last two windows; not a number with fewer than two.
    """

    settled: bool
    steps: int
    drift: float


class Window:
    """Sums over successive steps, one per coordinate.

    Args:
        ensemble: stands before the first step.
        steps: to take.
        look: called with |w| after each step.
    """

    def __init__(self, ensemble: KinkEnsemble, steps: int, look: Callable[[Tensor], None] | None = None) -> None:
        weight = ensemble.weight
        first = weight.clone()
        self.magnitude, self.flips, nonzero = (torch.zeros(len(weight), dtype=torch.float64) for _ in range(3))
        before = torch.sign(weight)
        for _ in range(steps):
            ensemble.step()
            weight = ensemble.weight
            magnitude = weight.abs()
            self.magnitude += magnitude
            if look is not None:
                look(magnitude)
            after = torch.sign(weight)
            self.flips -= (before * after).clamp_(max=0)
            nonzero += after.abs()
            before = after
        ensemble.check_finite()
        self.steps = steps
        self.zeros = steps - nonzero
        self.at_kink = (self.flips > 0) | (self.zeros > 0)
        self.stood_still = (weight == first) & (self.flips == 0)

    def means(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of |w|, flips and zeros over the steps, each of shape (coordinates,)."""
        return self.magnitude / self.steps, self.flips / self.steps, self.zeros / self.steps


def burn_in(ensemble: KinkEnsemble, max_steps: int) -> BurnIn:
    """Move an ensemble until it has settled, or until the next window would not fit into the steps allowed.

    Args:
        ensemble: at its start; moved.
        max_steps: the most steps to take.
    """
    arrived = torch.zeros(len(ensemble.weight), dtype=torch.bool)
    previous: Window | None = None
    agreements, drift = 0, math.nan
    while True:
        length = max(FIRST_WINDOW, ensemble.steps)
        if ensemble.steps + length > max_steps:  # a shorter window would see less of a drift than the others
            return BurnIn(False, ensemble.steps, drift)
        window = Window(ensemble, length)
        arrived |= window.at_kink
        on_their_way = float((~arrived & ~window.stood_still).double().mean())
        if previous is not None:
            agree, drift = _compare(previous, window)
            agreements = agreements + 1 if agree and on_their_way <= STRAGGLERS else 0
            if agreements == AGREEMENTS:
                return BurnIn(True, ensemble.steps, drift)
        previous = window


def _compare(previous: Window, window: Window) -> tuple[bool, float]:
    """Whether two windows agree, and the relative change of the mean of |w|.

    Coordinates are compared with themselves, so that the error is that of the change: a law that is carried by the
    same cycles in both windows shows far smaller drifts than its own spread.
    """
    agree = True
    changes = []
    for before, after, scale in zip(previous.means(), window.means(), (None, 1.0, 1.0), strict=True):
        size = float(before.mean()) if scale is None else scale
        difference = after - before
        change = float(difference.mean())
        error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
        agree &= abs(change) <= max(TOLERANCE * size, ERRORS * error)
        changes.append(change / size if size else math.copysign(math.inf, change) if change else 0.0)
    return agree, changes[0]
