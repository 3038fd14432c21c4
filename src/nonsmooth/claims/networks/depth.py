"""Claim `depth`: networks with ReLU train slower than networks with GELU, and the more so the deeper they are (§2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Verdict
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.networks import depth_figures, plateau
from nonsmooth.claims.networks.depth_effects import (
    RELEVANT,
    Effects,
    Finding,
    control_values,
    effects_of,
    measured_values,
    plateau_sentence,
    sentence,
)
from nonsmooth.claims.networks.factorial import blocks_of
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models import ACTIVATIONS, PiecewiseLinearGELU, SmoothReLU

CLAIM = Claim(
    id="depth",
    title="ReLU networks train slower than GELU networks, and the gap widens with depth",
    where="§2, Figure 2, App. A",
    statement=(
        "VGG networks of depth 11, 13 and 19, without batch normalisation and with average pooling, train faster on "
        "CIFAR-10 with GELU than with ReLU, and the difference widens with depth."
    ),
    explanation=(
        "ReLU has a kink and GELU has none. Gradient methods converge more slowly where the function is not "
        "differentiable, and a deeper network has more kinks."
    ),
    control=(
        "Going from ReLU to GELU changes the shape of the function and its smoothness at once. A smooth function of "
        "ReLU's shape and a piecewise linear one of GELU's shape separate the two: if kinks are what slows training, "
        "both functions with kinks are slow. The paper does not name the optimiser of Figure 2, so there are two."
    ),
)
VERSION = 2
SECONDS_PER_IMAGE = {11: 0.0011, 13: 0.0016, 19: 0.0021}
"""Of one training step on one core, by depth: roughly measured, and only used to estimate the time left."""


@dataclass(frozen=True)
class Scale:
    """How much of the experiment is run.

    Attributes:
        images: "digits", "cifar10", or None for what the user asked for.
        limit: number of training images, None for all.
        test_limit: number of test images, None for all.
        depths: of the networks.
        initialisations: of the networks.
        learning_rates: optimiser to step sizes.
        seeds: number of seeds.
        batch_size: images per step.
        steps: per run.
    """

    images: str | None
    limit: int | None
    test_limit: int | None
    depths: tuple[int, ...]
    initialisations: tuple[str, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    seeds: int
    batch_size: int
    steps: int


STEP_SIZES = {"sgd": (0.01, 0.02, 0.05), "adam": (0.0002, 0.0005, 0.001)}
SCALES = {
    "quick": Scale(
        None, 1440, 350, (11, 19), ("kaiming",), {"sgd": (0.01,), "adam": (0.0005,)}, seeds=5, batch_size=8, steps=130
    ),
    "standard": Scale(
        "cifar10", 10_000, 1000, (11, 13, 19), ("default", "kaiming"), STEP_SIZES, seeds=3, batch_size=32, steps=400
    ),
    "paper": Scale(
        "cifar10", None, None, (11, 13, 19), ("default", "kaiming"), STEP_SIZES, seeds=5, batch_size=128, steps=20 * 391
    ),
}


def plan(settings: Settings) -> list[Cell]:
    """One cell per activation, depth, initialisation, optimiser, step size and seed.

    The quick scale trains on the images that the settings name, the others on CIFAR-10.
    """
    scale = SCALES[settings.scale]
    pairs = [(optimiser, rate) for optimiser, rates in scale.learning_rates.items() for rate in rates]
    grid = product(settings.seed_range(scale.seeds), scale.initialisations, pairs, scale.depths, ACTIVATIONS)
    return [
        Cell(
            CLAIM.id,
            {
                "images": scale.images or settings.data,
                "limit": scale.limit,
                "test_limit": scale.test_limit,
                "activation": activation,
                "depth": depth,
                "initialisation": initialisation,
                "optimiser": optimiser,
                "learning_rate": rate,
                "batch_size": scale.batch_size,
                "steps": scale.steps,
            },
            seed=seed,
            version=VERSION,
            cost=SECONDS_PER_IMAGE[depth] * scale.batch_size * scale.steps,
        )
        for seed, initialisation, (optimiser, rate), depth, activation in grid
    ]


def measure(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network: when it leaves the plateau at ln 10, how fast it goes on, its curve and its accuracy."""
    return plateau.run(cell, context)


def judge(records: Sequence[Record]) -> Judgement:
    """Whether GELU trains faster, more so with depth, and whether smoothness is what carries it.

    Four activations (ReLU, a smooth ReLU, a piecewise linear GELU, GELU) start from the same weights and see the same
    images, at the same step size. Compared is the mean training loss over the run, where a loss above chance counts
    as chance; blocks of four runs none of which left the plateau at ln 10 say nothing and are only counted. Intervals
    are 95 % t intervals over seeds, after averaging over step sizes.

    For each optimiser, the paper's effect is there if the difference ReLU - GELU, and its growth from the shallowest
    to the deepest network, both have intervals above 0. It is absent if one of the two has an interval that reaches
    down to 0 and not up to 0.05 nats, which is a fiftieth of the loss at chance. Smoothness carries the effect if the
    main effect of smoothness is above 0 and larger than the main effect of shape, by intervals that exclude 0; shape
    carries it if shape's is the larger one. Otherwise the optimiser is undecided.

    Effect present and carried by shape under some optimiser: reproduced, explanation not supported. Otherwise some
    optimiser undecided: inconclusive. Otherwise carried by smoothness under all optimisers: reproduced; under some:
    reproduced with a correction, which names them; under none: not reproduced.

    Args:
        records: of any part of the factorial that has all four activations.

    Returns:
        The judgement.
    """
    analysis = analyse(records)
    findings = {effects.optimiser: effects.finding for effects in analysis}
    verdict = _verdict(list(findings.values()))
    carried = [o for o, finding in findings.items() if finding is Finding.SMOOTHNESS]
    correction = None
    if verdict is Verdict.WITH_CORRECTION:
        correction = (
            f"It holds under {_labels(carried)}, and not under {_labels([o for o in findings if o not in carried])}."
        )
    return Judgement(
        verdict=verdict,
        because=" ".join(sentence(effects) for effects in analysis) or "No block of four activations was measured.",
        headline=_headline(analysis),
        measured=tuple(value for effects in analysis for value in measured_values(effects)),
        control=tuple(value for effects in analysis for value in control_values(effects)),
        correction=correction,
        decided_by=_decided_by(analysis) if verdict is Verdict.INCONCLUSIVE else None,
        notes=_notes(analysis, records),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Training curves as in Figure 2, the effects with their intervals, and the runs that left the plateau."""
    analysis = analyse(records)
    return [
        depth_figures.training_curves(analysis),
        depth_figures.effect_intervals(analysis),
        depth_figures.runs_that_left(analysis),
    ]


def analyse(records: Sequence[Record]) -> list[Effects]:
    """The effects under each optimiser that has a block of four activations."""
    blocks = blocks_of(records)
    return [
        effects_of(optimiser, members)
        for optimiser in plateau.OPTIMISERS
        if (members := [block for block in blocks if block.setting[0] == optimiser])
    ]


def _verdict(findings: Sequence[Finding]) -> Verdict:
    if Finding.SHAPE in findings:
        return Verdict.EXPLANATION_NOT_SUPPORTED
    if Finding.OPEN in findings or not findings:
        return Verdict.INCONCLUSIVE
    if Finding.SMOOTHNESS not in findings:
        return Verdict.NOT_REPRODUCED
    return Verdict.REPRODUCED if set(findings) == {Finding.SMOOTHNESS} else Verdict.WITH_CORRECTION


def _labels(optimisers: Sequence[str]) -> str:
    return " and ".join(plateau.OPTIMISER_LABELS[optimiser] for optimiser in optimisers)


def _headline(analysis: Sequence[Effects]) -> Headline:
    ours, control = [], []
    for effects in analysis:
        if effects.overall:
            name = plateau.OPTIMISER_LABELS[effects.optimiser].split()[0]
            gap, smoothness, shape = (effects.overall[key].value for key in ("gap", "smoothness", "shape"))
            ours.append(f"{name}: ReLU - GELU {gap:+.2g} nats")
            control.append(f"{name}: smoothness {smoothness:+.2g}, shape {shape:+.2g}")
    silent = "no run left the plateau"
    return Headline(
        "GELU faster than ReLU, more so with depth", "; ".join(ours) or silent, "; ".join(control) or silent
    )


def _decided_by(analysis: Sequence[Effects]) -> str:
    """For every optimiser that is undecided, what would decide it."""
    texts = []
    for effects in analysis:
        if effects.finding is not Finding.OPEN:
            continue
        label = plateau.OPTIMISER_LABELS[effects.optimiser]
        if effects.undecided is None:
            texts.append(f"{label}: longer runs, or other step sizes, so that networks of two depths leave the plateau")
            continue
        question, estimate = effects.undecided
        difference = extremes.largest(abs(estimate.value), RELEVANT)
        seeds = estimate.seeds_to_see(difference)
        size = f"about {seeds} seeds" if seeds is not None else f"more than {estimate.seeds} seeds"
        texts.append(f"{label}: {size} for {question}, to tell {difference:.2g} nats from none")
    return "; ".join(texts) or "at least one block of four activations at each of two depths"


def _notes(analysis: Sequence[Effects], records: Sequence[Record]) -> tuple[str, ...]:
    silent = sum(len(effects.blocks) - len(effects.informative) for effects in analysis)
    blocks = sum(len(effects.blocks) for effects in analysis)
    diverged = sum(record["diverged_at"] is not None for record in records)
    smooth, piecewise = SmoothReLU(), PiecewiseLinearGELU()
    return (
        *filter(None, map(plateau_sentence, analysis)),
        f"In {silent} of {blocks} blocks none of the four runs left the plateau; they are counted in the shares, and "
        "enter no mean.",
        f"{diverged} of {len(records)} runs diverged; from there on their loss counts as chance.",
        "The comparison that decides is at equal step sizes, as in the paper's two identical simulations; each "
        "activation at its own best step size stands among the controls.",
        f"The smooth ReLU is within {smooth.distance:.3g} of ReLU and the piecewise linear GELU within "
        f"{piecewise.distance:.3g} of GELU; ReLU and GELU are up to 0.17 apart.",
        "The networks called 11, 13 and 19 have 9, 11 and 17 layers with weights; growth is along a line over these.",
        "Networks that leave the plateau late, or not at all, have mean losses close together near chance, so that too "
        "short runs shrink the differences of deep networks; the factors on the steps to leave are free of this.",
    )
