"""One criterion for every effect that the paper lays to a kink: a dose-response.

The kink of λ|β| is rounded off over a width ε. That gives a C¹ twin, whose gradient is Lipschitz with L = λ/ε and the
constant of the data, where there are any. The dose is α over 2/L. At a kink it is infinite: no constant α is small
enough. A twin tells whether anything else is needed:

- twins with α < 2/L show the effect as well: neither a kink nor too long a step is needed, and the explanation fails;
- only twins with α > 2/L show it: it is the effect of a step above 2/L, of which a kink is the limit;
- no twin shows it: it takes a kink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Estimate,
    Figure,
    Finding,
    Missing,
    NotStoredError,
    Outcome,
    Panel,
    Quantity,
    Row,
    Series,
    Verdict,
    below,
    series_of,
)
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Points
from nonsmooth.lab import Record
from nonsmooth.problems import Problem

EDGES = (0.25, 0.5, 0.9, 0.99, 1.01, 1.1, 2.0, 5.0, 50.0)
"""αλ/2 over the width of a twin: without data, α over 2/L."""
WIDTHS = (*(1 / edge for edge in EDGES), 0.0)
"""ε over αλ/2, with the larger λ where there are two; 0 is the kink."""
LENGTHS = (0.5, 1.0)
"""Shares of a run after which its twins are looked at."""

HALF = Choice(
    "most",
    0.5,
    (0.25, 0.75),
    "share of the runs that counts as most",
    "More often than not.",
)
LADDER = Choice(
    "ladder",
    "all",
    ("every second", "within a factor 2 of 2/L", "farther than that", "only α < 2/L", "only α > 2/L"),
    "widths of the twins",
    "All that were run, from a quarter of 2/L to fifty times it. A list on one side of 2/L cannot tell the three cases "
    "apart, and must not decide.",
)
LENGTH = Choice(
    "length",
    1.0,
    (0.5,),
    "share of the run after which the twins are looked at",
    "Every twin has walked to zero by half of the run.",
)


def step_size_choice(step_sizes: Sequence[float]) -> Choice:
    """All step sizes, or each alone."""
    why = "The paper claims the effect for every constant α; each alone must tell the same."
    return Choice("step_sizes", "all", tuple(step_sizes), "step sizes of the twins", why)


def run_twins(
    problem: Callable[[Tensor, Tensor], Problem],
    start: Tensor,
    strengths: Sequence[float],
    step_sizes: Mapping[float, int],
    effect: Callable[[Tensor, float], Tensor],
) -> dict[str, Any]:
    """Run every twin from the same starts.

    Args:
        problem: (λ, ε), both of shape (variants,), → the twins.
        start: β₀, shape (starts, features).
        strengths: λ; the last one is the largest.
        step_sizes: α → number of steps.
        effect: (the last two iterates, shape (2, features, starts, widths, λ); α) → a number for each start and width.

    Returns:
        `dose` [α][width][start], α over 2/L at the largest λ; `effect` [length][α][width][start]; `step_size` and
        `width`.
    """
    pairs, doses, effects = len(WIDTHS) * len(strengths), [], []
    for alpha, steps in step_sizes.items():
        width = torch.tensor(WIDTHS, dtype=torch.float64) * alpha * strengths[-1] / 2
        twins = problem(
            torch.tensor(strengths, dtype=torch.float64).repeat(len(WIDTHS)), width.repeat_interleave(len(strengths))
        )
        ends = [round(share * steps) + back for share in LENGTHS for back in (-1, 0)]
        starts = start.unsqueeze(1).expand(-1, pairs, -1).contiguous()
        points = iterate(twins, starts, Constant(alpha), steps, {"end": Points(ends)})["end"]
        points = points.reshape(len(LENGTHS), 2, *points.shape[1:-1], len(WIDTHS), len(strengths))
        effects.append([effect(pair, alpha).T.tolist() for pair in points])
        constant = twins.gradient_lipschitz
        assert constant is not None
        dose = alpha * constant[:, len(strengths) - 1 :: len(strengths)] / 2
        doses.append(dose.expand(len(start), -1).T.tolist())
    return {
        "step_size": list(step_sizes),
        "width": WIDTHS,
        "dose": doses,
        "effect": [list(one) for one in zip(*effects, strict=True)],
    }


SEED_AXES = {"dose": 2, "effect": 3}
"""Of what `run_twins` returns."""


class DoseResponse:
    """The criterion for one effect: the findings of its twins, the rows of the rule, and the phase diagram.

    Args:
        effect: what is seen, such as "the oscillation".
        show: the same as a verb, such as "oscillate".
        threshold: the choice of the size above which a run shows the effect.
        correction: the statement as it holds where the step size is the reason.
    """

    def __init__(self, effect: str, show: str, threshold: Choice, correction: str) -> None:
        self._effect, self._threshold, self._correction = effect, threshold, correction
        self._stable, self._unstable, self._kink, self._last_without, self._first_with = (
            Quantity("twin_below", f"runs on C¹ twins with α < 2/L that {show}"),
            Quantity("twin_above", f"runs on C¹ twins with α > 2/L that {show}"),
            Quantity("twin_limit", f"runs on the kink that {show}, at all step sizes of the twins"),
            Quantity("converges_at", f"largest α over 2/L up to which none of the C¹ twins {show}"),
            Quantity("oscillates_at", f"smallest α over 2/L from which on all C¹ twins {show}"),
        )

    def findings(self, record: Record, choices: Choices) -> tuple[Finding, ...]:
        """How many runs show the effect below and above 2/L, and where it begins."""
        dose, size, steps = np.asarray(record["dose"]), _sizes(record, choices.length), record["step_size"]
        if choices.step_sizes != "all":
            if choices.step_sizes not in steps:
                raise NotStoredError(f"no twin has the step size {choices.step_sizes}")
            dose, size = (one[[steps.index(choices.step_sizes)]] for one in (dose, size))
        shows, kink = size > choices[self._threshold.name], np.isinf(dose)
        kept = ~kink & _on_ladder(dose, choices.ladder)
        without = dose[kept & (dose < dose[kept & shows].min(initial=np.inf))]
        every = dose[kept & (dose > dose[kept & ~shows].max(initial=0.0))]
        ends = (
            self._last_without.number(float(without.max()) if without.size else None),
            self._first_with.number(float(every.min()) if every.size else None),
        )
        parts = ((self._stable, kept & (dose < 1)), (self._unstable, kept & (dose > 1)), (self._kink, kink))
        if np.isnan(size).any():
            return (*(quantity.missing("is not a number") for quantity, _ in parts), *ends)
        return (*(_share(quantity, shows, part) for quantity, part in parts), *ends)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What the dose-response decides; where none is met, it takes a kink."""
        return (
            Row(
                ~below(self._stable, HALF),
                Outcome(
                    Verdict.EXPLANATION_NOT_SUPPORTED,
                    "smooth twins do it too",
                    f"But C¹ twins show {self._effect} where α < 2/L as well ({{twin_below:.0%}} of the runs): neither "
                    "a kink nor too long a step is needed.",
                ),
            ),
            Row(
                ~below(self._unstable, HALF),
                Outcome(
                    Verdict.WITH_CORRECTION,
                    "true of steps above 2/L",
                    f"C¹ twins show {self._effect} in {{twin_above:.0%}} of the runs where α > 2/L and in "
                    "{twin_below:.0%} where α < 2/L; between {converges_at:.3g} and {oscillates_at:.3g} of 2/L it "
                    "changes. A kink is the limit L = ∞: there every constant α is too long.",
                    correction=self._correction,
                ),
            ),
        )

    def figure(self, record: Record, label: str) -> Figure:
        """The phase diagram, and the size of the effect, whose axis has this label, against the dose."""
        steps, dose, size = record["step_size"], np.asarray(record["dose"]), _sizes(record, LENGTHS[-1])
        share, lowest = (size > self._threshold.value).mean(-1), 1 / max(EDGES) / 4
        kinds = (
            ("every run", "ours", share == 1),
            ("some runs", "a", (share > 0) & (share < 1)),
            ("no run", "control", share == 0),
        )
        series = [
            Series("points", name, [steps[a] for a, _ in found], [WIDTHS[w] or lowest for _, w in found], tone=tone)
            for name, tone, chosen in kinds
            if (found := np.argwhere(chosen)).size
        ]
        # Beside the curvature of the data there is room for the twin's up to 2/α; past that the line ends.
        room = 1 - (dose[:, 0] - EDGES[0]).mean(-1)
        edge = [1 / one if one > 0 else None for one in room]
        series.append(Series("line", "α = 2/L", steps, edge, tone="theory", dashed=True))
        by_dose = [
            series_of(
                "points",
                f"α = {steps[a]:g}",
                np.median(dose[a, :-1], axis=-1).tolist(),
                [Quantity("size", label).median(row) for row in size[a, :-1]],
                tone,
            )
            for a, tone in zip(range(len(steps)), "abcdefg", strict=False)
        ]
        by_dose.append(Series("vertical", "α = 2/L", (1.0,), tone="theory", dashed=True))
        return Figure(
            f"Phase diagram: {self._effect}",
            f"Left: which C¹ twins of width ε show {self._effect}; the lowest row is the kink, ε = 0. Below the line "
            "α > 2/L, and a kink lies below it at every step size. Right: the size in each twin, medians with "
            "intervals over starts.",
            (
                Panel("Step size against width", Axis("step size α", True), Axis("ε over αλ/2", True), tuple(series)),
                Panel("Size against dose", Axis("α over 2/L", True), Axis(label), tuple(by_dose)),
            ),
        )


def _sizes(record: Record, length: float) -> np.ndarray:
    """The effect after a share of the run, [α][width][start]."""
    return np.asarray(record["effect"][LENGTHS.index(length)], dtype=np.float64)


def _share(quantity: Quantity, shows: np.ndarray, part: np.ndarray) -> Estimate | Missing:
    """A share of runs; as those from one start are no independent ones, its interval is that of as many as starts."""
    if not part.any():
        return quantity.missing("has no run behind it")
    share, starts = float(shows[part].mean()), shows.shape[-1]
    few, many = (quantity.share(int(whole(share * starts)), starts) for whole in (np.floor, np.ceil))
    assert isinstance(few, Estimate)
    assert isinstance(many, Estimate)
    return quantity.estimate(share, few.lower, many.upper, starts)


def _on_ladder(dose: np.ndarray, ladder: str) -> np.ndarray:
    """Which runs belong to a ladder of widths."""
    second = np.zeros(dose.shape, dtype=bool)
    second[:, ::2] = True
    near = (dose >= 0.5) & (dose <= 2)
    kept: np.ndarray = {
        "all": np.ones(dose.shape, dtype=bool),
        "every second": second,
        "within a factor 2 of 2/L": near,
        "farther than that": ~near,
        "only α < 2/L": dose < 1,
        "only α > 2/L": dose > 1,
    }[ladder]
    return kept
