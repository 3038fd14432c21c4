"""Which share of zeros is due in the course of training, and how λ follows: numbers alone, no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nonsmooth import extremes

RAMP, RAMP_TO_SETTLE = 0.9, 0.5
"""Share of the steps up to the release in which the goal rises, and of all steps where λ is to settle instead."""

RISE = 3
"""The goal rises as 1 - (1-t)³, as gradual magnitude pruning does (Zhu & Gupta 2017, equation 1)."""

INTEGRAL, PROPORTIONAL = 300.0, 20.0
"""What log λ gains where the share is behind by 1 for the whole of training, and for as long as it is behind by 1."""

SETTLING = 1000.0
"""The integral gain once the goal has risen, where λ is to settle: the steps get smaller, and so does its effect."""

SATURATION = 0.1
"""How far behind counts: λ may grow by e³ in a tenth of the training, and shrinking weights takes time."""

RETREAT = 5.0
"""How much faster λ falls where there are too many zeros: what is zero too long is lost."""

UPDATES = 2000
"""How often λ is set in the course of training, at most; counting zeros more often would cost time and gain nothing."""

BY_PENALTY = 0.9
"""What part of the zeros λ makes until the release; the rest are the smallest weights then."""

LOOKS = 100
"""How often it is looked which groups are large, in the course of training."""

LARGEST_RISE = math.log(1e4)
"""Of log λ, above the first: there is nothing left that more could push to zero."""


@dataclass(frozen=True)
class Schedule:
    """What is due at which step.

    Attributes:
        sparsity: the share of zeros to arrive at, in (0, 1).
        steps: the length of training, in steps of the optimizer.
        release: the share of the steps after which the zeros are kept and λ is 0, in (0, 1]; None for never.

    Raises:
        ValueError: a number is out of its range.
    """

    sparsity: float
    steps: int
    release: float | None

    def __post_init__(self) -> None:
        if not (isinstance(self.sparsity, Real) and 0 < self.sparsity < 1):
            raise ValueError(f"sparsity is {self.sparsity!r}; accepted is a share of zeros in (0, 1)")
        if isinstance(self.steps, bool) or not isinstance(self.steps, Integral) or self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}; accepted is the number of steps of the training, from 1")
        if self.release is not None and not (isinstance(self.release, Real) and 0 < self.release <= 1):
            raise ValueError(f"release is {self.release!r}; accepted is a share of the steps in (0, 1], or None")

    def settings(self) -> dict[str, Any]:
        """The attributes, as plain numbers."""
        release = None if self.release is None else float(self.release)
        return {"sparsity": float(self.sparsity), "steps": int(self.steps), "release": release}

    @property
    def interval(self) -> int:
        """Steps from one change of λ to the next."""
        return self.steps // UPDATES or 1

    @property
    def release_step(self) -> int | None:
        """The step after which the zeros are kept."""
        if self.release is None:
            return None
        # One step at least has to be left, for zeros of which there are too many.
        latest = self.steps - 1 or 1
        return int(extremes.smallest(round(self.release * self.steps) or 1, latest))

    @property
    def look_interval(self) -> int:
        """Steps from one look at the sizes of the weights to the next."""
        return self.interval * (round(self.steps / (self.interval * LOOKS)) or 1)

    def goal(self, step: int) -> float:
        """The share of zeros that is due after a step."""
        end = RAMP_TO_SETTLE * self.steps if self.release_step is None else RAMP * self.release_step
        return self.sparsity * (1 - (1 - extremes.smallest(1.0, step / end)) ** RISE)

    def due(self, step: int) -> float:
        """The share of zeros that λ is to make after a step."""
        return self.goal(step) * (1.0 if self.release_step is None else BY_PENALTY)

    def push(self, behind: float, step: int) -> float:
        """What is added to log λ for good.

        Args:
            behind: the goal minus the share of zeros.
            step: the present one.
        """
        felt = _saturated(behind)
        gain = SETTLING if self.settling(step) > 0 else INTEGRAL * (1.0 if felt > 0 else RETREAT)
        return gain * felt * self.interval / self.steps

    def lift(self, behind: float, step: int) -> float:
        """What is added to log λ as long as the share is behind, and less and less of it while λ settles.

        Args:
            behind: as for `push`.
            step: as for `push`.
        """
        return PROPORTIONAL * _saturated(behind) * (1 - self.settling(step))

    def settling(self, step: int) -> float:
        """How much is over of the time in which λ settles, from 0 to 1; 0 with a release."""
        if self.release is not None:
            return 0.0
        start = RAMP_TO_SETTLE * self.steps
        return extremes.largest(0.0, (step - start) / (self.steps - start))


def _saturated(behind: float) -> float:
    return extremes.smallest(SATURATION, extremes.largest(-SATURATION, behind))
