"""Minima of ReLU networks are generically not differentiable (§2 and §4, after Laurent & von Brecht 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from nonsmooth.claims.framework import (
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
    Scale,
    Series,
    Study,
    Verdict,
    below,
)
from nonsmooth.lab import Cell, Record
from nonsmooth.problems.two_layer import Activation, Loss, TwoLayer

SAMPLES, INPUTS, RATE = 40, 4, 0.02
LOSSES: Mapping[str, Loss] = {
    "hinge": lambda outputs, targets: (1 - targets * outputs[..., 0]).clamp(min=0),
    "squared": lambda outputs, targets: (targets - outputs[..., 0]).square() / 2,
    "cross-entropy": lambda outputs, targets: functional.softplus(-targets * outputs[..., 0]),
}
ACTIVATIONS: Mapping[str, Activation] = {"relu": torch.relu, "gelu": functional.gelu}
KINDS = {
    "hinge": ("hinge", "relu", 4, 0.0, "hinge loss, 4 units, cannot fit"),
    "squared": ("squared", "relu", 4, 0.0, "squared loss, 4 units, cannot fit"),
    "decay": ("cross-entropy", "relu", 32, 1e-3, "cross-entropy with weight decay, 32 units"),
    "hinge_fits": ("hinge", "relu", 32, 0.0, "hinge loss, 32 units, fits"),
    "squared_fits": ("squared", "relu", 32, 0.0, "squared loss, 32 units, fits"),
    "smooth": ("squared", "gelu", 4, 0.0, "squared loss, 4 GELU units, cannot fit"),
    "smooth_decay": ("cross-entropy", "gelu", 32, 1e-3, "cross-entropy with weight decay, 32 GELU units"),
    "smooth_hinge": ("hinge", "gelu", 4, 0.0, "hinge loss, 4 GELU units, cannot fit"),
}
"""Loss, activation, hidden units, weight decay, and how a reader sees it; the labels are random."""
FITTING, SMOOTH = ("hinge_fits", "squared_fits"), ("smooth", "smooth_decay")

JUMP = Choice(
    "jump",
    1e-3,
    (2e-4, 2e-3),
    "jump of the slope, over the length of the first gradient, that counts as a kink",
    "Smooth networks show their curvature times 2e-7, at most 1e-5.",
)
MOST = Choice("most", 0.5, (0.6, 0.75), "share of the minima that counts as most", "More often than not.")
LENGTH = Choice("length", "whole", ("half",), "length of the runs", "The step shrinks by ten decades in either.")
REST = Choice(
    "rest", 0.2, (0.1,), "mean gradient at rest over the first gradient", "Far below a gradient's own length."
)

AT_KINK = Quantity("hinge", "minima at a kink, hinge loss, 4 units, cannot fit")
FITS = Quantity("fits", "minima at a kink, networks that fit their data")
CONTROL = Quantity("control", "minima at a kink, GELU networks with a smooth loss")
DRIFT = Quantity("drift", "mean gradient at rest over the first gradient, hinge loss, 4 units")

CLAIM = Claim(
    id="kink-minima",
    plain="ReLU networks come to rest at points where the loss has a kink.",
    title="Minima of ReLU networks lie at kinks",
    where="§2, Convergence analysis and L-smoothness; §4 (after Laurent & von Brecht 2018)",
    statement=(
        "“Local minima of ReLU networks are generically nondifferentiable. They cannot be waved away as a "
        "technicality.” VGG16 and ResNet, as ReLU networks, have such minima."
    ),
    explanation=(
        "The paper gives none and quotes Laurent & von Brecht, who show it of the hinge loss: the loss is then "
        "piecewise multilinear, and has no minimum inside a piece."
    ),
    control=(
        "The same with losses that curve, with a smooth activation, and with networks that fit their data; and the "
        "same slopes at the start, and at random weights of the same size."
    ),
)

RULE = Rule(
    Row(
        ~below(CONTROL, MOST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "smooth networks show kinks too",
            decided_by="a displacement so small that a smooth network's slope does not jump",
        ),
    ),
    Row(
        ~below(DRIFT, REST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the runs reach no minimum",
            decided_by="longer runs, until the mean gradient around the point of rest vanishes",
        ),
    ),
    Row(below(AT_KINK, MOST), Outcome(Verdict.NOT_REPRODUCED, "minima lie off the kinks")),
    Row(
        below(FITS, MOST),
        Outcome(
            Verdict.WITH_CORRECTION,
            "true where loss is left",
            correction="Minima at which loss is left lie at kinks: {hinge:.0%} of them with the hinge loss, "
            "{squared:.0%} with the squared loss, {decay:.0%} with cross-entropy and weight decay, which Laurent & "
            "von Brecht do not treat. Networks that fit their data come to rest with almost no loss, {fits:.0%} at a "
            "kink: the exception that their theorem makes (“except … where the loss surface is perfectly flat”) and "
            "the paper leaves out.",
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "minima lie at kinks"),
    always="Of minima with the hinge loss that cannot reach 0, {hinge.hits} of {hinge.count} lie at a kink, where the "
    "slope jumps by {jump_hinge} of the first gradient; of networks that fit, {fits.hits} of {fits.count}; of smooth "
    "networks {control.hits} of {control.count}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="minima are generically nondifferentiable",
        ours="loss left: {hinge:.0%} at kinks; fitted: {fits:.0%}",
        control="GELU: {control:.0%}; random weights: {random:.0%}",
    ),
    choices=(JUMP, MOST, LENGTH, REST),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Each kind of network in runs of the whole length; in half of it those that decide."""
    seeds, steps = scale.seeds(10, 40), scale(2000, 10_000)
    for kind in KINDS:
        lengths = (steps, steps // 2) if kind in ("hinge", *FITTING) else (steps,)
        for length in lengths:
            yield minimum.cell(kind=kind, steps=length, seeds=seeds, cost=7e-5 * length * len(seeds))


@study.experiment(
    part="minimum",
    seed_axes=dict.fromkeys(("loss", "rest", "loss_kinks", "units_on_kinks", "jump", "nearest"), 0),
)
def minimum(run: Run, *, kind: str, steps: int, seeds: int) -> Mapping[str, Any]:
    """The slopes' jumps and the nearest kink of each seed at the start, at random weights of that size, and at rest."""
    loss, activation, hidden, decay, _ = KINDS[kind]
    inputs, targets = [], []
    for seed in range(run.seed, run.seed + seeds):
        generator = torch.Generator().manual_seed(seed)
        inputs.append(torch.randn(SAMPLES, INPUTS, generator=generator, dtype=torch.float64))
        targets.append(torch.randint(2, (SAMPLES,), generator=generator).double() * 2 - 1)
    network = TwoLayer(
        torch.stack(inputs), torch.stack(targets), hidden, 1, ACTIVATIONS[activation], LOSSES[loss], decay
    )
    start = network.start(range(run.seed, run.seed + seeds))
    end, rest = network.minimize(start, steps, RATE, run.context.progress)
    another = network.start(range(run.seed + seeds, run.seed + 2 * seeds))
    random = network.scaled_like(another, end)
    first = torch.linalg.vector_norm(network.gradient(start), dim=-1)
    near = network.preactivation(end).abs()
    scale = near.flatten(1).median(1).values[:, None, None]
    margins = (1 - network.targets * network.outputs(end)[..., 0]).abs()
    points = (start, random, end)
    return {
        "loss": network.value(end).tolist(),
        "rest": (rest / first).tolist(),
        "loss_kinks": (margins < 1e-6).sum(1).tolist() if loss == "hinge" else [0] * seeds,
        "units_on_kinks": (near < 1e-6 * scale).sum((1, 2)).tolist(),
        "jump": (torch.stack([*map(network.slope_jump, points)], 1) / first[:, None]).tolist(),
        "nearest": torch.stack([*map(network.nearest_kink, points)], 1).tolist(),
    }


def _flags(records: Iterable[Record], choices: Choices, point: int = 2) -> np.ndarray:
    """Whether the slope jumps, at the start (0), at random weights (1) or at rest (2), a flag for each seed."""
    jumps = [np.array(record["jump"])[:, point] for record in records]
    return np.concatenate([np.where(np.isnan(one), np.nan, one > choices.jump) for one in jumps] or [np.empty(0)])


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """How many minima of each kind lie at a kink, how near the kinks are, and whether they are minima."""
    runs = evidence[minimum]
    chosen = {}
    for kind, of in runs.by("kind").items():
        lengths = sorted(of.by("steps"))
        if choices.length == "half" and len(lengths) < 2 and kind in ("hinge", *FITTING):
            raise NotStoredError(f"the kind {kind} was not run at half the length")
        chosen[kind] = of.where(steps=lengths[-1] if choices.length == "whole" else lengths[0])
    if missing := {"hinge", *FITTING, *SMOOTH} - set(chosen):
        raise NotStoredError(f"the kinds {', '.join(sorted(missing))} were not run")

    def share(quantity: Quantity, kinds: Iterable[str], point: int = 2) -> Finding:
        return quantity.share_of(_flags([record for kind in kinds for record in chosen[kind]], choices, point))

    hinge, ours = chosen["hinge"], ("hinge", "squared", "decay")
    places = (("start", "at the start"), ("random", "at random weights"), ("hinge", "at rest"))
    jump, near = (
        "jump of the slope over the first gradient",
        "smallest |pre-activation| over the median one, hinge loss",
    )

    def at_rest(kind: str) -> Finding:
        return share(Quantity(kind, f"minima at a kink, {KINDS[kind][-1]}"), (kind,))

    return Findings(
        (
            share(AT_KINK, ("hinge",)),
            *(
                Quantity(f"jump_{name}", f"{jump}, {KINDS['hinge'][-1]}, {where}").median(hinge.joined("jump")[:, i])
                for i, (name, where) in enumerate(places)
            ),
            *(
                Quantity(f"nearest_{name}", f"{near}, {where}").median(hinge.joined("nearest")[:, i])
                for i, (name, where) in enumerate(places)
            ),
            Quantity("units", "pre-activations within 1e-6 of their kink, of 160, hinge loss").median(
                hinge.joined("units_on_kinks")
            ),
            Quantity("margins", "samples within 1e-6 of the hinge's own kink, of 40").median(
                hinge.joined("loss_kinks")
            ),
            DRIFT.median(hinge.joined("rest")),
            *(at_rest(kind) for kind in ours[1:] if kind in chosen),
        ),
        (
            share(FITS, FITTING),
            share(CONTROL, SMOOTH),
            share(Quantity("random", "ReLU networks whose slope jumps at random weights"), ours, 1),
            *(at_rest(kind) for kind in (*FITTING, "smooth_hinge") if kind in chosen),
            *(
                Quantity(f"jump_{kind}", f"{jump}, {KINDS[kind][-1]}").median(of.joined("jump")[:, 2])
                for kind, of in chosen.items()
                if kind != "hinge"
            ),
        ),
        notes=(
            "Laurent & von Brecht (2018) treat the hinge loss and (leaky) ReLUs: all local minima are "
            "non-differentiable “except for those minima that occur in a region of parameter space where the loss "
            "surface is perfectly flat”. The paper quotes the sentence that follows without either condition.",
            "A smooth activation with the hinge loss rests at kinks as well, those of the loss.",
            "The points of rest are stationary in Clarke's sense to within the mean gradient given; that they are "
            "minima is not proved.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The jump of the slope at the start, at random weights and at rest, for each kind of network."""
    del found
    longest = max(evidence[minimum].by("steps"))
    series, floor = [], 1e-12
    for kind, tone in zip(KINDS, ("ours", "a", "b", "c", "d", "control", "e", "f"), strict=True):
        for record in evidence[minimum].where(kind=kind, steps=longest):
            jumps = np.maximum(np.array(record["jump"]), floor)
            middle, low, high = np.median(jumps, axis=0), jumps.min(axis=0), jumps.max(axis=0)
            where = ("start", "random", "at rest")
            series.append(Series("points", KINDS[kind][-1], where, middle.tolist(), low.tolist(), high.tolist(), tone))
    threshold = Series("horizontal", "counts as a kink", y=(JUMP.value,), tone="theory", dashed=True)
    return [
        Figure(
            "The slope at a minimum",
            "How much the slope along a random direction jumps across the weights, over the length of the first "
            "gradient: medians and ranges over seeds. At the start and at random weights it does not; at rest it does "
            "where loss is left and the function has kinks.",
            (Panel("jump of the slope", Axis("weights"), Axis("jump / |first gradient|", True), (*series, threshold)),),
        )
    ]
