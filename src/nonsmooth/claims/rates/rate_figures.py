"""The figure of claim `rate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nonsmooth import extremes
from nonsmooth.claims.framework import Axis, Figure, Panel, Series
from nonsmooth.lab import Record


def draw_rates(smooth: Record, kinked: Record, twins: Mapping[str, Record], typical: Sequence[Record]) -> list[Figure]:
    """Steps against 1/ε: worst cases and rounded twins by name, and typical problems."""
    lines = [
        ("smooth, best step", smooth["accuracy"], np.min(smooth["steps"], -1), "a"),
        ("with a kink, best step", kinked["accuracy"], np.median(np.min(kinked["steps"], -1), -1), "ours"),
    ]
    for (name, record), tone in zip(twins.items(), ("b", "control"), strict=True):
        lines.append((f"{name}, step 1/L", record["accuracy"], np.median(np.array(record["steps"])[..., 0], -1), tone))
    worst = [Series("points", name, [1 / e for e in x], list(steps), tone=tone) for name, x, steps, tone in lines]
    for power, name, ends in ((1, "1/ε", (10.0, 1e5)), (2, "1/(4ε²)", (2.0, 100.0))):
        curve = [x**power / power**2 for x in ends]
        worst.append(Series("line", name, ends, curve, tone="theory", dashed=power == 1))
    ordinary = []
    for record, tone in zip(typical, ("a", "b", "c"), strict=True):
        middle = [extremes.largest(float(m), 1.0) for m in np.median(np.array(record["steps"], dtype=float), axis=0)]
        name = str(record.parameters["family"]).removeprefix("typical ")
        ordinary.append(Series("line", name, [1 / e for e in record["accuracy"]], middle, tone=tone))
    axes = Axis("1/ε", log=True), Axis("steps to come within ε", log=True)
    return [
        Figure(
            "Steps to reach an accuracy",
            "Left: a worst function for each ε, under the best constant step; the one with the kink also rounded, "
            "under its own 1/L. At a fixed width rounding buys an order in ε, at a width that goes with ε it buys "
            "nothing. Right: typical problems (medians over seeds; ε relative to the first gap). The slope on these "
            "axes is the exponent.",
            (Panel("worst cases", *axes, tuple(worst)), Panel("typical", *axes, tuple(ordinary))),
        )
    ]
