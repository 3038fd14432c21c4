"""Claim `rate`: O(1/ε) steps for GD on L-smooth convex functions, O(1/ε²) for NGDM on Lipschitz ones (§2, eq. 5-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.statistics import median_value, slope_value
from nonsmooth.dynamics import Constant, Diminishing, iterate
from nonsmooth.dynamics.recording import FirstStep, State, Trace, loss
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import LargestCoordinate, Problem, Regression, l1_norm

CLAIM = Claim(
    id="rate",
    title="1/ε steps on smooth convex functions, 1/ε² on non-smooth ones",
    where="§2, equations (5) and (6)",
    statement=(
        "To come within ε of the minimum, GD on an L-smooth convex function needs O(1/ε) steps and NGDM on a Lipschitz "
        "convex function that is not differentiable needs O(1/ε²): assuming smoothness overestimates its speed."
    ),
    explanation="The function is not differentiable.",
    control=(
        "A C¹ twin of the worst non-smooth function under the same steps: if the kink were the reason, it would need "
        "fewer steps by an order in ε. Beside them, typical problems of both kinds and two step size rules."
    ),
    paper=(
        Value("smooth", "exponent of 1/ε, L-smooth", 1),
        Value("nonsmooth", "exponent of 1/ε, Lipschitz", 2),
    ),
)

WORST = {"smooth worst case": 1.0, "non-smooth worst case": 2.0}
PREFIX = "exponent, typical "
TOLERANCE = 0.1
TWIN_WIDTH = 0.1
"""Half-width of the twin's parabola as a share of ε: well inside the region that has to be reached."""


def plan(settings: Settings) -> list[Cell]:
    """The two worst cases and the twin; the lower bound for every method; typical problems over seeds."""
    smallest = {"quick": 5e-4, "standard": 2e-4, "paper": 1e-4}[settings.scale]
    accuracies = tuple(float(e) for e in np.geomspace(0.5, smallest, 13))
    line = 3e-7 / smallest**2 / 4 * 3
    cells = [
        Cell("rate", {"family": family, "accuracies": accuracies}, cost=line if family != "smooth worst case" else 0.01)
        for family in (*WORST, "smooth twin")
    ]
    sizes = (25, 100, 400, 1600)
    cells.append(Cell("rate", {"family": "every subgradient method", "sizes": sizes}, cost=0.6))
    seeds = settings.seed_range({"quick": 16, "standard": 64, "paper": 64}[settings.scale])
    steps = {"quick": 30_000, "standard": 300_000, "paper": 300_000}[settings.scale]
    for family, cost in (
        ("typical smooth", 2.0),
        ("typical sharp, tuned", 1.0),
        ("typical sharp, 1/√t", steps * 1.5e-4),
    ):
        parameters: dict[str, Any] = {"family": family, "seeds": len(seeds)}
        if family.endswith("1/√t"):
            parameters["steps"] = steps
        cells.append(Cell("rate", parameters, seeds[0], cost=cost))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Steps to reach each accuracy, on one family of problems."""
    parameters: Mapping[str, Any] = cell.parameters
    family = parameters["family"]
    if family == "every subgradient method":
        return _lower_bound(parameters["sizes"])
    if family.startswith("typical"):
        return _typical(family, cell.seed, parameters["seeds"], parameters.get("steps", 0), context)
    steps = []
    for accuracy in parameters["accuracies"]:
        if family == "smooth worst case":
            steps.append(_steps_on_line(slope=2 * accuracy, width=2 * accuracy, step_size=1.0, accuracy=accuracy))
        else:
            width = TWIN_WIDTH * accuracy if family == "smooth twin" else 0.0
            steps.append(_steps_on_line(slope=2 * accuracy, width=width, step_size=accuracy, accuracy=accuracy))
        context.progress(len(steps) / len(parameters["accuracies"]))
    return {"accuracy": list(parameters["accuracies"]), "steps": steps}


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if the worst cases have the two exponents and the non-smooth one owes its exponent to the kink.

    The exponent is the slope of log(steps) on log(1/ε) over three decades of ε, with its 95 % interval.

    - An exponent of a worst case lies, interval and all, farther than 0.1 from 1 (smooth) or 2 (non-smooth): *not
      reproduced*. Part of its interval lies farther: *inconclusive*.
    - Both lie within 0.1, and the C¹ twin of the non-smooth worst case, under the same steps, has an exponent that
      lies below that of the worst case with disjoint intervals: *reproduced*.
    - Both lie within 0.1, and the twin's exponent lies within 0.1 of 2 as well: *reproduced, explanation not
      supported*.
    - Otherwise: *inconclusive*.
    """
    families = {record.parameters["family"]: record for record in records}
    exponents = {family: _exponent(families[family]) for family in (*WORST, "smooth twin", "every subgradient method")}
    twin, worst = exponents["smooth twin"], exponents["non-smooth worst case"]
    far = [_misses(exponents[family], target) for family, target in WORST.items()]
    if "all" in far:
        verdict = Verdict.NOT_REPRODUCED
    elif "part" in far:
        verdict = Verdict.INCONCLUSIVE
    elif _high(twin) < _low(worst):
        verdict = Verdict.REPRODUCED
    elif _misses(twin, 2.0) == "none":
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED
    else:
        verdict = Verdict.INCONCLUSIVE
    typical = [_typical_exponent(record) for family, record in families.items() if family.startswith("typical")]
    smooth, nonsmooth = exponents["smooth worst case"], worst
    return Judgement(
        verdict,
        f"The exponent of 1/ε is {smooth} in the smooth worst case and {nonsmooth} in the non-smooth one. A C¹ twin of "
        f"the latter, with its corner rounded, has {twin} under the same steps.",
        Headline(
            "1 and 2",
            f"{format_number(smooth.value)} and {format_number(nonsmooth.value)}",
            f"C¹ twin, same steps: {format_number(twin.value)}",
        ),
        (smooth, nonsmooth, exponents["every subgradient method"]),
        (twin, *typical),
        predicted=(
            Value("smooth_constant", "steps · ε in theory, smooth worst case", 0.25),
            Value("nonsmooth_constant", "steps · ε² in theory, non-smooth worst case", 0.25),
        ),
        decided_by="accuracies over more than three decades" if verdict is Verdict.INCONCLUSIVE else None,
        notes=(
            "Both exponents belong to a worst function for each ε. On the typical problems the steps grow with 1/ε to "
            f"the power {', '.join(f'{format_number(v.value)} ({v.label.removeprefix(PREFIX)})' for v in typical)}.",
            "What smoothness buys is the larger step: 1/L for every ε, where the Lipschitz class needs steps of ε/G².",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Steps against 1/ε: worst cases with their theoretical lines, and typical problems."""
    families = {record.parameters["family"]: record for record in records}
    tones = {"smooth worst case": "a", "non-smooth worst case": "ours", "smooth twin": "control",
             "every subgradient method": "c"}  # fmt: skip
    worst = []
    for family, tone in tones.items():
        accuracy, steps = families[family]["accuracy"], families[family]["steps"]
        worst.append(Series("points", family, [1 / e for e in accuracy], steps, tone=tone))
    accuracy = families["non-smooth worst case"]["accuracy"]
    for power, name in ((1, "1/(4ε)"), (2, "1/(4ε²)")):
        inverse = [1 / e for e in accuracy]
        worst.append(Series("line", name, inverse, [x**power / 4 for x in inverse], tone="theory", dashed=power == 1))
    typical = []
    for (family, record), tone in zip(
        ((f, r) for f, r in families.items() if f.startswith("typical")), ("a", "b", "c"), strict=True
    ):
        x = [1 / e for e in record["accuracy"]]
        median = np.median(np.asarray(record["steps"], dtype=float), axis=0)
        typical.append(Series("line", family.removeprefix("typical "), x, [max(m, 1) for m in median], tone=tone))
    x_axis, y_axis = Axis("1/ε", log=True), Axis("steps to come within ε", log=True)
    return [
        Figure(
            "Steps to reach an accuracy",
            "Left: the worst function of each class for each ε, with the theoretical lines; the C¹ twin under the same "
            "steps as the non-smooth worst case. Right: typical problems (medians over seeds; ε relative to the first "
            "gap). The slope on these axes is the exponent.",
            (Panel("worst cases", x_axis, y_axis, tuple(worst)), Panel("typical", x_axis, y_axis, tuple(typical))),
        )
    ]


def _steps_on_line(*, slope: float, width: float, step_size: float, accuracy: float) -> int:
    """Steps of the recursion on `problems.SlopedLine` from x = 1 until f ≤ ε.

    Plain floats: a tensor of one element would cost a hundred times as much, and there are millions of steps.
    """
    point, steps = 1.0, 0
    while True:
        distance = abs(point)
        value = slope * (distance - width / 2 if distance >= width else distance * distance / (2 * width))
        if value <= accuracy:
            return steps
        ramp = (1.0 if point > 0 else -1.0) if distance >= width else point / width
        point -= step_size * slope * ramp
        steps += 1


def _lower_bound(sizes: Sequence[int]) -> Mapping[str, Any]:
    """Steps to a gap of 1/(2√n) on `LargestCoordinate`, by the best of several constant step sizes."""
    accuracies, steps = [], []
    for size in sizes:
        problem = LargestCoordinate(size)
        accuracy = 0.5 * size**-0.5
        # Just below the bound, or rounding would decide whether the gap is reached at the n-th step.
        target = _gap_reached(problem, accuracy * (1 - 1e-9))
        alphas = torch.tensor([[0.5, 1.0, 2.0]], dtype=torch.float64) * size**-0.5
        start = torch.zeros(1, alphas.shape[1], size, dtype=torch.float64)
        first = iterate(problem, start, Constant(alphas), 4 * size, {"first": FirstStep(target)})["first"][0]
        reached = [int(step) for step in first if step >= 0]
        accuracies.append(accuracy)
        steps.append(float(extremes.smallest(reached)) if reached else float("inf"))
    return {"accuracy": accuracies, "steps": steps}


def _gap_reached(problem: Problem, accuracy: float) -> Any:
    minimum = problem.minimum
    return lambda state: state.evaluation.value - minimum < accuracy


def _typical(family: str, first_seed: int, count: int, steps: int, context: Context) -> Mapping[str, Any]:
    """Steps until the best gap so far is ε times the first gap; row for each seed, column for each ε."""
    accuracies = [float(e) for e in np.geomspace(0.5, 5e-4, 13)]
    generators = [torch.Generator().manual_seed(seed) for seed in range(first_seed, first_seed + count)]
    if family == "typical smooth":
        data = torch.stack([torch.rand(20, 50, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])
        response = torch.stack([torch.rand(20, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])
        problem = Regression(data, response)
        curvature = problem.gradient_lipschitz
        start = torch.zeros(count, 1, 50, dtype=torch.float64)
        step_size = Constant(1 / curvature) if curvature is not None else Constant(1.0)
        best = iterate(problem, start, step_size, 20_000, {"loss": Trace(loss, range(20_001))})["loss"][..., 0]
        return _first_steps(best.numpy(), accuracies)
    features = 100
    norm = l1_norm(features, 1.0)
    start = torch.stack([torch.rand(1, features, generator=g, dtype=torch.float64) * 2 - 1 for g in generators])
    if family.endswith("1/√t"):
        distance = torch.linalg.vector_norm(start, dim=-1)
        schedule = Diminishing(distance / features**0.5, 0.5)
        run = iterate(norm, start, schedule, steps, {"loss": Trace(loss, range(steps + 1))}, progress=context.progress)
        return _first_steps(run["loss"][..., 0].numpy(), accuracies)
    first_gap = norm.value(start)
    targets = first_gap * torch.tensor([accuracies], dtype=torch.float64)

    def reached(state: State) -> torch.Tensor:
        return state.evaluation.value <= targets

    longest = int(features / float(targets.min()) * 1.5) + 2
    variants = start.expand(-1, len(accuracies), -1).contiguous()
    # G² = P: the step size that the bound R²/(2αk) + αG²/2 asks for at accuracy ε.
    run = iterate(norm, variants, Constant(targets / features), longest, {"first": FirstStep(reached)}, block=count)
    return {"accuracy": accuracies, "steps": [[_or_infinity(int(s)) for s in row] for row in run["first"]]}


def _first_steps(values: np.ndarray, accuracies: Sequence[float]) -> Mapping[str, Any]:
    """From f - f* at each step, shape (steps, seeds), with f* = 0: when its running minimum falls to ε · f₀."""
    best = np.minimum.accumulate(values, axis=0) / values[:1]
    rows = []
    for seed in range(best.shape[1]):
        # `best` never rises, so its negative is sorted.
        first = np.searchsorted(-best[:, seed], [-e for e in accuracies])
        rows.append([float(step) if step < len(best) else float("inf") for step in first])
    return {"accuracy": list(accuracies), "steps": rows}


def _or_infinity(step: int) -> float:
    return float(step) if step >= 0 else float("inf")


def _exponent(record: Record) -> Value:
    family = record.parameters["family"]
    # The first accuracies take a step or two, where counting in whole steps hides the exponent.
    pairs = [(e, k) for e, k in zip(record["accuracy"], record["steps"], strict=True) if k >= 3 and np.isfinite(k)]
    name = family.replace(" ", "_").replace("-", "")
    return slope_value(name, f"exponent, {family}", [-np.log(e) for e, _ in pairs], [np.log(k) for _, k in pairs])


def _typical_exponent(record: Record) -> Value:
    """Median over seeds of the exponent over the second half of the accuracies, where the rate shows."""
    half = len(record["accuracy"]) // 2
    inverse = -np.log(np.asarray(record["accuracy"][half:]))
    slopes = []
    for row in record["steps"]:
        steps = np.asarray(row[half:])
        known = np.isfinite(steps)
        if known.sum() >= 3:
            slopes.append(float(np.polyfit(inverse[known], np.log(np.maximum(steps[known], 1)), 1)[0]))
    family = record.parameters["family"]
    name = family.replace(" ", "_").replace(",", "").replace("/", "").replace("√", "root_")
    label = PREFIX + family.removeprefix("typical ")
    return median_value(name, label, slopes) if slopes else Value(name, label, None)


def _low(value: Value) -> float:
    return float(value.value or 0) if value.low is None else value.low


def _high(value: Value) -> float:
    return float(value.value or 0) if value.high is None else value.high


def _misses(value: Value, target: float) -> str:
    """How much of the interval lies farther than the tolerance from the target: "none", "part" or "all"."""
    low, high = _low(value), _high(value)
    if low >= target - TOLERANCE and high <= target + TOLERANCE:
        return "none"
    return "all" if low > target + TOLERANCE or high < target - TOLERANCE else "part"
