"""Intervals over seeds: always with the number of seeds, never a bare mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from nonsmooth.claims.claim import Value

CONFIDENCE = 0.95


def median_value(name: str, label: str, samples: Sequence[float], unit: str = "") -> Value:
    """The median of the samples with its exact distribution-free interval.

    The interval is between two order statistics (the sign test inverted); with fewer than six samples no pair of
    them reaches 95 %, and the interval is then the whole range, which the label says.

    Raises:
        ValueError: there are no samples.
    """
    if len(samples) == 0:
        raise ValueError(f"{name}: there are no samples")
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))
    if rank < 1:
        rank = 1
        if count > 1:
            label = f"{label} (range)"
    return Value(
        name,
        label,
        float(np.median(ordered)),
        float(ordered[rank - 1]),
        float(ordered[count - rank]),
        count,
        unit,
    )


def proportion_value(name: str, label: str, successes: int, count: int) -> Value:
    """A share of successes with its exact (Clopper-Pearson) interval.

    Raises:
        ValueError: `count` is not positive, or `successes` does not lie between 0 and `count`.
    """
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{name}: {successes} successes out of {count}")
    interval = stats.binomtest(successes, count).proportion_ci(CONFIDENCE, method="exact")
    return Value(name, label, successes / count, float(interval.low), float(interval.high), count)


def slope_value(name: str, label: str, x: Sequence[float], y: Sequence[float]) -> Value:
    """The least-squares slope of y on x with its t interval; `count` is the number of points.

    Raises:
        ValueError: fewer than three points.
    """
    if len(x) < 3 or len(x) != len(y):
        raise ValueError(f"{name}: a slope with an interval needs at least 3 points; there are {len(x)} x, {len(y)} y")
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2)) * float(fit.stderr)
    slope = float(fit.slope)
    return Value(name, label, slope, slope - half, slope + half, len(x))
