"""Eq. (12): the bound on the L1 norm of the limit of the subgradient method, and the norm in which it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nonsmooth import extremes
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
    series_of,
)
from nonsmooth.dynamics import Constant, iterate, proximal_step
from nonsmooth.dynamics.recording import Points
from nonsmooth.lab import Cell, Record
from nonsmooth.problems import l1_norm

ALPHA, STRENGTHS, PAPER_START = 0.01, (1.0, 100.0), 0.5053
SIZES = (1, 2, 3, 4, 5, 10, 30, 100, 300, 1000)
"""P."""
STEPS = 120
"""Beyond N₀ = 100, the longest that a start in [-1, 1] needs at αλ = 0.01."""

REQUIRED = Choice(
    "required",
    0.99,
    (0.9, 0.999),
    "share of the starts in which a bound must hold",
    "Every start, but for rounding.",
)
SLACK = Choice(
    "slack",
    1e-9,
    (1e-12, 1e-6),
    "relative room for rounding where a bound can be attained",
    "Far above rounding in float64, far below anything seen.",
)
DIMENSIONS = Choice(
    "dimensions",
    (1, 1000),
    ((1, 10), (100, 1000), (2, 2)),
    "smallest and largest dimension P",
    "From the paper's example to a small network.",
)

BOTH = Quantity("printed_both", "starts with ‖β_k‖₁ < αλ at both points of the cycle, P > 1")
EXAMPLE = Quantity("example", "‖β‖₁/αλ in the paper's own example, the larger")
STATEMENTS = {
    "infinity": "‖β_k‖∞ < αλ₁ for every k ≥ N₀",
    "every": "‖β_k‖₁ < Pαλ₁ for every k ≥ N₀",
    "best": "‖β_k‖₁ ≤ Pαλ₁/2 at the better of the two points of the cycle",
}
"""Statements that follow from Proposition 3.2, and from the subgradient method's bound with the constant λ₁√P."""
CORRECTED = {name: Quantity(name, f"starts with {statement}") for name, statement in STATEMENTS.items()}

CLAIM = Claim(
    id="bound",
    plain="How far from zero the weights can stay under an L1 penalty is bounded by learning rate times penalty.",
    title="How far the limit can lie from zero",
    where="§3, eq. (12)",
    statement="On λ₁‖β‖₁ with a constant step, lim ‖β_k‖₁ < αλ₁.",
    explanation=(
        "λ₁‖β‖₁ is Lipschitz with constant λ₁ (eq. 6), and the subgradient method's error with a constant step is at "
        "most of the order α times the square of that constant."
    ),
    control=(
        "The paper's own numbers, put into the bound. Random starts in 1 to 1,000 dimensions for the bound as printed "
        "and for what it becomes in the infinity norm, with a factor P, and with the Euclidean Lipschitz constant "
        "λ₁√P, which is measured too. The proximal step, which has no such error in any norm."
    ),
    paper=(Value("factor", "lim ‖β_k‖₁ over αλ₁: below", 1),),
)


RULE = Rule(
    Row(below(EXAMPLE, 1) & above(BOTH, REQUIRED), Outcome(Verdict.REPRODUCED, "the bound holds")),
    Row(
        above(CORRECTED["infinity"], REQUIRED)
        | above(CORRECTED["every"], REQUIRED)
        | above(CORRECTED["best"], REQUIRED),
        Outcome(
            Verdict.WITH_CORRECTION,
            "true of the infinity norm",
            "λ‖β‖₁ has the Lipschitz constant λ√P in the Euclidean norm that the subgradient method's bound is about, "
            "not λ (measured within {lipschitz:.0e}), and what eq. (12) says of the L1 norm is true of the infinity "
            "norm in {infinity:.1%} of {infinity.count:,} starts.",
            correction="{right}. The L1 norms of the two points add up to Pαλ₁ (within {total:.0e} of it).",
        ),
    ),
    otherwise=Outcome(Verdict.NOT_REPRODUCED, "no such bound", "None of the corrected bounds holds either."),
    always="In the paper's own two-dimensional example ‖β‖₁ reaches {example:.4g} αλ; from random starts with P > 1 "
    "the bound holds at both points of the cycle in {printed_both:.1%}; in the largest dimension the norm is "
    "{factor:.4g} αλ.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="lim ‖β_k‖₁ < αλ",
        ours="{example:.3g} αλ in the paper's own example; holds in {printed_both:.1%} of random starts with P > 1",
        control="holds: ‖β‖∞ < αλ in {infinity:.1%}, ‖β‖₁ < Pαλ in {every:.1%}, best ‖β‖₁ ≤ Pαλ/2 in {best:.1%}",
    ),
    choices=(REQUIRED, SLACK, DIMENSIONS),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """The paper's example, and random starts in each dimension."""
    seeds = scale.seeds(500, 10_000)
    yield example.cell(cost=0.1)
    for features in SIZES:
        yield chance.cell(features=features, seeds=seeds, cost=STEPS * (2e-4 + 3e-8 * features * len(seeds)))


def _cycle(start: Tensor, strength: Tensor) -> Tensor:
    """The last two iterates, shape (2, starts, features)."""
    points = {"cycle": Points((STEPS - 1, STEPS))}
    run = iterate(l1_norm(start.shape[-1], strength), start, Constant(ALPHA), STEPS, points)
    return run["cycle"][:, :, 0, :].movedim(1, -1)


def _norms(points: Tensor, travel: Tensor) -> dict[str, Any]:
    """Norms over αλ, for each start the one of the better and of the worse point."""
    lengths = points.abs().sum(-1) / travel
    largest = points.abs().amax(-1) / travel
    return {
        "better": lengths.amin(0).tolist(),
        "worse": lengths.amax(0).tolist(),
        "infinity": largest.amax(0).tolist(),
        "total": lengths.sum(0).tolist(),
    }


@study.experiment(part="paper")
def example(run: Run) -> Mapping[str, Any]:
    """The paper's example in two dimensions: norms by λ."""
    del run
    strength = torch.tensor(STRENGTHS, dtype=torch.float64)
    start = torch.full((1, len(STRENGTHS), 2), PAPER_START, dtype=torch.float64)
    return {"strengths": STRENGTHS, **_norms(_cycle(start, strength), ALPHA * strength)}


@study.experiment(part="random", seed_axes=dict.fromkeys(("better", "worse", "infinity", "total"), 0))
def chance(run: Run, *, features: int, seeds: int) -> Mapping[str, Any]:
    """Norms from random starts, the Euclidean Lipschitz constant, and where the proximal step ends."""
    generator = run.generator()
    start = torch.rand(1, seeds, features, generator=generator, dtype=torch.float64) * 2 - 1
    one = torch.ones(1, dtype=torch.float64)
    # Few starts at a time: their iterates stay in the cache.
    chunks = [_cycle(start[:, first : first + 200], one) for first in range(0, seeds, 200)]
    few = iterate(l1_norm(features, 1.0), start[:, :50], Constant(ALPHA), STEPS, method=lambda: proximal_step(1.0))
    return {
        **_norms(torch.cat(chunks, dim=1), torch.tensor(ALPHA, dtype=torch.float64)),
        "lipschitz": _steepest(features, generator),
        "proximal": few.point[0].abs().sum(-1).tolist(),
    }


def _steepest(features: int, generator: torch.Generator) -> float:
    """The largest |f(x) - f(y)| / ‖x - y‖₂ of f = ‖·‖₁ found: random pairs, and one along a sign vector."""
    x, y = torch.randn(2, 200, features, generator=generator, dtype=torch.float64)
    y[0] = x[0] + x[0].sign()
    ratios = (x.abs().sum(-1) - y.abs().sum(-1)).abs() / (x - y).norm(dim=-1)
    return float(ratios.max())


def _share(records: Sequence[Record], quantity: Quantity, slack: float = SLACK.value) -> Finding:
    """The share of starts in which a statement holds: as printed at one point or at both, or corrected."""

    def holds(record: Record) -> int:
        size = float(record.parameters["features"])
        norm, bound = {
            "printed_both": ("worse", 1.0),
            "infinity": ("infinity", 1.0),
            "every": ("worse", size),
            "best": ("better", size / 2 * (1 + slack)),
        }.get(quantity.name, ("better", 1.0))
        return sum(number < bound for number in record[norm])

    if any(math.isnan(number) for r in records for number in (*r["worse"], *r["infinity"])):
        return quantity.missing("is not a number")
    return quantity.share(sum(map(holds, records)), sum(len(r["worse"]) for r in records))


def _features(record: Record) -> int:
    return int(record.parameters["features"])


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """The bound as printed and as it holds, in the paper's example and from random starts."""
    smallest, largest = choices.dimensions
    records = sorted((r for r in evidence[chance] if smallest <= _features(r) <= largest), key=_features)
    several, single, paper = [r for r in records if _features(r) > 1], records[:1], evidence[example].one()
    low = [r for r in several if _features(r) <= 5]
    corrected = {name: _share(records, quantity, choices.slack) for name, quantity in CORRECTED.items()}
    right = [text for n, text in STATEMENTS.items() if getattr(corrected[n], "lower", 0.0) > choices.required]
    factor = Quantity("factor", f"‖β‖₁/αλ at the worse point, P = {_features(several[-1])}" if several else "‖β‖₁/αλ")
    alone = Quantity("printed_both", "starts with ‖β_k‖₁ < αλ at both points, P = 1")
    at_one = Quantity("printed_one", "starts with ‖β_k‖₁ < αλ at one of the two points, P > 1")
    measured: list[Finding] = [
        Value(f"paper_{end}_{strength:g}", f"‖β‖₁/αλ at the {end} point, paper's example, λ = {strength:g}", number)
        for end in ("better", "worse")
        for strength, number in zip(paper["strengths"], paper[end], strict=True)
    ]
    measured += [
        _share(several, BOTH),
        _share(several, at_one),
        replace(_share([r for r in single if _features(r) == 1], alone), name="printed_single"),
        *(
            replace(
                _share([r], Quantity("", f"{at_one.label[:-5]}P = {_features(r)}")), name=f"printed_one_{_features(r)}"
            )
            for r in low
        ),
        factor.median(several[-1]["worse"] if several else ()),
    ]
    control = (
        *corrected.values(),
        Value(
            "total",
            "largest departure of the two points' L1 norms from a sum of Pαλ, relative",
            extremes.largest((abs(t / _features(r) - 1) for r in records for t in r["total"]), default=math.nan),
        ),
        Value(
            "lipschitz",
            "largest departure of the Euclidean Lipschitz constant from λ√P, relative",
            extremes.largest((abs(r["lipschitz"] / math.sqrt(_features(r)) - 1) for r in records), default=math.nan),
        ),
        Value(
            "proximal",
            "largest ‖β‖₁ under the proximal step, after as many steps",
            extremes.largest((p for r in records for p in r["proximal"]), default=math.nan),
        ),
    )
    predicted = tuple(
        Value(f"printed_one_{p}", f"2/P! of the starts, P = {p}", 2 / math.factorial(p)) for p in map(_features, low)
    )
    derived = (EXAMPLE.number(extremes.largest(paper["worse"])), Value("right", "what holds", "; ".join(right)))
    return Findings(measured, control, predicted, derived)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """The norms of the cycle by dimension against the bounds, and how often the printed one holds."""
    del found
    records = sorted(evidence[chance], key=_features)
    sizes, small = list(map(_features, records)), [r for r in records if _features(r) <= 10]
    series = [
        Series("line", "eq. (12) as printed", sizes, [1.0] * len(sizes), tone="paper"),
        Series("line", "P", sizes, sizes, tone="theory"),
        Series("line", "P/2", sizes, [p / 2 for p in sizes], tone="theory", dashed=True),
        *(
            series_of("points", label, sizes, [Quantity(name, label).median(r[name]) for r in records], tone)
            for name, label, tone in (
                ("worse", "‖β‖₁, worse point", "ours"),
                ("better", "‖β‖₁, better point", "a"),
                ("infinity", "‖β‖∞", "control"),
            )
        ),
    ]
    names = [f"P = {_features(r)}" for r in small]
    bars = [
        series_of("bars", label, names, [_share([r], quantity) for r in small], tone)
        for quantity, label, tone in (
            (BOTH, "at both points", "ours"),
            (Quantity("printed_one", ""), "at one of the two", "a"),
            (CORRECTED["infinity"], "infinity norm, at both", "control"),
        )
    ]
    return [
        Figure(
            "The bound and the norm it holds in",
            "Left: medians with intervals over starts. The L1 norm of a cycle grows with P; only the infinity norm "
            "stays below αλ. Right: in two dimensions one of the two points still satisfies the printed bound, from "
            "three on hardly any.",
            (
                Panel("Norms in the cycle", Axis("dimension P", True), Axis("norm over αλ", True), tuple(series)),
                Panel("How often norm < αλ holds", Axis("dimension"), Axis("share of random starts"), tuple(bars)),
            ),
        )
    ]
