"""The same paradox with Adam and with other α (§3).

Two halves: plain SGD at other step sizes, and Adam. The stationary law of each optimiser on λ|w|, simulated with that
optimiser, says beforehand what the L1 norm will do: plain SGD's floor is αλ/2 a weight; Adam divides the gradient by
its own size, so that λ cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonsmooth import extremes
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
    Value,
    Verdict,
    above,
)
from nonsmooth.claims.networks import penalised_vgg16 as runs
from nonsmooth.claims.networks import penalised_vgg16_figures as figures
from nonsmooth.dynamics.stationary import stationary_law
from nonsmooth.lab import Cell, Record

ADAM_STEP_SIZES = {"full": (0.01, 0.001), "narrow": (0.01, 0.003)}
"""The narrow network starts with larger weights, which Adam moves by α a step, and would take long at 0.001."""
SGD_STEP_SIZES = (0.02, 0.05)
SGD_PENALTIES = (0.1, 1.0)
"""Plain SGD moves a weight by αλ a step: at these penalties a narrow network arrives within some hundred steps."""
CONTROLLED = {name for change in runs.CONTROLS.values() for name in change}
CONTROL_SEEDS = 3
"""Narrow networks: the ratio of a single pair is another one where sums round otherwise."""
OPTIMISERS: dict[str, Callable[[float], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "sgd": lambda step_size: lambda parameters: torch.optim.SGD(parameters, lr=step_size),
    "adam": lambda step_size: lambda parameters: torch.optim.Adam(parameters, lr=step_size),
}
START = 0.01
"""Standard deviation of VGG16's fully connected weights before training: the law of Adam remembers it somewhat."""
LAW_PARAMETERS = ("rule", "step_size", "penalty")
LAW_MET = 0.1
"""Distance from the law, as a share, that a note counts as meeting it."""
SECONDS_TO_START = {"full": 5.0, "narrow": 0.5}
SECONDS_PER_STEP = {"full": 0.65, "narrow": 0.012}

GROWTH = Choice(
    "growth",
    1.05,
    (1.0, 1.1, 1.5),
    "ratio of norms above which the larger penalty has the larger norm",
    "Runs of one setting differ by up to a few per cent between steps; the law of plain SGD gives the ratio of the λ.",
)
SETTLED = Choice(
    "settled",
    0.15,
    (0.05, 0.1, 0.25),
    "change of the L1 norm between the last two fifths of a run that counts as settled",
    "Far less than the ratios between the λ.",
)
TAIL = Choice("tail", 0.2, (0.1, 0.3), "last part of a run whose mean norm is compared", "As for settling.")

LEAST = {
    rule: Quantity(f"{rule}_least", f"least ratio of L1 norms, larger to smaller λ, {name}")
    for rule, name in runs.NAMES.items()
}
MOST = {
    rule: Quantity(f"{rule}_most", f"largest ratio of L1 norms, larger to smaller λ, {name}")
    for rule, name in runs.NAMES.items()
}
CONTROL_LEAST = Quantity("control_least", "least ratio of L1 norms, larger to smaller λ, of a control under Adam")
CONTROL_MOST = Quantity("control_most", "largest ratio of L1 norms, larger to smaller λ, of a control under Adam")
LAW = Quantity("law", "ratio of E|w| by Adam's law on λ|w|, larger to smaller λ")
LAW_LEAST = Quantity("law_least", "least L1 norm of a settled run under Adam over that of the law")
LAW_MOST = Quantity("law_most", "largest L1 norm of a settled run under Adam over that of the law")

CLAIM = Claim(
    id="vgg16-adam",
    plain="The same happens under Adam and with other learning rates.",
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

NUMBERS = (
    "Plain SGD at other α ({sgd_pairs}): the norm at the larger λ is {sgd_least:v} to {sgd_most:v} times the other. "
    "Adam ({adam_pairs}): {adam_least:v} to {adam_most:v} times; its law on λ|w| alone gives {law:.3f}."
)
LIMIT = (
    " That λ cancels explains a ratio of 1 and none below it: settled runs under Adam end at {law_least:v} to "
    "{law_most:v} times their law, which knows neither the loss's gradient nor how long β₂ remembers it."
)
RULE = Rule(
    Row(
        ~above(MOST["sgd"], GROWTH) & ~above(MOST["adam"], GROWTH),
        Outcome(Verdict.NOT_REPRODUCED, "with neither optimiser"),
    ),
    Row(
        ~above(MOST["adam"], GROWTH),
        Outcome(
            Verdict.WITH_CORRECTION,
            "with SGD, not with Adam",
            "Two findings: the half about plain SGD is reproduced, the half about Adam is not.",
            correction="With plain SGD at other α the larger penalty has the larger norm{sgd_fails}. With Adam it has "
            "not." + LIMIT,
        ),
    ),
    Row(
        ~above(MOST["sgd"], GROWTH),
        Outcome(
            Verdict.WITH_CORRECTION,
            "with Adam, not with SGD",
            correction="With Adam the larger penalty has the larger norm{adam_fails}. With plain SGD it has not.",
        ),
    ),
    Row(
        ~above(LEAST["sgd"], GROWTH) | ~above(LEAST["adam"], GROWTH),
        Outcome(
            Verdict.WITH_CORRECTION,
            "in some settings only",
            correction="With plain SGD the larger penalty has the larger norm{sgd_fails}; with Adam likewise"
            "{adam_fails}." + LIMIT,
        ),
    ),
    Row(
        ~above(CONTROL_LEAST, GROWTH) | ~above(LAW, GROWTH),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED, "not by crossing the kink", "The controls or the law do not show it."
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "with SGD and with Adam", "The controls and the law show it too."),
    always=NUMBERS,
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="the larger λ has the larger norm in each case",
        ours="norm at the larger λ: SGD × {sgd_least:v} to {sgd_most:v}, Adam × {adam_least:v} to {adam_most:v}",
        control="random labels, other start: × {control_least:v} to {control_most:v}",
    ),
    choices=(GROWTH, SETTLED, TAIL),
    afterthoughts=(
        Afterthought(
            "a run has settled if its norm changes by at most 15 % between its last two fifths; it was 10 %",
            "2026-11-24",
            "Not recorded.",
            "At scale quick nothing: the same pairs have settled at 10 %.",
        ),
    ),
)
network = study.experiment()(runs.network)
paper = study.experiment(**runs.PAPER_MARKS)(runs.on_device)


@study.experiment(part="law", version=2)
def law(run: Run, *, rule: str, step_size: float, penalty: float, coordinates: int) -> Mapping[str, Any]:
    """The law of one optimiser on λ|w|, simulated."""
    found = stationary_law(
        OPTIMISERS[rule](step_size), penalty, coordinates=coordinates, start=START, seed=run.seed, dtype=torch.float32
    )
    return {
        "mean_magnitude": found.mean_magnitude,
        "exact_zeros": found.exact_zeros,
        "flips_per_step": found.flips_per_step,
        "below_small": found.fraction_below(runs.SMALL),
        "settled": found.settled,
    }


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Pairs of runs that differ in λ alone, and the law of each optimiser at each of their settings."""
    cells: list[Cell] = []

    def add(part: str, rule: str, step_size: float, penalties: Sequence[float], steps: int, **changes: Any) -> None:
        seeds = scale.settings.seed_range(CONTROL_SEEDS) if changes.keys() & CONTROLLED else scale.seeds(1, 2, 3)
        cost = SECONDS_TO_START[part] + steps * SECONDS_PER_STEP[part]
        setting = {"part": part, "rule": rule, "step_size": step_size, "steps": steps, "images": scale.data, **changes}
        for seed in seeds if part == "narrow" else seeds[:1]:
            cells.extend(
                network.cell(seed=seed, cost=cost, **runs.SETUP | setting | {"penalty": penalty})
                for penalty in penalties
            )

    steps = scale(300, 300, 1000)
    for step_size in SGD_STEP_SIZES:
        add("narrow", "sgd", step_size, SGD_PENALTIES, steps * 2 // 3, measurements=100)
    for step_size in ADAM_STEP_SIZES["narrow"]:
        add("narrow", "adam", step_size, runs.PENALTIES, steps, measurements=100)
    for name, change in runs.CONTROLS.items():
        if scale.name != "quick" or name == "random labels":
            add("narrow", "adam", 0.01, runs.PENALTIES, steps, measurements=100, **change)
    if scale.name == "standard":
        few = {"train_images": 1000, "test_images": 100, "measurements": 50}
        for step_size in ADAM_STEP_SIZES["full"]:
            add("full", "adam", step_size, runs.PENALTIES, 300 if step_size == runs.STEP_SIZE else 220, **few)
        for change in runs.CONTROLS.values():
            add("full", "adam", 0.01, runs.PENALTIES, 220, **few, **change)
    if scale.name == "paper":
        start = runs.paper_start()
        for rule, step_size in (("adam", 0.01), ("adam", 0.001), ("sgd", 0.02), ("sgd", 0.05)):
            setting = runs.PAPER | {"rule": rule, "step_size": step_size, "initialisation": start}
            cost = SECONDS_TO_START["full"] + runs.PAPER_STEPS * runs.SECONDS_PER_PAPER_STEP
            seed = scale.settings.first_seed
            cells.extend(paper.cell(seed=seed, cost=cost, penalty=one, **setting) for one in runs.PENALTIES)
    settings = dict.fromkeys(tuple(c.parameters[name] for name in LAW_PARAMETERS) for c in cells)
    laws: Iterable[dict[str, Any]] = (dict(zip(LAW_PARAMETERS, setting, strict=True)) for setting in settings)
    return [*cells, *(law.cell(seed=scale.settings.first_seed, cost=0.5, coordinates=4096, **one) for one in laws)]


@dataclass(frozen=True)
class Pair:
    """Two runs that differ in λ alone, both settled.

    Attributes:
        weak: the run at the smaller λ.
        strong: the run at the larger λ.
        tail: last part of each over which its L1 norm is averaged.
    """

    weak: Record
    strong: Record
    tail: float

    @property
    def growth(self) -> float:
        """L1 norm at the larger λ over that at the smaller one."""
        return runs.settled_norm(self.strong, self.tail) / runs.settled_norm(self.weak, self.tail)

    @property
    def label(self) -> str:
        """Which runs these are, for a reader."""
        p = self.strong.parameters
        size = "full-size" if runs.is_full_size(self.strong) else "narrow"
        rise = p["penalty"] / self.weak.parameters["penalty"]
        return f"{runs.NAMES[p['rule']]}, α = {p['step_size']:g}, {size}, λ × {rise:g}, seed {self.strong.seed}"

    def finding(self, prefix: str = "") -> Finding:
        """The growth, under a name for a notebook."""
        p = self.strong.parameters
        kind = runs.role(self.strong).replace(" ", "_")
        name = f"growth_{kind}_{p['rule']}_{p['step_size']:g}_{p['part']}_{self.strong.seed}"
        return Value(name, f"{prefix}{self.label}: ratio of L1 norms", self.growth)


def pairs_of(records: Sequence[Record], kind: str, choices: Choices) -> list[Pair]:
    """Smallest against largest λ among the settled runs of each setting."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for r in runs.select(records, role=kind):
        if runs.has_settled(r, choices.settled):
            setting = (r.parameters[name] for name in ("rule", "step_size", "part", "initialisation"))
            groups.setdefault((*setting, r.seed), []).append(r)
    return [Pair(group[0], group[-1], choices.tail) for group in groups.values() if len(group) > 1]


def _law_growth(laws: Mapping[tuple[str, float, float], Record]) -> dict[str, float]:
    """For each optimiser, the mean over α of E|w| at the largest λ over that at the smallest."""
    growth: dict[str, list[float]] = {}
    for rule, step_size in sorted({key[:2] for key in laws}):
        penalties = sorted(penalty for r, a, penalty in laws if (r, a) == (rule, step_size))
        if len(penalties) > 1:
            ends = [laws[rule, step_size, penalty]["mean_magnitude"] for penalty in (penalties[0], penalties[-1])]
            growth.setdefault(rule, []).append(ends[1] / ends[0])
    return {rule: sum(values) / len(values) for rule, values in growth.items()}


def _ends(least: Quantity, most: Quantity, values: Sequence[float]) -> tuple[Finding, Finding]:
    if not values:
        return least.missing("has no settled pair of runs"), most.missing("has no settled pair of runs")
    return least.number(extremes.smallest(values)), most.number(extremes.largest(values))


def _counted(pairs: Sequence[Pair]) -> str:
    """How many pairs of how many seeds, and the λ that they compare, for a reader."""
    compared = dict.fromkeys(
        f"λ = {pair.strong.parameters['penalty']:g} against {pair.weak.parameters['penalty']:g}" for pair in pairs
    )
    seeds = len({pair.strong.seed for pair in pairs})
    words = [f"{n} {name}{'' if n == 1 else 's'}" for n, name in ((len(pairs), "pair"), (seeds, "seed"))]
    return ", ".join((" of ".join(words), *compared))


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The ratios under each optimiser, of the controls and by the law, and how far the law is met."""
    records, laws = [*evidence[network], *evidence[paper]], runs.laws_of(evidence[law])
    pairs = pairs_of(records, "trained", choices)
    controls = {kind: pairs_of(records, kind, choices) for kind in runs.CONTROLS}
    growth = _law_growth(laws)
    derived: list[Finding] = []
    for rule in runs.NAMES:
        own = [pair for pair in pairs if pair.strong.parameters["rule"] == rule]
        fails = ", ".join(pair.label for pair in own if not pair.growth > choices.growth)
        derived += _ends(LEAST[rule], MOST[rule], [pair.growth for pair in own])
        derived.append(Value(f"{rule}_pairs", "pairs of runs", _counted(own)))
        derived.append(Value(f"{rule}_fails", "pairs that do not show it", f" (not with {fails})" if fails else ""))
    derived += _ends(CONTROL_LEAST, CONTROL_MOST, [pair.growth for found in controls.values() for pair in found])
    derived.append(LAW.number(growth.get("adam")))
    measured, predicted, over = [pair.finding() for pair in pairs], [], []
    for r in runs.select(records, role="trained", rule="adam"):
        p, norm = r.parameters, runs.settled_norm(r, choices.tail)
        label = f"Adam, α = {p['step_size']:g}, λ = {p['penalty']:g}, {p['part']}, seed {r.seed}"
        name = f"adam_{p['step_size']:g}_{p['penalty']:g}_{p['part']}_{r.seed}"
        measured.append(Value(f"l1_norm_{name}", f"{label}: L1 norm", norm))
        measured.append(Value(f"accuracy_{name}", f"{label}: accuracy on test images", r["accuracy"][-1]))
        own_law = laws.get((p["rule"], p["step_size"], p["penalty"]))
        if own_law is not None:
            by_law = own_law["mean_magnitude"] * r["parameters"]
            predicted.append(Value(f"l1_norm_{name}", f"{label}: L1 norm by the law", by_law))
            if runs.has_settled(r, choices.settled):
                over.append(norm / by_law)
    derived += _ends(LAW_LEAST, LAW_MOST, over)
    for rule, value in growth.items():
        predicted.append(
            Value(f"growth_{rule}", f"{runs.NAMES[rule]}'s law: ratio of E|w|, largest to smallest λ", value)
        )
    control = [pair.finding(f"{kind}, ") for kind, found in controls.items() for pair in found]
    met = sum(abs(ratio - 1) <= LAW_MET for ratio in over)
    notes = [f"Of {len(over)} settled runs under Adam, {met} end within {LAW_MET:.0%} of their law."]
    unsettled = sum(not runs.has_settled(r, choices.settled) for r in runs.select(records))
    moving = sum(not one["settled"] for one in laws.values())
    if unsettled:
        notes.append(f"{unsettled} runs had not settled and are left out of the pairs.")
    if moving:
        notes.append(f"{moving} of the {len(laws)} laws on λ|w| had not settled when they were recorded.")
    return Findings(measured, control, predicted, derived, notes)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The L1 norm per weight along Adam's runs, and where each optimiser ends against λ."""
    del found
    return figures.optimiser_figures(evidence.records)
