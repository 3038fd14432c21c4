"""Huber is said not to be L-smooth, so that the edge-of-stability threshold does not describe it (§4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Estimate,
    Evidence,
    Figure,
    Finding,
    Findings,
    Headline,
    NotStoredError,
    Outcome,
    Panel,
    Quantity,
    Row,
    Rule,
    Run,
    Runs,
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    Word,
    below,
)
from nonsmooth.claims.huber.huber_data import (
    EDITION,
    ENTRIES,
    LOSSES,
    TONES,
    curvature_of,
    draw_regression,
    draw_start,
    interpolant,
)
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Recording, Trace, loss
from nonsmooth.dynamics.thresholds import find_threshold, gradient_quotient, top_direction
from nonsmooth.lab import Cell

NEAR_STEPS, FAR_STEPS, SHORTER = 40, 1000, (500,)
CONVERGED = 1e-6
"""A far run has converged if its loss, over its last tenth, is below this share of the first loss."""

TOLERANCE = Choice(
    "tolerance",
    0.01,
    (0.005, 0.03),
    "share of 2/L by which a threshold may miss it",
    "Runs of 1,000 steps put thresholds up to 0.35 % too low, and the bisection stops at 0.4 %.",
)
SAME = Choice("same", 1e-6, (1e-7, 1e-4), "share of L", "What 400 steps of the search leave, and far above rounding.")
SHRINKS = Choice(
    "shrinks",
    0.1,
    (0.02, 0.5),
    "share of the threshold that may be left to a start 300 times closer, if there is no threshold",
    "Without one it shrinks as the distance does, to 1/300; with one it stays.",
)
DATA = Choice("data", "both", ENTRIES, "entries of Z and y", "The paper calls both arbitrary.")
LENGTH = Choice(
    "length", FAR_STEPS, SHORTER, "steps of a run from afar", "Slow runs near the threshold end by then within 0.35 %."
)

QUOTIENT = Quantity("quotient", "largest gradient quotient found / L (range over seeds)")
UNLIKE = Quantity("quotient_off", "distance of the largest gradient quotient from L, as a share of L")
NEAR = Quantity("near_off", "distance of Huber's threshold from 2/L near a minimiser, as a share of it")
FAR = Quantity("far_off", "distance of Huber's threshold from 2/L from random starts, as a share of it")
KNOWN_NEAR = Quantity("known_near", "distance of the squared loss's threshold from 2/L near a minimiser, as a share")
KNOWN_FAR = Quantity("known_far", "distance of the squared loss's threshold from 2/L from random starts, as a share")
SHRINKING = Quantity("absolute_shrinking", "absolute loss: threshold from a start 300 times closer, relative")

CLAIM = Claim(
    id="huber-smooth",
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
        ~(below(KNOWN_NEAR, TOLERANCE) & below(KNOWN_FAR, TOLERANCE) & below(SHRINKING, SHRINKS)),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the instrument fails",
            "The bisection does not find the known threshold of the squared loss, or finds one where there is none.",
            decided_by="more steps per run, until the squared loss shows its known threshold",
        ),
    ),
    Row(
        below(NEAR, TOLERANCE) & below(FAR, TOLERANCE),
        Outcome(Verdict.NOT_REPRODUCED, "2/L does describe it"),
    ),
    Row(
        below(UNLIKE, SAME),
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
        ours="{smooth}; threshold is {huber_near:v}·2/L near, {huber_far:v}·2/L from afar",
        control="squared: {squared_near:v}·2/L; absolute: falls to {absolute_shrinking:v} of it",
    ),
    choices=(TOLERANCE, SAME, SHRINKS, DATA, LENGTH),
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
                    loss=name, start=start, cost=(0.06 if name == "absolute" else 0.35) * len(seeds), **shared
                )
        for steps in SHORTER:
            yield shorter.cell(steps=steps, cost=0.2 * len(seeds), **shared)
    for name in ("huber", "squared", "absolute"):
        yield sweep.cell(loss=name, entries="uniform", seeds=seeds[:1], cost=0.5)


def _unit(vectors: Tensor, fallback: Tensor | None = None) -> Tensor:
    """Vectors of length 1; `fallback` where a vector is zero."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length if fallback is None else torch.where(length > 0, vectors / length, fallback)


@study.experiment(part="constant", seed_axes={"smoothness": 0, "quotient": 0, "across": 0})
def constant(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """The largest gradient quotients found, in units of L: rows are seeds, columns distances from the minimiser.

    The search is a power iteration on gradient differences, d ← ∇f(x+d) - ∇f(x) scaled to a fixed length, which
    knows nothing of Z. The quotients of random pairs, and of steps of other lengths, enter the maximum too.
    """
    problem, smoothness = (
        draw_regression(entries, run.seed, seeds, LOSSES[loss]),
        curvature_of(entries, run.seed, seeds),
    )
    generator, minimiser = run.generator(), interpolant(problem)
    distances = (1e-4, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    shape = (problem.instances, len(distances), problem.features)
    radius = torch.tensor(distances, dtype=torch.float64).view(1, -1, 1)
    centre = minimiser + radius * _unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    direction = _unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    length, largest = 1e-4, gradient_quotient(problem, centre, centre + radius * direction)
    for _ in range(400):
        other = centre + length * direction
        largest = torch.maximum(largest, gradient_quotient(problem, centre, other))
        direction = _unit(problem.subgradient(other) - problem.subgradient(centre), fallback=direction)
    # Along the direction found, pairs of every length across the minimiser: none may exceed L, however close.
    lengths = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 100.0], dtype=torch.float64).view(1, -1, 1)
    half = lengths / 2 * direction[:, :1]
    across = gradient_quotient(problem, minimiser - half, minimiser + half)
    return {
        "smoothness": smoothness[:, 0].tolist(),
        "distance": list(distances),
        "quotient": (largest / smoothness).tolist(),
        "length": lengths.flatten().tolist(),
        "across": (across / smoothness).tolist(),
    }


@study.experiment(part="near", seed_axes={"ratio": 0})
def near(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """Thresholds in units of 2/L, for starts off the minimiser along the top direction: rows are seeds."""
    problem, distances = draw_regression(entries, run.seed, seeds, LOSSES[loss]), (1e-4, 1e-3, 1e-2, 3e-2)
    start = interpolant(problem) + torch.tensor(distances, dtype=torch.float64).view(1, -1, 1) * top_direction(problem)
    edge = (2 / curvature_of(entries, run.seed, seeds)).expand(-1, len(distances))
    recordings = _first_and_late(NEAR_STEPS // 2)

    def stable(step_size: Tensor) -> Tensor:
        found = iterate(problem, start, Constant(step_size), NEAR_STEPS, recordings)
        return found["late"] < found["first"][0]

    critical = find_threshold(stable, 1e-6 * edge, 100 * edge, tolerance=1e-5).estimate
    return {"distance": list(distances), "ratio": (critical / edge).tolist()}


def _first_and_late(since: int) -> dict[str, Recording]:
    """The first loss, and the largest from a step on."""
    return {"first": Trace(loss, [0]), "late": Largest(loss, since)}


@study.experiment(part="far", seed_axes={"ratio": 0})
def far(run: Run, *, loss: str, start: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """Thresholds in units of 2/L between convergence and its absence, from a random start: one per seed."""
    return _far(run, loss, start, entries, seeds, FAR_STEPS)


@study.experiment(part="far, shorter", seed_axes={"ratio": 0})
def shorter(run: Run, *, entries: str, seeds: int, steps: int) -> Mapping[str, Any]:
    """The same for Huber in runs of another length."""
    return _far(run, "huber", "uniform", entries, seeds, steps)


def _far(run: Run, loss_name: str, start: str, entries: str, seeds: int, steps: int) -> Mapping[str, Any]:
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss_name])
    points, edge = draw_start(start, run.seed, seeds), 2 / curvature_of(entries, run.seed, seeds)
    recordings = _first_and_late(steps - steps // 10)

    def stable(step_size: Tensor) -> Tensor:
        found = iterate(problem, points, Constant(step_size), steps, recordings)
        return found["late"] < CONVERGED * found["first"][0]

    critical = find_threshold(stable, 0.5 * edge, 4 * edge, tolerance=4e-3).estimate
    return {"ratio": (critical / edge)[:, 0].tolist()}


@study.experiment(part="sweep")
def sweep(run: Run, *, loss: str, entries: str, seeds: int) -> Mapping[str, Any]:
    """What one seed's run reaches at each step size: the largest loss over its last tenth, relative to the first."""
    problem, smoothness = (
        draw_regression(entries, run.seed, seeds, LOSSES[loss]),
        curvature_of(entries, run.seed, seeds),
    )
    ratios = torch.cat([torch.logspace(-0.5, 0.5, 21, dtype=torch.float64), torch.tensor([0.99, 1.01, 8.0, 30.0])])
    ratios = ratios.sort().values
    starts = draw_start("uniform", run.seed, seeds).expand(-1, len(ratios), -1).contiguous()
    recordings = _first_and_late(FAR_STEPS - FAR_STEPS // 10)
    found = iterate(problem, starts, Constant(2 / smoothness * ratios), FAR_STEPS, recordings)
    reached = (found["late"] / found["first"][0])[0].nan_to_num(nan=torch.inf)
    return {"ratio": ratios.tolist(), "reached": reached.tolist()}


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The largest quotients, and the thresholds of Huber and of the losses where the answer is known."""

    def chosen(runs: Runs) -> Runs:
        return runs if choices.data == "both" else runs.where(entries=choices.data)

    constants, nears, fars = evidence[constant], evidence[near], evidence[far]
    largest = [
        extremes.largest(*row, *across)
        for record in chosen(constants.where(loss="huber"))
        for row, across in zip(record["quotient"], record["across"], strict=True)
    ]
    from_afar = fars.where(loss="huber")
    if choices.length != FAR_STEPS and not (from_afar := evidence[shorter].where(steps=choices.length)):
        raise NotStoredError(f"runs of {choices.length} steps were not stored")
    ratios = {
        "huber_near": _threshold("huber_near", "Huber, near a minimiser", chosen(nears.where(loss="huber"))),
        "huber_far": _threshold("huber_far", "Huber, from random starts", chosen(from_afar)),
        "squared_near": _threshold("squared_near", "squared loss, near a minimiser", nears.where(loss="squared")),
        "squared_far": _threshold("squared_far", "squared loss, from random starts", fars.where(loss="squared")),
    }
    quotient: Finding = QUOTIENT.missing()
    if largest:
        quotient = QUOTIENT.estimate(
            float(np.median(largest)), extremes.smallest(largest), extremes.largest(largest), len(largest)
        )
    unlike = _off(UNLIKE, quotient)
    smooth = isinstance(unlike, Estimate) and unlike.upper < choices.same
    close = nears.where(loss="absolute")
    never = fars.where(loss="absolute").joined("ratio")
    across = [row[0] / row[-1] for record in constants.where(loss="absolute") for row in record["across"]]
    edge = Quantity("edge", "2/L for data from U[-1, 1]")
    of_edge = [2 / value for value in constants.where(loss="huber", entries="uniform").joined("smoothness")]
    return Findings(
        (quotient, ratios["huber_near"], ratios["huber_far"], edge.median(of_edge)),
        (
            ratios["squared_near"],
            ratios["squared_far"],
            SHRINKING.median([row[0] / row[-1] for record in close for row in record["ratio"]]),
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
            unlike,
            _off(NEAR, ratios["huber_near"]),
            _off(FAR, ratios["huber_far"]),
            _off(KNOWN_NEAR, ratios["squared_near"]),
            _off(KNOWN_FAR, ratios["squared_far"]),
            Word("smooth", "whether the gradient has the constant L", "L-smooth" if smooth else "not L-smooth"),
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


def _threshold(name: str, of: str, runs: Runs) -> Finding:
    """Each seed's threshold in units of 2/L: near, of all its starts the one farthest from 1."""
    rows = [row if isinstance(row, list) else [row] for record in runs for row in record["ratio"]]
    farthest = [extremes.largest(row, key=lambda ratio: abs(ratio - 1)) for row in rows]
    return Quantity(name, f"threshold / (2/L), {of}").median(farthest)


def _off(quantity: Quantity, ratio: Finding) -> Finding:
    """How far a ratio lies from 1, with the interval that its own leaves."""
    if not isinstance(ratio, Estimate):
        return quantity.missing()
    ends = abs(ratio.lower - 1), abs(ratio.upper - 1)
    lowest = 0.0 if ratio.lower <= 1 <= ratio.upper else extremes.smallest(*ends)
    return quantity.estimate(abs(ratio.value - 1), lowest, extremes.largest(*ends), ratio.count)


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
