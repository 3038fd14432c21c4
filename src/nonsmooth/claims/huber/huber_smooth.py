"""Claim `huber-smooth`: Huber is not L-smooth, so the edge-of-stability threshold does not describe it (§4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_parts
from nonsmooth.claims.framework.statistics import median_value
from nonsmooth.claims.huber.huber_data import ENTRIES, draw_regression, draw_start, interpolant
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Recording, Trace, loss
from nonsmooth.dynamics.thresholds import find_threshold, gradient_quotient, top_direction
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Absolute, Huber, Loss, Power, PseudoHuber, Regression

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
    edition=(
        "February 2024 (arXiv 2401.08426, early version). Versions from November 2024 on turn the sentence round: from "
        'the threshold being "inapplicable" to the edge of stability "occurring in a broader class of functions"'
    ),
)

LOSSES: Mapping[str, Loss] = {
    "huber": Huber(),
    "squared": Power(2.0),
    "pseudo-huber": PseudoHuber(),
    "absolute": Absolute(),
}
"""All but the last have curvature 1 at zero, hence the same L = σ_max(Z)²/N."""

TOLERANCE = 0.01
"""How far a measured threshold may lie from 2/L, as a share of it."""
QUOTIENT_TOLERANCE = 1e-6
"""How far the largest gradient quotient found may lie below L, as a share of it; above, only rounding is allowed."""
ROUNDING = 1e-9
NEAR_STEPS, FAR_STEPS = 40, 1000
CONVERGED = 1e-6
"""A far run has converged if its loss, over its last tenth, is below this share of the first loss."""


def plan(settings: Settings) -> list[Cell]:
    """For both kinds of data: the constant L, the threshold near a minimiser, and the threshold from afar."""
    seeds = settings.seed_range({"quick": 8, "standard": 32, "paper": 32}[settings.scale])
    starts = ("uniform",) if settings.scale == "quick" else ("uniform", "normal", "zero")
    cells = []
    for entries in ENTRIES:
        shared: dict[str, Any] = {"entries": entries, "seeds": len(seeds)}
        for name in ("huber", "absolute"):
            parameters = {"part": "constant", "loss": name, **shared}
            cells.append(Cell("huber-smooth", parameters, seeds[0], cost=0.1 * len(seeds)))
        for name in LOSSES:
            parameters = {"part": "near", "loss": name, **shared}
            cells.append(Cell("huber-smooth", parameters, seeds[0], cost=0.05 * len(seeds)))
        # The squared loss is there to test the instrument, which does not depend on the data.
        for name in ("huber", "squared", "absolute") if entries == "uniform" else ("huber", "absolute"):
            for start in starts:
                parameters = {"part": "far", "loss": name, "start": start, **shared}
                cells.append(
                    Cell("huber-smooth", parameters, seeds[0], cost=(0.06 if name == "absolute" else 0.35) * len(seeds))
                )
    for name in ("huber", "squared", "absolute"):
        parameters = {"part": "sweep", "loss": name, "entries": "uniform", "seeds": 1}
        cells.append(Cell("huber-smooth", parameters, seeds[0], cost=0.5))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """One part of the experiment for one loss, on all seeds at once."""
    parameters: Mapping[str, Any] = cell.parameters
    chosen = LOSSES[parameters["loss"]]
    problem = draw_regression(parameters["entries"], cell.seed, parameters["seeds"], chosen)
    smoothness = draw_regression(parameters["entries"], cell.seed, parameters["seeds"]).gradient_lipschitz
    if smoothness is None:
        raise RuntimeError("Huber regression has lost its gradient constant")
    if parameters["part"] == "constant":
        return _constant(problem, smoothness, cell.seed)
    if parameters["part"] == "near":
        return _near(problem, smoothness)
    start = draw_start(parameters.get("start", "uniform"), cell.seed, parameters["seeds"])
    if parameters["part"] == "far":
        return _far(problem, smoothness, start)
    return _sweep(problem, smoothness, start)


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if the gradient of the Huber regression has no Lipschitz constant and 2/L is not its threshold.

    Two questions are asked of every seed. *Is the function L-smooth?* L = σ_max(Z)²/N is computed from Z alone; no
    pair of points may have a gradient quotient above it (rounding apart), and the largest quotient found, by an
    iteration that does not know Z, must come within 1e-6 of it. *Is the threshold 2/L?* The step size at which a
    run's behaviour changes is found by bisection, near a minimiser and from random starts; the interval of its ratio
    to 2/L must lie within 1 % of 1.

    - The instrument must pass first: on the squared loss the ratio must lie within 1 % of 1, and on the absolute loss
      the threshold must shrink with the distance of the start (to less than a tenth over the distances tried).
      Otherwise: *inconclusive*.
    - Both ratios lie within 1 % of 1: *not reproduced*, whatever L: the threshold does describe it.
    - A ratio lies, interval and all, farther than 1 % from 1: *reproduced* if the function is not L-smooth with that
      L, and *reproduced, explanation not supported* if it is.
    - Otherwise: *inconclusive*.
    """
    quotient = _quotient_value(find_parts(records, "constant", loss="huber"))
    smooth = float(quotient.low or 0) >= 1 - QUOTIENT_TOLERANCE and float(quotient.high or np.inf) <= 1 + ROUNDING
    near, far = (_ratio_value(find_parts(records, part, loss="huber"), part, "Huber") for part in ("near", "far"))
    known = [_ratio_value(find_parts(records, part, loss="squared"), part, "squared loss") for part in ("near", "far")]
    shrinking = _shrinking_value(find_parts(records, "near", loss="absolute"))
    instrument = all(_place(value) == "within" for value in known) and 0 < float(shrinking.high or 0) < 0.1
    places = {_place(near), _place(far)}
    if not instrument:
        verdict = Verdict.INCONCLUSIVE
    elif places == {"within"}:
        verdict = Verdict.NOT_REPRODUCED
    elif "outside" in places:
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED if smooth else Verdict.REPRODUCED
    else:
        verdict = Verdict.INCONCLUSIVE
    largest = "equals" if smooth else "does not equal"
    never = _never_value(find_parts(records, "far", loss="absolute"))
    above = [_above_value(record) for record in find_parts(records, "sweep") if record.parameters["loss"] != "absolute"]
    return Judgement(
        verdict,
        f"The largest gradient quotient found {largest} σ_max(Z)²/N ({quotient}, in units of it). The step size at "
        f"which the behaviour changes is {near} of 2/L near a minimiser and {far} of 2/L from random starts.",
        Headline(
            "not L-smooth; 2/L does not apply",
            f"{'L-smooth' if smooth else 'not L-smooth'}; threshold is {format_number(near.value)}·2/L near, "
            f"{format_number(far.value)}·2/L from afar",
            f"squared: {format_number(known[0].value)}·2/L; absolute: falls to {format_number(shrinking.value)} of it",
        ),
        (quotient, near, far, _constants_value(records)),
        (*known, shrinking, never, _growth_value(find_parts(records, "constant", loss="absolute")), *above),
        predicted=(Value("threshold", "threshold of a function that is L-smooth, in units of 2/L", 1.0),),
        decided_by=(
            "more steps per run and more seeds, until the squared loss shows its known threshold and the intervals lie "
            "on one side of 1 %"
            if verdict is Verdict.INCONCLUSIVE
            else None
        ),
        notes=(
            "L-smooth means a Lipschitz gradient (eq. 5); a second derivative is not asked for. Huber's slope, the "
            "residual clipped to [-δ, δ], is 1-Lipschitz.",
            "What the threshold separates is convergence to a minimiser from its absence. What a run does above it is "
            "another matter, on which losses with the same L differ.",
            f"A run from afar that needs more than {FAR_STEPS:,} steps counts as not converging, which puts measured "
            f"thresholds up to {-np.log(CONVERGED) / (4 * FAR_STEPS):.1%} below the true ones.",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Where the threshold lies, against the distance of the start; what a run reaches, against the step size."""
    tones = {"huber": "ours", "squared": "a", "pseudo-huber": "b", "absolute": "control"}
    near = [
        Series("line", name, record["distance"], np.median(record["ratio"], axis=0).tolist(), tone=tone)
        for name, tone in tones.items()
        for record in find_parts(records, "near", loss=name, entries="uniform")
    ]
    sweep = []
    for name, tone in tones.items():
        for record in find_parts(records, "sweep", loss=name):
            reached = [extremes.largest(value, 1e-16) if value < 1e8 else None for value in record["reached"]]
            sweep.append(Series("line", name, record["ratio"], reached, tone=tone))
    quotients = [
        Series("line", "largest quotient found", record["distance"], np.median(record["quotient"], axis=0).tolist())
        for record in find_parts(records, "constant", loss="huber", entries="uniform")
    ]
    limit = Series("horizontal", "2/L", y=(1.0,), tone="theory", dashed=True)
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
                    Axis("distance of the start", log=True),
                    Axis("threshold / (2/L)", log=True),
                    (*near, limit),
                ),
                Panel(
                    "loss reached from a random start",
                    Axis("α / (2/L)", log=True),
                    Axis("late loss / first loss", log=True),
                    (*sweep, Series("vertical", "2/L", x=(1.0,), tone="theory", dashed=True)),
                ),
                Panel(
                    "Lipschitz quotient of ∇f, Huber",
                    Axis("distance from the minimiser", log=True),
                    Axis("quotient / L"),
                    (*quotients, Series("horizontal", "L", y=(1.0,), tone="theory", dashed=True)),
                ),
            ),
        )
    ]


def _constant(problem: Regression, smoothness: Tensor, seed: int) -> Mapping[str, Any]:
    """The largest gradient quotients found, in units of L: rows are seeds, columns distances from the minimiser.

    The search is a power iteration on gradient differences, d ← ∇f(x+d) - ∇f(x) scaled to a fixed length, which
    knows nothing of Z. The quotients of random pairs, and of steps of other lengths, enter the maximum too.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = (1e-4, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    shape = (problem.instances, len(distances), problem.features)
    radius = torch.tensor(distances, dtype=torch.float64).view(1, -1, 1)
    centre = interpolant(problem) + radius * _unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    direction = _unit(torch.randn(shape, generator=generator, dtype=torch.float64))
    length, largest = 1e-4, gradient_quotient(problem, centre, centre + radius * direction)
    for _ in range(400):
        other = centre + length * direction
        largest = torch.maximum(largest, gradient_quotient(problem, centre, other))
        direction = _unit(problem.subgradient(other) - problem.subgradient(centre), fallback=direction)
    # Along the direction found, pairs of every length across the minimiser: none may exceed L, however close.
    top = direction[:, :1]
    lengths = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 100.0], dtype=torch.float64).view(1, -1, 1)
    across = gradient_quotient(
        problem, interpolant(problem) - lengths / 2 * top, interpolant(problem) + lengths / 2 * top
    )
    return {
        "smoothness": smoothness[:, 0].tolist(),
        "distance": list(distances),
        "quotient": (largest / smoothness).tolist(),
        "length": lengths.flatten().tolist(),
        "across": (across / smoothness).tolist(),
    }


def _near(problem: Regression, smoothness: Tensor) -> Mapping[str, Any]:
    """Thresholds in units of 2/L, for starts off the minimiser along the top direction: rows are seeds."""
    distances = (1e-4, 1e-3, 1e-2, 3e-2)
    lengths = torch.tensor(distances, dtype=torch.float64).view(1, -1, 1)
    start = interpolant(problem) + lengths * top_direction(problem)
    record: dict[str, Recording] = {"first": Trace(loss, [0]), "late": Largest(loss, NEAR_STEPS // 2)}

    def stable(step_size: Tensor) -> Tensor:
        run = iterate(problem, start, Constant(step_size), NEAR_STEPS, record)
        return run["late"] < run["first"][0]

    edge = (2 / smoothness).expand(-1, len(distances))
    critical = find_threshold(stable, 1e-6 * edge, 100 * edge, tolerance=1e-5).estimate
    return {"distance": list(distances), "ratio": (critical / edge).tolist()}


def _far(problem: Regression, smoothness: Tensor, start: Tensor) -> Mapping[str, Any]:
    """Thresholds in units of 2/L between convergence and its absence, from `start`: one per seed."""
    record: dict[str, Recording] = {"first": Trace(loss, [0]), "late": Largest(loss, FAR_STEPS - FAR_STEPS // 10)}

    def stable(step_size: Tensor) -> Tensor:
        run = iterate(problem, start, Constant(step_size), FAR_STEPS, record)
        return run["late"] < CONVERGED * run["first"][0]

    edge = 2 / smoothness
    critical = find_threshold(stable, 0.5 * edge, 4 * edge, tolerance=4e-3).estimate
    return {"ratio": (critical / edge)[:, 0].tolist()}


def _sweep(problem: Regression, smoothness: Tensor, start: Tensor) -> Mapping[str, Any]:
    """What one seed's run reaches at each step size: the largest loss over its last tenth, relative to the first."""
    ratios = torch.cat([torch.logspace(-0.5, 0.5, 21, dtype=torch.float64), torch.tensor([0.99, 1.01, 8.0, 30.0])])
    ratios = ratios.sort().values
    record: dict[str, Recording] = {"first": Trace(loss, [0]), "late": Largest(loss, FAR_STEPS - FAR_STEPS // 10)}
    starts = start.expand(-1, len(ratios), -1).contiguous()
    run = iterate(problem, starts, Constant(2 / smoothness * ratios), FAR_STEPS, record)
    reached = (run["late"] / run["first"][0])[0].nan_to_num(nan=torch.inf)
    return {"ratio": ratios.tolist(), "reached": reached.tolist()}


def _unit(vectors: Tensor, fallback: Tensor | None = None) -> Tensor:
    """Vectors of length 1; `fallback` where a vector is zero."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length if fallback is None else torch.where(length > 0, vectors / length, fallback)


def _quotient_value(records: Sequence[Record]) -> Value:
    """Over all seeds: the median and the range of each seed's largest quotient, in units of L."""
    largest = [
        extremes.largest(*row, *across) for r in records for row, across in zip(r["quotient"], r["across"], strict=True)
    ]
    label = "largest gradient quotient found / L (range over seeds)"
    return Value(
        "quotient",
        label,
        float(np.median(largest)),
        extremes.smallest(largest),
        extremes.largest(largest),
        len(largest),
    )


def _ratio_value(records: Sequence[Record], part: str, label: str) -> Value:
    """Each seed's threshold in units of 2/L: near, of all its starts the one farthest from 1."""
    samples = []
    for record in records:
        for row in record["ratio"]:
            starts = row if isinstance(row, list) else [row]
            samples.append(extremes.largest(starts, key=lambda ratio: abs(ratio - 1)))
    where = "near a minimiser" if part == "near" else "from random starts"
    name = f"{label.split(maxsplit=1)[0].lower()}_{part}"
    return median_value(name, f"threshold / (2/L), {label}, {where}", samples)


def _shrinking_value(records: Sequence[Record]) -> Value:
    """Threshold from the nearest start over that from the farthest, absolute loss."""
    samples = [row[0] / row[-1] for record in records for row in record["ratio"]]
    span = records[0]["distance"][-1] / records[0]["distance"][0]
    label = f"absolute loss: threshold from a start {format_number(span)} times closer, relative"
    return median_value("absolute_shrinking", label, samples)


def _never_value(records: Sequence[Record]) -> Value:
    """In how many far runs of the absolute loss no step size tried converged."""
    ratios = [ratio for record in records for ratio in record["ratio"]]
    label = "absolute loss from random starts: runs for which no step size tried converged"
    return Value("absolute_never", label, sum(ratio == 0 for ratio in ratios), count=len(ratios))


def _growth_value(records: Sequence[Record]) -> Value:
    """How much the quotient across the kink grows while the pair closes in, absolute loss."""
    growth = [row[0] / row[-1] for record in records for row in record["across"]]
    span = records[0]["length"][-1] / records[0]["length"][0]
    label = f"absolute loss: gradient quotient across the minimiser, pair {format_number(span)} times closer, relative"
    return median_value("absolute_growth", label, growth)


def _above_value(record: Record) -> Value:
    """The largest late loss over all step sizes above the threshold that were tried, relative to the first."""
    above = [reached for ratio, reached in zip(record["ratio"], record["reached"], strict=True) if ratio > 1]
    name = str(record.parameters["loss"])
    last = format_number(extremes.largest(record["ratio"]))
    label = f"{name}: late loss / first loss, largest over α from 2/L to {last}·2/L"
    return Value(f"{name}_above", label, extremes.largest(above))


def _constants_value(records: Sequence[Record]) -> Value:
    """2/L itself on the paper's data, U[-1, 1]."""
    cells = find_parts(records, "constant", loss="huber", entries="uniform")
    return median_value("edge", "2/L for data from U[-1, 1]", [2 / value for r in cells for value in r["smoothness"]])


def _place(value: Value) -> str:
    """Where the interval of a ratio lies: "within" 1 % of 1, "outside" it, or "across" its ends."""
    low = float(value.value or 0) if value.low is None else value.low
    high = float(value.value or 0) if value.high is None else value.high
    if low >= 1 - TOLERANCE and high <= 1 + TOLERANCE:
        return "within"
    return "outside" if high < 1 - TOLERANCE or low > 1 + TOLERANCE else "across"
