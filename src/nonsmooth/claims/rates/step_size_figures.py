"""The figures of claim `step-sizes`."""

from __future__ import annotations

import math

import numpy as np

from nonsmooth import extremes
from nonsmooth.claims.framework import Axis, Figure, Panel, Runs, Series
from nonsmooth.claims.rates.step_size_runs import AT_MINIMUM, DIMINISHING, FINITE, HARMONIC, REDUCING, SCHEDULES, STEPS
from nonsmooth.lab import Record


def draw_step_sizes(runs: Runs) -> list[Figure]:
    """Gaps along the run for each problem, and the gap at the end against the total travel."""
    tones = {"constant": "neutral", DIMINISHING: "paper", HARMONIC: "a", REDUCING: "ours", FINITE[-1]: "control"}
    panels = []
    for run in runs:
        middle, lines = len(run["alpha"]) // 2, []
        for name, tone in tones.items():
            curve = run["median"][list(SCHEDULES).index(name)][middle]
            pairs = [(k, gap if gap > 0 else None) for k, gap in zip(run["steps"], curve, strict=True) if k > 0]
            lines.append(Series("line", name, [k for k, _ in pairs], [gap for _, gap in pairs], tone=tone))
        title = f"{run.parameters['problem']}, α₀ = {run['alpha'][middle]:g}"
        panels.append(Panel(title, Axis("step t", True), Axis("median f - f*", True), tuple(lines)))
    return [
        Figure(
            "The same α₀ under five schedules",
            "Medians over seeds. A curve that turns flat has stopped short. StepLR does so where its steps are spent "
            "before the minimum is near, on the differentiable problems as well; with a slower reduction it does not.",
            tuple(panels),
        ),
        Figure(
            "What stops a run short: how far its steps can take it",
            "One point per schedule and α₀. Left of the rule the steps cannot reach the minimum, whether their sum to "
            "infinity is finite or not; right of it the last α sets the gap. Points at "
            f"{AT_MINIMUM:g} are at the minimum.",
            tuple(_travel_panel(runs.one(problem=name)) for name in ("L3", "L3 twin")),
        ),
    ]


def _travel_panel(run: Record) -> Panel:
    """The gap left against the total travel, a point for each schedule and α₀."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for name, ends in zip(SCHEDULES, run["end"], strict=True):
        total = math.fsum(SCHEDULES[name].factor(t) for t in range(STEPS))
        for alpha, gaps in zip(run["alpha"], ends, strict=True):
            left = float(np.median(np.array(gaps) / np.array(run["start"])))
            groups.setdefault(name.split("(")[0].split(",")[0], []).append(
                (alpha * total, extremes.largest(left, AT_MINIMUM))
            )
    points = [
        Series("points", name, [x for x, _ in pairs], [y for _, y in pairs], tone=tone)
        for (name, pairs), tone in zip(groups.items(), ("neutral", "paper", "a", "ours"), strict=False)
    ]
    distance = Series("vertical", "distance to the minimum", (1.0,), tone="theory", dashed=True)
    axes = Axis("total travel λΣα", True), Axis("gap left, share", True)
    return Panel(str(run.parameters["problem"]), *axes, (*points, distance))
