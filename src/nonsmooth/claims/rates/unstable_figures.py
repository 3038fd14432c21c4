"""The figure of claim `unstable-convergence`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nonsmooth.claims.framework import Axis, Figure, Panel, Series
from nonsmooth.lab import Record

ITERATES = {"last": "ours", "best": "b"}
"""Which iterate, and its tone."""


def draw_constants(
    names: Sequence[str],
    problems: Mapping[str, Sequence[float]],
    plane: Record,
    searches: Sequence[Record],
    rising: Record,
) -> list[Figure]:
    """Constants of the last and the best iterate by problem, in the plane against the tilt, and by dimension."""
    tilts = np.linspace(0, 0.5, 51)
    printed = Series("horizontal", "printed bound", y=(1.0,), tone="paper", dashed=True)
    gap, sizes = Axis("gap / (αL²)"), [r.parameters["features"] for r in searches]
    bars = [
        Series("bars", f"{which} iterate", list(names), problems[which], tone=tone) for which, tone in ITERATES.items()
    ]
    theory = Series("line", "1 + ε - 2ε²", tilts.tolist(), (1 + tilts - 2 * tilts**2).tolist(), tone="theory")
    points = [
        Series("points", f"random, {which} iterate", sizes, [r[which] for r in searches], tone=tone)
        for which, tone in ITERATES.items()
    ]
    rises = Series("line", "lower bound, last iterate", rising["size"], rising["last"], tone="control")
    measured = Series("points", "measured", plane["tilt"], plane["last"])
    return [
        Figure(
            "Largest late gap to the minimum, in units of αL²",
            "Left: by problem, largest over seeds and step sizes, of the last and of the best iterate. Middle: the "
            "worst case in the plane against its tilt ε; it exceeds the printed bound for ε up to 1/2. Right: by "
            "dimension, the largest among random piecewise linear functions, and the chain on which the last iterate "
            "rises with the logarithm of the number of steps; the best iterate keeps below 1/2.",
            (
                Panel("problems", Axis("problem"), gap, (*bars, printed)),
                Panel(
                    "worst case in the plane",
                    Axis("ε"),
                    gap,
                    (measured, theory, printed),
                ),
                Panel("by dimension", Axis("dimension", True), gap, (*points, rises, printed)),
            ),
        )
    ]
