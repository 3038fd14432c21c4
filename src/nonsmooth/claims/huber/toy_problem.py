"""The convex single-layer ReLU network as the toy problem for theory: does a run on it have a kink at all (§4)?"""

from __future__ import annotations

import math
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
    Runs,
    Scale,
    Series,
    Study,
    Verdict,
    above,
    below,
)
from nonsmooth.claims.huber.huber_data import EDITION, draw_entries
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import State, Trace, loss, norm
from nonsmooth.dynamics.thresholds import turning_share
from nonsmooth.lab import Cell
from nonsmooth.problems import relu_regression

PAPER_SIZE = (20, 500)
FEATURES = 20
SAMPLES = (10, 20, 30, 40, 50, 60, 100, 200)
TALL = (100, 200)
"""N of the control, five and ten times P."""
PENALTIES = {"L2": (0.0, 0.01), "none": (0.0, 0.0), "L1": (0.1, 0.0)}
MULTIPLES = (0.03, 0.1, 0.3, 1.5)
"""Step sizes in units of 2/L, with L = 2σ_max(Z)² + 2λ₂, the curvature where all units are active."""
LENGTHS = (400, 800, 1600)

LENGTH = Choice("length", 1600, (800, 400), "steps of a run", "Ten times what the slowest runs take to turn linear.")
LATE = Choice("late", 0.1, (0.25, 0.5), "share of the run that is its end", "As in the other claims of §4.")
MOST = Choice("most", 0.5, (0.25, 0.75), "share of the data that counts as most", "More often than not.")
SIZE = Choice(
    "size",
    PAPER_SIZE,
    ((50, 200), (10, 20)),
    "samples and features",
    "§4 gives none; §2 runs this network with 20 × 500, eq. (13) has 50 × 200.",
)
SHAPE = Choice(
    "shape",
    "fewer samples than features",
    ("100 samples, 20 features",),
    "shape of the data",
    "As in every problem of the paper.",
    "with fewer samples than features, as in every problem of the paper",
)

OURS = Quantity("kink", "data of the paper's size on which a run of any step size crosses a kink at its end")
TALLER = Quantity(
    "kink_tall",
    "data with 5 or 10 times as many samples as features on which runs of every step size cross a kink at their end",
)
CONTROL = Quantity(
    "kink_positive",
    "data with as many samples, half of the targets positive, on which runs of every step size cross a kink at their "
    "end",
)

CLAIM = Claim(
    id="toy-problem",
    plain="That one-layer network is a good toy for studying training at kinks.",
    title="The convex ReLU network as a toy problem for kinks",
    where="§4, The way forward",
    statement=(
        "The convex non-differentiable single-layer network is a toy problem for theory: it is convex, its global "
        "optimum is known, and the optimum exists at a point of non-differentiability, the setup which is particularly "
        "relevant to ReLU networks."
    ),
    explanation="With y ≤ 0 the minimum lies at β = 0, on the kink of every unit.",
    control=(
        "The same network with positive targets, which pull units to their kinks from the active side; other sizes, "
        "from half as many samples as features to ten times as many; and a penalty with kinks of its own."
    ),
    edition=EDITION,
)

RULE = Rule(
    Row(
        ~above(CONTROL, MOST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the control shows no kink",
            decided_by="a problem whose minimiser has units on their kinks, on which runs are seen to cross them",
        ),
    ),
    Row(
        below(OURS, MOST) & below(TALLER, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "its runs meet no kink"),
    ),
    Row(
        below(OURS, MOST),
        Outcome(
            Verdict.WITH_CORRECTION,
            "only with many samples",
            correction="The optimum lies on the kinks, but a run stays at them only where the units cannot all be off "
            "at once, which needs about twice as many samples as features (Wendel 1962): with five times as many, the "
            "runs on {kink_tall:.0%} of the data cross kinks to their end. With 20 samples and 500 features the last "
            "crossing is at step {last_slow:v} at the smallest and {last_fast:v} at the largest step size tried; after "
            "it the output is 0, the run is linear, and the loss turns late on {turning:.0%} of the data, even above "
            "2/L. With an L1 penalty runs on {kink_l1:.0%} of the data cross kinks to the end: the penalty's doing.",
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "its runs stay at kinks"),
    always="On {kink.hits} of {kink.count} data sets of the paper's size a run still crosses a kink at its end; with 5 "
    "or 10 times as many samples as features runs of every step size do on {kink_tall.hits} of {kink_tall.count}, and "
    "with positive targets on {kink_positive.hits} of {kink_positive.count}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="a toy problem with its optimum at a kink",
        ours="runs cross kinks to the end on {kink:.0%} of the data; with N ≥ 5P on {kink_tall:.0%}",
        control="positive targets: {kink_positive:.0%}",
    ),
    choices=(LENGTH, LATE, MOST, SIZE, SHAPE),
    afterthoughts=(
        Afterthought(
            "data with more samples than features are an alternative",
            "2026-11",
            "All alternatives had fewer samples than features, and the correction is about the number of samples.",
            "The verdict is said to hold with fewer samples than features.",
        ),
    ),
)


def wendel(samples: int, features: int) -> float:
    """The probability that N vectors of symmetric law lie in one half-space of R^P: that all units can be off at once.

    Wendel (1962), "A problem in geometric probability".
    """
    return float(sum(math.comb(samples - 1, k) for k in range(features)) * 2.0 ** (1 - samples))


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each size, penalty and kind of response, with all seeds and step sizes."""
    seeds = scale.seeds(16, 64)
    others: dict[str, Any] = {"penalty": "L2", "positive": False}
    kinds = [(PAPER_SIZE, {**others, "penalty": penalty}) for penalty in PENALTIES]
    kinds += [((50, 200), others)] + [((samples, FEATURES), others) for samples in SAMPLES]
    kinds += [((samples, FEATURES), {**others, "positive": True}) for samples in TALL]
    for (samples, features), kind in kinds:
        cost = len(seeds) * LENGTHS[-1] * (1e-5 + 1e-9 * samples * features)
        yield crossings.cell(samples=samples, features=features, steps=LENGTHS[-1], seeds=seeds, cost=cost, **kind)


def _crosses(state: State) -> Tensor:
    """Whether any unit has turned on or off in the last step."""
    before = state.evaluation if state.previous is None else state.previous
    assert state.evaluation.preactivation is not None and before.preactivation is not None
    return ((state.evaluation.preactivation > 0) != (before.preactivation > 0)).any(-1)


@study.experiment(part="crossings", seed_axes={"last": 1, "turning": 1, "left": 0})
def crossings(
    run: Run, *, samples: int, features: int, penalty: str, positive: bool, steps: int, seeds: int
) -> Mapping[str, Any]:
    """The last step at which a unit crosses its kink, in the first so many steps: [length][seed][step size].

    Likewise the share of turns of the loss in the last tenth of them, and whether ‖β‖∞ exceeds 1 while the loss falls.
    """
    data, response, start = [], [], []
    for seed in range(run.seed, run.seed + seeds):
        generator = torch.Generator().manual_seed(seed)
        data.append(draw_entries("uniform", generator, samples, features))
        targets = -torch.rand(samples, generator=generator, dtype=torch.float64)
        response.append(torch.cat([-targets[: samples // 2], targets[samples // 2 :]]) if positive else targets)
        start.append(draw_entries("uniform", generator, 1, features))
    l1, l2 = PENALTIES[penalty]
    problem = relu_regression(torch.stack(data), torch.stack(response), l1=l1, l2=l2)
    edge = 1 / (torch.linalg.matrix_norm(problem.data, ord=2).square() + l2)
    step_size = edge[:, None] * torch.tensor(MULTIPLES, dtype=torch.float64)
    points = torch.stack(start).expand(-1, len(MULTIPLES), -1).contiguous()
    every = range(steps + 1)
    record = {"crosses": Trace(_crosses, every), "loss": Trace(loss, every), "size": Trace(norm(math.inf), every)}
    found = iterate(problem, points, Constant(step_size), steps, record, progress=run.context.progress)
    crosses, losses, sizes = (found[name].numpy() for name in record)
    falling = np.cumsum(np.diff(losses, axis=0) > 0, axis=0) == 0
    lengths = [length for length in LENGTHS if length <= steps]
    return {
        "length": lengths,
        # Steps are counted from 1; 0 is never.
        "last": [(crosses[: n + 1] * np.arange(n + 1)[:, None, None]).max(axis=0).tolist() for n in lengths],
        "turning": [turning_share(losses[n - n // 10 : n + 1], losses[0]).tolist() for n in lengths],
        "left": ((sizes[1:] > 1) & falling).any(axis=0).tolist(),
    }


def _late(runs: Runs, choices: Choices, joined: Callable[..., Any] = np.any) -> np.ndarray:
    """Whether runs cross a kink at their end, a flag for each data set: at any of the step sizes, or at all."""
    last = [np.array(record["last"][list(record["length"]).index(choices.length)]) for record in runs]
    flags = [joined(one > (1 - choices.late) * choices.length, axis=1) for one in last]
    return np.concatenate(flags) if flags else np.empty(0)


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """How long the runs cross kinks, by size, penalty and response, and what else of the paper's effects they show."""
    runs = evidence[crossings]
    samples, features = choices.size if choices.shape == SHAPE.value else (TALL[0], FEATURES)
    plain = runs.where(penalty="L2", positive=False)
    ours = plain.some(samples=samples, features=features)
    record = ours[0]
    index = list(record["length"]).index(choices.length)
    last, turning = np.array(record["last"][index]), np.array(record["turning"][index]) > 0
    small = plain.where(features=FEATURES)
    crossing = "data on which a run crosses a kink at its end"
    by_size = [
        Quantity(f"kink_{n}", f"{crossing}, {n} samples, 20 features").share_of(_late(of, choices))
        for n, of in small.by("samples").items()
    ]
    tall = [small.where(samples=n) for n in TALL]
    turns: list[Any] = [np.array(r["turning"][index]).any(axis=1) for of in tall for r in of]
    return Findings(
        (
            OURS.share_of(_late(ours, choices)),
            Quantity("last_slow", f"last crossing, α = {MULTIPLES[0]}·2/L", "steps").median(last[:, 0]),
            Quantity("last_fast", f"last crossing, α = {MULTIPLES[-1]}·2/L", "steps").median(last[:, -1]),
            Quantity("turning", "data on which the loss of any run turns at its end").share_of(turning.any(axis=1)),
            Quantity("left", "data on which runs leave the unit ball of ‖·‖∞ while the loss falls").share_of(
                np.array(record["left"]).any(axis=1),
            ),
            *by_size,
        ),
        (
            TALLER.share_of(np.concatenate([_late(of, choices, np.all) for of in tall])),
            Quantity("turning_tall", "data with N ≥ 5P on which the loss of any run turns at its end").share_of(
                np.concatenate(turns or [np.empty(0)]),
            ),
            CONTROL.share_of(_late(runs.where(positive=True), choices, np.all)),
            *(
                Quantity(f"kink_{name.lower()}", f"{crossing}, 20 × 500, {label}").share_of(
                    _late(runs.where(penalty=name), choices),
                )
                for name, label in (("L1", "λ₁ = 0.1"), ("none", "no penalty"))
            ),
        ),
        tuple(
            Quantity(f"kink_{n}", f"probability that {n} units of 20 features cannot all be off (Wendel)").number(
                1 - wendel(n, FEATURES)
            )
            for n in small.by("samples")
        ),
        notes=(
            "Above 2/L a single step turns active units off for good; where they cannot all be off, the squared loss "
            "may diverge, since its gradient is not bounded.",
            "The optimum is known in any case; what a run does near it is another matter.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The last crossing against the step size, and how many runs cross to their end against N/P."""
    plain = evidence[crossings].where(penalty="L2", positive=False)
    lines = []
    for (samples, features), tone in zip(
        (PAPER_SIZE, (50, 200), (10, 20), (200, 20)), ("ours", "a", "b", "control"), strict=True
    ):
        for record in plain.where(samples=samples, features=features):
            middle = np.median(record["last"][-1], axis=0).tolist()
            lines.append(Series("line", f"{samples} × {features}", MULTIPLES, middle, tone=tone))
    shares = [(n, one) for n in SAMPLES if isinstance(one := found.get(f"kink_{n}"), Estimate)]
    ratio = [n / FEATURES for n, _ in shares]
    measured = Series(
        "points",
        "measured",
        ratio,
        [e.value for _, e in shares],
        [e.lower for _, e in shares],
        [e.upper for _, e in shares],
    )
    theory = [1 - wendel(n, FEATURES) for n in range(5, 201)]
    wide = Series("line", "Wendel", [n / FEATURES for n in range(5, 201)], theory, tone="theory", dashed=True)
    edge = Series("vertical", "α = 2/L", x=(1.0,), tone="theory", dashed=True)
    return [
        Figure(
            "How long a run of the toy problem has a kink",
            "Left: the last step at which a unit crosses its kink, of 1,600 (medians over seeds). Right: data on "
            "which runs cross kinks in the last tenth, and the probability that the units cannot all be off at once. "
            "With few samples the units die, and the run is linear from there on.",
            (
                Panel("last crossing", Axis("α / (2/L)", True), Axis("step", True), (*lines, edge)),
                Panel("kinks to the end, P = 20", Axis("N/P", True), Axis("share of the runs"), (measured, wide)),
            ),
        )
    ]
