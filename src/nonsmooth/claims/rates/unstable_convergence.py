"""Claim `unstable-convergence`: convex functions with bounded subgradients never diverge (§4, Proposition 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

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
    Runs,
    Scale,
    Study,
    Value,
    Verdict,
    above,
    below,
    holds,
    typically_below,
)
from nonsmooth.claims.rates.unstable_figures import ITERATES, draw_constants
from nonsmooth.claims.rates.unstable_runs import (
    L1_FEATURES,
    LOSSES,
    ROUNDING,
    climb_chain,
    climb_tilted_sine,
    measure_gaps,
    measure_plane,
    search_polytopes,
    walk_without_minimizer,
)
from nonsmooth.lab import Cell

STEP_SIZES: Mapping[str, tuple[float, ...]] = {
    "absolute value": (0.01, 0.1, 1.0, 10.0),
    "l1 norm": (0.03, 0.1, 1.0, 10.0),
    "l1 norm, in phase": (0.03, 0.1, 1.0, 10.0),
    "relu": (1.0, 3.0, 10.0, 30.0),
    **dict.fromkeys(LOSSES, (1.0, 3.0, 10.0, 30.0)),
}
KINKED = ("absolute value", "l1 norm", "l1 norm, in phase", "relu", "huber", "absolute regression")
"""Convex, with bounded subgradients, and "non-smooth" in the paper's sense, which counts Huber."""
UNBOUNDED = ("squared", "quartic")
TILTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
DIMENSIONS = (1, 2, 3, 5)
CHAIN_SIZES = (16, 64, 256, 1024)
LABEL = "largest gap / (αL²)"
CONSTRUCTIONS = ("problems", "plane", "search", "chain")

ABOVE = Choice(
    "above", 1 + ROUNDING, (1.001, 1.05), "constant above which the printed bound fails", "The bound, and rounding."
)
WORST = Choice(
    "worst",
    CONSTRUCTIONS,
    (("plane",), ("search",), ("chain",), ("problems",)),
    "the functions among which the last iterate's largest constant is sought",
    "The proposition is about all of them: one is enough.",
)
GROWN = Choice(
    "grown",
    1.2,
    (1.05, 1.5),
    "growth of the largest ‖x‖ from a tenth of the steps to all of them that counts",
    "A size that grows like the logarithm of the steps gains 10 % and more in such a stretch.",
)

DIVERGES = Quantity("diverges", "a convex run with bounded subgradients diverges")
SEEDS = Quantity("seeds", "seeds of each function")
DIVERGED = Quantity("diverged", "convex runs with bounded subgradients that diverge")
CLASSICAL = Quantity("classical", "best iterate's gap over its classical bound, largest over all steps")
UNBOUNDED_SHARE = Quantity("diverged_unbounded", "squared and quartic runs that diverge")
SMOOTH = Quantity("diverged_smooth", "smooth (pseudo-Huber) runs that diverge")
LARGEST = Quantity("largest", "largest gap of the last iterate, in αL²")
ESCAPES = Quantity("escapes", "separable data on which the logistic loss lets ‖x‖ grow on")
STAYS = Quantity("stays", "data that are not separable on which the logistic loss lets ‖x‖ grow on")

CLAIM = Claim(
    id="unstable-convergence",
    plain="On convex functions with bounded slopes no learning rate makes the loss grow without end.",
    title="Bounded subgradients keep constant steps from diverging",
    where="§4, Proposition 4.1",
    statement=(
        "All convex non-smooth loss functions with bounded subgradients show unstable convergence: under any constant "
        "step size α they do not diverge, and lim f(x_k) - f* ≤ αL²."
    ),
    explanation=(
        "Subgradient methods with constant steps converge to within αL² of the minimum (Boyd et al. 2003), and the "
        "functions are non-smooth."
    ),
    control=(
        "Functions that lack one part of the condition each: unbounded gradients (squared and quartic loss), no "
        "convexity (a tilted sine), no minimiser (max(-x, -2x); the logistic loss on separable data), which the "
        "proposition does not ask for, and smoothness instead of a kink (pseudo-Huber), which it leaves out. The bound "
        "is tested on the last iterate, which it is printed for, and on the best one, which its source has."
    ),
    paper=(Value("constant", "lim f(x_k) - f*, in units of αL²", "at most 1"),),
    edition=(
        "February 2024 (arXiv 2401.08426, early version). Versions from November 2024 on turn what follows from it "
        'round: from the edge of stability being "inapplicable" to its "occurring in a broader class of functions"'
    ),
)

NO_KINK = "A kink is not needed: {diverged_smooth:.0%} of the runs on a smooth loss with a bounded gradient diverge."
MINIMISER = (
    "The iterates stay bounded only where there is a minimiser: on max(-x, -2x) they go off and f falls for ever, and "
    "under the logistic loss on separable data they grow on ({escapes.hits} of {escapes.count} data sets)."
)
RULE = Rule(
    Row(
        holds(DIVERGES) | above(CLASSICAL, 1 + ROUNDING),
        Outcome(Verdict.NOT_REPRODUCED, "some runs diverge", "A run diverges, or the best iterate exceeds its bound."),
    ),
    Row(
        typically_below(SEEDS, 6),
        Outcome(Verdict.INCONCLUSIVE, "too few data", decided_by="at least 6 seeds of each function, not {seeds:v}"),
    ),
    Row(
        ~above(UNBOUNDED_SHARE, 0.5),
        Outcome(
            Verdict.INCONCLUSIVE,
            "nothing was seen to diverge",
            decided_by="more steps, until functions with unbounded gradients are seen to diverge",
        ),
    ),
    Row(
        above(LARGEST, ABOVE),
        Outcome(
            Verdict.WITH_CORRECTION,
            "the bound: best iterate only",
            "The last iterate's largest constant is {largest:v} ({worst}).",
            correction="αL² bounds the best iterate and not the last one. For the best the limit is αL²/2 (largest "
            "seen: {best:v}·αL²). The last iterate of a piecewise linear function in the plane keeps returning to "
            "{plane:v}·αL², and after n steps from the minimiser of a function of n variables (Harvey et al. 2019) it "
            "lies at {chain:v}·αL² for n = {chain_size} and grows by {chain_slope:v}·αL² with each unit of ln n: no "
            "constant serves all functions. "
            "On the line the largest found is {search_1:v}. L is the Euclidean constant: for λ1‖β‖₁ that is λ1√P; in "
            "units of αλ1², with the paper's L = λ1, its gap reaches {l1_paper:v}. " + MINIMISER + " " + NO_KINK,
        ),
    ),
    Row(
        above(ESCAPES, 0.5),
        Outcome(
            Verdict.WITH_CORRECTION,
            "where a minimiser exists",
            "The last iterate's constant is {largest:v}, within the printed bound.",
            correction=MINIMISER + " " + NO_KINK,
        ),
    ),
    Row(below(SMOOTH, 0.5), Outcome(Verdict.EXPLANATION_NOT_SUPPORTED, "no kink is needed", NO_KINK)),
    otherwise=Outcome(Verdict.REPRODUCED, "bounded as the paper says", "The smooth loss with a bounded gradient does."),
    always="{diverged.hits} of {diverged.count} convex runs with bounded subgradients diverge; "
    "{diverged_unbounded.hits} of {diverged_unbounded.count} with unbounded gradients, {diverged_nonconvex.hits} of "
    "{diverged_nonconvex.count} of the function that is not convex and {diverged_smooth.hits} of "
    "{diverged_smooth.count} of the smooth one do.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="never diverges; lim f - f* ≤ αL²",
        ours="{diverged.hits} of {diverged.count} diverge; up to {largest:v}·αL² (last), {best:v}·αL² (best)",
        control="unbounded gradients: {diverged_unbounded.hits} of {diverged_unbounded.count} diverge; smooth, "
        "bounded: {diverged_smooth.hits} of {diverged_smooth.count}; no minimiser: {escapes:.0%} grow on",
    ),
    choices=(ABOVE, WORST, GROWN),
    afterthoughts=(
        Afterthought(
            "functions without a minimiser, and the last iterate's lower bound in many dimensions",
            "2026-11",
            "The correction said that the iterates stay bounded without naming the condition, and its constant came "
            "from a search in five dimensions and fewer.",
            "The correction names the condition, and no largest constant; the verdict stays.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """The problems; what lacks a part of the condition; the plane, random polytopes and the chain for the constant."""
    seeds, steps, polytopes = scale.seeds(8, 64), scale(2_000, 20_000), scale(128, 4_096)
    for name, alphas in STEP_SIZES.items():
        cost = 1.2e-5 * len(seeds) * steps
        yield problem_runs.cell(problem=name, alphas=alphas, steps=steps, seeds=seeds, cost=cost)
    yield plane.cell(tilts=TILTS, steps=4_000, cost=0.5)
    for features in DIMENSIONS:
        yield search.cell(
            features=features, polytopes=polytopes, starts=16, steps=600, seed=seeds.start, cost=2e-3 * polytopes
        )
    yield sine.cell(steps=10_000, cost=0.1)
    yield chain.cell(sizes=(*CHAIN_SIZES, *scale((), (4096,))), cost=scale(0.2, 2.0))
    yield walked.cell(steps=4_000, seeds=seeds, cost=0.05 * len(seeds))


problem_runs = study.experiment(part="problem", seed_axes=dict.fromkeys(("diverged", "last", "best", "classical"), 0))(
    measure_gaps
)
plane = study.experiment(part="plane")(measure_plane)
search = study.experiment(part="search")(search_polytopes)
sine = study.experiment(part="not convex")(climb_tilted_sine)
chain = study.experiment(part="chain")(climb_chain)
walked = study.experiment(part="minimiser", seed_axes={"early": 2, "late": 2})(walk_without_minimizer)


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Which runs diverge, the constants of both iterates, and what a minimiser has to do with it."""
    runs = evidence[problem_runs]
    last = {name: _largest(runs, name, "last", "last iterate") for name in KINKED}
    best = {name: _largest(runs, name, "best", "best iterate") for name in KINKED}
    in_plane, searches, rising = (
        evidence[plane].one(),
        {n: evidence[search].one(features=n) for n in DIMENSIONS},
        evidence[chain].one(),
    )
    constants = {
        "problems": last.values(),
        "plane": [Value("plane", f"{LABEL}, worst case in the plane, last iterate", float(np.max(in_plane["last"])))],
        "search": [
            Quantity(
                f"search_{size}", f"{LABEL}, random piecewise linear functions of {size} variable(s), last iterate"
            ).number(found["last"], found["runs"])
            for size, found in searches.items()
        ],
        "chain": [Value("chain", f"{LABEL}, lower bound in {rising['size'][-1]:,} variables", rising["last"][-1])],
    }
    worst = extremes.largest([c for name in choices.worst for c in constants[name]], key=lambda c: c.value)
    gone = {name: np.array(runs.one(problem=name)["diverged"]) for name in STEP_SIZES}
    diverged = {
        quantity: np.concatenate([gone[name].ravel() for name in names])
        for quantity, names in ((DIVERGED, KINKED), (UNBOUNDED_SHARE, UNBOUNDED), (SMOOTH, ("pseudo-huber",)))
    }
    shares = {quantity: quantity.share(int(flags.sum()), len(flags)) for quantity, flags in diverged.items()}
    classical = np.concatenate([np.ravel(runs.one(problem=name)["classical"]) for name in KINKED])
    paper = Quantity("l1_paper", f"largest gap of λ1‖β‖₁ in units of αλ1², the paper's L, with {L1_FEATURES} features")
    outside = [Value("best", "best iterate", float(np.max(r["best"]))) for r in (in_plane, *evidence[search])]
    best_of_all = extremes.largest([*best.values(), *outside], key=lambda c: c.value)
    slope = np.polyfit(np.log(rising["size"]), rising["last"], 1)[0]
    walks = evidence[walked].one()
    ratios = dict(zip(walks["name"], (np.array(walks["late"]) / np.array(walks["early"])).min(1), strict=True))
    grown = {name: ratio > choices.grown for name, ratio in ratios.items()}
    return Findings(
        (
            shares[DIVERGED],
            *last.values(),
            *best.values(),
            CLASSICAL.number(float(classical.max()), len(classical)),
            *constants["plane"],
            *constants["search"],
            *constants["chain"],
            Value("chain_slope", "growth of that gap with ln n, in αL²", float(slope)),
            Value("beside", "the same gap from starts beside the minimiser, smallest", rising["beside"][-1]),
            paper.number(_value(last["l1 norm, in phase"]) * L1_FEATURES),
        ),
        (
            shares[UNBOUNDED_SHARE],
            Quantity("diverged_nonconvex", "tilted sine (not convex): runs that diverge").share(
                sum(flags := evidence[sine].one()["diverged"]), len(flags)
            ),
            shares[SMOOTH],
            ESCAPES.share(int(grown["logistic, separable"].sum()), len(grown["logistic, separable"])),
            STAYS.share(int(grown["logistic, mixed"].sum()), len(grown["logistic, mixed"])),
            *(
                Value(name, f"{text}: growth of the largest |x|", float(ratios[text].min()))
                for name, text in (("growth_line", "max(-x, -2x)"), ("growth_absolute", "|x|"))
            ),
        ),
        (
            Value("plane_prediction", "largest constant in the plane, 1 + ε - 2ε² at ε = 1/4", 1.125),
            Value("best_prediction", "limit of the best iterate's classical bound, in units of αL²", 0.5),
            Value("slope_prediction", "growth with ln n in many variables, r(1-r)/(1+(π²/6-1)r²) at r = 0.43", 0.219),
        ),
        derived=(
            DIVERGES.any_of(diverged[DIVERGED]),
            SEEDS.number(int(extremes.smallest(len(flags) for flags in gone.values()))),
            LARGEST.number(_value(worst)),
            Quantity("worst", "where it was found").word(worst.label),
            Quantity("best", "largest gap of the best iterate, in αL²").number(_value(best_of_all)),
            Quantity("chain_size", "variables").number(rising["size"][-1]),
        ),
        notes=(
            "Boyd et al. (2003) bound the best iterate, f_best - f* ≤ R²/(2αk) + αG²/2. The limit of f(x_k) itself "
            "need not exist: the recursion ends on cycles, so the largest late gap is measured. After its rise the "
            "chain of n variables falls back: it bounds f(x_k) at a given k, the plane bounds the limit.",
            'The proposition\'s words, "all convex non-smooth loss functions", are true of smooth ones with bounded '
            "gradients too: its proof does not use a kink.",
            "In the plane the chain of three subgradients (0, -1), (√(1-ε²), ε), (-√(1-ε²), ε) attains 1 + ε - 2ε²: a "
            "step of length 1 up the shallow side, at the bottom of the steep valley, and then a step across it.",
        ),
    )


def _value(finding: Finding) -> float:
    """The number of a finding that was measured; of one that was not, none."""
    return float("nan") if finding.value is None else float(finding.value)


def _largest(runs: Runs, problem: str, which: str, iterate_name: str) -> Finding:
    """The largest constant of a problem, over seeds and step sizes."""
    samples = np.ravel(runs.one(problem=problem)[which])
    name = f"{which}_{problem.replace(',', '').replace(' ', '_')}"
    label = f"{LABEL}, {problem}, {iterate_name}"
    return Quantity(name, label).number(float(samples.max()) if len(samples) else None, len(samples))


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Constants by problem, in the plane against the tilt, and by dimension."""
    del found
    problems = {
        which: [_value(_largest(evidence[problem_runs], name, which, "")) for name in KINKED] for which in ITERATES
    }
    return draw_constants(KINKED, problems, evidence[plane].one(), list(evidence[search]), evidence[chain].one())
