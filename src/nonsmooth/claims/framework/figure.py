"""From findings to what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from nonsmooth.claims.framework.quantity import Estimate, Finding
from nonsmooth.figures.figure import KINDS, TONES, Axis, Figure, Panel, Series

__all__ = ["KINDS", "TONES", "Axis", "Figure", "Panel", "Series", "series_of"]


def series_of(
    kind: str, name: str, x: Sequence[float | str | None], found: Sequence[Finding], tone: str = "ours"
) -> Series:
    """A series from estimates, with their intervals where all of them have one; what is missing is a gap."""
    estimates = [one if isinstance(one, Estimate) else None for one in found]
    y, low, high = ([getattr(one, end, None) for one in estimates] for end in ("value", "low", "high"))
    bare = any(one is not None and one.low is None for one in estimates)
    return Series(kind, name, x, y, None if bare else low, None if bare else high, tone)
