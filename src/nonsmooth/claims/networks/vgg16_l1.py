"""Claim `vgg16-l1`: VGG16 under an L1 penalty has the larger L1 norm at the larger penalty (§3, App. B).

The paper's network has P = 138,357,544 weights. If every one of them ends on the two-cycle of proposition 3.2, the L1
norm is P·αλ/2 whatever the images, the labels and the start were. Full-size runs measure the norm; narrow ones show its
dependence on λ and the controls; the proximal twin shows what a prox does at the same α and λ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.claims.networks import penalised_vgg16_figures as figures
from nonsmooth.dynamics.stationary import subgradient_law
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models.vgg16 import PARAMETERS

PAPER_NORMS = {0.1: 69178.44, 0.001: 2113.83}
PAPER_BELOW = {0.1: 0.0001, 0.001: 0.997}

CLAIM = Claim(
    id="vgg16-l1",
    title="A larger penalty leaves VGG16 with a larger L1 norm",
    where="§3, appendix B",
    statement=(
        "VGG16 is fine-tuned on CIFAR-10 by SGD with α = 0.01 and an L1 penalty on every parameter. λ = 0.1 ends with "
        "an L1 norm of 69178.44 and 0.01 % of the weights below 1e-5; λ = 0.001 ends with 2113.83 and 99.7 %."
    ),
    explanation=(
        "A subgradient step of constant size does not converge at the kink: each weight oscillates within ±αλ, so that "
        "a larger penalty leaves a larger error (proposition 3.2, eq. 12)."
    ),
    control=(
        "Random labels and another initialisation must give the same norm, P·αλ/2, if nothing but that oscillation "
        "makes it; the proximal twin, at the same α and λ, must not oscillate and must reach exact zeros."
    ),
    paper=(
        Value("l1_norm", "L1 norm, λ = 0.1", PAPER_NORMS[0.1]),
        Value("below_small", "fraction below 1e-5, λ = 0.1 (printed as 0.01 %)", PAPER_BELOW[0.1]),
        Value("l1_norm_weak", "L1 norm, λ = 0.001", PAPER_NORMS[0.001]),
        Value("below_small_weak", "fraction below 1e-5, λ = 0.001", PAPER_BELOW[0.001]),
    ),
)

SWEEP = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
TWIN = "proximal twin"
CONTROLS: dict[str, dict[str, Any]] = {
    "random labels": {"labels": "shuffled"},
    "another initialisation": {"initialisation": "fan-in"},
    TWIN: {"rule": "proximal-sgd"},
}
CONTROL_PENALTY = 0.3
"""λ of the narrow controls. At the paper's 0.1 their weights, larger than the full network's, take three times as long
to arrive; at 1 αλ is no longer small against the spread of the start, and γ not uniform."""

LIMIT_PENALTY = 1.0
"""λ of one more narrow network of the other initialisation, which shows where the law P·αλ/2 ends."""
SMALL_AGAINST_START = 0.5
"""Largest αλ, in units of the mean |w| of the start, at which a control has to meet the law."""

NUMBER_TOLERANCE = 0.01
FLOOR_TOLERANCE = 0.05
SHAPE_TOLERANCE = 0.02
AT_FLOOR = 0.99
FACTOR = 2.0
SECONDS_TO_START = {"full": 8.0, "narrow": 0.5}
SECONDS_PER_STEP = {"full": 0.45, "narrow": 0.02}


def plan(settings: Settings) -> list[Cell]:
    """Full-size runs, a sweep of λ on narrow networks, and the controls."""
    cells = []

    def add(part: str, steps: int, seed: int, **changes: Any) -> None:
        cost = SECONDS_TO_START[part] + steps * SECONDS_PER_STEP[part]
        cells.append(runs.cell("vgg16-l1", part, steps=steps, seed=seed, cost=cost, **changes))

    seeds = settings.seed_range({"quick": 1, "standard": 3, "paper": 3}[settings.scale])
    narrow_steps = {"quick": 250, "standard": 2000, "paper": 2000}[settings.scale]
    for seed in seeds:
        for penalty in SWEEP:
            add("narrow", narrow_steps, seed, penalty=penalty, images=settings.data)
        for change in CONTROLS.values():
            add("narrow", narrow_steps, seed, penalty=CONTROL_PENALTY, images=settings.data, **change)
        limit = CONTROLS["another initialisation"]
        add("narrow", narrow_steps, seed, penalty=LIMIT_PENALTY, images=settings.data, **limit)
    first = seeds[0]
    if settings.scale == "quick":
        add("full", 120, first, images=settings.data, measurements=40)
        return cells
    if settings.scale == "standard":
        images = {"images": settings.data, "train_images": 1000, "test_images": 200, "evaluations": 5}
        for change in ({}, *CONTROLS.values()):
            add("full", 300, first, **images, **change)
        # αλ is 1e-5 here: the convolutions, up to 0.1 in size, take 10,000 steps (about an hour and a half) to arrive.
        add("full", 10_000, first, penalty=0.001, checkpoint_every=500, measurements=200, **images)
        return cells
    # 150 epochs of 98 batches of 512 images.
    epochs, per_epoch = 150, 98
    paper = {
        "batch": 512,
        "train_images": None,
        "test_images": None,
        "images": "cifar10",
        "initialisation": "pretrained",
        "measurements": epochs,
        "evaluations": epochs,
        "checkpoint_every": per_epoch,
    }
    for penalty in runs.PENALTIES:
        for change in ({}, *CONTROLS.values()):
            add("full", epochs * per_epoch, first, **{**paper, "penalty": penalty, **change})
    return cells


def measure(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network; see `penalised_vgg16.run`."""
    return runs.run(cell, context)


def judge(records: Sequence[Record]) -> Judgement:
    """The paper's number, then the direction, then what makes it.

    1. The full-size network at λ = 0.1, α = 0.01 must have arrived: at least 99 % of its weights within αλ of 0. At
       least two of the networks in the sweep over λ must have arrived as well, and each control must have been run.
       Otherwise the claim is inconclusive.
    2. Its L1 norm must lie within 1 % of the paper's 69178.44, and among the networks of one size that have arrived a
       larger λ must go with a larger norm. Otherwise the claim is not reproduced.
    3. The explanation, an oscillation across the kink, is supported if: random labels and another initialisation end
       within 5 % of P·αλ/2 as well, wherever αλ is at most half the mean |w| of the start (a wider cycle keeps the
       shape of the start, and its positions are not uniform); the fraction of weights below τ follows τ/(αλ) within
       0.02 for every τ; and the proximal twin has most weights at exactly 0 and at most half that norm. Otherwise:
       reproduced, explanation not supported.
    4. If the measured fraction below 1e-5 is within a factor 2 of the 0.01 % that the paper prints beside that norm,
       the claim is reproduced; if not, it is reproduced with a correction, which gives the measured fraction.

    Args:
        records: of the claim's cells.

    Returns:
        The verdict with its numbers.
    """
    main = runs.full_size_run(records, 0.1)
    arrived = _arrived(records)
    controls = {name: runs.select(records, role=name, step_size=runs.STEP_SIZE) for name in CONTROLS}
    missing = [
        name for name, found in controls.items() if not any(r for r in found if name == TWIN or _must_meet_law(r))
    ]
    if main is None or main["at_floor"] < AT_FLOOR or not _pairs(arrived) or missing:
        return _inconclusive(records, main, missing)
    norm, floor = main["l1_norm"], runs.floor_of(main)
    error = norm / PAPER_NORMS[0.1] - 1
    falls = [pair for pair in _pairs(arrived) if runs.settled_norm(pair[1]) <= runs.settled_norm(pair[0])]
    numbers = (
        f"the full-size network ends with an L1 norm of {_exact(norm)}, {error:+.2%} from the paper's and "
        f"{norm / floor - 1:+.2%} from P·αλ/2"
    )
    if abs(error) > NUMBER_TOLERANCE or falls:
        direction = f"; in {len(falls)} of {len(_pairs(arrived))} pairs the norm does not grow with λ" if falls else ""
        return _judgement(records, main, controls, Verdict.NOT_REPRODUCED, f"Not so: {numbers}{direction}.")
    objections = _objections(main, controls)
    if objections:
        reason = f"The number appears ({numbers}), but {'; '.join(objections)}."
        return _judgement(records, main, controls, Verdict.EXPLANATION_NOT_SUPPORTED, reason)
    below = main["below_small"]
    reason = (
        f"The number appears: {numbers}. Random labels and another initialisation give the same floor, the weights are "
        f"uniform on (0, αλ), and the proximal twin has {_share_of_zeros(controls[TWIN]):.2%} exact zeros."
    )
    if below > 0 and abs(math.log(below / PAPER_BELOW[0.1])) <= math.log(FACTOR):
        return _judgement(records, main, controls, Verdict.REPRODUCED, reason)
    expected = subgradient_law(runs.STEP_SIZE, 0.1).fraction_below(runs.SMALL)
    as_printed = 100 * PAPER_BELOW[0.1]
    slip = ""
    if as_printed / FACTOR <= below <= as_printed * FACTOR:
        slip = f"; {as_printed:g} is the fraction, which the code of appendix B prints, not the percentage"
    correction = (
        f"With λ = 0.1, {below:.2%} of the weights lie below 1e-5, not {PAPER_BELOW[0.1]:.2%} (τ/(αλ) = {expected:.2%})"
        f"{slip}."
    )
    return _judgement(records, main, controls, Verdict.WITH_CORRECTION, reason, correction=correction)


def _arrived(records: Sequence[Record]) -> list[Record]:
    """The trained runs all but 1 % of whose weights lie within αλ of 0."""
    return [r for r in runs.select(records, role="trained") if r["at_floor"] >= AT_FLOOR]


def _pairs(arrived: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Neighbours in λ among runs of one size, start and seed."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in arrived:
        p = r.parameters
        groups.setdefault((p["part"], p["step_size"], p["initialisation"], r.seed), []).append(r)
    return [pair for group in groups.values() for pair in pairwise(group)]


def _must_meet_law(record: Record) -> bool:
    """Whether αλ is small against the start, so that the positions in the two-cycle end up nearly uniform."""
    start = record["l1_norms"][0] / record["parameters"]
    return bool(record.parameters["step_size"] * record.parameters["penalty"] <= SMALL_AGAINST_START * start)


def _share_of_zeros(twins: Sequence[Record]) -> float:
    return extremes.smallest(float(r["exact_zeros"] / r["parameters"]) for r in twins)


def _objections(main: Record, controls: dict[str, list[Record]]) -> list[str]:
    """What speaks against the explanation, in words."""
    objections = []
    for name in ("random labels", "another initialisation"):
        worst = extremes.largest(
            (r["l1_norm"] / runs.floor_of(r) - 1 for r in controls[name] if _must_meet_law(r)), key=abs
        )
        if abs(worst) > FLOOR_TOLERANCE:
            objections.append(f"{name} ends {worst:+.1%} from P·αλ/2, so the norm depends on more than P, α and λ")
    law = subgradient_law(main.parameters["step_size"], main.parameters["penalty"])
    pairs = zip(main["thresholds"], main["below"], strict=True)
    gap = extremes.largest(abs(below - law.fraction_below(threshold)) for threshold, below in pairs)
    if gap > SHAPE_TOLERANCE:
        objections.append(f"the fraction of weights below τ is up to {gap:.3f} away from τ/(αλ)")
    twins = controls[TWIN]
    ratio = extremes.largest(r["l1_norm"] / runs.floor_of(r) for r in twins)
    if _share_of_zeros(twins) <= 0.5 or ratio > 0.5:
        objections.append(
            f"the proximal twin, which cannot oscillate across the kink, has {_share_of_zeros(twins):.1%} exact zeros "
            f"and {ratio:.2f} of the norm"
        )
    return objections


def _exact(norm: float) -> str:
    return f"{norm:,.2f}"


def _inconclusive(records: Sequence[Record], main: Record | None, missing: Sequence[str]) -> Judgement:
    steps = max(1, round(0.15 / (runs.STEP_SIZE * 0.1)))
    if main is None:
        reason = "There is no full-size run at λ = 0.1."
    elif main["at_floor"] < AT_FLOOR:
        reason = f"Only {main['at_floor']:.1%} of the full-size network's weights have come within αλ of 0."
    elif missing:
        reason = f"Controls are missing: {', '.join(missing)}."
    else:
        reason = "Fewer than two networks of one size have arrived at their floor, so no direction can be seen."
    needed = (
        f"a full-size run of {steps} steps (a weight moves by αλ a step), networks of one size at two penalties that "
        "bring 99 % of their weights within αλ of 0, and the three controls"
    )
    return _judgement(records, main, {}, Verdict.INCONCLUSIVE, reason, decided_by=needed)


def _judgement(
    records: Sequence[Record],
    main: Record | None,
    controls: dict[str, list[Record]],
    verdict: Verdict,
    because: str,
    **extra: Any,
) -> Judgement:
    measured = [] if main is None else _values_of(main, "", "λ = 0.1")
    weak = runs.full_size_run(records, 0.001)
    if weak is not None:
        measured += _values_of(weak, "_weak", "λ = 0.001")
    control = []
    for name, found in controls.items():
        for r in found:
            p = r.parameters
            size = f"{'full-size' if runs.is_full_size(r) else 'narrow'}, λ = {p['penalty']:g}, seed {r.seed}"
            key = f"{name}_{p['part']}_{p['penalty']:g}_{p['initialisation']}_{r.seed}".replace(" ", "_")
            control.append(
                Value(f"{key}_ratio", f"{name}, {size}: L1 norm over P·αλ/2", r["l1_norm"] / runs.floor_of(r))
            )
            zeros = r["exact_zeros"] / r["parameters"]
            control.append(Value(f"{key}_zeros", f"{name}, {size}: share of exact zeros", zeros))
    predicted = []
    for penalty, suffix in ((0.1, ""), (0.001, "_weak")):
        law = subgradient_law(runs.STEP_SIZE, penalty)
        half = 1.96 * runs.STEP_SIZE * penalty * math.sqrt(PARAMETERS / 12)
        norm = law.l1_norm(PARAMETERS)
        label = f"P·αλ/2, λ = {penalty:g}"
        predicted.append(Value(f"l1_norm{suffix}", label, norm, norm - half, norm + half))
        below = law.fraction_below(runs.SMALL)
        predicted.append(Value(f"below_small{suffix}", f"τ/(αλ), λ = {penalty:g}", below))
    ours = "no full-size run" if main is None else f"{_exact(main['l1_norm'])}, {main['below_small']:.2%} below 1e-5"
    ratios = [v for v in control if v.name.endswith("_ratio") and "proximal" not in v.name]
    headline = Headline(
        paper=f"{_exact(PAPER_NORMS[0.1])}, {PAPER_BELOW[0.1]:.2%} below 1e-5",
        ours=ours,
        control=", ".join(f"{v.label.split(',')[0]}: {format_number(v.value)} × the floor" for v in ratios[:2]) or "–",
    )
    return Judgement(
        verdict,
        because,
        headline,
        tuple(measured),
        tuple(control),
        tuple(predicted),
        notes=(*_notes(main), *_limits(controls)),
        **extra,
    )


def _values_of(record: Record, suffix: str, label: str) -> list[Value]:
    return [
        Value(f"l1_norm{suffix}", f"L1 norm, {label}", record["l1_norm"]),
        Value(f"below_small{suffix}", f"fraction below 1e-5, {label}", record["below_small"]),
        Value(f"exact_zeros{suffix}", f"weights at exactly 0, {label}", record["exact_zeros"]),
        Value(f"at_floor{suffix}", f"fraction within αλ of 0, {label}", record["at_floor"]),
        Value(f"accuracy{suffix}", f"accuracy on test images, {label}", record["accuracy"][-1]),
        Value(f"cross_entropy{suffix}", f"cross-entropy on test images, {label}", record["test_cross_entropy"][-1]),
        Value(f"classes_named{suffix}", f"different classes named, {label}", record["classes_named"][-1]),
        Value(f"steps{suffix}", f"steps, {label}", record.parameters["steps"]),
    ]


def _notes(main: Record | None) -> tuple[str, ...]:
    strong, weak = (subgradient_law(runs.STEP_SIZE, penalty).l1_norm(PARAMETERS) for penalty in (0.1, 0.001))
    spread = runs.STEP_SIZE * 0.1 * math.sqrt(PARAMETERS / 12)
    notes = [
        f"The paper's own {_exact(PAPER_NORMS[0.1])} lies {abs(PAPER_NORMS[0.1] - strong) / spread:.1f} standard "
        f"deviations of such a sum ({spread:.1f}) from P·αλ/2 = {_exact(strong)}.",
        f"The paper's {_exact(PAPER_NORMS[0.001])} at λ = 0.001 is {PAPER_NORMS[0.001] / weak:.1f} times P·αλ/2 = "
        f"{_exact(weak)}: there, not every weight has arrived.",
    ]
    if main is not None:
        dead = main["classes_named"][-1] == 1 and main["test_cross_entropy"][-1] >= 0.99 * math.log(10)
        says = "names one class for every test image" if dead else "still tells test images apart"
        notes.append(
            f"At the end the full-size network {says}: cross-entropy {main['test_cross_entropy'][-1]:.3f} (guessing "
            f"among the ten classes gives {math.log(10):.3f}), accuracy {main['accuracy'][-1]:.1%}."
        )
        if main.parameters["initialisation"] != "pretrained":
            notes.append(
                f"The full-size run starts from fresh weights, not pretrained ones, and takes "
                f"{main.parameters['steps']} steps on batches of {main.parameters['batch']}."
            )
    return tuple(notes)


def _limits(controls: dict[str, list[Record]]) -> list[str]:
    """Where a control lies outside the law's range, what it did there."""
    return [
        f"{name.capitalize()} at λ = {r.parameters['penalty']:g} ends at {r['l1_norm'] / runs.floor_of(r):.3f} of "
        f"P·αλ/2; αλ is {r.parameters['step_size'] * r.parameters['penalty'] * r['parameters'] / r['l1_norms'][0]:.2f} "
        "of the mean |w| of the start there, and the rule leaves it out."
        for name, found in controls.items()
        if name != TWIN
        for r in found
        if not _must_meet_law(r)
    ]


def draw(records: Sequence[Record]) -> list[Figure]:
    """The norm along the run, the norm against λ, and the fraction below τ."""
    return figures.subgradient_figures(records, PAPER_NORMS, PAPER_BELOW)
