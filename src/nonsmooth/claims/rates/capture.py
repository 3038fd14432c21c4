"""Claim `capture`: iterates leave the unit ball while the loss falls, "so NGDM is not GD" (§2, Prop. 2.1, Fig. 1).

Three tests, on the ReLU regression L₂ and on smooth twins of it (same data, same start, same step size):

- "box": the paper's. β₀ ~ U[-1, 1], and the ball is that of the infinity norm around 0.
- "ball": what the proof of Prop. 2.1 is about. A start inside the Euclidean unit ball around the minimiser.
- "line": a one-dimensional smooth convex function for which Prop. 2.1 as printed is false.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from nonsmooth import extremes
from nonsmooth.claims.framework import (
    Axis,
    Choice,
    Choices,
    Claim,
    Estimate,
    Evidence,
    Fact,
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
    Verdict,
    above,
    below,
    known,
)
from nonsmooth.claims.rates.capture_runs import (
    STEP_SIZES,
    draw_data,
    find_minimizer,
    leave_ball,
    link_label,
    twin_link,
)
from nonsmooth.lab import Cell, Record

WIDTHS = (0.01, 0.1, 1.0)
LINKS = ("relu", *(f"{kind} {width}" for kind in ("quadratic", "softplus") for width in WIDTHS))
MAJORITY = Choice(
    "majority",
    0.5,
    (0.3, 0.7),
    "share of the runs that counts as most",
    "More often than not; the shares that are found lie near 0 or 1.",
)
STEP = Choice(
    "step",
    "where most leave",
    STEP_SIZES,
    "the step size at which a problem is judged",
    "The paper does not give one; a problem that leaves at any step size leaves.",
)
TWINS = Choice(
    "twins",
    WIDTHS,
    tuple((width,) for width in WIDTHS),
    "the widths of the twins' joints",
    "From a joint that a first step crosses to one as wide as the data.",
    "with joints of all widths, {value}, since one differentiable function that leaves is enough",
)

BOX = Quantity("box_relu", "share of the ReLU's runs that leave the ball of the infinity norm with the loss falling")
TWIN_BOX = Quantity("box_twin", "share of the runs of the smooth twin that leaves most, infinity norm")
BALL = Quantity(
    "ball_relu", "share of the ReLU's runs that leave the Euclidean ball of the proof with the loss falling"
)
TWIN_BALL = Quantity("ball_twin", "share of the runs of the smooth twin that leaves most, Euclidean ball")

CLAIM = Claim(
    id="capture",
    plain="A run can leave the neighbourhood of its solution although its loss falls at every step.",
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
    paper=(Fact("leaves", "infinity norm exceeds 1 while the loss falls", True),),
)

RULE = Rule(
    Row(below(BOX, MAJORITY), Outcome(Verdict.NOT_REPRODUCED, "it stays in the ball")),
    Row(
        below(TWIN_BOX, MAJORITY) | (above(BALL, MAJORITY) & below(TWIN_BALL, MAJORITY)),
        Outcome(Verdict.REPRODUCED, "only the kink leaves", "The smooth twins stay, in the one test or in the other."),
    ),
    otherwise=Outcome(
        Verdict.EXPLANATION_NOT_SUPPORTED,
        "smooth twins leave too",
        "A smooth twin leaves as well ({box_twin:.0%}), so leaving does not tell NGDM from GD; nor does the Euclidean "
        "test, in which {ball_relu:.0%} of the ReLU's runs leave and {ball_twin:.0%} of a twin's.",
    ),
    always="The ReLU problem leaves in {box_relu:.0%} of {box_relu.count} seeds.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="leaves the ball",
        ours="{box_relu:.0%} leave",
        control="smooth twins: {box_twin:.0%} leave; Euclidean test: {ball_relu:.0%}",
    ),
    choices=(MAJORITY, STEP, TWINS),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each link and test; the step sizes, which the paper leaves out, are swept inside the cell."""
    seeds, steps = scale.seeds(32, 256), scale(600, 5000)
    for test in (box, ball):
        for link in LINKS:
            yield test.cell(link=link, steps=steps, seeds=seeds, cost=len(seeds) * steps * 4.5e-5)
    yield line.cell(cost=0.1)


@study.experiment(
    test="box",
    seed_axes={"fell": 1, "left": 1, "first_crossing": 1, "last_active": 1, "euclidean_start": 0, "minimiser_size": 0},
)
def box(run: Run, *, link: str, seeds: int, steps: int) -> Mapping[str, Any]:
    """The paper's test: from U[-1, 1], in the infinity norm around 0."""
    data, response, start = draw_data(run.seed, seeds)
    return leave_ball(run, twin_link(link), data, response, start, torch.zeros_like(start), math.inf, steps)


@study.experiment(test="ball", seed_axes=box.seed_axes)
def ball(run: Run, *, link: str, seeds: int, steps: int) -> Mapping[str, Any]:
    """The proof's test: from inside the Euclidean unit ball around the minimiser."""
    data, response, start = draw_data(run.seed, seeds)
    centre = torch.stack([find_minimizer(z, y, twin_link(link)) for z, y in zip(data, response, strict=True)])
    start = centre + 0.99 * start / torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    return leave_ball(run, twin_link(link), data, response, start, centre, 2, steps)


@study.experiment(test="line")
def line(run: Run) -> Mapping[str, Any]:
    """f(x) = 5x² for x > 0, 0.01x² for x ≤ 0: C¹ and convex, with its isolated minimum at 0."""
    del run
    point, trail, values = 0.9, [], []
    for _ in range(2000):
        trail.append(point)
        values.append((5.0 if point > 0 else 0.01) * point**2)
        point -= 0.4 * (10.0 if point > 0 else 0.02) * point
    falls = all(after <= before for before, after in pairwise(values))
    farthest = extremes.smallest(trail)
    return {"counterexample": falls and abs(farthest) >= 1, "farthest": farthest, "start": trail[0], "falls": falls}


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The shares that leave, of the ReLU and of each twin, in both tests, and what happens on the way out."""
    widths = [str(width) for width in choices.twins]
    twins = {
        test: [
            _share(test.name, evidence[test].one(link=link), choices.step)
            for link in LINKS
            if link.partition(" ")[2] in widths
        ]
        for test in (box, ball)
    }
    relu = evidence[box].one(link="relu")
    column = _column(relu, choices.step)
    left, crossing = known(relu["left"][column]), np.array(relu["first_crossing"][column])
    exits = np.array(relu["fell"][column]) & (left >= 0)
    early = exits & ((crossing < 0) | (left < crossing))
    on_line = evidence[line].one()
    measured = (
        _share("box", relu, choices.step),
        Quantity("euclidean_start", "Euclidean norm of the start (the proposition asks for < 1)").median(
            relu["euclidean_start"]
        ),
        Quantity("last_active", "last step with an active ReLU: from then on the run is linear").median(
            relu["last_active"][column]
        ),
        Quantity("exit_step", "step at which it leaves").median(left[exits].tolist()),
        Quantity("exit_before_crossing", "of these, left before any ReLU switched").share(
            int(early.sum()), int(exits.sum())
        ),
    )
    largest = {test: extremes.largest(shares, key=lambda share: share.value) for test, shares in twins.items()}
    control = (
        *twins[box],
        _share("ball", evidence[ball].one(link="relu"), choices.step),
        *twins[ball],
        Fact("line_leaves", "smooth convex f on the line leaves with f falling", on_line["counterexample"]),
        Quantity("line_farthest", "farthest iterate on the line, from 0.9").number(on_line["farthest"]),
    )
    derived = [
        quantity.estimate(share.value, share.lower, share.upper, share.count)
        for quantity, share in ((TWIN_BOX, largest[box]), (TWIN_BALL, largest[ball]))
    ]
    return Findings(measured, control, derived=derived, notes=_notes(relu, on_line))


def _column(record: Record, step: float | str) -> int:
    """The place of a step size; of the one where most leave, the smallest of equal ones."""
    leaving = np.array(record["fell"]) & (known(record["left"]) >= 0)
    return int(leaving.sum(1).argmax()) if isinstance(step, str) else int(record["step_sizes"].index(step))


def _share(test: str, record: Record, step: float | str) -> Estimate:
    """Share of the seeds that leave, among all of them; a run whose loss rises does not leave."""
    column, link = _column(record, step), str(record.parameters["link"])
    leaving = np.array(record["fell"][column]) & (known(record["left"][column]) >= 0)
    kind = "infinity norm" if test == "box" else "Euclidean"
    label = f"{link_label(link)}, {kind}: share that leaves, α = {record['step_sizes'][column]:g}"
    name = f"{test}_{link.replace(' ', '_').replace('.', '')}"
    found = Quantity(name, label).share(int(leaving.sum()), len(leaving))
    assert isinstance(found, Estimate)
    return found


def _notes(relu: Record, on_line: Record) -> tuple[str, ...]:
    printed = (
        "Proposition 2.1 as printed is false for smooth convex functions too: f(x) = 5x² for x > 0 and 0.01x² for "
        f"x ≤ 0, from 0.9 with α = 0.4, goes to {on_line['farthest']:.4g} while f falls at every step. The capture "
        "theorem says that some open set inside the ball traps the iterates."
        if on_line["counterexample"]
        else "The one-dimensional example against Proposition 2.1 did not leave its ball."
    )
    start = extremes.smallest(relu["euclidean_start"])
    return (
        printed,
        "The proof is about the Euclidean norm and a start inside the unit ball; the smallest norm of a start as the "
        f"paper draws it is {start:.4g}.",
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Fig. 1 for the ReLU and two twins, and the share that leaves against the step size."""
    del found
    relu = evidence[box].one(link="relu")
    column = _column(relu, STEP.value)
    shown = {"relu": "ours", "quadratic 0.1": "control", "softplus 0.1": "a"}
    panels = []
    for title, axis, value in (
        ("loss", Axis("loss L₂", log=True), "curve_loss"),
        ("size", Axis("infinity norm"), "curve_size"),
    ):
        curves = [
            Series("line", link_label(link), [step + 1 for step in r["curve_step"]], r[value][column], tone=tone,
                   dashed=link != "relu")
            for link, tone in shown.items()
            for r in (evidence[box].one(link=link),)
        ]  # fmt: skip
        rule = [Series("horizontal", "the ball", y=(1.0,), tone="paper", dashed=True)] if title == "size" else []
        panels.append(Panel(title, Axis("step + 1", log=True), axis, (*curves, *rule)))
    for test, title in ((box, "the paper's test"), (ball, "Euclidean test")):
        series = []
        for link, tone in shown.items():
            shares = [_share(test.name, evidence[test].one(link=link), alpha) for alpha in relu["step_sizes"]]
            ends = ([s.value for s in shares], [s.low for s in shares], [s.high for s in shares])
            series.append(Series("line", link_label(link), relu["step_sizes"], *ends, tone=tone))
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
