"""When an ensemble at a kink has forgotten its start: told from the data, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.dynamics.kink_ensemble import KinkEnsemble

FIRST_WINDOW = 64
"""Steps of the first window; each further one is as long as all before it together."""

TOLERANCE = 0.002
"""Windows agree if they differ by less, of the mean of |w|, of the probability of a flip and of that of a zero."""

ERRORS = 3.0
"""Standard errors that count as agreement in any case."""

COMPARED = (
    ("mean |w|", ".4g", None),
    ("the probability of a flip", ".2%", 1.0),
    ("the probability of an exact zero", ".2%", 1.0),
)
"""What windows are compared in: its name, how it is written, and what the tolerance is a share of, None for itself."""

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
        unsettled: why it was not over, in words; empty if it was.
    """

    settled: bool
    steps: int
    drift: float
    unsettled: str


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
    objections: list[str] = []
    while True:
        length = max(FIRST_WINDOW, ensemble.steps)
        if ensemble.steps + length > max_steps:  # a shorter window would see less of a drift than the others
            return BurnIn(False, ensemble.steps, drift, _in_words(agreements, objections))
        window = Window(ensemble, length)
        arrived |= window.at_kink
        on_their_way = float((~arrived & ~window.stood_still).double().mean())
        if previous is not None:
            raised, drift = _compare(previous, window)
            if on_their_way > STRAGGLERS:
                raised.append(f"{on_their_way:.2%} of the weights were still on their way to zero")
            agreements = 0 if raised else agreements + 1
            if agreements == AGREEMENTS:
                return BurnIn(True, ensemble.steps, drift, "")
            # After an agreement the last objections stand: they are why it is not yet the second in a row.
            objections = raised or objections
        previous = window


def _compare(previous: Window, window: Window) -> tuple[list[str], float]:
    """In what two windows disagree, in words, and the relative change of the mean of |w|.

    Coordinates are compared with themselves, so that the error is that of the change: a law that is carried by the
    same cycles in both windows shows far smaller drifts than its own spread.
    """
    disagreements = []
    changes = []
    for (name, form, scale), before, after in zip(COMPARED, previous.means(), window.means(), strict=True):
        first, last = float(before.mean()), float(after.mean())
        size = first if scale is None else scale
        difference = after - before
        change = float(difference.mean())
        error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
        if not abs(change) <= extremes.largest(TOLERANCE * size, ERRORS * error):  # nor do numbers that are none agree
            disagreements.append(f"{name} went from {first:{form}} to {last:{form}}")
        changes.append(change / size if size else math.copysign(math.inf, change) if change else 0.0)
    return disagreements, changes[0]


def _in_words(agreements: int, objections: list[str]) -> str:
    """Why burn-in is not over, from the agreements at the end and the last objections before them."""
    if agreements:
        before = f"; in the one before, {', '.join(objections)}" if objections else ""
        return f"only the last comparison agreed, and it takes {AGREEMENTS} in a row{before}"
    if objections:
        return f"in the last comparison, {', '.join(objections)}"
    return "there were too few steps for a comparison"
