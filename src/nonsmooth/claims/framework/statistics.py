"""Intervals over seeds, for claims that are still to be ported to `Quantity`."""

from __future__ import annotations

from collections.abc import Sequence

from nonsmooth.claims.framework.quantity import CONFIDENCE, Estimate, Quantity  # noqa: F401


def median_value(name: str, label: str, samples: Sequence[float], unit: str = "") -> Estimate:
    """The median of the samples with its exact interval."""
    found = Quantity(name, label, unit).median(samples)
    if not isinstance(found, Estimate):
        raise ValueError(f"{name}: there are no samples")  # noqa: TRY004
    return found


def proportion_value(name: str, label: str, successes: int, count: int) -> Estimate:
    """A share of successes with its exact interval."""
    found = Quantity(name, label).share(successes, count)
    if not isinstance(found, Estimate):
        raise ValueError(f"{name}: {successes} successes out of {count}")  # noqa: TRY004
    return found


def slope_value(name: str, label: str, x: Sequence[float], y: Sequence[float]) -> Estimate:
    """The least-squares slope of y on x with its t interval."""
    return Quantity(name, label).slope(x, y)
