"""Claim `capture`: iterates leave the unit ball while the loss falls, "so NGDM is not GD" (§2, Prop. 2.1, Fig. 1).

Three tests, on the ReLU regression L₂ and on smooth twins of it (same data, same start, same step size):

- "box": the paper's. β₀ ~ U[-1, 1], and the ball is that of the infinity norm around 0.
- "ball": what the proof of Prop. 2.1 is about. A start inside the Euclidean unit ball around the minimiser.
- "line": a one-dimensional smooth convex function for which Prop. 2.1 as printed is false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.statistics import median_value, proportion_value
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import (
    Count,
    FirstStep,
    LastStep,
    Quantity,
    State,
    Trace,
    active_units,
    log_spaced,
    loss,
    loss_rose,
    norm,
)
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Link, QuadraticRelu, Relu, Softplus, relu_regression

CLAIM = Claim(
    id="capture",
    title="Iterates leave the unit ball although the loss falls",
    where="§2, Proposition 2.1, Figure 1",
    statement=(
        "With the loss decreasing at every step, the iterates of NGDM on the ReLU regression L₂ leave the unit ball in "
        "the infinity norm. Gradient descent on a differentiable function could not, so NGDM is not GD."
    ),
    explanation="The function is not differentiable, so the capture theorem does not hold for it.",
    control=(
        "The same test on smooth twins of the problem (softplus and a C¹ quadratic joint, three widths each), and the "
        "test in the Euclidean norm, from inside the ball, on both. If the kink were the reason, no twin would leave."
    ),
    paper=(Value("leaves", "infinity norm exceeds 1 while the loss falls", True),),
)

FEATURES, SAMPLES, RIDGE = 500, 20, 0.01
WIDTHS = (0.01, 0.1, 1.0)
LINKS = ("relu", *(f"{kind} {width}" for kind in ("quadratic", "softplus") for width in WIDTHS))
STEP_SIZES = (1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 1e-2)
MAJORITY = 0.5
NEVER = 0.05
CURVE_POINTS = 120
SLOPE = 4e-6
"""Largest slope at a twin's minimiser; by the ridge's strong convexity that is 1e-3 of distance, a tenth of the margin
that the Euclidean start leaves."""


def plan(settings: Settings) -> list[Cell]:
    """A cell for each link and test; the step sizes, which the paper leaves out, are swept inside the cell."""
    seeds = settings.seed_range({"quick": 32, "standard": 256, "paper": 256}[settings.scale])
    steps = {"quick": 600, "standard": 5000, "paper": 5000}[settings.scale]
    shared = {"seeds": len(seeds), "steps": steps}
    cost = len(seeds) * steps * 4.5e-5
    cells = [
        Cell("capture", {**shared, "test": test, "link": link}, seeds[0], cost=cost)
        for test in ("box", "ball")
        for link in LINKS
    ]
    return [*cells, Cell("capture", {"test": "line"}, cost=0.1)]


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Run one link under one test, for all seeds and step sizes."""
    if cell.parameters["test"] == "line":
        return _line()
    test, link = str(cell.parameters["test"]), _link(str(cell.parameters["link"]))
    count, steps = int(str(cell.parameters["seeds"])), int(str(cell.parameters["steps"]))
    data, response, start = _draw(cell.seed, count)
    problem = relu_regression(data, response, l2=RIDGE, link=link)
    centre, size = torch.zeros_like(start), norm(math.inf)
    if test == "ball":
        centre = torch.stack([_minimiser(z, y, link) for z, y in zip(data, response, strict=True)])
        start = centre + 0.99 * start / torch.linalg.vector_norm(start, dim=-1, keepdim=True)
        size = _distance(centre)
    variants = len(STEP_SIZES)
    run = iterate(
        problem,
        start.unsqueeze(1).expand(-1, variants, -1).contiguous(),
        Constant(torch.tensor([STEP_SIZES], dtype=torch.float64)),
        steps,
        {
            "rises": Count(loss_rose),
            "left": FirstStep(lambda state: size(state) >= 1.0),
            "first_crossing": FirstStep(_pattern_changed),
            "last_active": LastStep(lambda state: active_units(state) > 0),
            "loss": Trace(loss, (at := log_spaced(steps, CURVE_POINTS))),
            "size": Trace(size, at),
        },
        # The centre differs between instances, and a quantity sees one block: so all instances form one block here.
        block=count if test == "ball" else None,
        progress=context.progress,
    )
    example = 0
    return {
        "step_sizes": list(STEP_SIZES),
        "fell": (run["rises"] == 0).T.tolist(),
        "left": run["left"].T.tolist(),
        "first_crossing": run["first_crossing"].T.tolist(),
        "last_active": run["last_active"].T.tolist(),
        "euclidean_start": torch.linalg.vector_norm(start - centre, dim=-1).tolist(),
        "minimiser_size": torch.linalg.vector_norm(centre, ord=math.inf, dim=-1).tolist(),
        "curve_step": list(at),
        "curve_loss": run["loss"][:, example].T.tolist(),
        "curve_size": run["size"][:, example].T.tolist(),
    }


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if the paper's problem leaves its ball while the loss falls at every step, and no smooth twin does.

    A run *leaves* if its loss never rises and its iterate nevertheless reaches the boundary of the ball. A problem
    leaves if the 95 % interval of the share of its seeds that do lies above one half at the step size where most do.
    It stays if at every step size under which some loss falls throughout, the interval lies below one twentieth.

    - The paper's test (infinity norm) on the ReLU problem stays: *not reproduced*.
    - It leaves, and so does a smooth twin in the same test: *reproduced, explanation not supported*, unless in the
      Euclidean test, the one that the proposition's proof is about, the ReLU problem leaves and every twin stays.
    - It leaves, and every twin stays: *reproduced*.
    - Anything else: *inconclusive*.
    """
    cells = {(r.parameters["test"], r.parameters.get("link")): r for r in records if r.parameters["test"] != "line"}
    line = next(r for r in records if r.parameters["test"] == "line")
    shares = {key: _share(record) for key, record in cells.items()}
    relu_box, relu_ball = shares["box", "relu"], shares["ball", "relu"]
    twins_box = {link: share for (test, link), share in shares.items() if test == "box" and link != "relu"}
    twins_ball = {link: share for (test, link), share in shares.items() if test == "ball" and link != "relu"}
    leaving = [link for link, share in twins_box.items() if _leaves(share)]
    kink_in_ball = _leaves(relu_ball) and all(_stays(share) for share in twins_ball.values())
    if _stays(relu_box):
        verdict = Verdict.NOT_REPRODUCED
    elif not _leaves(relu_box):
        verdict = Verdict.INCONCLUSIVE
    elif kink_in_ball or all(_stays(share) for share in twins_box.values()):
        verdict = Verdict.REPRODUCED
    elif leaving:
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED
    else:
        verdict = Verdict.INCONCLUSIVE
    relu = cells["box", "relu"]
    column = relu["step_sizes"].index(_step_size(relu_box))
    exits = [left for left, fell in zip(relu["left"][column], relu["fell"][column], strict=True) if fell and left >= 0]
    measured = [
        relu_box,
        median_value("euclidean_start", "Euclidean norm of the start (the proposition asks for < 1)",
                     relu["euclidean_start"]),
        median_value("last_active", "last step with an active ReLU: from then on the run is linear",
                     relu["last_active"][column]),
    ]  # fmt: skip
    if exits:
        crossings = relu["first_crossing"][column]
        smooth = sum(
            fell and left >= 0 and (crossing < 0 or left < crossing)
            for left, fell, crossing in zip(relu["left"][column], relu["fell"][column], crossings, strict=True)
        )
        measured += [
            median_value("exit_step", "step at which it leaves", exits),
            proportion_value("exit_before_crossing", "of these, left before any ReLU switched", smooth, len(exits)),
        ]
    because = (
        f"The ReLU problem leaves in {_percent(relu_box)} of {relu_box.count} seeds at step size "
        f"{_step_size(relu_box):g}, and {len(leaving)} of {len(twins_box)} smooth twins leave as well. "
        f"In the Euclidean test, at the step size where most leave, {_percent(relu_ball)} of the ReLU's runs do and "
        f"up to {_percent(extremes.largest(twins_ball.values(), key=lambda s: float(s.value or 0)))} of a twin's."
    )
    return Judgement(
        verdict,
        because,
        Headline(
            "leaves the ball",
            f"{_percent(relu_box)} leave",
            f"smooth twins: {_percent(extremes.largest(twins_box.values(), key=lambda s: float(s.value or 0)))} leave; "
            f"Euclidean test: {_percent(relu_ball)}",
        ),
        tuple(measured),
        (
            *twins_box.values(),
            relu_ball,
            *twins_ball.values(),
            Value("line_leaves", "smooth convex f on the line leaves with f falling", bool(line["counterexample"])),
            Value("line_farthest", "farthest iterate on the line, from 0.9", float(line["farthest"])),
        ),
        decided_by=(
            f"more seeds than {relu_box.count}, or a finer sweep of the step size: an interval straddles its threshold"
            if verdict is Verdict.INCONCLUSIVE
            else None
        ),
        notes=(
            (
                "Proposition 2.1 as printed is false for smooth convex functions too: f(x) = 5x² for x > 0 and 0.01x² "
                f"for x ≤ 0, from 0.9 with α = 0.4, goes to {format_number(float(line['farthest']))} while f falls at "
                "every step. The capture theorem says that some open set inside the ball traps the iterates."
                if line["counterexample"]
                else "The one-dimensional example against Proposition 2.1 did not leave its ball."
            ),
            "The proof is about the Euclidean norm and a start inside the unit ball; the smallest norm of a start as "
            f"the paper draws it is {format_number(extremes.smallest(relu['euclidean_start']))}.",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Fig. 1 for the ReLU and two twins, and the share that leaves against the step size."""
    cells = {(r.parameters["test"], r.parameters.get("link")): r for r in records if r.parameters["test"] != "line"}
    relu = cells["box", "relu"]
    column = relu["step_sizes"].index(_step_size(_share(relu)))
    shown = {"relu": "ours", "quadratic 0.1": "control", "softplus 0.1": "a"}
    curves: dict[str, list[Series]] = {"curve_loss": [], "curve_size": []}
    for link, tone in shown.items():
        record = cells["box", link]
        for name, series in curves.items():
            steps = [step + 1 for step in record["curve_step"]]
            series.append(Series("line", _label(link), steps, record[name][column], tone=tone, dashed=link != "relu"))
    curves["curve_size"].append(Series("horizontal", "the ball", y=(1.0,), tone="paper", dashed=True))
    panels = [
        Panel("loss", Axis("step + 1", log=True), Axis("loss L₂", log=True), tuple(curves["curve_loss"])),
        Panel("size", Axis("step + 1", log=True), Axis("infinity norm"), tuple(curves["curve_size"])),
    ]
    for test, title in (("box", "the paper's test"), ("ball", "Euclidean test")):
        series = []
        for link, tone in shown.items():
            values = [_share_at(cells[test, link], i) for i in range(len(relu["step_sizes"]))]
            series.append(
                Series("line", _label(link), relu["step_sizes"], [float(v.value or 0) for v in values],
                       low=[v.low for v in values], high=[v.high for v in values], tone=tone)
            )  # fmt: skip
        panels.append(Panel(title, Axis("step size α", log=True), Axis("share that leaves"), tuple(series)))
    return [
        Figure(
            "Figure 1 of the paper, with smooth twins",
            "Left: loss and infinity norm of one seed, on the ReLU problem and on two of its smooth twins. Right: "
            "share of seeds that leave while the loss falls at every step, with exact 95 % intervals, in the paper's "
            "test and in the norm and from the start that the proposition's proof is about. Where the kink decides, "
            "the curves of the ReLU and of the twins differ.",
            tuple(panels),
        )
    ]


def _link(name: str) -> Link:
    kind, _, width = name.partition(" ")
    if kind == "relu":
        return Relu()
    return QuadraticRelu(float(width)) if kind == "quadratic" else Softplus(float(width))


def _label(name: str) -> str:
    """What a reader calls a link."""
    kind, _, width = name.partition(" ")
    return "ReLU" if kind == "relu" else f"{'C¹ ReLU' if kind == 'quadratic' else 'softplus'}, ε = {width}"


def _draw(first_seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Z₁ ~ U[-1, 1], q₁ ~ U[-1, 0], β₀ ~ U[-1, 1] for each seed, each from its own generator."""
    data, response, start = [], [], []
    for seed in range(first_seed, first_seed + count):
        generator = torch.Generator().manual_seed(seed)
        data.append(torch.rand(SAMPLES, FEATURES, generator=generator, dtype=torch.float64) * 2 - 1)
        response.append(-torch.rand(SAMPLES, generator=generator, dtype=torch.float64))
        start.append(torch.rand(FEATURES, generator=generator, dtype=torch.float64) * 2 - 1)
    return torch.stack(data), torch.stack(response), torch.stack(start)


def _minimiser(data: Tensor, response: Tensor, link: Link) -> Tensor:
    """The minimiser of L₂: zero for the ReLU; for a twin from the N-dimensional problem, since β* = Zᵀa by the ridge.

    Raises:
        RuntimeError: the twin's problem was not solved.
    """
    problem = relu_regression(data.unsqueeze(0), response.unsqueeze(0), l2=RIDGE, link=link)
    known = problem.minimiser
    if known is not None:
        return known[0, 0]
    basis = torch.linalg.qr(data.T).Q

    def slope(coordinates: Tensor) -> Tensor:
        projected: Tensor = basis.T @ problem.subgradient((basis @ coordinates).reshape(1, 1, -1))[0, 0]
        return projected

    solution = optimize.minimize(
        lambda c: problem.value((basis @ torch.from_numpy(c)).reshape(1, 1, -1)).item(),
        np.zeros(SAMPLES),
        jac=lambda c: slope(torch.from_numpy(c)).numpy(),
        hess=lambda c: torch.func.jacrev(slope)(torch.from_numpy(c)).numpy(),
        method="trust-exact",
        options={"maxiter": 2000, "gtol": SLOPE / 10},
    )
    if not np.abs(solution.jac).max() <= SLOPE:
        raise RuntimeError(f"the twin {link} was not minimised: largest slope {np.abs(solution.jac).max():.2g}")
    minimiser: Tensor = basis @ torch.from_numpy(solution.x)
    return minimiser


def _distance(centre: Tensor) -> Quantity:
    """Euclidean distance to a centre of shape (instances, features)."""

    def quantity(state: State) -> Tensor:
        distances: Tensor = torch.linalg.vector_norm(state.point - centre.unsqueeze(1), dim=-1)
        return distances

    return quantity


def _pattern_changed(state: State) -> Tensor:
    """Whether any pre-activation changed its sign in the last step."""
    now = state.evaluation.preactivation
    if now is None or state.previous is None or state.previous.preactivation is None:
        return torch.zeros_like(state.evaluation.value, dtype=torch.bool)
    return ((now > 0) != (state.previous.preactivation > 0)).any(-1)


def _line() -> Mapping[str, Any]:
    """f(x) = 5x² for x > 0, 0.01x² for x ≤ 0: C¹ and convex, with its isolated minimum at 0."""
    point, trail, values = 0.9, [], []
    for _ in range(2000):
        trail.append(point)
        values.append((5.0 if point > 0 else 0.01) * point**2)
        point -= 0.4 * (10.0 if point > 0 else 0.02) * point
    falls = all(after <= before for before, after in pairwise(values))
    farthest = extremes.smallest(trail)
    return {"counterexample": falls and abs(farthest) >= 1, "farthest": farthest, "start": trail[0], "falls": falls}


def _share_at(record: Record, column: int) -> Value:
    """Share of the seeds that leave at one step size, among all seeds; a run whose loss rises does not leave."""
    left = [fell and step >= 0 for fell, step in zip(record["fell"][column], record["left"][column], strict=True)]
    test, link = record.parameters["test"], record.parameters["link"]
    alpha = record["step_sizes"][column]
    kind = "infinity norm" if test == "box" else "Euclidean"
    return proportion_value(
        f"{test}_{str(link).replace(' ', '_').replace('.', '')}_at_{alpha:g}",
        f"{_label(str(link))}, {kind}: share that leaves, α = {alpha:g}",
        sum(left),
        len(left),
    )


def _share(record: Record) -> Value:
    """The share at the step size where most leave; of equal ones the smallest step size."""
    values = [_share_at(record, column) for column in range(len(record["step_sizes"]))]
    return extremes.largest(values, key=lambda value: float(value.value or 0))


def _step_size(share: Value) -> float:
    return float(share.name.rpartition("_at_")[2])


def _leaves(share: Value) -> bool:
    return share.low is not None and share.low > MAJORITY


def _stays(share: Value) -> bool:
    """Nothing left, or so little that the whole interval is small; with few seeds that cannot be said."""
    return share.high is not None and (share.value == 0 or share.high < NEVER)


def _percent(share: Value) -> str:
    return f"{100 * float(share.value or 0):.0f} %"
