"""Claim `edge-of-stability`: what the edge of stability says of networks with kinks is left open (abstract, §4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
    median_interval,
)
from nonsmooth.claims.networks.digit_rows import CLASSES, PIXELS, digit_rows
from nonsmooth.claims.networks.edge_readings import eigenvalues, one_of, readings
from nonsmooth.lab import Cell, Record
from nonsmooth.models import draw_perceptrons, preactivations

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
LABELS = {"tanh": "tanh", "relu": "ReLU"}
LADDER = (0.1, 0.25, 0.5, 0.75)
"""Step sizes α as multiples of 2/λ₀, where λ₀ is the sharpness of the first weights."""
TEXTS = {
    "sharpness": "αλ/2",
    "second": "the second eigenvalue, times α/2",
    "segment": "curvature along the last step, times α/2 (an identity on a two-cycle)",
    "hessian": "of that what the Hessian sees",
}
"""What is read, each over the threshold 2/α."""
READINGS = tuple(TEXTS)

BAND = Choice(
    "band",
    (0.9, 1.2),
    ((0.95, 1.1), (0.8, 1.25)),
    "αλ/2 that counts as at the edge",
    "Cohen et al. (2021) let the sharpness hover at the threshold or just above it.",
)
LENGTHS = {"half": 0, "three quarters": 1, "whole": 2}
LENGTH = Choice(
    "length",
    "whole",
    ("half", "three quarters"),
    "steps of the runs",
    "The sharpness has to stay where it settles.",
)
PASSED = Choice(
    "passed",
    1.1,
    (1.0, 1.3),
    "αλ/2 to which the sharpness of smaller steps must lead for a run to be due",
    "Above 1 by more than a search for the sharpness errs.",
)
STEPS = Choice("steps", LADDER[1:], ((0.25, 0.5), (0.5, 0.75)), "α over 2/λ₀", "Chosen before any run was looked at.")
WIDTHS = Choice("widths", "all", ("smallest", "largest"), "widths", "Two, a factor 2 or more apart.")
MOST = Choice("most", 0.5, (0.6, 0.75), "share that counts as most", "More often than not.")
MET = {
    name: Quantity(f"met_{name}", f"{label} networks whose sharpness settles at 2/α in every run that is due there")
    for name, label in LABELS.items()
}
EARLY = {
    name: Quantity(f"early_{name}", f"{label} networks with runs that are not due at the edge and are there")
    for name, label in LABELS.items()
}

CLAIM = Claim(
    id="edge-of-stability",
    title="The edge of stability says nothing certain about networks with kinks",
    where="abstract, §4",
    statement=(
        "The edge of stability, where the step size α is 2/λ for the largest eigenvalue λ of the Hessian, does not "
        "apply even to Lipschitz continuous convex differentiable functions; its relevance to networks that are "
        "neither convex nor differentiable is left inconclusive."
    ),
    explanation=(
        "The threshold is derived for L-smooth functions, and the Hessian that it needs does not exist everywhere in a "
        "network that is not smooth."
    ),
    control=(
        "The same networks with tanh, which have no kinks. Steps are set beforehand, as shares of 2/λ₀ of the first "
        "weights; a run is due at the edge where the sharpness that the next smaller steps reach would pass its "
        "threshold, and runs that are not due must stay below."
    ),
    edition=(
        "February 2024 (arXiv 2401.08426, early version). Later versions, from November 2024 on, say that the edge of "
        "stability occurs in a broader class of functions."
    ),
    plain="Nobody can say whether networks with kinks train at the edge of stability as smooth ones do.",
)

RULE = Rule(
    Row(
        below(MET["tanh"], MOST) | above(EARLY["tanh"], MOST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the smooth control fails",
            "The smooth networks themselves do not settle where they are due, so these runs say nothing of kinks.",
            decided_by="longer runs, or networks on which the smooth control settles at its edge",
        ),
    ),
    Row(
        above(MET["relu"], MOST) & below(EARLY["relu"], MOST) & above(MET["tanh"], MOST),
        Outcome(
            Verdict.NOT_REPRODUCED,
            "ReLU networks settle there too",
            "On these full-batch networks with squared loss kinks do not change where the sharpness settles.",
        ),
    ),
    Row(
        ~above(MET["relu"], MOST) & above(MET["tanh"], MOST),
        Outcome(
            Verdict.REPRODUCED,
            "only smooth networks settle there",
            "The sharpness of ReLU networks does not settle at the threshold, where that of smooth ones does.",
        ),
    ),
    otherwise=Outcome(
        Verdict.INCONCLUSIVE,
        "runs arrive unasked",
        "Runs that are not due at the edge are there.",
        decided_by="a prediction of which runs are due that holds on smooth networks",
    ),
    always="At the threshold in every run that is due are {met_relu:.0%} of the ReLU networks and {met_tanh:.0%} of "
    "those with tanh; there without being due are {early_relu:.0%} of the ReLU networks.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="inconclusive for networks with kinks",
        ours="ReLU: {met_relu:.0%} of the networks settle at 2/α where they are due",
        control="tanh: {met_tanh:.0%}; ReLU, there without being due: {early_relu:.0%}",
    ),
    choices=(BAND, LENGTH, PASSED, STEPS, WIDTHS, MOST),
    afterthoughts=(
        Afterthought(
            "100 images, widths 16 and 32, 800 steps; due by the next smaller step size",
            "2026-11",
            "Networks with seeds 100 to 102, which are not judged, settle within 400 steps; 0.1 of 2/λ₀ is too slow.",
            "Which runs count as due. Step sizes and band were set before.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each activation and width, which holds all seeds and the ladder of step sizes."""
    images, steps = scale(100, 500), scale(800, 8000)
    for name in ACTIVATIONS:
        for width in scale((16, 32), (32, 128)):
            seeds = scale.seeds(5, 10)
            cost = len(seeds) * (0.3 + 1.5e-9 * steps * images * width * (PIXELS + width))
            yield descent.cell(activation=name, width=width, images=images, steps=steps, seeds=seeds, cost=cost)


@study.experiment(seed_axes={"initial": 0, **dict.fromkeys((*READINGS, "loss"), 2)})
def descent(run: Run, *, activation: str, width: int, images: int, steps: int, seeds: int) -> Mapping[str, Any]:
    """Readings over the threshold 2/α, [step size][step][seed], at a half, three quarters and the end of the runs.

    Half the squared error, summed over classes and averaged over images, full batch, PyTorch's first weights.

    Returns:
        initial: λ₀ by seed.
        sharpness, second: α/2 times the largest and the second largest eigenvalue of the Hessian.
        segment: α/2·⟨Δg, Δw⟩/‖Δw‖² of the last step: 1 on every two-cycle, whatever the function, so no evidence.
        hessian: α/2·⟨Δw, HΔw⟩/‖Δw‖² in the middle of that step: what of it the Hessian sees.
    """
    inputs, labels = digit_rows(images)
    targets, activate = functional.one_hot(labels, CLASSES).float(), ACTIVATIONS[activation]

    def loss(layers: list[Tensor]) -> Tensor:
        return (preactivations(layers, inputs, activate)[-1] - targets).square().sum(-1).mean(-1) / 2

    first = draw_perceptrons((PIXELS, width, width, CLASSES), range(run.seed, run.seed + seeds), "default")
    initial = [eigenvalues(loss, one_of(first, seed))[0] for seed in range(seeds)]
    alpha = torch.tensor([share * 2 / value for share in LADDER for value in initial])[:, None, None]
    at = (steps // 2, 3 * steps // 4, steps)
    found: dict[str, list[Tensor]] = {name: [] for name in (*READINGS, "loss")}
    weights = [part.repeat(len(LADDER), 1, 1) for part in first]
    earlier = slope = weights
    for step in range(steps + 1):
        leaves = [part.detach().requires_grad_() for part in weights]
        losses = loss(leaves)
        gradients = list(torch.autograd.grad(losses.sum(), leaves))
        if step in at:
            states = (earlier, weights, slope, gradients)
            rows = [readings(loss, *(one_of(parts, i) for parts in states)) for i in range(len(alpha))]
            for name, column in zip(READINGS, zip(*rows, strict=True), strict=True):
                found[name].append(alpha.flatten() / 2 * torch.tensor(column))
            found["loss"].append(losses.detach())
        earlier, slope = weights, gradients
        weights = [part - alpha * down for part, down in zip(weights, gradients, strict=True)]
        run.context.progress(step / steps)
    shape = len(at), len(LADDER), seeds
    values = {name: torch.stack(rows).reshape(shape).swapaxes(0, 1).tolist() for name, rows in found.items()}
    return {"initial": initial, "at": at, **values}


def _found(name: str, records: Sequence[Record], choices: Choices) -> list[Finding]:
    """What the networks with an activation say; readings are (step sizes, networks).

    A run is due where the sharpness of the next smaller step size, times the ratio of the two, passes the threshold. A
    network settles if all its runs that are due lie in the band.
    """
    index, (low, high) = LENGTHS[choices.length], choices.band
    read = {key: np.concatenate([np.array(r[key]) for r in records], axis=2) for key in READINGS} if records else {}
    if not read or np.isnan(read["sharpness"]).any():
        return [quantity[name].missing("was not measured, or not in every run") for quantity in (MET, EARLY)]
    looked, last, ladder = read["sharpness"][:, index], read["sharpness"][:, -1], np.array(LADDER)[:, None]
    expected = np.vstack([np.full_like(last[:1], np.nan), last[:-1] * ladder[1:] / ladder[:-1]])
    asked = np.isin(ladder, choices.steps)
    due, spared = asked & (expected > choices.passed), asked & (expected < low / choices.passed)
    settled, early = (due <= ((low <= looked) & (looked <= high))).all(0), (spared & (looked >= low)).any(0)
    at_edge = {
        key: [
            float(np.median(column[mask])) for column, mask in zip(values[:, index].T, due.T, strict=True) if any(mask)
        ]
        for key, values in read.items()
    }
    label, seen = LABELS[name], "share of the curvature along the last step that the Hessian sees"
    return [
        MET[name].share(int(settled[due.any(0)].sum()), int(due.any(0).sum())),
        EARLY[name].share(int(early[spared.any(0)].sum()), int(spared.any(0).sum())),
        *(Quantity(f"{key}_{name}", f"{label}, where due: {text}").median(at_edge[key]) for key, text in TEXTS.items()),
        Quantity(f"seen_{name}", f"{label}, where due: {seen}").median(
            np.divide(at_edge["hessian"], at_edge["segment"])
        ),
        Quantity(f"initial_{name}", f"{label}: sharpness of the first weights").median(
            [value for record in records for value in record["initial"]]
        ),
    ]


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Networks that settle where they are due, those that are there unasked, and what lies beside the sharpness."""
    records = {
        name: sorted(evidence[descent].where(activation=name), key=lambda r: int(r.parameters["width"]))
        for name in ACTIVATIONS
    }
    kept = {name: {"smallest": of[:1], "largest": of[-1:]}.get(choices.widths, of) for name, of in records.items()}
    return Findings(
        _found("relu", kept["relu"], choices),
        _found("tanh", kept["tanh"], choices),
        [Value("edge", "αλ/2 at the edge", 1.0)],
        notes=(
            "α/2·⟨Δg, Δw⟩/‖Δw‖² of a step is 1 on every two-cycle, whatever the function: it decides nothing.",
            "Runs of one network share its first weights, so networks are counted.",
        ),
    )


@study.figures
def draw(evidence: Evidence, _: Findings) -> list[Figure]:
    """Sharpness and second eigenvalue over the threshold, by step size."""
    panels = []
    for name, label in LABELS.items():
        series = [Series("horizontal", "threshold", y=(1.0,), tone="theory", dashed=True)]
        for record, tones in zip(evidence[descent].where(activation=name), ("ab", "cd"), strict=False):
            for reading, tone in zip(("sharpness", "second"), tones, strict=True):
                rows = [median_interval(np.array(row)[-1]) for row in record[reading]]
                middle, low, high = zip(*rows, strict=True)
                text = f"{reading}, width {record.parameters['width']}"
                series.append(Series("points", text, LADDER, middle, low, high, tone))
        panels.append(Panel(label, Axis("α over 2/λ₀"), Axis("at the end, over the threshold 2/α"), tuple(series)))
    return [
        Figure(
            "Where the sharpness settles",
            "αλ/2 at the end of the runs against the step size, medians and intervals over seeds. Where the sharpness "
            "would pass the threshold it stays there, with kinks and without.",
            tuple(panels),
        )
    ]
