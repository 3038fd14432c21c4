"""For y ≤ 0 the ReLU regression is convex, with its minimum at a kink (§1 and §4, eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Estimate,
    Evidence,
    Figure,
    Findings,
    Headline,
    Outcome,
    Panel,
    Quantity,
    Row,
    Rule,
    Run,
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    above,
    below,
)
from nonsmooth.lab import Cell
from nonsmooth.problems import Regression, relu_regression
from nonsmooth.problems.convexity import (
    convexity_excess,
    distance_to_subdifferential_at_zero,
    lowest_found,
    slope_jumps,
    smallest_kink,
)

FEATURES, SAMPLES = 500, 20
PENALTIES = {"none": (0.0, 0.0), "L2": (0.0, 0.01), "L1": (0.1, 0.0), "both": (0.1, 0.01)}
POSITIVE = (0, 1, 5, 20)
"""How many entries of y are positive; 20 are all."""

ROUNDING = Choice(
    "rounding",
    1e-9,
    (1e-11, 1e-7),
    "size, relative to the function, that counts as rounding",
    "What sums of 500 products in float64 may lose, with room; what is found otherwise is above 1e-6.",
)
HALF = Choice(
    "most", 0.5, (0.75, 0.9), "share of the seeds that counts as most", "The shares found are 0 or 1, up to chance."
)
FEWEST = Choice("fewest", 1, (5, 20), "positive entries in y of the control", "The weakest breach of the condition.")
PENALTY = Choice("penalty", "all four", tuple(PENALTIES), "penalty of the function", "The statement is about each.")

EXCESS = Quantity("largest_excess", "largest excess of the function over a chord, y ≤ 0")
DROP = Quantity("jump", "smallest jump of the slope over all samples' kinks, relative, y ≤ 0")
DISTANCE = Quantity("distance", "largest distance from 0 to ∂f(0), y ≤ 0")
LOWER = Quantity("lower", "lowest f - f(0) found by search, relative, y ≤ 0")
KINK = Quantity("kink", "smallest sum of one-sided slopes at 0, y ≤ 0")
BROKEN = Quantity("broken", "seeds in which the slope falls on a sample's kink, fewest positive entries in y")

CLAIM = Claim(
    id="kumar-convex",
    plain="A one-layer ReLU network is convex where no target is positive, and its best point is at a kink.",
    title="ReLU regression with a non-positive response is convex",
    where="§1, equation (3); §4, The way forward (after Kumar 2023)",
    statement=(
        "For y ≤ 0 the penalised ReLU regression L₁(β; Z, y, λ₁, λ₂) is convex, its global minimum is known, and it "
        "lies at a point where the function is not differentiable."
    ),
    explanation="Each (yᵢ - max(0, ·))² is convex and does not fall where yᵢ ≤ 0.",
    control="The same functions with positive entries in y: if the sign were not the reason, they would be convex too.",
    paper=(Value("convex", "convex for y ≤ 0", True), Value("kink", "minimum at a kink", True)),
)

RULE = Rule(
    Row(
        above(EXCESS, ROUNDING) | ~above(DROP, 0),
        Outcome(Verdict.NOT_REPRODUCED, "it is not convex"),
    ),
    Row(
        above(DISTANCE, ROUNDING) | below(LOWER, -1e-9),
        Outcome(Verdict.NOT_REPRODUCED, "zero is no minimum"),
    ),
    Row(~above(KINK, ROUNDING), Outcome(Verdict.NOT_REPRODUCED, "no kink at the minimum")),
    Row(
        below(BROKEN, HALF),
        Outcome(Verdict.EXPLANATION_NOT_SUPPORTED, "convex whatever the sign"),
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED,
        "convex, minimum at a kink",
        "A positive entry in y makes a concave kink: the slope falls there in {broken:.0%} of the seeds.",
    ),
    always="With y ≤ 0, {convex.hits} of {convex.count} seeds show no violation along segments and the slope rises by "
    "at least {jump:v} (relative) over every kink, which with convex pieces between them is convexity; the distance "
    "from 0 to ∂f(0) is at most {distance:v}, and the one-sided slopes at 0 add to at least {kink:v}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="convex, minimum at a kink",
        ours="{jumps_0.hits} of {jumps_0.count} seeds convex; one-sided slopes at 0 add to {kink:v}",
        control="one positive entry in y: {broken:.0%} not convex",
    ),
    choices=(ROUNDING, HALF, FEWEST, PENALTY),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Two cells for each penalty and number of positive entries in y."""
    seeds, count = scale.seeds(20, 200), scale(400, 4000)
    for penalty in PENALTIES:
        for positive in POSITIVE:
            cost = len(seeds) * count * 9e-5
            yield segments.cell(penalty=penalty, positive=positive, segments=count, seeds=seeds, cost=cost)
            yield jumps.cell(penalty=penalty, positive=positive, seeds=seeds, cost=2e-3 * len(seeds))


def _draw(generator: torch.Generator, penalty: str, positive: int) -> Regression:
    """Z ~ U[-1, 1], y ~ U[-1, 0] with the first entries turned positive."""
    data = torch.rand(1, SAMPLES, FEATURES, generator=generator, dtype=torch.float64) * 2 - 1
    response = -torch.rand(1, SAMPLES, generator=generator, dtype=torch.float64)
    response[:, :positive] *= -1
    l1, l2 = PENALTIES[penalty]
    return relu_regression(data, response, l1=l1, l2=l2)


@study.experiment(seed_axes=dict.fromkeys(("violations", "excess", "distance", "kink", "advantage"), 0))
def segments(run: Run, *, penalty: str, positive: int, segments: int, seeds: int) -> Mapping[str, Any]:
    """Convexity along segments, optimality of zero by its subdifferential, and the kink there, for all seeds."""
    rows: dict[str, list[float]] = {name: [] for name in ("violations", "excess", "distance", "kink", "advantage")}
    for done, seed in enumerate(range(run.seed, run.seed + seeds)):
        generator = torch.Generator().manual_seed(seed)
        problem = _draw(generator, penalty, positive)
        excess = convexity_excess(problem, segments, generator)
        rows["violations"].append(float((excess > ROUNDING.value).sum()))
        rows["excess"].append(float(excess.max()))
        rows["distance"].append(distance_to_subdifferential_at_zero(problem))
        rows["kink"].append(smallest_kink(problem, generator))
        rows["advantage"].append(lowest_found(problem, generator))
        run.context.progress((done + 1) / seeds)
    direction = problem.data[0].sum(0)
    direction = 0.15 * direction / torch.linalg.vector_norm(direction)
    points = torch.linspace(-1, 1, 81, dtype=torch.float64)[:, None] * direction
    values = problem.value(points.unsqueeze(0))[0]
    return {**rows, "profile": (values / values[40]).tolist()}


@study.experiment(part="jump", seed_axes={"jump": 0})
def jumps(run: Run, *, penalty: str, positive: int, seeds: int) -> Mapping[str, Any]:
    """The smallest jump of the slope over the kinks zᵢᵀβ = 0 of each seed."""
    drawn = (torch.Generator().manual_seed(seed) for seed in range(run.seed, run.seed + seeds))
    return {"jump": [float(slope_jumps(_draw(one, penalty, positive), one).min()) for one in drawn]}


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Violations along segments and at kinks, and what 0 is, with y ≤ 0 and with positive entries."""
    along, across = (
        runs if choices.penalty == "all four" else runs.where(penalty=choices.penalty)
        for runs in (evidence[segments], evidence[jumps])
    )
    paper = along.some(positive=0)
    violations = {positive: runs.joined("violations") for positive, runs in along.by("positive").items()}
    broken = {
        positive: Quantity(
            f"broken_{positive}", f"seeds that violate convexity, {positive} positive entries in y"
        ).share(int((found > 0).sum()), len(found))
        for positive, found in violations.items()
        if positive
    }
    falls = {positive: runs.joined("jump") for positive, runs in across.by("positive").items()}
    fewest = across.some(positive=choices.fewest).joined("jump")
    excess = Quantity("excess", "largest relative excess over a chord, y ≤ 0")
    return Findings(
        (
            Quantity("convex", "seeds without a violation, y ≤ 0").share_of(violations[0] == 0),
            Quantity("jumps_0", "seeds in which no slope falls at a kink, y ≤ 0").share_of(falls[0] >= 0),
            excess.median([float(np.max(record["excess"])) for record in paper]),
            DISTANCE.number(float(paper.joined("distance").max())),
            LOWER.number(float(paper.joined("advantage").min())),
            KINK.number(float(paper.joined("kink").min())),
            DROP.number(float(falls[0].min())),
        ),
        (
            *broken.values(),
            *(
                Quantity(f"jumps_{p}", f"seeds in which a slope falls at a kink, {p} positive entries in y").share_of(
                    found < 0
                )
                for p, found in falls.items()
                if p
            ),
        ),
        derived=(
            EXCESS.number(float(paper.joined("excess").max())),
            BROKEN.share_of(np.where(np.isnan(fewest), np.nan, fewest < 0)),
        ),
        notes=(
            "The minimum is ‖y‖², at β = 0: no term can be below yᵢ², and all attain it at once.",
            "Without a penalty zero is one minimiser among many: every β with Zβ ≤ 0 is one, and f is differentiable "
            "at those with Zβ < 0. Either penalty makes the minimiser unique.",
            "Random segments miss the one concave kink of a single positive entry in about half of the seeds; the jump "
            "of the slope at each sample's kink finds it always.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Profiles along one segment through zero, and the share of seeds that violate convexity, by both tests."""
    tones, place = {"none": "a", "L2": "b", "L1": "c", "both": "ours"}, np.linspace(-1, 1, 81).tolist()
    panels = [
        Panel(
            title,
            Axis("position along one direction"),
            Axis("f(t d) / f(0)"),
            tuple(
                Series("line", f"penalty: {penalty}", place, record["profile"], tone=tones[penalty])
                for record in evidence[segments].where(positive=positive)
                for penalty in (record.parameters["penalty"],)
            ),
        )
        for positive, title in ((0, "y ≤ 0"), (max(POSITIVE), "y > 0"))
    ]
    shares = [
        (kind, tone, [one for p in POSITIVE if p and isinstance(one := found[f"{name}_{p}"], Estimate)])
        for kind, name, tone in (("along segments", "broken", "control"), ("at kinks", "jumps", "ours"))
    ]
    lines = tuple(
        Series("line", kind, [p for p in POSITIVE if p], [e.value for e in row], [e.lower for e in row],
               [e.upper for e in row], tone)
        for kind, tone, row in shares
    )  # fmt: skip
    panels.append(Panel("convexity", Axis("positive entries in y"), Axis("share of seeds that violate it"), lines))
    return [
        Figure(
            "Convex for a non-positive response",
            "Left: the function along a direction through zero, with its corner at the minimum when y ≤ 0 and a dent "
            "when y > 0. Right: share of seeds with a violated chord or a falling slope, with exact 95 % intervals.",
            tuple(panels),
        )
    ]
