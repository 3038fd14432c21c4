"""One criterion for every effect that the paper lays to a kink: a dose-response.

The kink of λ|β| is rounded off over a width ε, which gives a C¹ twin with the curvature λ/ε there and a Lipschitz
gradient with a constant L. The dose is α over 2/L. A kink is the dose ∞, where no constant α is small enough; so the
paper is right to say that at a kink *every* constant step does it, and a twin can tell whether nothing else does:

- twins with α < 2/L show the effect as well: neither a kink nor too long a step is needed, and the explanation fails;
- only twins with α > 2/L do: the effect is that of a step above 2/L, of which a kink is the limit;
- no twin does: it takes a kink.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Finding,
    Outcome,
    Panel,
    Quantity,
    Row,
    Series,
    Verdict,
    below,
    median_interval,
)

HALF = Choice(
    "most",
    0.5,
    (0.25, 0.75),
    "share of the twins that counts as most",
    "More often than not; the shares that are found lie near 0 or 1.",
)
LADDER = Choice(
    "ladder",
    "all",
    ("every second", "within a factor 2 of 2/L", "far from 2/L"),
    "the widths of the twins:",
    "All that were measured: from a quarter of 2/L to fifty times it.",
)
STABLE = Quantity("twin_below", "share of the C¹ twins with α < 2/L that show it")
UNSTABLE = Quantity("twin_above", "share of the C¹ twins with α > 2/L that show it")
LAST_WITHOUT = Quantity("converges_at", "largest α over 2/L at which no C¹ twin shows it")
FIRST_WITH = Quantity("oscillates_at", "smallest α over 2/L at which every C¹ twin shows it")


def on_ladder(doses: Sequence[float], ladder: str) -> list[int]:
    """Which of the doses belong to a ladder of widths."""
    order = np.argsort(doses)
    if ladder == "every second":
        return sorted(int(i) for i in order[::2])
    near = {"within a factor 2 of 2/L": True, "far from 2/L": False}.get(ladder)
    return [i for i, dose in enumerate(doses) if near is None or (0.5 <= dose <= 2) == near]


def dose_findings(doses: Sequence[float], shows: Sequence[Sequence[bool]], ladder: str) -> tuple[Finding, ...]:
    """How many twins show the effect below and above 2/L, and where it begins.

    Args:
        doses: α over 2/L, of each width.
        shows: whether each run does, by width.
        ladder: which widths are looked at (`LADDER`).
    """
    kept = on_ladder(doses, ladder)
    runs = {above: [bool(one) for i in kept if (doses[i] > 1) is above for one in shows[i]] for above in (False, True)}
    none, every = ([doses[i] for i in kept if test(shows[i])] for test in (lambda row: not any(row), all))
    return (
        STABLE.share(sum(runs[False]), len(runs[False])),
        UNSTABLE.share(sum(runs[True]), len(runs[True])),
        LAST_WITHOUT.number(max(none, default=None)),
        FIRST_WITH.number(min(every, default=None)),
    )


def dose_panel(doses: Sequence[float], effect: Sequence[Sequence[float]], label: str) -> Panel:
    """The effect against the dose: medians and their intervals over runs, with 2/L marked."""
    middle, low, high = zip(*(median_interval(row) for row in effect), strict=True)
    return Panel(
        "C¹ twins",
        Axis("α over 2/L", True),
        Axis(label),
        (
            Series("points", "C¹ twins", doses, middle, low, high, "control"),
            Series("vertical", "α = 2/L", (1.0,), tone="theory", dashed=True),
            Series("horizontal", "on the kink", y=(1.0,), tone="ours"),
        ),
    )


def dose_rows(effect: str, correction: str) -> tuple[Row, ...]:
    """The rows of a rule that the dose-response decides; where none is met, it takes a kink.

    Args:
        effect: what is seen, as in "the two-cycle".
        correction: the statement as it holds where the step size is the reason.
    """
    return (
        Row(
            ~below(STABLE, HALF),
            Outcome(
                Verdict.EXPLANATION_NOT_SUPPORTED,
                "smooth twins do it too",
                f"But C¹ twins show {effect} where α < 2/L as well ({{twin_below:.0%}} of them): neither a kink nor "
                "too long a step is needed.",
            ),
        ),
        Row(
            ~below(UNSTABLE, HALF),
            Outcome(
                Verdict.WITH_CORRECTION,
                "true of steps above 2/L",
                f"C¹ twins show {effect} in {{twin_above:.0%}} of the runs where α > 2/L and in {{twin_below:.0%}} "
                "where α < 2/L; between {converges_at:v} and {oscillates_at:v} of 2/L it changes. A kink is the limit "
                "L = ∞: there every constant α is too long.",
                correction=correction,
            ),
        ),
    )
