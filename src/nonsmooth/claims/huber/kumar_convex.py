"""Claim `kumar-convex`: for y ≤ 0 the ReLU regression is convex, with its minimum at a kink (§1 and §4, eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.statistics import median_value, proportion_value
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Regression, relu_regression

CLAIM = Claim(
    id="kumar-convex",
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

FEATURES, SAMPLES = 500, 20
PENALTIES = {"none": (0.0, 0.0), "L2": (0.0, 0.01), "L1": (0.1, 0.0), "both": (0.1, 0.01)}
POSITIVE = (0, 1, 5, 20)
ROUNDING = 1e-9
"""Relative to the larger end of a segment: what sums of 500 products in float64 may lose."""


def plan(settings: Settings) -> list[Cell]:
    """A cell for each penalty and number of positive entries in y."""
    seeds = settings.seed_range({"quick": 20, "standard": 200, "paper": 200}[settings.scale])
    segments = {"quick": 400, "standard": 4000, "paper": 4000}[settings.scale]
    return [
        Cell(
            "kumar-convex",
            {"penalty": penalty, "positive": positive, "seeds": len(seeds), "segments": segments},
            seeds[0],
            cost=len(seeds) * segments * 2e-4,
        )
        for penalty in PENALTIES
        for positive in POSITIVE
    ]


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Convexity along segments, optimality of zero by its subdifferential, and the kink there, for all seeds."""
    parameters: Mapping[str, Any] = cell.parameters
    l1, l2 = PENALTIES[parameters["penalty"]]
    rows: dict[str, list[float]] = {name: [] for name in ("violations", "excess", "distance", "kink", "advantage")}
    for done, seed in enumerate(range(cell.seed, cell.seed + parameters["seeds"])):
        generator = torch.Generator().manual_seed(seed)
        data = torch.rand(1, SAMPLES, FEATURES, generator=generator, dtype=torch.float64) * 2 - 1
        response = -torch.rand(1, SAMPLES, generator=generator, dtype=torch.float64)
        response[:, : parameters["positive"]] *= -1
        problem = relu_regression(data, response, l1=l1, l2=l2)
        excess = _convexity_excess(problem, parameters["segments"], generator)
        rows["violations"].append(float((excess > ROUNDING).sum()))
        rows["excess"].append(float(excess.max()))
        rows["distance"].append(_distance_to_subdifferential_at_zero(problem))
        rows["kink"].append(_smallest_kink(problem, generator))
        rows["advantage"].append(_lowest_found(problem, generator))
        context.progress((done + 1) / parameters["seeds"])
    return {**rows, "profile": _profile(problem).tolist()}


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if y ≤ 0 shows no violation and zero is an optimal kink, and a positive y breaks the convexity.

    Convexity is tested along random segments: f at a random point between two ends must not exceed the chord by more
    than rounding. Zero is optimal if the distance from 0 to the subdifferential there is below rounding (a bounded
    least-squares problem, solved to the end) and a search along random directions finds nothing lower. It is a kink
    if along every direction tried the one-sided slopes do not cancel.

    - A seed with y ≤ 0 violates convexity, or zero is not optimal, or is no kink: *not reproduced*.
    - None does, and violations appear with positive entries in y in more than half of the seeds (95 % interval):
      *reproduced*.
    - None does, and positive entries bring no violation in any seed: *reproduced, explanation not supported*.
    - Otherwise: *inconclusive*.
    """
    paper = [r for r in records if r.parameters["positive"] == 0]
    control = [r for r in records if r.parameters["positive"] > 0]
    violated = sum(v > 0 for r in paper for v in r["violations"])
    count = sum(len(r["violations"]) for r in paper)
    convex = proportion_value("convex", "seeds without a violation, y ≤ 0", count - violated, count)
    distance = Value(
        "distance",
        "largest distance from 0 to ∂f(0), y ≤ 0",
        extremes.largest(extremes.largest(r["distance"]) for r in paper),
    )
    lower = Value(
        "lower",
        "lowest f - f(0) found by search, relative, y ≤ 0",
        extremes.smallest(extremes.smallest(r["advantage"]) for r in paper),
    )
    kink = Value(
        "kink",
        "smallest sum of one-sided slopes at 0, y ≤ 0",
        extremes.smallest(extremes.smallest(r["kink"]) for r in paper),
    )
    broken = {
        positive: _broken([r for r in control if r.parameters["positive"] == positive])
        for positive in sorted({r.parameters["positive"] for r in control})
    }
    optimal = float(distance.value or 0) <= ROUNDING and float(lower.value or 0) >= -ROUNDING
    at_kink = float(kink.value or 0) > ROUNDING
    if violated or not optimal or not at_kink:
        verdict = Verdict.NOT_REPRODUCED
    elif any(share.low is not None and share.low > 0.5 for share in broken.values()):
        verdict = Verdict.REPRODUCED
    elif all(share.value == 0 for share in broken.values()):
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED
    else:
        verdict = Verdict.INCONCLUSIVE
    most = extremes.largest(broken.values(), key=lambda share: float(share.value or 0))
    none = [r for r in paper if r.parameters["penalty"] == "none"]
    excess = median_value(
        "excess", "largest relative excess over a chord, y ≤ 0", [extremes.largest(r["excess"]) for r in paper]
    )
    return Judgement(
        verdict,
        f"With y ≤ 0, {count - violated} of {count} seeds show no violation of convexity, the distance from 0 to ∂f(0) "
        f"is at most {format_number(distance.value)}, and the one-sided slopes at 0 add to at least "
        f"{format_number(kink.value)}. With positive entries in y up to {100 * float(most.value or 0):.0f} % of the "
        "seeds violate it.",
        Headline(
            "convex, minimum at a kink",
            f"{count - violated} of {count} seeds convex; zero {'is' if optimal else 'is not'} optimal",
            f"positive y: {100 * float(most.value or 0):.0f} % not convex",
        ),
        (convex, excess, distance, lower, kink),
        tuple(broken.values()),
        decided_by=f"more segments than {records[0].parameters['segments']}, or more seeds than {most.count}"
        if verdict is Verdict.INCONCLUSIVE
        else None,
        notes=(
            "The minimum is ‖y‖², at β = 0: no term can be below yᵢ², and all attain it at once.",
            *(
                (
                    "Without a penalty zero is one minimiser among many: every β with Zβ ≤ 0 is one, and f is "
                    "differentiable at those with Zβ < 0. Either penalty makes the minimiser unique.",
                )
                if none
                else ()
            ),
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Profiles along one segment through zero, and the share of seeds that violate convexity."""
    tones = {"none": "a", "L2": "b", "L1": "c", "both": "ours"}
    place = np.linspace(-1, 1, 81).tolist()
    panels = []
    for positive, title in ((0, "y ≤ 0"), (max(r.parameters["positive"] for r in records), "y > 0")):
        series = tuple(
            Series(
                "line", f"penalty: {r.parameters['penalty']}", place, r["profile"], tone=tones[r.parameters["penalty"]]
            )
            for r in records
            if r.parameters["positive"] == positive
        )
        panels.append(Panel(title, Axis("position along one direction"), Axis("f(t d) / f(0)"), series))
    shares = []
    for penalty, tone in tones.items():
        mine = sorted(
            (r for r in records if r.parameters["penalty"] == penalty), key=lambda r: r.parameters["positive"]
        )
        values = [_broken([r]) for r in mine]
        shares.append(
            Series("line", f"penalty: {penalty}", [r.parameters["positive"] for r in mine],
                   [float(v.value or 0) for v in values], [v.low for v in values], [v.high for v in values], tone)
        )  # fmt: skip
    panels.append(
        Panel("convexity", Axis("positive entries in y"), Axis("share of seeds that violate it"), tuple(shares))
    )
    return [
        Figure(
            "Convex for a non-positive response",
            "Left: the function along a direction through zero, with its corner at the minimum when y ≤ 0 and a dent "
            "when y > 0. Right: share of seeds with a violated chord, with exact 95 % intervals.",
            tuple(panels),
        )
    ]


def _convexity_excess(problem: Regression, segments: int, generator: torch.Generator) -> Tensor:
    """How far f lies above the chord at a random point of each segment, relative to the chord; negative if below.

    Half of the segments are long; half are short ones that cross one sample's kink, where a failure would show.
    """
    ends = torch.rand(2, segments, FEATURES, generator=generator, dtype=torch.float64) * 2 - 1
    row = torch.randint(SAMPLES, (segments // 2,), generator=generator)
    normal = problem.data[0, row]
    near = ends[0, : segments // 2]
    # Shift to the hyperplane z·β = 0 and step off it to both sides.
    base = near - normal * ((near * normal).sum(-1) / normal.square().sum(-1)).unsqueeze(-1)
    half = torch.rand(segments // 2, 1, generator=generator, dtype=torch.float64) * 0.05
    ends[0, : segments // 2], ends[1, : segments // 2] = base - half * normal, base + half * normal
    weight = torch.rand(segments, generator=generator, dtype=torch.float64)
    middle = torch.lerp(ends[0], ends[1], weight.unsqueeze(-1))
    values = problem.value(torch.cat([ends[0], ends[1], middle]).unsqueeze(0))[0]
    first, second, between = values.reshape(3, segments)
    chord = torch.lerp(first, second, weight)
    excess: Tensor = (between - chord) / chord.abs().clamp(min=1)
    return excess


def _distance_to_subdifferential_at_zero(problem: Regression) -> float:
    """Min ‖-2 Σ yᵢ sᵢ zᵢ + λ₁v‖ over the choices sᵢ in [0, 1] and v in [-1, 1]^P that the two kinks leave.

    For y ≤ 0 the choice s = 0, v = 0 gives zero at once; a positive yᵢ gives zero too, since the ReLU hides the
    sample on one side, which is why stationarity is not optimality there.
    """
    data, response = problem.data[0].numpy(), problem.response[0].numpy()
    strength = float(problem.l1.max())
    columns = [-2 * response[:, None] * data]
    low, high = [np.zeros(SAMPLES)], [np.ones(SAMPLES)]
    if strength > 0:
        columns.append(strength * np.eye(FEATURES))
        low.append(-np.ones(FEATURES))
        high.append(np.ones(FEATURES))
    solution = optimize.lsq_linear(
        np.concatenate(columns).T, np.zeros(FEATURES), (np.concatenate(low), np.concatenate(high))
    )
    return float(np.sqrt(2 * solution.cost))


def _directions(generator: torch.Generator, count: int) -> Tensor:
    directions = torch.randn(1, count, FEATURES, generator=generator, dtype=torch.float64)
    unit: Tensor = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    return unit


def _smallest_kink(problem: Regression, generator: torch.Generator) -> float:
    """The smallest f'(0; d) + f'(0; -d) over 200 random directions d: zero if f is differentiable at 0.

    The one-sided slope is the limit of the gradient from inside the piece that d enters, so it is exact.
    """
    directions = _directions(generator, 200)
    tiny = 1e-12
    forward = (problem.subgradient(tiny * directions) * directions).sum(-1)
    backward = (problem.subgradient(-tiny * directions) * directions).sum(-1)
    return float((forward - backward).min())


def _lowest_found(problem: Regression, generator: torch.Generator) -> float:
    """The smallest (f(β) - f(0)) / f(0) over random directions and the negative subgradients there, many lengths."""
    directions = torch.cat(
        [_directions(generator, 100), -problem.subgradient(1e-9 * _directions(generator, 100))], dim=1
    )
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True).clamp(min=1e-300)
    lengths = torch.logspace(-4, 1, 11, dtype=torch.float64)
    points = (lengths[:, None, None] * directions[0]).reshape(1, -1, FEATURES)
    zero = problem.value(torch.zeros(1, 1, FEATURES, dtype=torch.float64))
    return float(((problem.value(points) - zero) / zero.clamp(min=1e-12)).min())


def _profile(problem: Regression) -> Tensor:
    """F along the sum of the samples, relative to f(0)."""
    direction = problem.data[0].sum(0)
    direction = 0.15 * direction / torch.linalg.vector_norm(direction)
    points = torch.linspace(-1, 1, 81, dtype=torch.float64)[:, None] * direction
    values = problem.value(points.unsqueeze(0))[0]
    return values / values[40]


def _broken(records: Sequence[Record]) -> Value:
    """Share of seeds in which some chord is violated."""
    violations = [v for r in records for v in r["violations"]]
    positive = records[0].parameters["positive"]
    return proportion_value(
        f"broken_{positive}", f"seeds that violate convexity, {positive} positive entries in y",
        sum(v > 0 for v in violations), len(violations),
    )  # fmt: skip
