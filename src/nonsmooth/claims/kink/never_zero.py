"""Proposition 3.1: the subgradient method on λ‖β‖₁ never makes an entry exactly zero, with probability 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from nonsmooth import extremes
from nonsmooth.claims.framework import (
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
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    above,
    below,
    series_of,
)
from nonsmooth.claims.kink import finite_precision
from nonsmooth.claims.kink.finite_precision import DTYPES, SAMPLERS, TRAVELS, multiples_probability, spacing_at
from nonsmooth.lab import Cell, Record

TRAVEL_WORDS = {0.01: "0.01", 2.0**-7: "2^-7"}
SAMPLER_WORDS = {"rand": "torch.rand", "rounded": "rounding float64"}
LARGE = 500
"""P of the paper's regressions, for the probability that all entries stay non-zero."""

NEGLIGIBLE = Choice(
    "negligible",
    1e-4,
    (1e-5, 1e-3),
    "share that counts as probability 0",
    "The machine has finitely many numbers; float64 would show 1e-14, which no number of starts resolves.",
)
LOW = Choice(
    "precisions",
    ("bfloat16", "float16", "float32"),
    (("float32",), ("bfloat16", "float16")),
    "other precisions",
    "Those in which networks are trained.",
)
WHICH_TRAVEL = Choice(
    "travels", TRAVELS, tuple((one,) for one in TRAVELS), "αλ", "The paper's α with λ = 1, and one without rounding."
)
DRAWN = Choice(
    "drawn",
    SAMPLERS,
    tuple((one,) for one in SAMPLERS),
    "how the starts are drawn",
    "By PyTorch's own generator in the precision, or in float64 and rounded.",
)

EXACT = Quantity("float64", "share of exact zeros, float64, all")
HITS = Quantity("hits", "exact zeros in float64")
ASTRAY = Quantity("astray", "starts on multiples of a dyadic αλ that stay, and neighbours that vanish")
LEFT = Quantity("left", "entries that the proximal step leaves non-zero")
FOUND = Quantity("found", "combinations of another precision, αλ and way to draw that have exact zeros")
EXPECTED = Quantity("expected", "exact zeros to be expected in the likeliest of these combinations")

CLAIM = Claim(
    id="never-zero",
    plain="With a plain L1 penalty no weight ever becomes exactly zero.",
    title="No entry ever becomes exactly zero",
    where="§3, Proposition 3.1",
    statement=(
        "On λ₁‖β‖₁ with a constant step and β₀ uniform on [-1, 1], β_k has all non-zero entries with probability 1 "
        "for all k > 0."
    ),
    explanation=(
        "A coordinate moves by αλ₁ a step, so it can only hit 0 if it starts at an integer multiple of αλ₁ (eq. 9): "
        "countably many of uncountably many starts."
    ),
    control=(
        "Count exact zeros in the arithmetic of four precisions, for a dyadic αλ and for αλ = 0.01, and list every "
        "start that a precision can draw. Starts planted on the multiples of αλ must vanish and their neighbours must "
        "not; the proximal step with the same α, λ and start must make every entry zero. Other subgradients than "
        "PyTorch's 0 at zero itself."
    ),
    paper=(Value("probability", "probability that an entry becomes exactly 0", 0),),
)


RULE = Rule(
    Row(above(HITS, 0) | ~below(EXACT, NEGLIGIBLE), Outcome(Verdict.NOT_REPRODUCED, "entries do become zero")),
    Row(
        above(ASTRAY, 0) | above(LEFT, 0),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "multiples do not decide",
            "{astray} starts on multiples of a dyadic αλ stay or beside them vanish, so being a multiple is not what "
            "decides; or the proximal step leaves entries non-zero too ({left}), so the step is not.",
        ),
    ),
    Row(
        above(FOUND, 0),
        Outcome(
            Verdict.WITH_CORRECTION,
            "true of real numbers",
            "With a dyadic αλ every start planted on a multiple of αλ vanishes and no neighbour does; the proximal "
            "step takes every entry to 0. But the other precisions have exact zeros: {sentence}.",
            correction="With probability 1 for real numbers. In finite precision an entry becomes exactly 0 with a "
            "probability that depends on the lattice of the starts and on αλ: {sentence}{large}.",
        ),
    ),
    Row(
        below(EXPECTED, 3),
        Outcome(
            Verdict.INCONCLUSIVE,
            "too few starts",
            "None was seen in the other precisions, where at most {expected:.2g} were to be expected.",
            decided_by="{size}",
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "no entry becomes zero", "No other precision has an exact zero."),
    always="In float64 {hits} of {float64.count:,} entries became 0 (share at most {float64.upper:.1e}).",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="probability 0",
        ours="float64: {hits} of {float64.count:,}{ranges}",
        control="proximal step: {left} of {proximal_zero.count:,} entries not exactly 0",
    ),
    choices=(NEGLIGIBLE, LOW, WHICH_TRAVEL, DRAWN),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """One cell per precision and αλ, which draws its starts in two ways, and one for the subgradient at 0."""
    short, long = scale((18, 20), (22, 25), (24, 30))
    for dtype in DTYPES:
        seeds = scale.seeds(*[1 << (short if dtype in ("bfloat16", "float16") else long)] * 2)
        cost = 3e-7 * len(seeds) + (0.5 if dtype == "float32" else 0)
        yield from (counts.cell(dtype=dtype, travel=travel, seeds=seeds, cost=cost) for travel in TRAVELS)
    yield at_zero.cell(seeds=scale.seeds(1 << 14, 1 << 18), cost=0.1)


counts = study.experiment()(finite_precision.counts)
at_zero = study.experiment(part="at_zero")(finite_precision.at_zero)


class Combination(NamedTuple):
    """A precision, αλ and a way to draw the starts: what was counted, and what is to be expected.

    Attributes:
        dtype: precision.
        travel: αλ.
        sampler: how the starts are drawn.
        share: of exact zeros.
        expected: probability of one.
        listed: whether that is exact, because all starts were listed.
        how: it was found, in words.
    """

    dtype: str
    travel: float
    sampler: str
    share: Finding
    expected: float
    listed: bool
    how: str

    @property
    def zeros(self) -> float:
        """Probability of an exact zero as far as known: listed, or counted."""
        return self.expected if self.listed and self.expected else float(getattr(self.share, "value", math.nan))


def _combinations(records: Sequence[Record]) -> list[Combination]:
    """All of them, in the order of the records."""
    found = []
    for record in records:
        dtype, travel = record.parameters["dtype"], float(record.parameters["travel"])
        for index, sampler in enumerate(SAMPLERS):
            kind, listed = "decimal" if travel == TRAVELS[0] else "dyadic", math.isfinite(record["exact"][index])
            quantity = Quantity(
                f"{dtype}_{kind}_{sampler}",
                f"share of exact zeros, {dtype}, αλ = {TRAVEL_WORDS[travel]}, β₀ by {SAMPLER_WORDS[sampler]}",
            )
            share = quantity.share(record["hits"][index], record.parameters["seeds"])
            if listed:
                expected, how = record["exact"][index], "all starts listed"
            elif kind == "dyadic":
                expected, how = multiples_probability(dtype, sampler, travel), "multiples of αλ among the starts"
            else:
                expected = spacing_at(travel, dtype) / travel
                how = "order of magnitude: spacing of the numbers at αλ, over αλ"
            found.append(Combination(dtype, travel, sampler, share, expected, listed, how))
    return found


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Counts by precision, αλ and way to draw, and the controls."""
    records = [r for r in evidence[counts] if r.parameters["travel"] in choices.travels]
    every = [one for one in _combinations(records) if one.sampler in choices.drawn]
    reals = [one.share for one in every if one.dtype == "float64" and isinstance(one.share, Estimate)]
    low = [one for one in every if one.dtype in choices.precisions]
    if not reals or not low:
        raise NotStoredError("there is no record in float64, or none in another precision")
    found = [one for one in low if one.zeros > 0]
    dyadic = [r for r in evidence[counts] if r.parameters["travel"] == TRAVELS[1]]
    tried, zero = (sum(r[name] for r in records) for name in ("proximal_count", "proximal_zero"))
    starts = extremes.largest((one.share.count or 0 for one in low if isinstance(one.share, Estimate)), default=0)
    likeliest = extremes.largest((one.expected for one in low), default=math.nan)
    hits, other = sum(share.hits for share in reals), evidence[at_zero].one()
    ends = {dtype: [one.zeros for one in found if one.dtype == dtype] for dtype in choices.precisions}
    ranges = (f"{t} {extremes.smallest(p):.0e} to {extremes.largest(p):.0e}" for t, p in ends.items() if p)
    words = {
        "sentence": _sentence(found),
        "large": _large(found),
        "ranges": "; " * bool(found) + ", ".join(ranges),
        "size": f"{math.ceil(3 / likeliest):,} random starts" if likeliest > 0 else "a list of all starts",
    }
    derived = (
        HITS.number(hits),
        ASTRAY.number(sum(r["planted"] - r["planted_zero"] + r["beside_zero"] for r in dyadic) if dyadic else None),
        LEFT.number(tried - zero if tried else None),
        FOUND.number(len(found)),
        EXPECTED.number(likeliest * starts),
        *(Value(name, name, text) for name, text in words.items()),
    )
    return Findings(
        (*(one.share for one in every), EXACT.share(hits, sum(share.count or 0 for share in reals))),
        (*_control(records, every), *_at_zero(other)),
        tuple(Value(one.share.name, f"{one.share.label}: {one.how}", one.expected) for one in every),
        derived,
        (
            "torch.rand does not draw from a continuum: it draws multiples of 2⁻⁵³ (float64) or 2⁻²⁴ (float32), and in "
            "the 16-bit types rounded multiples of 2⁻²⁴.",
            "In finite precision a start need not be a multiple of αλ: one tiny beside αλ vanishes in two steps: "
            "β - αλ rounds to -αλ.",
            "Once zero, an entry stays zero, because PyTorch takes 0 from the subdifferential of |·| at 0, as eq. (8) "
            f"does. With other elements {sum(other['kept'][1:]):,} entries in bfloat16 stay there, and "
            f"{sum(other['differing']):,} runs in float64 end elsewhere: there the choice does not matter.",
        ),
    )


def _sentence(found: Sequence[Combination]) -> str:
    """The probabilities of exact zeros for starts drawn by torch.rand, by precision."""
    by_dtype: dict[str, list[str]] = {}
    for one in found:
        if one.sampler == "rand":
            by_dtype.setdefault(one.dtype, []).append(f"{one.zeros:.2g} at αλ = {TRAVEL_WORDS[one.travel]}")
    return "; ".join(f"{dtype} {', '.join(texts)}" for dtype, texts in by_dtype.items())


def _large(found: Sequence[Combination]) -> str:
    """What the probability in float32 comes to for many entries."""
    wanted = ("float32", TRAVELS[0], "rand")
    single = next((one.zeros for one in found if (one.dtype, one.travel, one.sampler) == wanted), None)
    if single is None:
        return ""
    return (
        f". In float32 with αλ = {TRAVEL_WORDS[TRAVELS[0]]}, all {LARGE} entries stay non-zero with probability "
        f"{(1 - single) ** LARGE:.6f}, and of 10⁸ parameters about {1e8 * single:.0f} become 0"
    )


def _control(records: Sequence[Record], every: Sequence[Combination]) -> Iterable[Finding]:
    """Proximal step, planted starts, multiples among the hits, and whether counts agree with the lists."""
    tried, zero = (sum(r[name] for r in records) for name in ("proximal_count", "proximal_zero"))
    yield Quantity("proximal_zero", "entries that the proximal step makes exactly 0").share(zero, tried)
    for name, kind, travel in (("dyadic", "a dyadic αλ", TRAVELS[1]), ("decimal", "αλ = 0.01", TRAVELS[0])):
        chosen = [r for r in records if r.parameters["travel"] == travel]
        planted = sum(r["planted"] for r in chosen)
        for what, where in (("planted_zero", "on multiples of"), ("beside_zero", "next to multiples of")):
            label = f"starts {where} {kind} that vanish, all precisions"
            yield Quantity(f"{what}_{name}", label).share(sum(r[what] for r in chosen), planted)
        hits = sum(sum(r["hits"]) for r in chosen)
        if hits:
            label = f"random starts that vanish, which are multiples of {kind} (eq. 9)"
            yield Quantity(f"multiples_{name}", label).share(sum(sum(r["multiples"]) for r in chosen), hits)
    listed = [one for one in every if one.listed and isinstance(one.share, Estimate)]
    agree = sum(one.share.lower <= one.expected <= one.share.upper for one in listed if isinstance(one.share, Estimate))
    yield Value(
        "lists_agree", "listed probabilities inside the 95 % interval of the random starts", agree, count=len(listed)
    )


def _at_zero(record: Record) -> Iterable[Finding]:
    """What another subgradient at 0 changes."""
    for value, kept, differing in zip(record["at_zero"], record["kept"], record["differing"], strict=True):
        count = record.parameters["seeds"]
        label = f"entries that are 0 for two steps, bfloat16, αλ = 2^-7, subgradient {value:g} at 0"
        yield Quantity(f"kept_{value:g}", label).share(kept, count)
        label = f"runs in float64 that end elsewhere, subgradient {value:g} at 0 instead of 0"
        yield Quantity(f"differing_{value:g}", label).share(differing, count)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Probability of an exact zero by precision, and how the zeros arise along the run."""
    del found
    every, panels = _combinations(evidence[counts]), []
    for sampler in SAMPLERS:
        series = []
        for travel, tone in zip(TRAVELS, ("ours", "a"), strict=True):
            chosen = [one for one in every if (one.sampler, one.travel) == (sampler, travel)]
            names, words = [one.dtype for one in chosen], f"αλ = {TRAVEL_WORDS[travel]}"
            # A count of zero has no place on a logarithmic axis: its upper limit is drawn instead.
            drawn = [
                replace(s, value=s.upper, low=s.upper) if isinstance(s, Estimate) and s.value == 0 else s
                for s in (one.share for one in chosen)
            ]
            series.append(series_of("points", f"{words}, counted", names, drawn, tone))
            theory = [one.expected or None for one in chosen]
            series.append(Series("points", f"{words}, predicted", names, theory, tone="theory"))
        title = f"β₀ by {SAMPLER_WORDS[sampler]}"
        panels.append(Panel(title, Axis("precision"), Axis("probability of an exact zero", True), tuple(series)))
    curves = tuple(
        Series("line", r.parameters["dtype"], r["steps"], [share or None for share in r["share"][0]], tone=tone)
        for r, tone in zip(evidence[counts].where(travel=TRAVELS[1]), "abcd", strict=False)
    )
    title = f"Along the run, αλ = {TRAVEL_WORDS[TRAVELS[1]]}"
    panels.append(Panel(title, Axis("step k"), Axis("share of exact zeros", True), curves))
    caption = (
        "Left and middle: the share of entries that become exactly 0 falls with the spacing of the numbers; where none "
        "was counted the upper limit is drawn. Right: entries vanish when they reach zero, until all have crossed it."
    )
    return [Figure("Exact zeros by precision", caption, tuple(panels))]
