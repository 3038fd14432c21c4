"""§1 to §3: StepLR breaks the assumption Σα = ∞, and stops short where diminishing steps converge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from nonsmooth import extremes
from nonsmooth.claims.framework import (
    Afterthought,
    Choice,
    Choices,
    Claim,
    Evidence,
    Fact,
    Figure,
    Finding,
    Findings,
    Headline,
    Outcome,
    Quantity,
    Row,
    Rule,
    Scale,
    Study,
    Value,
    Verdict,
    above,
    below,
    holds,
    known,
)
from nonsmooth.claims.rates.step_size_evidence import (
    FIRST_STEP,
    LAST_STEP,
    count_arrivals,
    ends_above,
    settings_above,
    stuck_settings,
)
from nonsmooth.claims.rates.step_size_figures import draw_step_sizes
from nonsmooth.claims.rates.step_size_runs import (
    FINITE,
    HARMONIC,
    INFINITE,
    LENGTHS,
    REDUCING,
    SMOOTH,
    STEP_SIZES,
    STEPS,
    run_along,
    run_lengths,
    sum_schedules,
)
from nonsmooth.lab import Cell, Record

EPOCH = 391
"""Steps of an epoch of CIFAR-10 with batches of 128."""

LENGTH = Choice(
    "length",
    STEPS,
    LENGTHS[:-1],
    "number of steps of the runs",
    "Long enough for StepLR(30, 0.1) to have spent its sum; travel and distance are compared after as many steps.",
)
MOST = Choice("most", 0.5, (0.25, 0.75), "share of the starts that counts as most", "More often than not.")
ARRIVAL = Choice(
    "arrival",
    LAST_STEP,
    (FIRST_STEP, 0.01, 0.001),
    "distance ‖β‖∞ up to which a run on L3 has arrived",
    "A run at a kink comes no nearer than the step that it takes there.",
    "where a run that is within its last step of the minimum has arrived",
)
SUMMABLE = Choice(
    "summable",
    FINITE,
    (tuple(name for name in FINITE if name.startswith("StepLR")), (REDUCING,)),
    "the schedules of finite sum",
    "All that were run: the paper's argument is about any finite sum.",
)

SERIES = Quantity("series", "Σα of StepLR is the finite geometric series, and that of α₀/(t+1)^p, p ≤ 1, grows on")
FINITE_FAR = Quantity("finite_far", "finite Σα, λΣα ≥ ‖β₀‖∞: share of starts from which the runs arrive on L3")
FINITE_SHORT = Quantity("finite_short", "finite Σα, λΣα < ‖β₀‖∞: share of starts from which the runs arrive on L3")
INFINITE_FAR = Quantity(
    "infinite_far", "diminishing steps, λΣα ≥ ‖β₀‖∞ so far: share of starts from which the runs arrive on L3"
)
INFINITE_SHORT = Quantity(
    "infinite_short", "diminishing steps, λΣα < ‖β₀‖∞ so far: share of starts from which the runs arrive on L3"
)
TWIN_FAR = Quantity(
    "twin_far", "finite Σα, λΣα ≥ ‖β₀‖∞: share of starts from which the runs arrive on the C¹ twin of L3"
)
TWIN_SHORT = Quantity(
    "twin_short", "finite Σα, λΣα < ‖β₀‖∞ - ε: share of starts from which the runs arrive on the C¹ twin of L3"
)

CLAIM = Claim(
    id="step-sizes",
    plain="A learning rate that is cut again and again can stop the run before it arrives.",
    title="Diminishing steps converge, reducing steps stop short",
    where="§1, §2 and §3",
    statement=(
        "PyTorch's StepLR is a convergent geometric series, so it breaks the assumption Σα = ∞ of the convergence "
        "theorems. Diminishing steps converge to the minimum; with reducing steps the error does not vanish."
    ),
    explanation=(
        "NGDM converges on non-differentiable functions under Σα = ∞ and α → 0 (Davis et al. 2020, A.3). With a finite "
        "sum that guarantee is lost, and the positive α at the end leaves an error across the kink."
    ),
    control=(
        "On L3 and on its C¹ twin the distance that the steps can travel, λΣα, against that to the minimum, ‖β₀‖∞. If "
        "the finite sum is the reason, schedules of finite sum stop short however far they can travel; if the kink is, "
        "the twin does not stop short."
    ),
    paper=(Fact("sum", "Σα of StepLR over α₀: finite", True),),
)

RULE = Rule(
    Row(~holds(SERIES), Outcome(Verdict.NOT_REPRODUCED, "the sums are others")),
    Row(
        ~below(FINITE_SHORT, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "reducing steps do not stop", "StepLR arrives where its sum is too short."),
    ),
    Row(
        ~above(INFINITE_FAR, MOST),
        Outcome(Verdict.NOT_REPRODUCED, "diminishing steps stop as well", "Diminishing steps do not arrive."),
    ),
    Row(
        above(FINITE_FAR, MOST),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "the distance travelled decides",
            "But a finite sum is not the reason: where it reaches the minimum the runs arrive from {finite_far:.0%} of "
            "the starts, and with diminishing steps that have not come so far yet from {infinite_short:.0%}. And no "
            "kink is needed: on the C¹ twin finite sums arrive from {twin_far:.0%} where they reach the minimum and "
            "from {twin_short:.0%} where they do not.",
        ),
    ),
    Row(
        below(TWIN_SHORT, MOST),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "no kink is needed",
            "But the C¹ twin stops short as well ({twin_short:.0%} arrive): no kink is needed.",
        ),
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED,
        "a finite sum stops short",
        "However far a finite sum reaches, it stops short ({finite_far:.0%} arrive), and the C¹ twin does not.",
    ),
    always="Σα of StepLR(30, 0.1) is {limit:v} α₀, finite. Where λΣα < ‖β₀‖∞, the runs arrive at the "
    "minimum of L3 (within their last step of it) from {finite_short:.0%} of the starts; with diminishing steps that "
    "have come far enough from {infinite_far:.0%}. Which of the two is "
    "ahead depends on when one looks: StepLR(30, 0.1) ends above α₀/√(t+1) in {higher_100:.0%} of the settings with a "
    "kink after 100 steps, in {higher_300:.0%} after 300 and in {higher_1000:.0%} after 1,000.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="Σα of StepLR finite; reducing steps stop short, diminishing ones converge",
        ours="Σα = {limit:v} α₀; short sums: {finite_short:.0%} arrive, long ones {finite_far:.0%}",
        control="C¹ twin: short sums {twin_short:.0%}, long ones {twin_far:.0%}",
    ),
    choices=(LENGTH, MOST, ARRIVAL, SUMMABLE),
    afterthoughts=(
        Afterthought(
            "judged by travel against distance, no more by which schedule ends lower",
            "2026-11",
            "Which one ends lower turned between 300 and 1,000 steps, and with it the verdict.",
            "The verdict is the same after 100 to 1,000 steps.",
        ),
        Afterthought(
            "the distance that counts as arrival is a choice",
            "2026-11",
            "It was built in. Within a thousandth of zero no run with diminishing steps has arrived by 1,000 steps, "
            "and runs with StepLR have.",
            "The verdict is said to hold where a run within its last step has arrived.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """The series, and two cells per problem: along the run, and after chosen numbers of steps."""
    seeds = scale.seeds(6, 50)
    yield series.cell(cost=0.2)
    for problem, alphas in STEP_SIZES.items():
        travels = problem in ("L3", "L3 twin")
        cost = len(alphas) * (0.006 if travels else 0.03)
        yield along.cell(problem=problem, steps=STEPS, seeds=seeds, cost=cost * len(seeds))
        several = scale.seeds(20, 50) if travels else seeds
        yield lengths.cell(problem=problem, seeds=several, cost=cost * len(several))


series = study.experiment(part="series")(sum_schedules)
along = study.experiment(part="run", seed_axes={"start": 0, "half": 2, "end": 2, "farthest": 0})(run_along)
lengths = study.experiment(part="lengths", seed_axes={"gap": 3, "size": 3, "start": 0, "farthest": 0})(run_lengths)


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The sums, who is ahead when, and who arrives by how far the steps can travel."""
    sums, runs = evidence[series].one(), {name: evidence[along].one(problem=name) for name in STEP_SIZES}
    kinked, smooth = ([name for name in STEP_SIZES if (name in SMOOTH) is side] for side in (False, True))
    effect = {name: ends_above(runs[name]) for name in STEP_SIZES}
    shown = [share for name in smooth for share in effect[name] if share.lower > 0.5]
    settings = sum(len(effect[name]) for name in smooth)
    arrived, twin = (
        count_arrivals(evidence[lengths].one(problem=name), choices.length, choices.summable, choices.arrival)
        for name in ("L3", "L3 twin")
    )
    certificate = extremes.largest(run["certificate"] for run in runs.values())
    measured = (
        *_sums(sums),
        *(share for name in kinked for share in effect[name]),
        *(settings_above(evidence[lengths], kinked, length) for length in LENGTHS),
        Value("certificate", "largest duality gap of the minima of L4", certificate),
        FINITE_SHORT.share(*arrived[True, False]),
        INFINITE_FAR.share(*arrived[False, True]),
    )
    control = (
        FINITE_FAR.share(*arrived[True, True]),
        INFINITE_SHORT.share(*arrived[False, False]),
        TWIN_FAR.share(*twin[True, True]),
        TWIN_SHORT.share(*twin[True, False]),
        *(share for name in smooth for share in effect[name]),
        Quantity("smooth_shown", "settings of differentiable problems in which StepLR surely ends higher").number(
            len(shown), settings
        ),
        *stuck_settings(runs, kinked, smooth),
    )
    limit = Quantity("limit", "Σα of StepLR(30, 0.1)").number(_limit(sums, REDUCING))
    predicted = Value("steplr_sum", "every/(1-γ), StepLR(30, 0.1)", 30 / (1 - 0.1))
    derived = (SERIES.fact(_papers(sums)), limit)
    return Findings(measured, control, (predicted,), derived, _notes(runs, kinked, sums))


def _limit(sums: Record, schedule: str) -> float:
    """Σα over α₀, to infinity."""
    return float(known(sums["limits"])[sums["names"].index(schedule)])


def _sums(sums: Record) -> list[Finding]:
    return [
        Value(f"sum_{i}", f"Σα/α₀ after {sums['lengths'][-1]:,} steps, {name}", partial[-1])
        for i, (name, partial) in enumerate(zip(sums["names"], sums["sums"], strict=True))
    ]


def _papers(sums: Record) -> bool:
    """Whether StepLR sums to the geometric series, and the diminishing steps gain 5 % and more in a tenfold length."""
    partial = dict(zip(sums["names"], map(known, sums["sums"]), strict=True))
    geometric = all(
        math.isclose(partial[name][-1], _limit(sums, name), rel_tol=1e-9) for name in FINITE if "StepLR" in name
    )
    return geometric and all(partial[name][-1] >= 1.05 * partial[name][-2] for name in INFINITE)


def _notes(runs: Mapping[str, Record], kinked: list[str], sums: Record) -> tuple[str, ...]:
    faster = [s for name in kinked for s in ends_above(runs[name], REDUCING, HARMONIC)]
    return (
        f"The 30 of StepLR(30, 0.1) are steps here; training scripts count epochs. With "
        f"{EPOCH} steps an epoch the sum is {_limit(sums, REDUCING) * EPOCH:,.0f} α₀: at λ = 1 it reaches a minimum at "
        f"distance 1 with any α₀ above {1 / (_limit(sums, REDUCING) * EPOCH):.1e}.",
        f"The steps α₀/(t+1) meet Σα = ∞, but in a run of {STEPS:,} steps StepLR(30, 0.1) ends below them in "
        f"{sum(s.upper < 0.5 for s in faster)} of {len(faster)} settings: their sum grows like the logarithm of the "
        "number of steps.",
        "Both schedules end with a positive α after any number of steps that a run can take, so a positive last step "
        "does not tell them apart; how α and Σα compare with the distance to the minimum does.",
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Gaps along the run for each problem, and the gap at the end against the total travel."""
    del found
    return draw_step_sizes(evidence[along])
