"""§3, eq. (11): on the LASSO problem a larger penalty ends with a larger L1 norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from nonsmooth.claims.framework import (
    Afterthought,
    Axis,
    Choice,
    Choices,
    Claim,
    Estimate,
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
    below,
    format_number,
    holds,
    series_of,
)
from nonsmooth.claims.framework.experiment import Experiment
from nonsmooth.claims.kink import dose
from nonsmooth.claims.lasso import paradox_lasso_runs
from nonsmooth.claims.lasso.lasso_data import FEATURES, draw_lasso
from nonsmooth.claims.lasso.paradox_lasso_runs import ALPHA, LARGE, TWIN_STEPS, Norms, fits, floor, spread
from nonsmooth.dynamics import subgradient_step
from nonsmooth.lab import Cell

PAPER_SMALL, PAPER_LARGE = 1.62, 25.4
SMALL = (0.01, 0.1)
STEP_SIZES = (0.001, 0.003, 0.01, 0.03)
SLOW, FAST = (0.001, 0.01), (0.1, 0.3, 1.0, 10.0, 100.0)
"""Strengths over five decades: at α = 0.01 the slow ones need many steps to shrink the start."""
PROXIMAL = (0.1, 1.0, LARGE)


LARGER_OFTEN = Choice("often", 0.5, (0.25, 0.75), "share of the draws that counts as most", "More often than not.")
TOLERANCE = Choice(
    "tolerance",
    0.1,
    (0.05, 0.2),
    "relative departure of a norm that counts as none",
    "Twice the spread of the norm between draws, which a median over 20 of them resolves.",
)
AT = Choice(
    "at",
    "last",
    ("half_way", "quarter_way"),
    "step at which the norms are compared",
    "The longest run that was made.",
    condition="for runs that walk from the start to zero under the smallest penalty, which takes 1/(αλ) steps",
)
WHICH_SMALL = Choice(
    "small",
    SMALL,
    tuple((one,) for one in SMALL),
    "small λ",
    "The text prints 0.01 and 0.1 for the same run.",
)
GAP = Choice(
    "gap",
    0.0,
    (0.1, 0.3),
    "difference of the norms, over P·αλ/2, up to which a twin does not have the paradox",
    "The paper compares two norms; a difference of 0 is the border.",
)

LARGER = Quantity("larger", "draws in which λ = 10 has the larger norm")
PROXIMAL_GAP = Quantity("proximal_gap", "norm at λ = 10 less that at λ = 0.1, proximal gradient")
FLOOR_OFF = Quantity("floor_off", "relative departure of the norm at λ = 10 from P·αλ/2")
DATA_OFF = Quantity("data_off", "largest relative change of the norm at λ = 10 with other data")
VARIED = {
    "signal": "a signal in y",
    "permuted": "that y permuted",
    "normal": "normal W of the same variance",
    "doubled": "W doubled",
}
OTHER_DATA = Choice(
    "data",
    ("signal", "permuted"),
    (("signal", "permuted", "normal"), tuple(VARIED)),
    "data that must leave the norm at λ = 10 as it is",
    "Other y. The paper does not claim that W does not enter.",
    "with W as the paper draws it",
)
NUMBERS_FIT = Quantity("numbers_fit", "25.4 could be one more draw at λ = 10, and 1.62 one at either small λ")

CLAIM = Claim(
    id="paradox-lasso",
    plain="In a linear model too, a larger L1 penalty can leave larger weights.",
    title="A larger LASSO penalty, a larger L1 norm",
    where="§3, equation (11)",
    statement=(
        "On the LASSO problem with W 20×500, the same step size and the same start, NGDM ends with an L1 norm of 1.62 "
        "under a small penalty (λ is printed once as 0.01 and once as 0.1) and of 25.4 under λ = 10."
    ),
    explanation="NGDM oscillates about zero with an amplitude that grows with αλ, and never sets a weight to zero.",
    control=(
        "Proximal gradient with the same α, λ and start. The norm P·αλ/2 of P weights that know nothing of the data; "
        "other y (with a signal, and permuted) and other W (normal, doubled). Gradient steps on C¹ twins "
        "whose kink is rounded off, over widths and step sizes: if it takes a kink, no twin has the paradox; if it "
        "takes a step above 2/L, with L that of the data plus λ/ε, those have it in which α > 2/L at λ = 10."
    ),
    paper=(
        Value("small_norm", "L1 norm at the small λ (0.01 or 0.1)", PAPER_SMALL),
        Value("large_norm", "L1 norm at λ = 10", PAPER_LARGE),
    ),
)

DOSE = dose.DoseResponse(
    "the paradox",
    "have the paradox",
    GAP,
    "With one step size, λ = 10 leaves the larger norm where α > 2/L, with a kink or without; a kink is the limit "
    "L = ∞. The norm is then P·αλ/2 within {floor_off:.0%}, whatever y is; with normal W of the same variance it is "
    "{normal_10:v}, with W doubled {doubled_10:v}: the data enter by their curvature. {numbers}",
)
RULE = Rule(
    Row(below(LARGER, LARGER_OFTEN), Outcome(Verdict.NOT_REPRODUCED, "no larger norm")),
    Row(
        ~below(PROXIMAL_GAP, 0.0),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "proximal steps do it too",
            "Proximal gradient has the larger norm at λ = 10 as well.",
        ),
    ),
    Row(
        ~below(FLOOR_OFF, TOLERANCE),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED, "not the size of αλ", "The norm at λ = 10 departs by {floor_off:.0%}."
        ),
    ),
    Row(
        ~below(DATA_OFF, TOLERANCE),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED, "the data enter", "With other data that norm changes by {data_off:.0%}."
        ),
    ),
    *DOSE.rows,
    Row(~holds(NUMBERS_FIT), Outcome(Verdict.WITH_CORRECTION, "other numbers", correction="{numbers}")),
    otherwise=Outcome(Verdict.REPRODUCED, "it takes the kink", "Without the kink the paradox is gone."),
    always="At α = 0.01 the norms are {ours} at λ = 0.01; 0.1; 10, and P·αλ/2 = 25 at the last; proximal gradient has "
    "{proximal_10:v} there.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="1.62 at λ = 0.01 or 0.1; 25.4 at λ = 10",
        ours="{ours} at λ = 0.01; 0.1; 10",
        control="proximal gradient, λ = 10: {proximal_10:v}; C¹ twins: the paradox in {twin_above:.0%} with α > 2/L, "
        "{twin_below:.0%} with α < 2/L",
    ),
    choices=(
        LARGER_OFTEN,
        WHICH_SMALL,
        AT,
        TOLERANCE,
        OTHER_DATA,
        GAP,
        dose.HALF,
        dose.LADDER,
        dose.LENGTH,
        dose.step_size_choice(tuple(TWIN_STEPS)),
    ),
    afterthoughts=(
        Afterthought(
            "twins, as in the other claims about a kink",
            "2026-11",
            "One phenomenon had three verdicts, and here no twin was run.",
            "“reproduced” became “with a correction”: twins with α > 2/L have the paradox too.",
        ),
        Afterthought(
            "W is varied as well as y",
            "2026-11",
            "It was said that the data do not enter, and only y was varied.",
            "The statement: with W doubled the norm changes by more than a tenth. As the paper does not claim that the "
            "data do not enter, the rule asks for other y alone, as it did; other W are alternatives.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """The sweep over λ, the same by proximal gradient and exactly; other starts, step sizes, data, and the twins."""
    seeds, few = scale.seeds(20, 256), scale.seeds(16, 64)
    long, short = scale(15_000, 200_000), scale(4_000, 40_000)

    def cell(part: Experiment, strengths: Sequence[float], steps: int = short, **others: Any) -> Cell:
        set_up = {"step_sizes": (ALPHA,) * len(strengths), "response": "paper", "start": "uniform", **others}
        cost = len(seeds) * (0.3 if part is exact else steps * 1.2e-5 * (1 + 0.3 * len(strengths)))
        return part.cell(seeds=seeds, steps=steps, strengths=tuple(strengths), cost=cost, **set_up)

    yield cell(subgradient, SLOW, long)
    yield cell(subgradient, FAST)
    yield cell(proximal, PROXIMAL)
    yield cell(exact, (*SLOW, *FAST), 0)
    yield cell(subgradient, (*SMALL, LARGE), start="zeros")
    yield cell(subgradient, (LARGE,) * len(STEP_SIZES), step_sizes=STEP_SIZES, steps=short // 2)
    yield from (cell(subgradient, (0.1, LARGE), response=response) for response in VARIED)
    yield twins.cell(seeds=few, cost=sum(TWIN_STEPS.values()) * 6e-5 * len(few))


def _sweep(part: str, body: Callable[..., Mapping[str, Any]], version: int = 1) -> Experiment:
    """An experiment with pairs of step size α and strength λ on the same draws of W, y and β₀."""

    def sweep(
        run: Run,
        *,
        seeds: int,
        steps: int,
        strengths: Sequence[float],
        step_sizes: Sequence[float],
        response: str,
        start: str,
    ) -> Mapping[str, Any]:
        drawn = draw_lasso(run.seed, seeds, response, start)
        values = body(run, drawn, torch.tensor([strengths], dtype=torch.float64), step_sizes, steps)
        return {"strengths": list(strengths), "step_sizes": list(step_sizes), **values}

    sweep.__name__, sweep.__doc__ = part, body.__doc__
    axes = dict.fromkeys(("last", "cycle", "half_way", "quarter_way", "zeros", "gap"), 1)
    return study.experiment(part=part, version=version, seed_axes=axes | {"largest_useful_strength": 0})(sweep)


subgradient = _sweep("subgradient", partial(paradox_lasso_runs.iterated, lambda strengths: lambda: subgradient_step))
proximal = _sweep("proximal", partial(paradox_lasso_runs.iterated, paradox_lasso_runs.proximal_gradient), version=2)
exact = _sweep("exact", paradox_lasso_runs.certified)


twins = study.experiment(part="dose", seed_axes=dose.SEED_AXES)(paradox_lasso_runs.twins)


def norms_of(
    evidence: Evidence,
    strength: float,
    part: Experiment = subgradient,
    value: str = "last",
    step_size: float = ALPHA,
    response: str = "paper",
    start: str = "uniform",
) -> Norms:
    """One value per seed.

    Raises:
        NotStoredError: it was not measured.
    """
    for record in evidence[part].where(response=response, start=start):
        pairs = list(zip(record["step_sizes"], record["strengths"], strict=True))
        if (step_size, strength) in pairs:
            return np.asarray(record[value][pairs.index((step_size, strength))], dtype=np.float64)
    raise NotStoredError(f"no record of {part.name} has strength {strength} and step size {step_size}")


def _departure(quantity: Quantity, ratios: Sequence[Norms]) -> Finding:
    """How far the medians of ratios lie from 1, the farthest of them, with the interval that theirs leave."""
    found = [quantity.median(one) for one in ratios]
    ends = np.array([(abs(f.value - 1), abs(f.lower - 1), abs(f.upper - 1), (f.lower - 1) * (f.upper - 1) <= 0)
                     for f in found if isinstance(f, Estimate)])  # fmt: skip
    nearest = np.where(ends[:, 3] > 0, 0.0, ends[:, 1:3].min(1))
    return quantity.estimate(ends[:, 0].max(), nearest.max(), ends[:, 1:3].max(), len(ratios[0]))


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The norms by strength against P·αλ/2, and the controls."""

    def middle(name: str, label: str, strength: float, *where: Any, **also: Any) -> Finding:
        return Quantity(name, label).median(norms_of(evidence, strength, *where, **also))

    at = {s: norms_of(evidence, s, value=choices.at) for s in (*SMALL, LARGE)}
    ends = {s: norms_of(evidence, s) for s in (*SMALL, LARGE)}
    excess = np.min([at[LARGE] - at[s] for s in choices.small], axis=0)
    prox = {s: norms_of(evidence, s, proximal) for s in (0.1, LARGE)}
    logs = [np.log(np.median(norms_of(evidence, LARGE, step_size=a))) for a in STEP_SIZES]
    measured = (
        *(middle(f"norm_{s:g}", f"L1 norm, λ = {s:g}, α = {ALPHA}", s) for s in ends),
        middle("cycle_10", "the same, mean of the last two iterates", LARGE, value="cycle"),
        *(
            Quantity(f"spread_{s}", f"L1 norm of one more draw, λ = {s:g} (95 % prediction interval)").estimate(
                float(n.mean()), *spread(n), len(n)
            )
            for s, n in ends.items()
        ),
        Quantity("fitted_step_size", f"α at which the median norm at λ = 10 is {PAPER_LARGE}").number(
            float(np.exp(np.interp(np.log(PAPER_LARGE), logs, np.log(STEP_SIZES))))
        ),
        LARGER.share(int((excess > 0).sum()), len(excess))
        if not np.isnan(excess).any()
        else LARGER.missing("is not a number"),
    )
    control = (
        *(middle(f"proximal_{s:g}", f"proximal gradient, λ = {s:g}", s, proximal) for s in prox),
        middle("proximal_zeros_10", f"its exact zeros among {FEATURES}, λ = 10", LARGE, proximal, "zeros"),
        middle("ngdm_zeros_10", "NGDM's exact zeros, λ = 10", LARGE, value="zeros"),
        *(middle(f"exact_{s:g}", f"exact solution, λ = {s:g}", s, exact) for s in ends),
        Quantity("largest_useful", "λ_max, above which it is 0").median(
            evidence[exact].one()["largest_useful_strength"]
        ),
        *(middle(f"zeros_start_{s:g}", f"NGDM from β₀ = 0, λ = {s:g}", s, start="zeros") for s in ends),
        *(
            middle(f"{name}_{s:g}", f"NGDM, {words}, λ = {s:g}", s, response=name)
            for s in prox
            for name, words in VARIED.items()
        ),
        *DOSE.findings(evidence[twins].one(), choices),
    )
    fitting = [s for s in SMALL if fits(PAPER_SMALL, ends[s])]
    ours = {s: format_number(float(np.median(n))) for s, n in ends.items()}
    derived = (
        PROXIMAL_GAP.median(prox[LARGE] - prox[0.1]),
        _departure(FLOOR_OFF, [at[LARGE] / floor(LARGE)]),
        _departure(DATA_OFF, [norms_of(evidence, LARGE, response=name) / ends[LARGE] for name in choices.data]),
        NUMBERS_FIT.fact(fits(PAPER_LARGE, ends[LARGE]) and len(fitting) == len(SMALL)),
        Value("ours", "medians of the norms", "; ".join(ours.values())),
        Value(
            "numbers",
            "which printed numbers fit",
            f"{PAPER_SMALL} fits {' and '.join(f'λ = {s}' for s in fitting) or 'neither strength printed for it'} "
            f"(medians {ours[0.01]} at λ = 0.01, {ours[0.1]} at λ = 0.1), and {PAPER_LARGE} "
            f"{'fits' if fits(PAPER_LARGE, ends[LARGE]) else 'does not fit'} at λ = 10 (median {ours[LARGE]}).",
        ),
    )
    predicted = tuple(Value(f"floor_{s:g}", f"P·αλ/2, λ = {s:g}", floor(s)) for s in ends)
    return Findings(measured, control, predicted, derived, tuple(_notes(evidence, ends)))


def _notes(evidence: Evidence, ends: Mapping[float, Norms]) -> Iterator[str]:
    """What a careful reader should know."""

    def middle(strength: float, *where: Any, **also: Any) -> str:
        return format_number(float(np.median(norms_of(evidence, strength, *where, **also))))

    away = {s: (PAPER_SMALL - float(ends[s].mean())) / float(ends[s].std() or np.nan) for s in SMALL}
    where = ", ".join(f"{format_number(d)} standard deviations from the mean at λ = {s}" for s, d in away.items())
    yield f"The text gives λ = 0.01 and λ = 0.1 for the same run. Its norm of {PAPER_SMALL} lies {where}."
    yield (
        f"What the paper calls the optimal solution at λ = 10 is where NGDM ended. The exact solution has the norm "
        f"{middle(LARGE, exact)} there; it is 0 above λ_max."
    )
    excess = float(np.median(ends[0.1] - norms_of(evidence, 0.1, exact)))
    yield (
        f"At λ = 0.1 NGDM's norm exceeds the exact solution's by {format_number(excess)}, where P·αλ/2 is "
        f"{format_number(floor(0.1))}."
    )
    scaled = (
        f"{middle(LARGE, step_size=a)} at α = {a} (P·αλ/2 = {format_number(floor(LARGE, a))})" for a in STEP_SIZES
    )
    yield f"At λ = 10 the norm follows the step size: {'; '.join(scaled)}."
    yield (
        f"The left branch of the curve of norm against λ is a matter of steps: at λ = {SLOW[0]} the median falls from "
        f"{middle(SLOW[0], value='quarter_way')} after a quarter of them to {middle(SLOW[0])} at the end. From β₀ = 0 "
        f"the median at λ = 0.01 is {middle(0.01, start='zeros')}, the exact solution's {middle(0.01, exact)}."
    )
    yield (
        "Below 2/L a gradient step converges to the minimiser of the twin, and the penalty at a minimiser never grows "
        "with λ: a C¹ twin with α < 2/L cannot have the paradox in its own penalty, however long it runs."
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The norm against λ with its prediction, exact and proximal solutions; against α; and the twins."""
    del found
    strengths, size = (*SLOW, *FAST), Quantity("norm", "L1 norm")

    def medians(strengths: Sequence[float], part: Experiment = subgradient, value: str = "last") -> list[Finding]:
        """None where a logarithmic axis has no place."""
        samples = (norms_of(evidence, s, part, value) for s in strengths)
        return [size.median(n) if np.median(n) > 0 else size.missing("is 0") for n in samples]

    by_strength = Panel(
        f"α = {ALPHA}, β₀ ~ U[-1, 1]",
        Axis("penalty λ", log=True),
        Axis("L1 norm at the end", log=True),
        (
            series_of("line", "NGDM, all steps", strengths, medians(strengths)),
            series_of("line", "NGDM, a quarter of the steps", strengths, medians(strengths, value="quarter_way"), "a"),
            Series("line", "P·αλ/2", strengths, [floor(s) for s in strengths], tone="theory", dashed=True),
            series_of("line", "exact solution", strengths, medians(strengths, exact), "neutral"),
            series_of("points", "proximal gradient", PROXIMAL, medians(PROXIMAL, proximal), "control"),
            Series("points", "paper", (*SMALL, LARGE), (PAPER_SMALL, PAPER_SMALL, PAPER_LARGE), tone="paper"),
        ),
    )
    by_step = [size.median(norms_of(evidence, LARGE, step_size=a)) for a in STEP_SIZES]
    by_step_size = Panel(
        "λ = 10",
        Axis("step size α", log=True),
        Axis("L1 norm at the end", log=True),
        (
            series_of("points", "NGDM", STEP_SIZES, by_step),
            Series("line", "P·αλ/2", STEP_SIZES, [floor(LARGE, a) for a in STEP_SIZES], tone="theory", dashed=True),
            Series("horizontal", "paper", y=(PAPER_LARGE,), tone="paper"),
        ),
    )
    caption = (
        "Medians with intervals over draws. To the right of its minimum the norm is that of weights rattling across "
        "zero, P·αλ/2, where the exact solution is already zero (not drawn on a logarithmic axis); the left branch "
        "falls with the number of steps. At λ = 10 the norm measures the step size."
    )
    return [
        Figure("L1 norm against penalty, and against step size", caption, (by_strength, by_step_size)),
        DOSE.figure(evidence[twins].one(), "norm at λ = 10 less that at λ = 0.1, over P·αλ/2"),
    ]
