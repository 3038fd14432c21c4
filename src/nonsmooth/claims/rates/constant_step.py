"""Claim `constant-step`: gradient descent with a constant step rarely converges to the stationary point (§1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.claims.framework import (
    Afterthought,
    Axis,
    Choice,
    Choices,
    Claim,
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
    Verdict,
    above,
    below,
    median_interval,
)
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import State, Trace
from nonsmooth.lab import Cell
from nonsmooth.problems import (
    Absolute,
    Problem,
    PseudoHuber,
    Regression,
    RoundedL1,
    huber_regression,
    l1_norm,
    lasso,
    relu_regression,
)
from nonsmooth.problems.lasso_reference import lasso_reference

SAMPLES, FEATURES, WIDTH, PENALTY, RIDGE = 20, 50, 0.1, 0.1, 1.0
EDGES = (0.1, 0.25, 0.5, 0.9, 1.1, 2.0, 4.0)
"""Step size as a multiple of 2/L, on a function with a kink of its smooth twin's 2/L."""
TWINS = {
    "‖β‖₁": "‖β‖₁, rounded",
    "absolute regression": "Huber regression",
    "LASSO": "least squares",
    "ReLU regression": "pseudo-Huber regression",
}
"""Each function with a kink at its minimiser, and a smooth function of the same data; the last pair differs in more."""
SPECIAL = "ReLU regression"
"""Its minimiser lies on kinks that the run leaves behind: from some step on every ReLU is off, and f is quadratic."""
LENGTHS = (300, 1000, 3000)

LENGTH = Choice("length", 3000, (300, 1000), "number of steps of the runs", "The longest; all were measured.")
CLOSE = Choice(
    "close",
    1e-6,
    (1e-3, 1e-9),
    "distance to the stationary points, over that at the start, at which a run has converged",
    "Far below any cycle that is seen, far above rounding.",
)
MOST = Choice("most", 0.5, (0.25, 0.75), "share of the draws that counts as most", "More often than not.")
KINKED = Choice(
    "kinked",
    tuple(TWINS),
    (tuple(name for name in TWINS if name != SPECIAL), ("‖β‖₁",), ("absolute regression",), ("LASSO",)),
    "the functions with a kink",
    "All that were run, the special case among them in which constant steps converge.",
)
LEFT_BEHIND = Choice(
    "left_behind",
    "with the others",
    ("alone",),
    "how the function is judged whose kinks a run leaves behind",
    "The sentence has room for special cases.",
    "where a run does not leave the kinks behind",
)

STABLE = Quantity("stable", "draws in which most runs converge, smooth functions, α < 2/L")
UNSTABLE = Quantity("unstable", "draws in which most runs converge, smooth functions, α > 2/L")
KINK = Quantity("kink", "draws in which most runs converge, functions with a kink at the minimiser, any α")

CLAIM = Claim(
    id="constant-step",
    plain="With a learning rate that stays the same, gradient descent hardly ever comes to rest at the solution.",
    title="Constant steps rarely converge to the stationary point",
    where="§1, “Constant, diminishing, and reducing step sizes”",
    statement=(
        "“Although constant step-size GDs approach the stationary point, they rarely converge to it except in special "
        "cases.” The sentence is about gradient descent in general; provable convergence is said to take diminishing "
        "steps."
    ),
    explanation=(
        "The paper gives no reason of its own. It names diminishing steps as the remedy, so the reason would be that "
        "the step size does not tend to 0."
    ),
    control=(
        "The same constant steps on smooth functions, below and above 2/L: if a step that does not vanish is the "
        "reason, they do not converge there either. On functions with a kink the steps are measured in the 2/L of a "
        "smooth twin."
    ),
)

RULE = Rule(
    Row(
        above(KINK, MOST) & above(STABLE, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "constant steps mostly converge"),
    ),
    Row(
        above(STABLE, MOST) & below(UNSTABLE, MOST),
        Outcome(
            Verdict.WITH_CORRECTION,
            "smooth functions below 2/L do",
            correction="On a convex function with a minimiser, whose ∇f is Lipschitz with a constant L, gradient "
            "descent with a constant α < 2/L converges to a stationary point ({stable.hits} of {stable.count} draws); "
            "with α > 2/L it does not on the smooth functions tried. Nor does it where it has to settle on a kink, at "
            "any α tried. Among functions with a kink the special case is one whose kinks the run leaves behind: "
            "{special:.0%} of the runs on the ReLU regression with y ≤ 0 and α < 2/L converge.",
        ),
    ),
    Row(
        above(STABLE, MOST),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "smooth functions always converge",
            "But on smooth functions they converge, below 2/L and above it.",
        ),
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED,
        "they approach, and stop short",
        "On smooth functions below 2/L they do not converge either.",
    ),
    always="Most runs converge in {stable:.0%} of the draws on smooth functions with α < 2/L, in {unstable:.0%} with "
    "α > 2/L, and in {kink:.0%} on functions with a kink.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="rarely converges",
        ours="with a kink {kink:.0%} of the draws; {approach:.0%} of the runs come nearer",
        control="smooth: {stable:.0%} below 2/L, {unstable:.0%} above",
    ),
    choices=(LENGTH, CLOSE, MOST, KINKED, LEFT_BEHIND),
    afterthoughts=(
        Afterthought(
            "the special case alone is among the alternatives, as every other function with a kink is",
            "2026-11",
            "On it constant steps converge, and it was the only function that was not judged alone.",
            "The verdict is said to hold where a run does not leave the kinks behind.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each function."""
    seeds = scale.seeds(20, 200)
    for name in (*TWINS, *TWINS.values()):
        yield constant.cell(problem=name, seeds=seeds, cost=0.05 * len(seeds))


@study.experiment(part="constant", seed_axes={"distance": 2})
def constant(run: Run, *, problem: str, seeds: int) -> Mapping[str, Any]:
    """Distance to the stationary points over that at the start: [length][step size][seed]; ∞ after an overflow."""
    function, start, edge, distance = _draw(problem, run.generator(), seeds)

    def finite_distance(state: State) -> Tensor:
        # A difference of overflowed numbers is none; such a run is as far as can be.
        left = distance(state.point)
        return torch.where(torch.isfinite(state.point).all(-1) & torch.isfinite(left), left, torch.inf)

    alpha = edge * torch.tensor([EDGES], dtype=torch.float64)
    record = {"distance": Trace(finite_distance, (0, *LENGTHS))}
    starts = start.unsqueeze(1).expand(-1, len(EDGES), -1).contiguous()
    # One block: the distance knows the data of all instances.
    kept = iterate(function, starts, Constant(alpha), LENGTHS[-1], record, block=seeds)["distance"]
    return {"distance": (kept[1:] / kept[:1]).movedim(1, 2).tolist()}


def _draw(
    name: str, generator: torch.Generator, seeds: int
) -> tuple[Problem, Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """A function, its starts of shape (seeds, P), the twin's 2/L, and the distance to its stationary points."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1

    data, response, start = uniform(seeds, SAMPLES, FEATURES), uniform(seeds, SAMPLES), uniform(seeds, FEATURES)
    largest = torch.linalg.matrix_norm(data, ord=2).square().unsqueeze(-1)
    if name in ("‖β‖₁", TWINS["‖β‖₁"]):
        norm = l1_norm(FEATURES, 1.0) if name == "‖β‖₁" else RoundedL1(FEATURES, 1.0, WIDTH)
        return norm, start, torch.tensor(2 * WIDTH), _norm
    if name == SPECIAL:
        return relu_regression(data, -response.abs(), l2=RIDGE), start, 1 / (largest + RIDGE), _norm
    if name == "LASSO":
        solution = lasso_reference(data, response, torch.full((seeds, 1), PENALTY, dtype=torch.float64)).point
        return lasso(data, response, PENALTY), start, SAMPLES / largest, lambda point: _norm(point - solution)
    inverse = torch.linalg.pinv(data).mT
    functions: dict[str, tuple[Problem, Tensor]] = {
        "least squares": (lasso(data, response, 0.0), SAMPLES / largest),
        "Huber regression": (huber_regression(data, response), 2 * SAMPLES / largest),
        "pseudo-Huber regression": (
            Regression(data, response, loss=PseudoHuber(), scale=1 / SAMPLES),
            2 * SAMPLES / largest,
        ),
        "absolute regression": (Regression(data, response, loss=Absolute(), scale=1 / SAMPLES), 2 * SAMPLES / largest),
    }
    function, edge = functions[name]
    # With more unknowns than equations the stationary points are those without residuals.
    return function, start, edge, lambda point: _norm((point @ data.mT - response.unsqueeze(1)) @ inverse)


def _norm(point: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(point, dim=-1)
    return size


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """In how many draws most runs converge, by kind of function and side of 2/L."""
    runs, length = evidence[constant], LENGTHS.index(choices.length)
    below_edge, above_edge = ([i for i, edge in enumerate(EDGES) if (edge < 1) is side] for side in (True, False))
    kinked = choices.kinked if choices.left_behind == LEFT_BEHIND.value else (SPECIAL,)
    tables = {name: _distances(runs, name)[length] for name in (*TWINS, *TWINS.values())}

    def draws(quantity: Quantity, names: Iterable[str], edges: list[int]) -> Finding:
        converged = np.concatenate([tables[name][edges] < choices.close for name in names])
        return quantity.share(int((converged.mean(0) > 0.5).sum()), converged.shape[1])

    def share(name: str, label: str, problem: str, edges: list[int]) -> Finding:
        converged = tables[problem][edges] < choices.close
        return Quantity(name, label).number(float(converged.mean()), converged.size)

    every = below_edge + above_edge
    approach = np.concatenate([tables[name] < 1 for name in kinked])
    listed = [
        share(f"{side}_{i}", f"runs that converge, {name}, α {sign} 2/L{of}", name, edges)
        for i, name in enumerate((*TWINS, *TWINS.values()))
        for side, sign, edges in (("below", "<", below_edge), ("above", ">", above_edge))
        for of in (" of its twin" if name in TWINS else "",)
    ]
    return Findings(
        (
            draws(KINK, kinked, every),
            Quantity("approach", "runs with a kink that end nearer than they began").number(float(approach.mean())),
            *listed[: 2 * len(TWINS)],
        ),
        (
            draws(STABLE, TWINS.values(), below_edge),
            draws(UNSTABLE, TWINS.values(), above_edge),
            *listed[2 * len(TWINS) :],
        ),
        derived=(share("special", "runs that converge on the special case", SPECIAL, below_edge),),
        notes=(
            "On least squares, Huber and absolute regression the stationary points are all β without residuals; the "
            "distance is to the nearest of them.",
            f"The ReLU regression has the ridge {RIDGE:g}; with the paper's 0.01 it converges as well, a hundred times "
            "as slowly.",
        ),
    )


def _distances(runs: Runs, name: str) -> np.ndarray:
    """Of one function: [length][step size][seed].

    Raises:
        NotStoredError: one of them is not a number.
    """
    distances = np.array(runs.one(problem=name)["distance"], dtype=float)
    if np.isnan(distances).any():
        raise NotStoredError(f"a distance of {name} is not a number")
    return distances


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The distance that is left against the step size, with a kink and without."""
    del found
    panels = []
    for title, names in (("with a kink", list(TWINS)), ("smooth", list(TWINS.values()))):
        lines = []
        for name, tone in zip(names, ("ours", "a", "b", "c"), strict=True):
            left = np.clip(_distances(evidence[constant], name)[-1], 1e-16, 1e3)
            middle, low, high = zip(*(median_interval(row) for row in left), strict=True)
            lines.append(Series("line", name, EDGES, middle, low, high, tone))
        edge = Series("vertical", "α = 2/L", (1.0,), tone="theory", dashed=True)
        axes = Axis("α over 2/L", log=True), Axis("distance left, share of the first", log=True)
        panels.append(Panel(title, *axes, (*lines, edge)))
    return [
        Figure(
            "What is left of the distance after 3,000 constant steps",
            "Medians over draws with their intervals; distances below 1e-16 and above 1,000 are drawn there. On smooth "
            "functions all is gone below 2/L. With a kink a share in proportion to α is left at any α, but for the "
            "ReLU regression, whose kinks the run leaves behind.",
            tuple(panels),
        )
    ]
