"""Claim `unstable-convergence`: convex functions with bounded subgradients never diverge (§4, Proposition 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_part, find_parts
from nonsmooth.claims.framework.statistics import proportion_value
from nonsmooth.claims.huber.huber_data import draw_entries, draw_regression, draw_start
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Recording, Smallest, Trace, loss
from nonsmooth.dynamics.thresholds import diverged
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Absolute, Huber, Loss, Power, Problem, PseudoHuber, Regression, Relu, l1_norm
from nonsmooth.problems import SupportFunction as Support

CLAIM = Claim(
    id="unstable-convergence",
    title="Bounded subgradients keep constant steps from diverging",
    where="§4, Proposition 4.1",
    statement=(
        "All convex non-smooth loss functions with bounded subgradients show unstable convergence: under any constant "
        "step size α they do not diverge, and lim f(x_k) - f* ≤ αL²."
    ),
    explanation=(
        "Subgradient methods with constant steps converge to within αL² of the minimum (Boyd et al. 2003), and the "
        "functions are non-smooth."
    ),
    control=(
        "Functions that lack one part of the condition each: unbounded gradients (squared and quartic loss), no "
        "convexity (a tilted sine), and smoothness instead of a kink (pseudo-Huber), which the proposition leaves out. "
        "The bound is tested on the last iterate, which it is printed for, and on the best one, which its source has."
    ),
    paper=(Value("constant", "lim f(x_k) - f*, in units of αL²", "at most 1"),),
    edition=(
        "February 2024 (arXiv 2401.08426, early version). Versions from November 2024 on turn what follows from it "
        'round: from the edge of stability being "inapplicable" to its "occurring in a broader class of functions"'
    ),
)

LOSSES: Mapping[str, Loss] = {
    "huber": Huber(),
    "absolute regression": Absolute(),
    "pseudo-huber": PseudoHuber(),
    "squared": Power(2.0),
    "quartic": Power(4.0),
}
L1_FEATURES = 20
STEP_SIZES: Mapping[str, tuple[float, ...]] = {
    "absolute value": (0.01, 0.1, 1.0, 10.0),
    "l1 norm": (0.03, 0.1, 1.0, 10.0),
    "l1 norm, in phase": (0.03, 0.1, 1.0, 10.0),
    "relu": (1.0, 3.0, 10.0, 30.0),
    **dict.fromkeys(LOSSES, (1.0, 3.0, 10.0, 30.0)),
}
KINKED = ("absolute value", "l1 norm", "l1 norm, in phase", "relu", "huber", "absolute regression")
"""Convex, with bounded subgradients, and "non-smooth" in the paper's sense, which counts Huber."""
UNBOUNDED = ("squared", "quartic")
TILTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
ROUNDING = 1e-9


def plan(settings: Settings) -> list[Cell]:
    """The problems; the worst case in the plane; a search among random polytopes; a function that is not convex."""
    seeds = settings.seed_range({"quick": 8, "standard": 64, "paper": 64}[settings.scale])
    steps = {"quick": 2_000, "standard": 20_000, "paper": 20_000}[settings.scale]
    polytopes = {"quick": 128, "standard": 4_096, "paper": 4_096}[settings.scale]
    cells = []
    for name, alphas in STEP_SIZES.items():
        parameters: dict[str, Any] = {"part": "problem", "problem": name, "alphas": alphas, "steps": steps}
        parameters["seeds"] = len(seeds)
        cells.append(Cell("unstable-convergence", parameters, seeds[0], cost=5e-5 * len(seeds) * steps))
    cells.append(Cell("unstable-convergence", {"part": "plane", "tilts": TILTS, "steps": 4_000}, cost=0.5))
    for features in (1, 2, 3, 5):
        parameters = {"part": "search", "features": features, "polytopes": polytopes, "starts": 16, "steps": 600}
        cells.append(Cell("unstable-convergence", parameters, seeds[0], cost=6e-3 * polytopes))
    cells.append(Cell("unstable-convergence", {"part": "not convex", "steps": 10_000}, cost=0.1))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Gaps to the minimum, in units of αL²."""
    parameters: Mapping[str, Any] = cell.parameters
    part = parameters["part"]
    if part == "plane":
        return _plane(parameters["tilts"], parameters["steps"])
    if part == "search":
        return _search(parameters, cell.seed)
    if part == "not convex":
        return _tilted_sine(parameters["steps"])
    problem, start = _draw(parameters["problem"], cell.seed, parameters["seeds"])
    return _gaps(problem, start, parameters["alphas"], parameters["steps"])


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if nothing diverges, the printed bound holds, and what is not covered does diverge.

    A run *diverges* if the largest loss of its last tenth is not finite or above ten times that of its first hundredth.
    The constant of a run is the largest gap f(x_k) - f* of its second half, in units of αL², with L the Euclidean
    Lipschitz constant of eq. (6) or an upper bound of it; of the last iterate the proposition says that it is at most
    1. For the best iterate the classical bound is f_best - f* ≤ R²/(2αk) + αL²/2.

    - A convex run with bounded subgradients diverges, or the best iterate exceeds its classical bound: *not
      reproduced*.
    - Neither happens, and no function with unbounded gradients diverges under the same steps (so that the experiment
      could not have shown it): *inconclusive*.
    - The last iterate's constant exceeds 1 somewhere: *reproduced with a correction*.
    - It does not, and the smooth function with bounded gradients diverges: *reproduced*; it does not either:
      *reproduced, explanation not supported*.
    """
    convex = _diverged_value("diverged", "convex runs with bounded subgradients that diverge", records, KINKED)
    smooth = _diverged_value("diverged_smooth", "smooth (pseudo-Huber) runs that diverge", records, ("pseudo-huber",))
    unbounded = _diverged_value("diverged_unbounded", "squared and quartic runs that diverge", records, UNBOUNDED)
    sine = find_part(records, "not convex")
    nonconvex = _share("diverged_nonconvex", "tilted sine (not convex): runs that diverge", sine["diverged"])
    last = {name: _largest(records, name, "last", "last iterate") for name in KINKED}
    best = {name: _largest(records, name, "best", "best iterate") for name in KINKED}
    classical = _classical_value(records)
    plane, searched = _plane_value(records), [_search_value(r) for r in find_parts(records, "search")]
    line = [v for r, v in zip(find_parts(records, "search"), searched, strict=True) if _features(r) == 1]
    largest = extremes.largest((*last.values(), plane, *searched), key=lambda value: float(value.value or 0))
    if convex.value or float(classical.value or 0) > 1 + ROUNDING:
        verdict = Verdict.NOT_REPRODUCED
    elif not unbounded.value:
        verdict = Verdict.INCONCLUSIVE
    elif float(largest.value or 0) > 1 + ROUNDING:
        verdict = Verdict.WITH_CORRECTION
    else:
        verdict = Verdict.REPRODUCED if smooth.value else Verdict.EXPLANATION_NOT_SUPPORTED
    best_of_all = extremes.largest(
        (*best.values(), *_best_elsewhere(records)), key=lambda value: float(value.value or 0)
    )
    paper_constant = Value(
        "l1_paper",
        f"largest gap of λ1‖β‖₁ in units of αλ1², the paper's L, with {L1_FEATURES} features",
        float(last["l1 norm, in phase"].value or 0) * L1_FEATURES,
    )
    correction = (
        f"The iterates stay bounded, but αL² bounds the best iterate and not the last one. For the best the limit is "
        f"αL²/2 (largest seen: {best_of_all}·αL²); the last iterate of a piecewise linear function in the plane keeps "
        f"returning to {plane}·αL², and the largest constant found is {largest} ({largest.label}). On the line the "
        f"largest found is {', '.join(str(value) for value in line)}. L is the Euclidean constant: for λ1‖β‖₁ that is "
        f"λ1√P; in units of αλ1², with the paper's L = λ1, its gap reaches {paper_constant}. "
    )
    correction += (
        "A kink is not needed: the smooth loss with a bounded gradient does not diverge either."
        if not smooth.value
        else "A kink is needed: the smooth loss with a bounded gradient diverges."
    )
    return Judgement(
        verdict,
        f"{_count(convex)} of {convex.count} convex runs with bounded subgradients diverge; {_count(unbounded)} of "
        f"{unbounded.count} with unbounded gradients, {_count(nonconvex)} of {nonconvex.count} of the function that is "
        f"not convex and {_count(smooth)} of {smooth.count} of the smooth one do. The last iterate's largest constant "
        f"is {largest} αL², the best iterate's {best_of_all} αL².",
        Headline(
            "never diverges; lim f - f* ≤ αL²",
            f"{_count(convex)} of {convex.count} diverge; up to {format_number(largest.value)}·αL² (last), "
            f"{format_number(best_of_all.value)}·αL² (best)",
            f"unbounded gradients: {_count(unbounded)} of {unbounded.count} diverge; smooth, bounded: "
            f"{_count(smooth)} of {smooth.count}",
        ),
        (convex, *last.values(), *best.values(), classical, plane, *searched, paper_constant),
        (unbounded, nonconvex, smooth),
        predicted=(
            Value("plane_prediction", "largest constant in the plane, 1 + ε - 2ε² at ε = 1/4", 1.125),
            Value("best_prediction", "limit of the best iterate's classical bound, in units of αL²", 0.5),
        ),
        correction=correction if verdict is Verdict.WITH_CORRECTION else None,
        decided_by=(
            "more steps, until a function with unbounded gradients is seen to diverge"
            if verdict is Verdict.INCONCLUSIVE
            else None
        ),
        notes=(
            "Boyd et al. (2003) bound the best iterate, f_best - f* ≤ R²/(2αk) + αG²/2. The limit of f(x_k) itself "
            "need not exist: the recursion ends on cycles, so the largest late gap is measured.",
            'The proposition\'s words, "all convex non-smooth loss functions", are true of smooth ones with bounded '
            "gradients too: its proof does not use a kink.",
            "In the plane the chain of three subgradients (0, -1), (√(1-ε²), ε), (-√(1-ε²), ε) attains 1 + ε - 2ε²: a "
            "step of length 1 up the shallow side, at the bottom of the steep valley, and then a step across it.",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Constants by problem, in the plane against the tilt, and of random polytopes."""
    last, best = ([float(_largest(records, name, which, "").value or 0) for name in KINKED] for which in _ITERATES)
    plane = find_part(records, "plane")
    tilts = np.linspace(0, 0.5, 51)
    printed = Series("horizontal", "printed bound", y=(1.0,), tone="paper", dashed=True)
    searches = find_parts(records, "search")
    return [
        Figure(
            "Largest late gap to the minimum, in units of αL²",
            "Left: by problem, largest over seeds and step sizes, of the last and of the best iterate. Middle: the "
            "worst case in the plane against its tilt ε; it exceeds the printed bound for ε up to 1/2. Right: the "
            "largest among random piecewise linear functions, by dimension: on the line the bound holds, from the "
            "plane on it does not, and the best iterate keeps below 1/2.",
            (
                Panel(
                    "problems",
                    Axis("problem"),
                    Axis("gap / (αL²)"),
                    (
                        Series("bars", "last iterate", list(KINKED), last),
                        Series("bars", "best iterate", list(KINKED), best, tone="b"),
                        printed,
                    ),
                ),
                Panel(
                    "worst case in the plane",
                    Axis("ε"),
                    Axis("gap / (αL²)"),
                    (
                        Series("points", "measured", plane["tilt"], plane["last"]),
                        Series(
                            "line", "1 + ε - 2ε²", tilts.tolist(), (1 + tilts - 2 * tilts**2).tolist(), tone="theory"
                        ),
                        printed,
                    ),
                ),
                Panel(
                    "random polytopes",
                    Axis("dimension"),
                    Axis("gap / (αL²)"),
                    (
                        Series(
                            "points", "last iterate", [_features(r) for r in searches], [r["last"] for r in searches]
                        ),
                        Series(
                            "points",
                            "best iterate",
                            [_features(r) for r in searches],
                            [r["best"] for r in searches],
                            tone="b",
                        ),
                        printed,
                    ),
                ),
            ),
        )
    ]


_ITERATES = ("last", "best")


def _draw(name: str, first_seed: int, seeds: int) -> tuple[Problem, Tensor]:
    """A problem, and starts of shape (seeds, 1, features)."""
    if name in LOSSES:
        return draw_regression("uniform", first_seed, seeds, LOSSES[name]), draw_start("uniform", first_seed, seeds)
    if name == "relu":
        # Fewer features than samples: with more, some β switches every ReLU off and the run just stops there.
        regression = draw_regression("uniform", first_seed, seeds, shape=(50, 5))
        hinge = Regression(regression.data, -regression.response.abs(), link=Relu(), loss=Absolute(), scale=1 / 50)
        return hinge, draw_start("uniform", first_seed, seeds, 5)
    if name == "absolute value":
        return l1_norm(1, 1.0), draw_start("uniform", first_seed, seeds, 1)
    start = draw_start("uniform", first_seed, seeds, L1_FEATURES)
    return l1_norm(L1_FEATURES, 1.0), start if name == "l1 norm" else start[..., :1].expand_as(start).contiguous()


def _gaps(problem: Problem, start: Tensor, alphas: Sequence[float], steps: int) -> Mapping[str, Any]:
    """The late largest and the smallest gap of every seed (rows) and step size (columns)."""
    step_size = torch.tensor([alphas], dtype=torch.float64)
    starts = start.expand(-1, len(alphas), -1).contiguous()
    losses = iterate(problem, starts, Constant(step_size), steps, {"loss": Trace(loss, range(steps + 1))})["loss"]
    minimiser, minimum, constant = problem.minimiser, problem.minimum, problem.lipschitz
    if minimiser is None or minimum is None:
        raise ValueError("the minimum of this problem is not known")
    gone = diverged(losses.numpy()).tolist()
    if constant is None:
        return {"diverged": gone}
    gaps = losses - minimum
    best = gaps.cummin(dim=0).values
    squared_distance = (start - minimiser).square().sum(-1)
    taken = torch.arange(1, steps + 2, dtype=torch.float64).view(-1, 1, 1)
    classical = squared_distance / (2 * step_size * taken) + step_size * constant.square() / 2
    unit = step_size * constant.square()
    return {
        "diverged": gone,
        "last": (gaps[steps // 2 :].amax(0) / unit).tolist(),
        "best": (best[-1] / unit).tolist(),
        "classical": (best / classical).amax(0).tolist(),
    }


def _plane(tilts: Sequence[float], steps: int) -> Mapping[str, Any]:
    """The worst case in the plane, for each tilt ε and several starts: the largest gap that it keeps returning to.

    At the bottom of the valley and just below 0 the recursion goes one step up, where f is ε, and from there across
    the valley, to 1 + ε - 2ε². It comes back to the same place if the way down takes whole double steps of 2ε, so the
    starts try all phases of the way.
    """
    rows = [[[0.0, -1.0], [math.sqrt(1 - e * e), e], [-math.sqrt(1 - e * e), e]] for e in tilts]
    problem = Support(torch.tensor(rows, dtype=torch.float64))
    phases = torch.linspace(0, 1, 64, dtype=torch.float64)
    start = torch.stack([torch.full_like(phases, 1e-6), -1e-6 - phases], dim=-1).expand(len(tilts), -1, -1).contiguous()
    record: dict[str, Recording] = {"last": Largest(loss, steps // 2), "best": Smallest(loss)}
    run = iterate(problem, start, Constant(1.0), steps, record)
    return {"tilt": list(tilts), "last": run["last"].amax(-1).tolist(), "best": run["best"].amax(-1).tolist()}


def _search(parameters: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """The largest late gap over random polytopes of 2P + 1 unit vectors that contain 0, and random starts."""
    features, polytopes = parameters["features"], parameters["polytopes"]
    generator = torch.Generator().manual_seed(seed)
    vertices = _unit(draw_entries("normal", generator, polytopes, 2 * features, features))
    weights = torch.rand(polytopes, 2 * features, 1, generator=generator, dtype=torch.float64)
    # Minus a positive combination of the others: so that some positive combination of all is 0.
    closing = _unit(-(weights * vertices).sum(1, keepdim=True))
    start = draw_entries("normal", generator, polytopes, parameters["starts"], features)
    steps = parameters["steps"]
    record: dict[str, Recording] = {"last": Largest(loss, steps // 2), "best": Smallest(loss)}
    problem = Support(torch.cat([vertices, closing], dim=1))
    run = iterate(problem, start, Constant(1.0), steps, record, block=polytopes)
    return {
        "last": run["last"].max().item(),
        "best": run["best"].max().item(),
        "above": (run["last"] > 1 + ROUNDING).double().mean().item(),
        "runs": run["last"].numel(),
    }


def _tilted_sine(steps: int) -> Mapping[str, Any]:
    """f(x) = |x|/10 + sin x from the flanks of the sine, with the steps that lead from each to one farther out.

    |f'| ≤ 1.1 everywhere. On x = (2n+1)π the slope is -9/10, so steps of 2πm/0.9 lead to a later such point.
    """
    gone, reached = [], []
    for stride in (1, 2, 3):
        step_size = 2 * math.pi * stride / 0.9
        place, losses = math.pi, []
        for _ in range(steps + 1):
            losses.append(abs(place) / 10 + math.sin(place))
            place -= step_size * (math.copysign(0.1, place) + math.cos(place))
        gone.append(bool(diverged(np.asarray(losses))))
        reached.append(losses[-1])
    return {"diverged": gone, "reached": reached}


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return unit


def _features(record: Record) -> int:
    return int(record.parameters["features"])


def _problems(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    return [record for name in names for record in find_parts(records, "problem", problem=name)]


def _share(name: str, label: str, outcomes: Sequence[bool]) -> Value:
    return proportion_value(name, label, sum(outcomes), len(outcomes))


def _diverged_value(name: str, label: str, records: Sequence[Record], problems: Sequence[str]) -> Value:
    return _share(name, label, [gone for r in _problems(records, problems) for row in r["diverged"] for gone in row])


def _count(share: Value) -> int:
    return round(float(share.value or 0) * (share.count or 0))


def _largest(records: Sequence[Record], problem: str, which: str, iterate_name: str) -> Value:
    """The largest constant of a problem, over seeds and step sizes."""
    samples = [value for r in _problems(records, (problem,)) for row in r[which] for value in row]
    name = f"{which}_{problem.replace(',', '').replace(' ', '_')}"
    return Value(name, f"largest gap / (αL²), {problem}, {iterate_name}", extremes.largest(samples), count=len(samples))


def _classical_value(records: Sequence[Record]) -> Value:
    samples = [value for r in _problems(records, KINKED) for row in r["classical"] for value in row]
    label = "best iterate's gap over its classical bound, largest over all steps"
    return Value("classical", label, extremes.largest(samples), count=len(samples))


def _plane_value(records: Sequence[Record]) -> Value:
    record = find_part(records, "plane")
    return Value(
        "plane", "largest gap / (αL²), worst case in the plane, last iterate", extremes.largest(record["last"])
    )


def _search_value(record: Record) -> Value:
    dimension = _features(record)
    label = f"largest gap / (αL²), random piecewise linear functions of {dimension} variable(s), last iterate"
    return Value(f"search_{dimension}", label, record["last"], count=record["runs"])


def _best_elsewhere(records: Sequence[Record]) -> list[Value]:
    """The best iterate's constants of the plane and of the search."""
    found = [*find_parts(records, "plane"), *find_parts(records, "search")]
    return [Value("best", "best iterate", float(np.max(record["best"]))) for record in found]
