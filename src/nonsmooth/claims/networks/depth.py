"""Claim `depth`: networks with ReLU train slower than networks with GELU, and the more so the deeper they are (§2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

from nonsmooth.claims.framework import (
    Afterthought,
    Choice,
    Choices,
    Claim,
    Evidence,
    Figure,
    Findings,
    Headline,
    NotStoredError,
    Outcome,
    Quantity,
    Row,
    Rule,
    Scale,
    Study,
    Verdict,
    above,
)
from nonsmooth.claims.networks import depth_figures, plateau
from nonsmooth.claims.networks.depth_effects import OUTCOMES, Effects
from nonsmooth.claims.networks.factorial import GELU, RELU, Block, blocks_of, own_best
from nonsmooth.claims.networks.plateau import MATCHED, OPTIMISER_LABELS, OPTIMISERS, TWIN
from nonsmooth.lab import Cell
from nonsmooth.models import ACTIVATIONS, PiecewiseLinearGELU, SmoothReLU

SECONDS_PER_IMAGE = {11: 0.0009, 13: 0.0012, 19: 0.0017}
"""Of one training step on one core, by depth: roughly measured, and only used to estimate the time left."""
STEP_SIZES: Mapping[str, tuple[float, ...]] = {"sgd": (0.01, 0.02, 0.05), "adam": (0.0002, 0.0005, 0.001)}
QUICK_STEP_SIZES: Mapping[str, tuple[float, ...]] = {"sgd": (0.01,), "adam": (0.0005,)}

OUTCOME = Choice(
    "outcome",
    "mean loss",
    tuple(name for name in OUTCOMES if name != "mean loss"),
    "what “faster” is read off",
    "The mean training loss over the run counts both the steps on the plateau and the speed after it, and every run "
    "has one; the paper shows curves and names no number.",
    condition="for the {value}",
)
OPTIMIZER = Choice(
    "optimizer",
    "both",
    tuple(OPTIMISERS),
    "optimisers",
    "The paper does not name the optimiser of Figure 2, so the rule asks for both, each apart.",
    condition="where both optimisers are asked, each apart",
)
INITIALISATION = Choice(
    "initialisation",
    TWIN,
    (MATCHED, "default"),
    "first weights",
    "The paper changes nothing but the activation. Kaiming's weights are made for ReLU, so in the alternative every "
    "activation gets weights with which its layers carry the signal of the ReLU network.",
)
STEP_SIZE = Choice(
    "step_size",
    "all",
    ("smallest", "largest", "own best"),
    "step sizes",
    "The same for all four activations, as in the paper's two identical simulations, and averaged.",
)
BLOCKS = Choice(
    "blocks",
    "one",
    ("all four",),
    "runs of a block that must have left the plateau",
    "Twins none of which left the plateau say nothing; where one left, the others count with the loss they had.",
)
RELEVANT = Choice(
    "relevant",
    0.05,
    (0.0, 0.02, 0.1),
    "smallest difference that counts",
    "A fiftieth of the loss at chance, in nats; where logarithms of steps are compared, one in twenty steps.",
)


def _quantities(name: str, label: str) -> dict[str, Quantity]:
    return {o: Quantity(f"{name}_{o}", f"{text}: {label}", "nats") for o, text in OPTIMISER_LABELS.items()}


GAP = _quantities("gap", "mean training loss, ReLU - GELU")
WIDENING = _quantities("widening", "its growth from shallowest to deepest")
SMOOTHNESS = _quantities("smoothness", "main effect of smoothness (kinks - smooth)")
EXCESS = _quantities("excess", "smoothness effect minus shape effect")

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
        "both functions with kinks are slow. The same first weights are too small for GELU, so a second start gives "
        "each activation the signal that ReLU has. The paper does not name the optimiser of Figure 2, so there are two."
    ),
    plain="Networks with a smooth activation train faster than networks with ReLU, and depth makes the lead larger.",
)

PRESENT = {o: above(GAP[o], RELEVANT) & above(WIDENING[o], RELEVANT) for o in OPTIMISERS}
CARRIED = {o: PRESENT[o] & above(SMOOTHNESS[o], 0) & above(EXCESS[o], 0) for o in OPTIMISERS}
ONE = "It holds under {}, and not under {}."

RULE = Rule(
    Row(
        ~PRESENT["sgd"] & ~PRESENT["adam"],
        Outcome(Verdict.NOT_REPRODUCED, "no lead that grows", "Under neither is there a gap that widens with depth."),
    ),
    Row(
        ~CARRIED["sgd"] & ~CARRIED["adam"],
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "not by its smoothness",
            "Where GELU trains faster, and more so with depth, it is not smoothness that carries it.",
        ),
    ),
    *(
        Row(
            CARRIED[one] & ~CARRIED[other],
            Outcome(
                Verdict.WITH_CORRECTION,
                "under one optimiser only",
                correction=ONE.format(OPTIMISER_LABELS[one], OPTIMISER_LABELS[other]),
            ),
        )
        for one, other in (("sgd", "adam"), ("adam", "sgd"))
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED, "smooth is faster, deeper more", "Smoothness carries the gap under both optimisers."
    ),
    always=" ".join(
        f"{label}: ReLU's training loss less GELU's is {{gap_{o}}}, growing with depth by {{widening_{o}}}; smoothness "
        f"makes {{smoothness_{o}}} of it, shape {{shape_{o}}}; where every activation starts with ReLU's signal, the "
        f"difference is {{gap_{o}_matched}}."
        for o, label in OPTIMISER_LABELS.items()
    ),
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="GELU faster than ReLU, more so with depth",
        ours="ReLU - GELU: SGD {gap_sgd:v}, Adam {gap_adam:v} nats",
        control="smoothness: SGD {smoothness_sgd:v}, Adam {smoothness_adam:v}; shape: {shape_sgd:v}, {shape_adam:v}",
    ),
    choices=(OUTCOME, OPTIMIZER, INITIALISATION, STEP_SIZE, BLOCKS, RELEVANT),
    afterthoughts=(
        Afterthought(
            "depths and step sizes of one seed are summed before the interval over seeds",
            "2026-11",
            "Strata that share their seeds had been treated as independent.",
            "Intervals over several depths changed, no value did.",
        ),
        Afterthought(
            "a gap and its growth count from 0.05 nats on",
            "2026-11",
            "One threshold says both what is an effect and what is none; before, an effect was what exceeds 0.",
            "No verdict at scale quick.",
        ),
    ),
)
training = study.experiment(version=2)(plateau.measure)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """One cell per activation, depth, initialisation, optimiser, step size and seed.

    The quick scale trains on the images that the settings name, the others on CIFAR-10. From matched weights ReLU's
    runs are those under Kaiming's; at scale quick GELU alone is run from them, which is enough for the gap.
    """
    rates = scale(QUICK_STEP_SIZES, STEP_SIZES)
    pairs = [(optimiser, rate) for optimiser, of in rates.items() for rate in of]
    starts = scale((TWIN, MATCHED), ("default", TWIN, MATCHED))
    batch_size, steps = scale((8, 130), (32, 400), (128, 20 * 391))
    grid = product(scale.seeds(5, 3, 5), starts, pairs, scale((11, 19), (11, 13, 19)), ACTIVATIONS)
    for seed, start, (optimiser, rate), depth, activation in grid:
        if start == MATCHED and activation not in scale((GELU,), tuple(ACTIVATIONS)[1:]):
            continue
        yield training.cell(
            images=scale(scale.data, "cifar10"),
            limit=scale(1440, 10_000, None) if scale.name != "paper" else None,
            test_limit=scale(350, 1000) if scale.name != "paper" else None,
            activation=activation,
            depth=depth,
            initialisation=start,
            optimiser=optimiser,
            learning_rate=rate,
            batch_size=batch_size,
            steps=steps,
            seed=seed,
            cost=SECONDS_PER_IMAGE[depth] * batch_size * steps,
        )


def _blocks(evidence: Evidence, optimiser: str, choices: Choices) -> list[Block]:
    """One optimiser's blocks from the first weights, and at the step sizes, that are chosen."""
    runs = evidence[training].where(optimiser=optimiser)
    records = list(runs.where(initialisation=choices.initialisation))
    if not records and choices.initialisation != INITIALISATION.value:
        raise NotStoredError(f"no run starts from {choices.initialisation} weights")
    if choices.initialisation == MATCHED:
        records += runs.where(initialisation=TWIN, activation=RELU)
    blocks = blocks_of(records)
    rates = sorted({block.learning_rate for block in blocks if block.learning_rate is not None})
    if choices.step_size == "all":
        return blocks
    if len(rates) < 2:
        raise NotStoredError(f"{len(rates)} step size of {OPTIMISER_LABELS[optimiser]} was run")
    if choices.step_size == "own best":
        return own_best(blocks)
    return [b for b in blocks if b.learning_rate == (rates[0] if choices.step_size == "smallest" else rates[-1])]


def _has_matched(evidence: Evidence) -> bool:
    return len(evidence[training].where(initialisation=MATCHED)) > 0


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The gap, its growth and its parts under each optimiser; under one alone where one is chosen."""
    meant = {o: o if choices.optimizer == "both" else choices.optimizer for o in OPTIMISERS}
    effects = {o: Effects(o, _blocks(evidence, source, choices), choices) for o, source in meant.items()}
    runs = evidence[training].where(initialisation=TWIN)
    equal = Choices(choices.declared, {**choices, "initialisation": MATCHED})
    controls = [finding for o in OPTIMISERS for finding in effects[o].control()]
    for o, source in meant.items():
        controls += Effects(o, _blocks(evidence, source, equal) if _has_matched(evidence) else (), equal).matched()
    return Findings(
        [finding for o in OPTIMISERS for finding in effects[o].measured()],
        controls,
        notes=(
            *(note for o in OPTIMISERS for note in effects[o].notes()),
            f"{sum(run['diverged_at'] is not None for run in runs)} of {len(runs)} runs diverged; from there on their "
            "loss counts as chance.",
            f"The smooth ReLU is within {SmoothReLU().distance:.3g} of ReLU and the piecewise linear GELU within "
            f"{PiecewiseLinearGELU().distance:.3g} of GELU; ReLU and GELU are up to 0.17 apart.",
            "The networks called 11, 13 and 19 have 9, 11 and 17 layers with weights; growth is along a line over "
            "these.",
            "Networks that leave the plateau late, or not at all, have mean losses close together near chance, so that "
            "too short runs shrink the differences of deep networks; the factors on the steps to leave are free of "
            "this.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Training curves as in Figure 2, the effects with their intervals, and the runs that left the plateau."""
    blocks = {o: _blocks(evidence, o, Choices(study.choices)) for o in OPTIMISERS}
    return depth_figures.figures(blocks, found)
