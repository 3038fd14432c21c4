"""Numbers as a reader wants them."""

from __future__ import annotations

import math


def format_number(value: float | int | str | bool | None) -> str:
    """A number as a reader wants it: four significant digits, thousands apart, words as they are."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "not a number"
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4g}"
