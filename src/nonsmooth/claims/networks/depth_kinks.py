"""Claim `depth-kinks`: "increased depth introduces greater non-smoothness into the system" (§2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nonsmooth.claims.framework import (
    Afterthought,
    Choice,
    Choices,
    Claim,
    Evidence,
    Figure,
    Finding,
    Findings,
    Headline,
    Outcome,
    Quantity,
    Row,
    Rule,
    Run,
    Scale,
    Study,
    Verdict,
    above,
    below,
)
from nonsmooth.claims.networks import kink_density
from nonsmooth.claims.networks.digit_rows import CLASSES, PIXELS, digit_rows
from nonsmooth.data import load_images
from nonsmooth.lab import Cell
from nonsmooth.models import WEIGHT_LAYERS, SmoothReLU, draw_perceptrons, vgg

DEPTHS = (1, 2, 4, 8)
"""Hidden layers of the perceptrons."""
WIDTHS = {
    "width": (32, 32, 32, 32),
    "parameters": (80, 49, 34, 24),
    "units": (128, 64, 32, 16),
}
"""Their widths by what stays the same: the width, the number of weights (about 6,000), the number of units (128)."""
SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    **{f"C¹ ReLU {width:g}": SmoothReLU(width) for width in (0.01, 0.1, 1.0)},
    "gelu": functional.gelu,
}
"""The dose: by how much the kinks of a network are rounded off."""
TRAINING_IMAGES = 300
TRAINING_STEPS = 40

IN_INPUTS = Choice(
    "in_inputs",
    "line",
    ("near",),
    "what counts as non-smoothness in the inputs",
    "Kinks on a line are counted exactly, and theory has a prediction for them.",
)
IN_WEIGHTS = Choice(
    "in_weights",
    "move",
    ("gap",),
    "what counts as non-smoothness in the weights",
    "The kinks that a step of training crosses; their share of the curvature depends on the direction as well.",
)
STATE = Choice(
    "state",
    "first",
    ("trained",),
    "weights",
    "The paper speaks of the network; at the start nothing but depth differs.",
)
COMPARED = Choice(
    "compared",
    DEPTHS,
    (DEPTHS[1:], DEPTHS[:3]),
    "numbers of hidden layers",
    "All that were measured.",
)
MARGIN = Choice(
    "margin", 0.1, (0.05, 0.2), "exponent of depth that counts as none", "2^0.1: doubling the depth changes 7 %."
)


FAMILIES = {
    "width": "at equal width",
    "parameters": "at an equal number of weights",
    "units": "at an equal number of units",
}
GROWS = {
    (space, family): Quantity(f"{family}_{space}", f"exponent of non-smoothness in the {space} against depth, {text}")
    for space in ("inputs", "weights")
    for family, text in FAMILIES.items()
}
BY_UNITS = {
    space: Quantity(f"by_units_{space}", f"exponent of non-smoothness in the {space} against the number of units")
    for space in ("inputs", "weights")
}
VGG_GROWS = Quantity("grows_vgg", "exponent of kinks on a line against depth, VGG11 to VGG19")
VGG_UNITS = Quantity("by_units_vgg", "exponent of kinks on a line against the number of units, VGG11 to VGG19")
LEFT = Quantity("left", "kink gap of the network with GELU over that with ReLU")

CLAIM = Claim(
    id="depth-kinks",
    title="A deeper network is less smooth",
    where="§2, Figure 2",
    statement="Increased depth introduces greater non-smoothness into the system.",
    explanation="The paper gives none; the plain reading is that every further layer of ReLUs adds kinks.",
    control=(
        "Depth at an equal number of weights and at an equal number of units, since layers of equal width add units "
        "as well. The same networks with kinks rounded off over a width, and with GELU, in which the curvature that "
        "sits in kinks has to vanish."
    ),
    plain="Networks with more layers have more kinks, that is, points at which they bend abruptly.",
)

INPUTS, WEIGHTS = (above(GROWS[space, "units"], MARGIN) for space in ("inputs", "weights"))
"""Whether depth adds non-smoothness at an equal number of units."""

RULE = Rule(
    Row(
        ~below(LEFT, 0.5),
        Outcome(
            Verdict.INCONCLUSIVE,
            "it measures no kinks",
            "Smooth networks show as much of it.",
            decided_by="a shorter displacement, over which a smooth network is smooth",
        ),
    ),
    Row(
        ~above(GROWS["inputs", "width"], MARGIN) & ~above(GROWS["weights", "width"], MARGIN),
        Outcome(Verdict.NOT_REPRODUCED, "no more with depth", "Deeper networks of equal width have no more of it."),
    ),
    Row(
        INPUTS & WEIGHTS,
        Outcome(Verdict.REPRODUCED, "depth adds kinks", "It grows with depth at an equal number of units too."),
    ),
    Row(
        ~INPUTS & WEIGHTS,
        Outcome(
            Verdict.WITH_CORRECTION,
            "in the weights, not inputs",
            correction="Seen by the weights, which training moves, depth adds non-smoothness at an equal number of "
            "units too (power {units_weights}). Seen by the inputs it goes with the number of units (power "
            "{by_units_inputs}), and depth alone adds none (power {units_inputs}).",
        ),
    ),
    Row(
        ~INPUTS & ~WEIGHTS,
        Outcome(
            Verdict.WITH_CORRECTION,
            "more units, not more depth",
            correction="Non-smoothness goes with the number of units; at an equal number of units depth adds none "
            "(powers {units_inputs} in the inputs, {units_weights} in the weights).",
        ),
    ),
    otherwise=Outcome(
        Verdict.WITH_CORRECTION,
        "in the inputs, not weights",
        correction="At an equal number of units depth adds non-smoothness in the inputs (power {units_inputs}) and "
        "none in the weights (power {units_weights}).",
    ),
    always="Against depth at equal width non-smoothness grows to the power {width_inputs} in the inputs and "
    "{width_weights} in the weights; in the paper's VGG networks {grows_vgg} in the inputs.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="depth adds non-smoothness",
        ours="equal width: power {width_inputs:v} in the inputs, {width_weights:v} in the weights",
        control="equal units: {units_inputs:v} and {units_weights:v}; GELU's kink gap {left:v} of ReLU's",
    ),
    choices=(IN_INPUTS, IN_WEIGHTS, STATE, COMPARED, MARGIN),
    afterthoughts=(
        Afterthought(
            "15 seeds, and 128 units where their number stays the same",
            "2026-11",
            "With 5 seeds and 64 units, in layers as narrow as 8, the interval was too wide to decide anything.",
            "“inconclusive” became a verdict; the estimates agree.",
        ),
        Afterthought(
            "kinks of a move are counted on 300 images and over its length",
            "2026-11",
            "On 64 images some networks crossed none, and the norm of the weights grows with depth at equal width.",
            "The exponents in the weights became finite and narrow.",
        ),
        Afterthought(
            "inputs and weights are judged apart",
            "2026-11",
            "At an equal number of units depth adds kinks along moves of the weights and none along lines of inputs.",
            "One of the two alone would have said “more units, not more depth” or “reproduced”.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each depth and what stays the same, the paper's networks, and the dose."""
    seeds, few = scale.seeds(15, 50), scale.seeds(5, 20)
    for family, widths in WIDTHS.items():
        for depth, width in zip(DEPTHS, widths, strict=True):
            yield perceptron.cell(family=family, depth=depth, width=width, seeds=seeds, cost=0.03 * len(seeds))
    for depth in WEIGHT_LAYERS:
        yield paper_network.cell(depth=depth, images=scale.data, seeds=few, cost=0.1 * len(few))
    for name in SMOOTH:
        yield rounded.cell(activation=name, depth=4, width=32, seeds=seeds, cost=0.01 * len(seeds))


@study.experiment(part="perceptron", seed_axes=dict.fromkeys((*kink_density.MEASURES, "loss"), 1))
def perceptron(run: Run, *, family: str, depth: int, width: int, seeds: int) -> Mapping[str, Any]:
    """Every measure, [first or trained][seed], and the training loss."""
    del family
    inputs, labels = digit_rows(TRAINING_IMAGES)
    layers = draw_perceptrons((PIXELS, *[width] * depth, CLASSES), range(run.seed, run.seed + seeds))
    found: dict[str, list[list[float]]] = {name: [] for name in (*kink_density.MEASURES, "loss")}
    for state in (layers, kink_density.trained(layers, inputs, labels, TRAINING_STEPS)):
        for name, values in kink_density.measures(state, inputs, labels, run.seed).items():
            found[name].append(values)
    return found


@study.experiment(part="vgg", seed_axes={"line": 0})
@torch.no_grad()
def paper_network(run: Run, *, depth: int, images: str, seeds: int) -> Mapping[str, Any]:
    """Kinks over length on lines between images, by seed, in the networks of App. A with Kaiming's weights."""
    inputs, found, units = load_images(images, "train", 8).inputs, [], 0
    for seed in range(run.seed, run.seed + seeds):
        model = vgg(depth, "relu", initialization="kaiming", generator=torch.Generator().manual_seed(seed))
        kinks, units = kink_density.kinks_of_model(model, inputs, 2, kink_density.POINTS // 2)
        found.append(kinks)
    return {"line": found, "units": units}


@study.experiment(part="dose", seed_axes={"gap": 0})
def rounded(run: Run, *, activation: str, depth: int, width: int, seeds: int) -> Mapping[str, Any]:
    """The kink gap of networks whose kinks are rounded off, by seed."""
    inputs, labels = digit_rows(kink_density.ROWS)
    layers = draw_perceptrons((PIXELS, *[width] * depth, CLASSES), range(run.seed, run.seed + seeds))
    return {"gap": kink_density.gap_of(layers, inputs, labels, SMOOTH[activation], run.seed)}


def _exponent(quantity: Quantity, x: Sequence[float], values: Sequence[Sequence[float]]) -> Finding:
    """The slope of ln values, [x][seed], on ln x within each seed; mean and interval over the seeds."""
    if len(x) < 2:
        return quantity.missing("needs networks of two sizes")
    found, centred = np.array(values), np.log(x) - np.log(x).mean()
    return quantity.mean(centred @ np.log(np.where(found > 0, found, np.nan)) / (centred @ centred))


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """How non-smoothness grows with depth in each family, and what rounding leaves of it."""
    index = ("first", "trained").index(choices.state)
    runs = [r for r in evidence[perceptron] if r.parameters["depth"] in choices.compared]
    units = [float(r.parameters["depth"] * r.parameters["width"]) for r in runs]
    grows: dict[str, list[Finding]] = {family: [] for family in FAMILIES}
    by_units = []
    for space, measure in (("inputs", choices.in_inputs), ("weights", choices.in_weights)):
        for family in FAMILIES:
            records = [r for r in runs if r.parameters["family"] == family]
            depths = [float(r.parameters["depth"]) for r in records]
            grows[family].append(_exponent(GROWS[space, family], depths, [r[measure][index] for r in records]))
        by_units.append(_exponent(BY_UNITS[space], units, [r[measure][index] for r in runs]))
    networks = sorted(evidence[paper_network], key=lambda r: int(r.parameters["depth"]))
    kinks = [r["line"] for r in networks]
    dose = {r.parameters["activation"]: np.array(r["gap"]) for r in evidence[rounded]}
    doses = [
        Quantity(f"gap_{i}", f"kink gap, {name}").median(dose[name]) for i, name in enumerate(SMOOTH) if name in dose
    ]
    left = LEFT.median(dose["gelu"] / dose["relu"]) if {"gelu", "relu"} <= dose.keys() else LEFT.missing()
    return Findings(
        [
            *grows["width"],
            _exponent(VGG_GROWS, [float(WEIGHT_LAYERS[r.parameters["depth"]]) for r in networks], kinks),
            _exponent(VGG_UNITS, [float(r["units"]) for r in networks], kinks),
        ],
        [*grows["parameters"], *grows["units"], *by_units, left, *doses],
        [BY_UNITS["inputs"].number(1.0)],
        notes=(
            "Hanin & Rolnick (2019) predict that the kinks of a network with its first weights on a line go with the "
            "number of its units, whatever its depth.",
            f"Trained is {TRAINING_STEPS} full-batch steps of Adam.",
            "At an equal number of units a deeper network has fewer weights, so that a move of the same length moves "
            "each of them further.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Every measure against depth, by what stays the same."""
    del found
    families = {text: evidence[perceptron].where(family=family) for family, text in FAMILIES.items()}
    return [kink_density.figure(families, kink_density.MEASURES)]
