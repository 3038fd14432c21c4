"""The distribution of |w| along a run in little memory: a histogram whose bins are as fine as the numbers are small."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.dynamics.burn_in import Window
from nonsmooth.dynamics.kink_ensemble import KinkEnsemble

SHIFT = 14
"""Bits of a float32 that a bin leaves open: 512 bins between a power of two and the next, so 0.2 % of a magnitude.
The magnitudes of bfloat16 are ends of bins."""

BINS = 1 << (31 - SHIFT)

ONE = torch.ones(1, dtype=torch.int64)


class MagnitudeHistogram:
    """What is recorded of a law, over any number of ensembles."""

    def __init__(self) -> None:
        self._counts = torch.zeros(BINS, dtype=torch.int64)
        self._coordinates = 0
        self._visits = 0
        self._zeros = self._flips = self._still = 0.0
        self._sum = self._sum_of_squares = 0.0

    def record(self, ensemble: KinkEnsemble, steps: int) -> None:
        """Move an ensemble and record all that it visits.

        Raises:
            FloatingPointError: coordinates do not stay finite.
        """
        window = Window(ensemble, steps, self._count)
        mean = window.magnitude / steps
        self._coordinates += len(mean)
        self._visits += steps * len(mean)
        self._sum += float(mean.sum())
        self._sum_of_squares += float(mean.square().sum())
        self._zeros += float(window.zeros.sum())
        self._flips += float(window.flips.sum())
        self._still += float((window.stood_still & ~window.at_kink).sum())

    def _count(self, magnitude: Tensor) -> None:
        """Count magnitudes by the leading bits of their float32, which are in the order of the numbers."""
        bins = magnitude.float().view(torch.int32) >> SHIFT
        # Touches the bins that are hit alone; a bincount makes and adds all of them, a megabyte, at every step.
        self._counts.index_add_(0, bins, ONE.expand(len(bins)))

    @property
    def mean(self) -> float:
        """E|w|."""
        return self._sum / self._coordinates

    @property
    def standard_error(self) -> float:
        """Of `mean`, from the spread of the coordinates' means over the steps; not a number for one coordinate."""
        if self._coordinates < 2:
            return math.nan
        spread = extremes.largest(0.0, self._sum_of_squares - self._coordinates * self.mean**2)
        return math.sqrt(spread / (self._coordinates - 1) / self._coordinates)

    @property
    def exact_zeros(self) -> float:
        """P(w = 0)."""
        return self._zeros / self._visits

    @property
    def flips_per_step(self) -> float:
        """Probability that a step changes the sign."""
        return self._flips / self._visits

    @property
    def stalled(self) -> float:
        """Share of the coordinates that are not 0 and did not move."""
        return self._still / self._coordinates

    def distribution(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Magnitudes, increasing, and P(|w| < magnitude), for the first one P(w = 0); linear in between."""
        counts = self._counts.numpy().copy()
        counts[0] -= round(self._zeros)
        below = (round(self._zeros) + np.concatenate([[0], np.cumsum(counts)])) / self._visits
        # An end of a bin is kept if the distribution grows on either side of it.
        kept = np.flatnonzero(np.append(counts > 0, False) | np.append(False, counts > 0))
        edges = (kept.astype(np.int32) << SHIFT).view(np.float32).astype(np.float64)
        if not len(kept) or kept[0]:
            kept, edges = np.append(0, kept), np.append(0.0, edges)
        return tuple(edges.tolist()), tuple(below[kept].tolist())
