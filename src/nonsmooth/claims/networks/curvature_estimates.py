"""Finite differences of the loss near minima of ReLU networks, as Ma et al. (2022) take them, are said to fail (§4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
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
    Value,
    Verdict,
    above,
    below,
    median_interval,
)
from nonsmooth.claims.huber.huber_data import EDITION
from nonsmooth.data import load_images
from nonsmooth.lab import Cell, Record
from nonsmooth.problems import QuadraticRelu
from nonsmooth.problems.convexity import unit
from nonsmooth.problems.two_layer import Activation, TwoLayer

IMAGES, HIDDEN, RATE = 100, 16, 0.02
WIDTHS = (0.003, 0.03, 0.3)
"""ε of the C¹ twins of the ReLU, quadratic on [-ε, ε]: about 1/500, 1/50 and 1/5 of a pre-activation's size."""
ACTIVATIONS: Mapping[str, Activation] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    **{f"c1 {width:g}": QuadraticRelu(width).value for width in WIDTHS},
}
TWINS, SMOOTH = tuple(f"c1 {width:g}" for width in WIDTHS), ("gelu", "tanh")
NEEDED = ("relu", "gelu", TWINS[-1])
DISPLACEMENTS = (1e-5, 1e-4, 1e-3, 1e-2)
RANDOM = 4
"""Random directions beside the top eigenvector."""
PRODUCTS = 50
"""Of the power iteration for the top eigenvector; autograd's Hessian, which sees no kinks."""

DISPLACEMENT = Choice(
    "displacement",
    1e-3,
    (1e-4, 1e-2),
    "displacement ε of the difference, of weights of length about 10",
    "Ma et al.'s is not in the paper; at 1e-2 the curvature of a smooth network changes by half a percent.",
    "at a displacement of {value}",
)
BREAKS = Choice("gap", 0.1, (0.05, 0.2), "gap that counts as a failure", "A curvature that is a tenth off.")
MOST = Choice("most", 0.5, (0.6, 0.75), "share of the networks that counts as most", "More often than not.")
DIFFERENCE = Choice(
    "difference",
    "of the loss",
    ("of gradients",),
    "second-order difference",
    "Ma et al. take differences of the loss.",
)
DECAY = Choice(
    "decay",
    1e-3,
    (0.0,),
    "weight decay",
    "With it there is a minimum; without it the loss of a network that fits only tends to 0.",
    "for networks with a weight decay of {value}, which have a minimum",
)

TOP = Quantity("fails_top", "ReLU networks on which the difference fails along the top eigenvector")
ALONG = Quantity("fails_random", "ReLU networks on which the difference fails along random directions")
SMOOTH_FAILS = Quantity("fails_smooth", "GELU and tanh networks on which the difference fails along either")
WIDE_FAILS = Quantity("fails_wide", "C¹ ReLU networks of the widest corner on which the difference fails along either")

CLAIM = Claim(
    id="curvature-estimates",
    plain="Curvature that is measured by differences goes wrong near the minima of ReLU networks.",
    title="Finite differences at minima of ReLU networks",
    where="§4, Subquadratic losses and unstable convergence",
    statement=(
        "Ma et al. (2022) estimate the curvature of VGG16 and ResNet near a minimum by second-order finite "
        "differences. Their analysis is flawed: local minima of ReLU networks are generically non-differentiable, so "
        "the points of interest lie where the approximation breaks down."
    ),
    explanation=(
        "The minima of ReLU networks are not differentiable, so the points of interest lie where a second-order "
        "difference does not give the curvature: at a kink it sees the jump of the slope divided by ε."
    ),
    control=(
        "GELU and tanh networks; C¹ twins of the ReLU, quadratic on [-width, width], in which a difference must agree "
        "with the Hessian once ε is small against the width; and ReLU networks at the start, away from a minimum."
    ),
    edition=EDITION,
)

RULE = Rule(
    Row(
        ~below(SMOOTH_FAILS, MOST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "differences fail anywhere",
            decided_by="a smaller displacement, at which differences agree with the Hessian of smooth networks",
        ),
    ),
    Row(
        below(ALONG, MOST) & below(TOP, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "differences are right"),
    ),
    Row(
        ~below(WIDE_FAILS, MOST),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "smooth twins fail too",
            "But the C¹ twin whose corner is far wider than ε fails as well.",
        ),
    ),
    Row(
        ~(above(TOP, MOST) & above(ALONG, MOST)),
        Outcome(
            Verdict.WITH_CORRECTION,
            "along some directions only",
            correction="The gap is {relu_top} along the top eigenvector and {relu_random} along random directions.",
        ),
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED,
        "differences see kinks, not curvature",
        "The difference grows as the displacement to the power {scaling_relu}, where a curvature would stay; for C¹ "
        "twins it agrees once ε is small against the width of the corner. At the start, away from a minimum, it "
        "misses by {start_random} along random directions at the same displacement, and by {start_fine:v} at the "
        "smallest one, where at a minimum it misses by {relu_fine:v}.",
    ),
    always="The difference misses uᵀHu by {relu_top} (of the larger of the two) along the top eigenvector and by "
    "{relu_random} along random directions at minima of small ReLU networks on digits; by at most {smooth} for GELU "
    "and tanh and {wide} for the widest C¹ ReLU (medians over networks).",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="the approximation breaks down",
        ours="gap {relu_top:v} along the top eigenvector, {relu_random:v} along random ones",
        control="GELU, tanh: {smooth:v}; C¹ twins: {wide:v}",
    ),
    choices=(DISPLACEMENT, BREAKS, MOST, DIFFERENCE, DECAY),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Every activation with weight decay, and ReLU, GELU and the widest twin without."""
    seeds, steps = scale.seeds(8, 20), scale(700, 5000)
    for name in ACTIVATIONS:
        for decay in (DECAY.value, 0.0) if name in NEEDED else (DECAY.value,):
            cost = 2e-4 * steps * len(seeds)
            yield differences.cell(activation=name, decay=decay, steps=steps, seeds=seeds, cost=cost)


@study.experiment(
    part="differences",
    seed_axes={"rest": 0, "accuracy": 0, "hessian": 1, "loss": 2, "gradient": 2, "start_hessian": 1, "start_loss": 2},
)
def differences(run: Run, *, activation: str, decay: float, steps: int, seeds: int) -> Mapping[str, Any]:
    """uᵀHu [direction][seed] at a minimum, and differences of the loss and of gradients [ε][direction][seed].

    The first direction is the top eigenvector, the others are random. Likewise at the start, for the loss.
    """
    network = digits_network(activation, decay, seeds)
    start = network.start(range(run.seed, run.seed + seeds))
    end, rest = network.minimize(start, steps, RATE, run.context.progress)
    right = network.outputs(end).argmax(-1) == network.targets
    first = torch.linalg.vector_norm(network.gradient(start), dim=-1)
    found = {name: curvatures(network, at, run.seed) for name, at in (("end", end), ("start", start))}
    return {
        "rest": (rest / first).tolist(),
        "accuracy": right.double().mean(-1).tolist(),
        "hessian": found["end"][0].tolist(),
        "loss": found["end"][1].tolist(),
        "gradient": found["end"][2].tolist(),
        "start_hessian": found["start"][0].tolist(),
        "start_loss": found["start"][1].tolist(),
    }


def digits_network(activation: str, decay: float, seeds: int) -> TwoLayer:
    """A perceptron 64-16-10 for each seed, on the same hundred digits, with cross-entropy."""
    images = load_images("digits", "train", IMAGES, 8)
    inputs = images.inputs[:, 0].flatten(1).double().expand(seeds, -1, -1)
    targets = images.labels.expand(seeds, -1)

    def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
        return -outputs.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)

    return TwoLayer(inputs, targets, HIDDEN, 10, ACTIVATIONS[activation], cross_entropy, decay)


def curvatures(network: TwoLayer, weights: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """uᵀHu by double backward, and the two differences, along the top eigenvector and random directions."""
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        return unit(torch.randn(weights.shape, generator=generator, dtype=torch.float64))

    top = drawn()
    for _ in range(PRODUCTS):
        top = unit(network.hessian_product(weights, top))
    directions = [top, *(drawn() for _ in range(RANDOM))]
    hessian = torch.stack([(network.hessian_product(weights, u) * u).sum(-1) for u in directions])
    return hessian, *network.differences(weights, directions, DISPLACEMENTS)


def gaps(record: Record, difference: str = "loss", hessian: str = "hessian") -> dict[str, np.ndarray]:
    """|difference - uᵀHu| over the larger of the two, shape (displacements, seeds): top eigenvector, random median."""
    measured, exact = np.array(record[difference]), np.array(record[hessian])[None]
    gap = np.abs(measured - exact) / np.maximum(np.abs(measured), np.abs(exact))
    return {"top": gap[:, 0], "random": np.median(gap[:, 1:], axis=1)}


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The gap of each activation at the chosen displacement, and how the difference grows as ε shrinks."""
    runs = evidence[differences].where(decay=choices.decay)
    value = {"of the loss": "loss", "of gradients": "gradient"}[choices.difference]
    at = DISPLACEMENTS.index(choices.displacement)
    records = {name: of[0] for name, of in runs.by("activation").items()}
    if missing := set(NEEDED) - set(records):
        raise NotStoredError(
            f"networks with {', '.join(sorted(missing))} and a decay of {choices.decay} were not stored"
        )
    found = {
        (name, along): Quantity(
            f"{name.replace(' ', '_').replace('.', '_')}_{along}",
            f"gap between difference and uᵀHu, {name}, {'top eigenvector' if along == 'top' else 'random directions'}",
        ).median(gap[at])
        for name, record in records.items()
        for along, gap in gaps(record, value).items()
    }
    relu = records["relu"]
    smooth, wide = (
        [gap[at] for name in names if name in records for gap in gaps(records[name], value).values()]
        for names in (SMOOTH, TWINS[-1:])
    )
    sizes = np.abs(np.median(np.array(relu["loss"])[:, 1:], axis=1))
    falls = np.log(sizes[2] / sizes[1]) / np.log(DISPLACEMENTS[2] / DISPLACEMENTS[1])
    start, fine = gaps(relu, "start_loss", "start_hessian"), DISPLACEMENTS[0]
    return Findings(
        (
            found["relu", "top"],
            found["relu", "random"],
            _fails(TOP, [gaps(relu, value)["top"][at]], choices.gap),
            _fails(ALONG, [gaps(relu, value)["random"][at]], choices.gap),
            Quantity("scaling_relu", "exponent of the difference in ε, 1e-4 to 1e-3, ReLU, random directions").median(
                falls
            ),
            Quantity("relu_fine", f"gap at ε = {fine:g}, ReLU, random directions").median(gaps(relu)["random"][0]),
            Quantity("relu_rest", "mean gradient at rest over the first gradient, ReLU").median(relu["rest"]),
            Quantity("relu_accuracy", "training accuracy at rest, ReLU").median(relu["accuracy"]),
        ),
        (
            *(one for (name, _), one in found.items() if name != "relu"),
            *(_agrees_to(name, records[name]) for name in TWINS if name in records),
            Quantity("start_top", "gap at the start, ReLU, top eigenvector").median(start["top"][at]),
            Quantity("start_random", "gap at the start, ReLU, random directions").median(start["random"][at]),
            Quantity("start_fine", f"gap at the start, ε = {fine:g}, ReLU, random directions").median(
                start["random"][0]
            ),
        ),
        (Value("kink", "exponent of the difference in ε across a kink", -1), Value("smooth", "of a curvature", 0)),
        derived=(
            Quantity("smooth", "largest gap between difference and uᵀHu, GELU and tanh").median(np.max(smooth, axis=0)),
            Quantity("wide", "largest gap between difference and uᵀHu, widest C¹ ReLU").median(np.max(wide, axis=0)),
            _fails(SMOOTH_FAILS, smooth, choices.gap),
            _fails(WIDE_FAILS, wide, choices.gap),
        ),
        notes=(
            "uᵀHu is autograd's, which leaves kinks out. Away from a minimum a small enough ε meets none; at a "
            "minimum no ε is small enough.",
            "A difference that grows as 1/ε is a loss that grows in proportion to the distance: the growth that it "
            "shows is subquadratic, as Ma et al. conclude, though no curvature lies behind it.",
        ),
    )


def _fails(quantity: Quantity, each: Iterable[np.ndarray], bound: float) -> Finding:
    """The share of networks with any of these gaps above a bound; each holds one for every network."""
    largest = np.max(list(each), axis=0)
    return quantity.share_of(np.where(np.isnan(largest), np.nan, largest > bound))


def _agrees_to(name: str, record: Record) -> Finding:
    """The dose-response: up to which ε the difference of the loss agrees with the Hessian of a C¹ twin."""
    middle = np.max([np.median(gap, axis=1) for gap in gaps(record).values()], axis=0)
    right = [epsilon for epsilon, gap in zip(DISPLACEMENTS, middle, strict=True) if gap < BREAKS.value]
    label = f"largest ε tried whose gap is below {BREAKS.value:g}, C¹ ReLU of width {name.split()[1]}"
    return Quantity(f"agrees_{name.split()[1].replace('.', '_')}", label).number(max(right, default=None))


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The gap against ε for each activation, along the top eigenvector and random directions."""
    del found
    tones = dict(zip(ACTIVATIONS, ("ours", "control", "b", "c", "d", "e"), strict=True))
    lines: dict[str, list[Series]] = {"top": [], "random": []}
    for record in evidence[differences].where(decay=DECAY.value):
        name = record.parameters["activation"]
        for along, gap in gaps(record).items():
            middle, low, high = zip(*(median_interval(np.maximum(row, 1e-12)) for row in gap), strict=True)
            lines[along].append(Series("line", name, DISPLACEMENTS, middle, low, high, tones[name]))
    return [
        Figure(
            "What a difference sees at a minimum",
            "The gap between the second-order difference of the loss and uᵀHu against the displacement ε, at minima "
            "of perceptrons on digits (medians and intervals over seeds). Smooth networks agree, and a C¹ ReLU does "
            "once ε is small against the width of its corner; at a ReLU network's minimum no ε is small enough.",
            tuple(
                Panel(title, Axis("displacement ε", True), Axis("gap", True), tuple(lines[along]))
                for along, title in (("top", "top eigenvector"), ("random", "random directions"))
            ),
        )
    ]
