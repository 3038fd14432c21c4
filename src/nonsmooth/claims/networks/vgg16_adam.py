"""Claim `vgg16-adam`: "the same paradox" with Adam and with other α (§3).

Two halves: plain SGD at other step sizes, and Adam. The stationary law of each optimiser on λ|w|, simulated with that
optimiser, says beforehand what the L1 norm will do: plain SGD's floor is αλ/2 a weight; Adam divides the gradient by
its own size, so that λ cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Figure
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.claims.networks import penalised_vgg16_figures as figures
from nonsmooth.dynamics.stationary import stationary_law
from nonsmooth.lab import Cell, Context, Record

CLAIM = Claim(
    id="vgg16-adam",
    title="The same paradox with Adam, and with other step sizes",
    where="§3",
    statement=(
        "With different values of α, and with Adam, VGG16 under an L1 penalty shows the same paradox in each case: the "
        "larger penalty ends with the larger L1 norm."
    ),
    explanation="Each of these methods steps across the kink at 0 instead of converging to it.",
    control=(
        "The law of the optimiser on λ|w| alone, simulated without a network, and the same networks with random labels "
        "and from another initialisation. If λ leaves that law as it is, the norm cannot grow with λ at the kink."
    ),
    edition="February 2024 (arXiv 2401.08426, early version); later versions drop Adam from the claim",
)

ADAM_STEP_SIZES = {"full": (0.01, 0.001), "narrow": (0.01, 0.003)}
"""The narrow network starts with larger weights, which Adam moves by α a step, and would take long at 0.001."""

SGD_STEP_SIZES = (0.02, 0.05)
SGD_PENALTIES = (0.1, 1.0)
"""Plain SGD moves a weight by αλ a step: at these penalties a narrow network arrives within some hundred steps."""

CONTROLS: dict[str, dict[str, Any]] = {
    "random labels": {"labels": "shuffled"},
    "another initialisation": {"initialisation": "fan-in"},
}
CONTROLLED = {name for change in CONTROLS.values() for name in change}
CONTROL_SEEDS = 3
"""Narrow networks: the ratio of a single pair is another one where sums round otherwise."""
GROWTH = 1.05
"""The least ratio of norms that counts as larger: runs of one setting differ by up to a few per cent between steps."""

OPTIMISERS: dict[str, Callable[[float], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "sgd": lambda step_size: lambda parameters: torch.optim.SGD(parameters, lr=step_size),
    "adam": lambda step_size: lambda parameters: torch.optim.Adam(parameters, lr=step_size),
}
START = 0.01
"""Standard deviation of VGG16's fully connected weights before training: the law of Adam remembers it somewhat."""

LAW_VERSION = 2
LAW_PARAMETERS = ("rule", "step_size", "penalty")
SECONDS_TO_START = {"full": 5.0, "narrow": 0.5}
SECONDS_PER_STEP = {"full": 0.65, "narrow": 0.025}


def plan(settings: Settings) -> list[Cell]:
    """Pairs of runs that differ in λ alone, and the law of each optimiser at each of their settings."""
    cells: list[Cell] = []

    def add(part: str, rule: str, step_size: float, penalties: Sequence[float], steps: int, **changes: Any) -> None:
        drawn = control_seeds if changes.keys() & CONTROLLED else seeds
        for seed in drawn if part == "narrow" else drawn[:1]:
            for penalty in penalties:
                setting = {"rule": rule, "step_size": step_size, "penalty": penalty, "images": settings.data, **changes}
                cost = SECONDS_TO_START[part] + steps * SECONDS_PER_STEP[part]
                cells.append(runs.cell("vgg16-adam", part, steps=steps, seed=seed, cost=cost, **setting))

    seeds = settings.seed_range({"quick": 1, "standard": 2, "paper": 3}[settings.scale])
    control_seeds = settings.seed_range(CONTROL_SEEDS)
    narrow_steps = {"quick": 300, "standard": 300, "paper": 1000}[settings.scale]
    for step_size in SGD_STEP_SIZES:
        add("narrow", "sgd", step_size, SGD_PENALTIES, narrow_steps * 2 // 3, measurements=100)
    for step_size in ADAM_STEP_SIZES["narrow"]:
        add("narrow", "adam", step_size, runs.PENALTIES, narrow_steps, measurements=100)
    for name, change in CONTROLS.items():
        if settings.scale != "quick" or name == "random labels":
            add("narrow", "adam", 0.01, runs.PENALTIES, narrow_steps, measurements=100, **change)
    if settings.scale == "standard":
        full = {"train_images": 1000, "test_images": 100, "measurements": 50}
        for step_size in ADAM_STEP_SIZES["full"]:
            add("full", "adam", step_size, runs.PENALTIES, 300 if step_size == runs.STEP_SIZE else 220, **full)
        for change in CONTROLS.values():
            add("full", "adam", 0.01, runs.PENALTIES, 220, **full, **change)
    if settings.scale == "paper":
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
        for rule, step_size in (("adam", 0.01), ("adam", 0.001), ("sgd", 0.02), ("sgd", 0.05)):
            add("full", rule, step_size, runs.PENALTIES, epochs * per_epoch, **paper)
    laws = {tuple(c.parameters[name] for name in LAW_PARAMETERS): None for c in cells}
    for law in laws:
        setting = {"part": "law", "coordinates": 4096, **dict(zip(LAW_PARAMETERS, law, strict=True))}
        cells.append(Cell("vgg16-adam", setting, settings.first_seed, version=LAW_VERSION, cost=0.5))
    return cells


def measure(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network, or simulate the law of one optimiser on λ|w|."""
    p: Mapping[str, Any] = cell.parameters
    if p["part"] != "law":
        return runs.run(cell, context)
    law = stationary_law(
        OPTIMISERS[p["rule"]](p["step_size"]),
        p["penalty"],
        coordinates=p["coordinates"],
        start=START,
        seed=cell.seed,
        dtype=torch.float32,
    )
    return {
        "mean_magnitude": law.mean_magnitude,
        "exact_zeros": law.exact_zeros,
        "flips_per_step": law.flips_per_step,
        "below_small": law.fraction_below(runs.SMALL),
        "settled": law.settled,
    }


@dataclass(frozen=True)
class Pair:
    """Two runs that differ in λ alone, both settled.

    Attributes:
        weak: the run at the smaller λ.
        strong: the run at the larger λ.
    """

    weak: Record
    strong: Record

    @property
    def growth(self) -> float:
        """L1 norm at the larger λ over that at the smaller one, each the mean of the last fifth of the run."""
        return runs.settled_norm(self.strong) / runs.settled_norm(self.weak)

    @property
    def grows(self) -> bool:
        """Whether the larger penalty has the larger norm."""
        return self.growth > GROWTH

    @property
    def label(self) -> str:
        """Which runs these are, for a reader."""
        p = self.strong.parameters
        size = "full-size" if runs.is_full_size(self.strong) else "narrow"
        rise = p["penalty"] / self.weak.parameters["penalty"]
        return f"{runs.NAMES[p['rule']]}, α = {p['step_size']:g}, {size}, λ × {rise:g}, seed {self.strong.seed}"

    @property
    def name(self) -> str:
        """Which runs these are, for a notebook."""
        p = self.strong.parameters
        kind = runs.role(self.strong).replace(" ", "_")
        return f"{kind}_{p['rule']}_{p['step_size']:g}_{p['part']}_{self.strong.seed}"


def pairs_of(records: Sequence[Record], kind: str, rule: str | None = None) -> list[Pair]:
    """Smallest against largest λ among the settled runs of each setting."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in runs.select(records, role=kind):
        p = r.parameters
        if rule in (None, p["rule"]) and runs.has_settled(r):
            groups.setdefault((p["rule"], p["step_size"], p["part"], p["initialisation"], r.seed), []).append(r)
    return [Pair(group[0], group[-1]) for group in groups.values() if len(group) > 1]


def judge(records: Sequence[Record]) -> Judgement:
    """Does the larger λ have the larger norm, under each optimiser and at each α?

    A pair is two networks that differ in λ alone and whose L1 norm has settled (it changes by at most 15 % between the
    last two fifths of the run); it shows the paradox if the norm at the larger λ is more than 5 % above the other.

    1. Without a pair under plain SGD, one under Adam, and a control pair, the claim is inconclusive.
    2. If no pair under Adam shows the paradox, or none under SGD, that half of the claim fails: not reproduced.
    3. If some pairs show it and others do not, the claim is reproduced with a correction, which says which.
    4. If every pair shows it, and so do the control pairs and the law of Adam on λ|w| alone, the claim is reproduced;
       if the controls or the law do not, it is reproduced and the explanation, steps across the kink, is not supported.

    Args:
        records: of the claim's cells.

    Returns:
        The verdict with its numbers.
    """
    sgd, adam = pairs_of(records, "trained", "sgd"), pairs_of(records, "trained", "adam")
    controls = [pair for kind in CONTROLS for pair in pairs_of(records, kind)]
    laws = _law_growth(records)
    if not sgd or not adam or not controls or "adam" not in laws:
        have = f"There are {len(sgd)} settled pairs under SGD, {len(adam)} under Adam and {len(controls)} controls"
        needed = "two runs of each optimiser that differ in λ alone and settle, the controls, and Adam's law at both λ"
        return _judgement(records, Verdict.INCONCLUSIVE, f"{have}.", decided_by=needed)
    tally = f"{_tally(sgd, 'SGD')}; {_tally(adam, 'Adam')}"
    law = f"The law of Adam on λ|w| alone changes by a factor {laws['adam']:.3f} between these λ"
    if not any(pair.grows for pair in adam) or not any(pair.grows for pair in sgd):
        return _judgement(records, Verdict.NOT_REPRODUCED, f"Not in each case: {tally}. {law}.")
    if not all(pair.grows for pair in (*sgd, *adam)):
        shows = ", ".join(pair.label for pair in (*sgd, *adam) if pair.grows)
        fails = ", ".join(pair.label for pair in (*sgd, *adam) if not pair.grows)
        correction = f"The larger penalty has the larger norm with {shows}; not with {fails}."
        return _judgement(records, Verdict.WITH_CORRECTION, f"In some cases: {tally}. {law}.", correction=correction)
    same = sum(pair.grows for pair in controls)
    reason = f"In each case: {tally}. Of {len(controls)} control pairs {same} show it too. {law}."
    supported = same == len(controls) and laws["adam"] > GROWTH
    return _judgement(records, Verdict.REPRODUCED if supported else Verdict.EXPLANATION_NOT_SUPPORTED, reason)


def _tally(pairs: Sequence[Pair], name: str) -> str:
    """How many pairs show the paradox, and the range of their ratios."""
    ratios = [pair.growth for pair in pairs]
    count = sum(pair.grows for pair in pairs)
    span = (
        f"{extremes.smallest(ratios):.3g} to {extremes.largest(ratios):.3g}" if len(ratios) > 1 else f"{ratios[0]:.3g}"
    )
    return f"under {name} the norm grows with λ in {count} of {len(pairs)} pairs (ratio {span})"


def _law_growth(records: Sequence[Record]) -> dict[str, float]:
    """For each optimiser, the mean over α of E|w| at the largest λ over that at the smallest."""
    growth: dict[str, list[float]] = {}
    laws = runs.laws_of(records)
    for rule, step_size in sorted({key[:2] for key in laws}):
        penalties = sorted(penalty for r, a, penalty in laws if (r, a) == (rule, step_size))
        if len(penalties) > 1:
            ends = [laws[rule, step_size, penalty]["mean_magnitude"] for penalty in (penalties[0], penalties[-1])]
            growth.setdefault(rule, []).append(ends[1] / ends[0])
    return {rule: sum(values) / len(values) for rule, values in growth.items()}


def _judgement(records: Sequence[Record], verdict: Verdict, because: str, **extra: Any) -> Judgement:
    measured = [
        Value(f"growth_{pair.name}", f"{pair.label}: ratio of L1 norms", pair.growth)
        for pair in pairs_of(records, "trained")
    ]
    predicted = []
    laws = runs.laws_of(records)
    for r in runs.select(records, role="trained", rule="adam"):
        p = r.parameters
        label = f"Adam, α = {p['step_size']:g}, λ = {p['penalty']:g}, {p['part']}, seed {r.seed}"
        name = f"adam_{p['step_size']:g}_{p['penalty']:g}_{p['part']}_{r.seed}"
        measured.append(Value(f"l1_norm_{name}", f"{label}: L1 norm", runs.settled_norm(r)))
        measured.append(Value(f"accuracy_{name}", f"{label}: accuracy on test images", r["accuracy"][-1]))
        law = laws.get((p["rule"], p["step_size"], p["penalty"]))
        if law is not None:
            norm = law["mean_magnitude"] * r["parameters"]
            predicted.append(Value(f"l1_norm_{name}", f"{label}: L1 norm by the law", norm))
    control = [
        Value(f"growth_{pair.name}", f"{kind}, {pair.label}: ratio of L1 norms", pair.growth)
        for kind in CONTROLS
        for pair in pairs_of(records, kind)
    ]
    for rule, growth in _law_growth(records).items():
        predicted.append(
            Value(f"growth_{rule}", f"{runs.NAMES[rule]}'s law: ratio of E|w|, largest to smallest λ", growth)
        )
    ratios = {rule: [p.growth for p in pairs_of(records, "trained", rule)] for rule in runs.NAMES}
    ours = ", ".join(f"{runs.NAMES[rule]} × {_middle(values)}" for rule, values in ratios.items() if values)
    controls = [pair.growth for kind in CONTROLS for pair in pairs_of(records, kind)]
    headline = Headline(
        paper="the larger λ has the larger norm in each case",
        ours=f"norm at the larger λ: {ours}" if ours else "no settled pair",
        control=f"random labels, other start: × {_span(controls)}" if controls else "–",
    )
    unsettled = [r for r in runs.select(records) if not runs.has_settled(r)]
    notes = [f"{len(unsettled)} runs had not settled and are left out of the pairs."] if unsettled else []
    moving = sum(not law["settled"] for law in laws.values())
    if moving:
        notes.append(f"{moving} of the {len(laws)} laws on λ|w| had not settled when they were recorded.")
    return Judgement(
        verdict, because, headline, tuple(measured), tuple(control), tuple(predicted), notes=tuple(notes), **extra
    )


def _span(values: Sequence[float]) -> str:
    """The middle of the ratios and their range."""
    if len(values) == 1:
        return format_number(values[0])
    return (
        f"{_middle(values)} ({format_number(extremes.smallest(values))} to {format_number(extremes.largest(values))})"
    )


def _middle(values: Sequence[float]) -> str:
    return format_number(sorted(values)[len(values) // 2])


def draw(records: Sequence[Record]) -> list[Figure]:
    """The L1 norm per weight along Adam's runs, and where each optimiser ends against λ."""
    return figures.optimiser_figures(records)
