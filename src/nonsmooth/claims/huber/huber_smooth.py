"""Huber is said not to be L-smooth, so that the edge-of-stability threshold does not describe it (§4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from nonsmooth import extremes
from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Evidence,
    Figure,
    Finding,
    Findings,
    Headline,
    Outcome,
    Panel,
    Quantity,
    Row,
    Rule,
    Runs,
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    above,
)
from nonsmooth.claims.huber import huber_runs
from nonsmooth.claims.huber.huber_data import (
    EDITION,
    ENTRIES,
    TONES,
)
from nonsmooth.claims.huber.huber_runs import CONVERGED, FAR_STEPS
from nonsmooth.lab import Cell

SHORTER = (500,)
"""Steps of the other runs from afar."""

TOLERANCE = Choice(
    "tolerance",
    0.01,
    (0.005, 0.03),
    "share of 2/L by which a threshold may miss it",
    "Runs of 1,000 steps put thresholds up to 0.35 % too low, and the bisection stops at 0.4 %.",
)
SAME = Choice(
    "same",
    1e-6,
    (1e-7, 1e-4),
    "share of L by which a quotient may miss it",
    "What 400 steps of the search leave, and far above rounding.",
)
LEFT = Choice(
    "left",
    0.1,
    (0.02, 0.5),
    "share of the threshold that may be left to a start 300 times closer, if there is no threshold",
    "Without one it shrinks as the distance does, to 1/300; with one it stays.",
)
MOST = Choice("most", 0.5, (0.4, 0.6), "share of the data that counts as most", "More often than not.")
DATA = Choice("data", "both", ENTRIES, "entries of Z and y", "The paper calls both arbitrary.")
LENGTH = Choice(
    "length", FAR_STEPS, SHORTER, "steps of a run from afar", "Slow runs near the threshold end by then within 0.35 %."
)

QUOTIENT = Quantity("quotient", "largest gradient quotient found / L (range over seeds)")
SMOOTH = Quantity("smooth", "data whose largest gradient quotient is L")
NEAR = Quantity("at_near", "data on which Huber's threshold near a minimiser is 2/L")
FAR = Quantity("at_far", "data on which Huber's threshold from random starts is 2/L")
KNOWN_NEAR = Quantity("known_near", "data on which the squared loss's threshold near a minimiser is 2/L")
KNOWN_FAR = Quantity("known_far", "data on which the squared loss's threshold from random starts is 2/L")
SHRINKS = Quantity("shrinks", "data on which the absolute loss's threshold shrinks with the distance of the start")
SHRINKING = Quantity("absolute_shrinking", "absolute loss: threshold from a start 300 times closer, relative")

CLAIM = Claim(
    id="huber-smooth",
    plain="The Huber loss is not smooth, so the usual limit of the learning rate does not apply to it.",
    title="Huber regression and the edge-of-stability threshold",
    where="§4, Proposition 4.1 and the text around it",
    statement=(
        "The Huber loss is convex, differentiable once but not twice, and therefore not L-smooth; so the "
        "edge-of-stability threshold α* = 2/η, whose derivation assumes L-smoothness, does not describe it."
    ),
    explanation="The gradient has no Lipschitz constant, because the second derivative does not exist everywhere.",
    control=(
        "The squared loss on the same data, whose threshold is known to be 2/L, and the absolute loss, whose gradient "
        "jumps: there the same bisection must find no threshold that is independent of the start."
    ),
    edition=EDITION,
)

RULE = Rule(
    Row(
        ~(above(KNOWN_NEAR, MOST) & above(KNOWN_FAR, MOST) & above(SHRINKS, MOST)),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the instrument fails",
            "The bisection does not find the known threshold of the squared loss, or finds one where there is none.",
            decided_by="more steps per run, until the squared loss shows its known threshold",
        ),
    ),
    Row(
        above(NEAR, MOST) & above(FAR, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "2/L does describe it"),
    ),
    Row(
        above(SMOOTH, MOST),
        Outcome(Verdict.EXPLANATION_NOT_SUPPORTED, "L-smooth, yet 2/L fails"),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "no L, no threshold"),
    always="The largest gradient quotient found is {quotient} of σ_max(Z)²/N. The step size at which the behaviour "
    "changes is {huber_near} of 2/L near a minimiser and {huber_far} of 2/L from random starts.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="not L-smooth; 2/L does not apply",
        ours="quotients up to {quotient:.6g}·L; threshold {huber_near:v}·2/L near, {huber_far:v}·2/L from afar",
        control="squared: {squared_near:v}·2/L; absolute: falls to {absolute_shrinking:v} of it",
    ),
    choices=(TOLERANCE, SAME, LEFT, MOST, DATA, LENGTH),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """For both kinds of data: the constant L, the threshold near a minimiser, and the threshold from afar."""
    seeds = scale.seeds(8, 32)
    for entries in ENTRIES:
        shared: dict[str, Any] = {"entries": entries, "seeds": seeds}
        for name in ("huber", "absolute"):
            yield constant.cell(loss=name, cost=0.1 * len(seeds), **shared)
        for name in ("huber", "squared", "pseudo-huber", "absolute"):
            yield near.cell(loss=name, cost=0.05 * len(seeds), **shared)
        # The squared loss is there to test the instrument, which does not depend on the data.
        for name in ("huber", "squared", "absolute") if entries == "uniform" else ("huber", "absolute"):
            for start in scale(("uniform",), ("uniform", "normal", "zero")):
                yield far.cell(
                    loss=name, start=start, cost=(0.06 if name == "absolute" else 0.1) * len(seeds), **shared
                )
        for steps in SHORTER:
            yield shorter.cell(steps=steps, cost=0.1 * len(seeds), **shared)
    for name in ("huber", "squared", "absolute"):
        yield sweep.cell(loss=name, entries="uniform", seeds=seeds[:1], cost=0.5)


constant = study.experiment(part="constant", seed_axes={"smoothness": 0, "quotient": 0, "across": 0})(
    huber_runs.quotients
)
near = study.experiment(part="near", seed_axes={"ratio": 0})(huber_runs.near)
far = study.experiment(part="far", seed_axes={"ratio": 0})(huber_runs.far)
shorter = study.experiment(part="far, shorter", seed_axes={"ratio": 0})(huber_runs.shorter)
sweep = study.experiment(part="sweep")(huber_runs.sweep)


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The largest quotients, and the thresholds of Huber and of the losses where the answer is known."""

    def chosen(found: Runs) -> Runs:
        return found if choices.data == "both" else found.where(entries=choices.data)

    constants, nears, fars = evidence[constant], evidence[near], evidence[far]
    largest = [
        extremes.largest(*row, *across)
        for record in chosen(constants.some(loss="huber"))
        for row, across in zip(record["quotient"], record["across"], strict=True)
    ]
    whole = choices.length == FAR_STEPS
    from_afar = fars.some(loss="huber") if whole else evidence[shorter].some(steps=choices.length)
    sides = {
        NEAR: ("huber_near", "Huber, near a minimiser", chosen(nears.where(loss="huber"))),
        FAR: ("huber_far", "Huber, from random starts", chosen(from_afar)),
        KNOWN_NEAR: ("squared_near", "squared loss, near a minimiser", nears.where(loss="squared")),
        KNOWN_FAR: ("squared_far", "squared loss, from random starts", fars.where(loss="squared")),
    }
    thresholds = {share: _farthest(found) for share, (_, _, found) in sides.items()}
    ratios = {
        share: Quantity(name, f"threshold / (2/L), {of}").median(thresholds[share])
        for share, (name, of, _) in sides.items()
    }
    shrinking = np.array([row[0] / row[-1] for record in nears.where(loss="absolute") for row in record["ratio"]])
    quotient: Finding = QUOTIENT.missing()
    if largest:
        quotient = QUOTIENT.estimate(
            float(np.median(largest)), extremes.smallest(largest), extremes.largest(largest), len(largest)
        )
    never = fars.where(loss="absolute").joined("ratio")
    across = [row[0] / row[-1] for record in constants.where(loss="absolute") for row in record["across"]]
    edge = Quantity("edge", "2/L for data from U[-1, 1]")
    of_edge = [2 / value for value in constants.where(loss="huber", entries="uniform").joined("smoothness")]
    return Findings(
        (quotient, ratios[NEAR], ratios[FAR], edge.median(of_edge)),
        (
            ratios[KNOWN_NEAR],
            ratios[KNOWN_FAR],
            SHRINKING.median(shrinking),
            Quantity(
                "absolute_never", "absolute loss from random starts: runs for which no step size tried converged"
            ).number(int((never == 0).sum()), len(never)),
            Quantity(
                "absolute_growth",
                "absolute loss: gradient quotient across the minimiser, pair 1e+08 times closer, relative",
            ).median(across),
            *(_largest_above(name, evidence[sweep].one(loss=name)) for name in ("huber", "squared")),
        ),
        (Value("threshold", "threshold of a function that is L-smooth, in units of 2/L", 1.0),),
        derived=(
            _within(SMOOTH, np.array(largest), choices.same),
            *(_within(share, found, choices.tolerance) for share, found in thresholds.items()),
            SHRINKS.share_of(np.where(np.isnan(shrinking), np.nan, shrinking < choices.left)),
        ),
        notes=(
            "L-smooth means a Lipschitz gradient (eq. 5); a second derivative is not asked for. Huber's slope, the "
            "residual clipped to [-δ, δ], is 1-Lipschitz.",
            "What the threshold separates is convergence to a minimiser from its absence. What a run does above it is "
            "another matter, on which losses with the same L differ.",
            f"A run from afar that needs more than {FAR_STEPS:,} steps counts as not converging, which puts measured "
            f"thresholds up to {-math.log(CONVERGED) / (4 * FAR_STEPS):.1%} below the true ones.",
        ),
    )


def _farthest(found: Runs) -> np.ndarray:
    """Each seed's threshold in units of 2/L: near, of all its starts the one farthest from 1."""
    rows = [row if isinstance(row, list) else [row] for record in found for row in record["ratio"]]
    return np.array([extremes.largest(row, key=lambda ratio: abs(ratio - 1)) for row in rows])


def _within(quantity: Quantity, ratios: np.ndarray, tolerance: float) -> Finding:
    """The share of ratios that differ from 1 by less than a tolerance."""
    return quantity.share_of(np.where(np.isnan(ratios), np.nan, np.abs(ratios - 1) < tolerance))


def _largest_above(name: str, record: Any) -> Finding:
    """The largest late loss over all step sizes above the threshold that were tried, relative to the first."""
    above = [reached for ratio, reached in zip(record["ratio"], record["reached"], strict=True) if ratio > 1]
    last = extremes.largest(record["ratio"])
    label = f"{name}: late loss / first loss, largest over α from 2/L to {last:g}·2/L"
    return Quantity(f"{name}_above", label).number(extremes.largest(above))


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Where the threshold lies, against the distance of the start; what a run reaches, against the step size."""
    del found

    def medians(record: Any, value: str, name: str) -> Series:
        return Series("line", name, record["distance"], np.median(record[value], axis=0), tone=TONES.get(name, "ours"))

    nears = [medians(record, "ratio", record.parameters["loss"]) for record in evidence[near].where(entries="uniform")]
    # What has diverged is not drawn.
    reached = []
    for record in evidence[sweep]:
        heights = [v if v < 1e8 else None for v in np.maximum(record["reached"], 1e-16)]
        name = record.parameters["loss"]
        reached.append(Series("line", name, record["ratio"], heights, tone=TONES[name]))
    quotients = medians(evidence[constant].one(loss="huber", entries="uniform"), "quotient", "largest quotient found")
    distance = Axis("distance from the minimiser", log=True)
    return [
        Figure(
            "The step size at which the behaviour changes",
            "Left: the largest step size, in units of 2/L, at which a start at that distance from a minimiser does not "
            "move away (medians over seeds). Huber's threshold is that of the squared loss; the absolute loss has "
            "none, the closer the start the smaller the step must be. Middle: the largest loss over the last tenth of "
            "a run, relative to the first; above 2/L the squared loss diverges (no point is drawn). Right: the "
            "largest gradient quotient, in units of L, around points at that distance from the minimiser.",
            (
                Panel(
                    "threshold near a minimiser",
                    distance,
                    Axis("threshold / (2/L)", log=True),
                    (*nears, Series("horizontal", "2/L", y=(1.0,), tone="theory", dashed=True)),
                ),
                Panel(
                    "loss reached from a random start",
                    Axis("α / (2/L)", log=True),
                    Axis("late loss / first loss", log=True),
                    (*reached, Series("vertical", "2/L", x=(1.0,), tone="theory", dashed=True)),
                ),
                Panel(
                    "Lipschitz quotient of ∇f, Huber",
                    distance,
                    Axis("quotient / L"),
                    (quotients, Series("horizontal", "L", y=(1.0,), tone="theory", dashed=True)),
                ),
            ),
        )
    ]
