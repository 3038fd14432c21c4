"""Proposition 3.1: the subgradient method on λ‖β‖₁ never makes an entry exactly zero, with probability 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.statistics import proportion_value
from nonsmooth.claims.kink.finite_precision import (
    DTYPES,
    SAMPLERS,
    all_starts,
    draw_starts,
    multiples_probability,
    spacing_at,
    walk,
)
from nonsmooth.lab import Cell, Context, Record

TRAVELS = (0.01, 2.0**-7)
"""αλ: no multiple of a power of two, and a power of two."""
STAGES = 16
"""The share of zeros is recorded this often."""
LARGE = 500
"""P of the paper's regressions, for the probability that all entries stay non-zero."""

CLAIM = Claim(
    id="never-zero",
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
        "not; the proximal step with the same α, λ and start must make every entry zero."
    ),
    paper=(Value("probability", "probability that an entry becomes exactly 0", 0),),
)


def plan(settings: Settings) -> list[Cell]:
    """One cell per precision and αλ, which draws its starts in two ways."""
    bits = {"quick": (18, 20), "standard": (22, 25), "paper": (24, 30)}[settings.scale]
    cells = []
    for dtype in DTYPES:
        default = 1 << (bits[0] if dtype in ("bfloat16", "float16") else bits[1])
        seeds = settings.seed_range(default)
        cost = 5e-7 * len(seeds) + (1.5 if dtype == "float32" else 0)
        cells += [
            Cell(CLAIM.id, {"dtype": dtype, "travel": travel, "seeds": len(seeds)}, seed=seeds.start, cost=cost)
            for travel in TRAVELS
        ]
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Walk random starts, listed starts and planted starts in one precision; lists go by sampler."""
    del context
    dtype, travel, count = str(cell.parameters["dtype"]), float(str(cell.parameters["travel"])), _count(cell)
    generator = torch.Generator().manual_seed(cell.seed)
    every = math.ceil(1.25 / travel / STAGES)
    values: dict[str, Any] = {"hits": [], "at_start": [], "multiples": [], "exact": [], "share": [], "steps": []}
    for sampler in SAMPLERS:
        hits = at_start = multiples = 0
        zeros = [0] * (STAGES + 1)
        for first in range(0, count, 1 << 22):
            start = draw_starts(dtype, sampler, min(1 << 22, count - first), generator)
            point = start
            for stage in range(STAGES + 1):
                zeros[stage] += int((point == 0).sum())
                point = walk(point, travel, every) if stage < STAGES else point
            hits += int((point == 0).sum())
            at_start += int((start == 0).sum())
            multiples += int((torch.fmod(start[point == 0].double(), travel) == 0).sum())
        for name, number in (("hits", hits), ("at_start", at_start), ("multiples", multiples)):
            values[name].append(number)
        values["share"].append([zero / count for zero in zeros])
        values["exact"].append(_exact(dtype, sampler, travel, every * STAGES))
    values["steps"] = [stage * every for stage in range(STAGES + 1)]
    tried = draw_starts(dtype, SAMPLERS[0], min(count, 1 << 14), generator)
    last = walk(tried, travel, every * STAGES, proximal=True)
    values |= {"proximal_zero": int((last == 0).sum()), "proximal_count": len(tried)}
    return values | _planted(dtype, travel, every * STAGES)


def _count(cell: Cell) -> int:
    """Number of coordinates drawn in each way."""
    return int(str(cell.parameters["seeds"]))


def _exact(dtype: str, sampler: str, travel: float, steps: int) -> float:
    """The probability of an exact zero, from all starts of the lattice; NaN where they are too many to list."""
    if dtype == "float64" or (dtype == "float32" and sampler == "rounded"):
        return math.nan
    starts, weights = all_starts(dtype, sampler)
    return float(weights[walk(starts, travel, steps) == 0].sum())


def _planted(dtype: str, travel: float, steps: int) -> dict[str, Any]:
    """How many starts vanish that lie on the multiples of αλ (rounded to the dtype), and next to them."""
    multiples = (torch.arange(1, math.floor(1 / travel) + 1, dtype=torch.float64) * travel).to(DTYPES[dtype])
    beside = torch.nextafter(multiples, torch.zeros_like(multiples))

    def vanished(start: Tensor) -> int:
        return int((walk(start, travel, steps) == 0).sum())

    return {"planted": len(multiples), "planted_zero": vanished(multiples), "beside_zero": vanished(beside)}


def _dyadic(travel: float) -> bool:
    """Whether αλ is a power of two."""
    return math.log2(travel).is_integer()


def _travel_words(travel: float) -> str:
    """αλ as a reader wants it."""
    return f"2^{math.log2(travel):.0f}" if _dyadic(travel) else f"{travel:g}"


def _name(dtype: str, travel: float, sampler: str) -> str:
    """Identifier of a probability."""
    return f"{dtype}_{'dyadic' if _dyadic(travel) else 'decimal'}_{sampler}"


def _shares(record: Record) -> list[Value]:
    """Measured probability of an exact zero, by sampler."""
    dtype, travel = record.parameters["dtype"], record.parameters["travel"]
    return [
        proportion_value(
            _name(dtype, travel, sampler),
            f"share of exact zeros, {dtype}, αλ = {_travel_words(travel)}, β₀ by {_sampler_words(sampler)}",
            record["hits"][index],
            _count(record.cell),
        )
        for index, sampler in enumerate(SAMPLERS)
    ]


def _sampler_words(sampler: str) -> str:
    return {"rand": "torch.rand", "rounded": "rounding float64"}[sampler]


def _expected(record: Record, index: int) -> tuple[float, str]:
    """The probability predicted for one sampler, and how: listed, by eq. (9), or by the spacing at αλ."""
    dtype, travel, exact = record.parameters["dtype"], record.parameters["travel"], record["exact"][index]
    if math.isfinite(exact):
        return exact, "all starts listed"
    if _dyadic(travel):
        return multiples_probability(dtype, SAMPLERS[index], travel), "multiples of αλ among the starts"
    return spacing_at(travel, dtype) / travel, "order of magnitude: spacing of the numbers at αλ, over αλ"


def judge(records: Sequence[Record]) -> Judgement:
    """Real numbers first, then the machine's.

    Not reproduced: exact zeros in float64, the precision nearest to the real numbers. Otherwise the explanation is
    tested: where αλ is a power of two, so that the arithmetic is exact, starts planted on its multiples must all
    vanish and no neighbour may; and the proximal step must make every entry zero. If not, "explanation not supported".
    Otherwise "reproduced with a correction" if some other precision has exact zeros, by listing all its starts or by
    random ones (then the correction gives the probabilities); "inconclusive" if none was seen but fewer than three
    were to be expected in every one of them; else "reproduced".
    """
    shares = {id(record): _shares(record) for record in records}
    measured = tuple(value for record in records for value in shares[id(record)])
    expected = [(r, i, *_expected(r, i)) for r in records for i in range(len(SAMPLERS))]
    predicted = tuple(
        Value(_name(r.parameters["dtype"], r.parameters["travel"], SAMPLERS[i]), f"{shares[id(r)][i].label}: {how}", p)
        for r, i, p, how in expected
    )
    reals = [r for r in records if r.parameters["dtype"] == "float64"]
    rounded = [r for r in records if r.parameters["dtype"] != "float64"]
    real_hits, real_count = sum(sum(r["hits"]) for r in reals), sum(len(SAMPLERS) * _count(r.cell) for r in reals)
    real_share = proportion_value("float64", "share of exact zeros, float64, all", real_hits, real_count)
    control = _control(records, expected)
    found = [
        (r, i, p if math.isfinite(r["exact"][i]) else r["hits"][i] / _count(r.cell))
        for r, i, p, _ in expected
        if r in rounded and (r["hits"][i] > 0 or (math.isfinite(r["exact"][i]) and p > 0))
    ]
    headline = Headline(
        paper="probability 0",
        ours=f"float64: {real_hits} of {real_count:,}" + (f"; {_ranges(found)}" if found else ""),
        control=f"proximal step: {_share_in_words(records)} entries exactly 0",
    )
    single = next((p for r, i, p in found if _name_of(r, i) == "float32_decimal_rand"), None)
    notes = (
        "torch.rand does not draw from a continuum: it draws multiples of 2⁻⁵³ (float64) or 2⁻²⁴ (float32), and in the "
        "16-bit types rounded multiples of 2⁻²⁴.",
        "In finite precision a start need not be a multiple of αλ: one tiny beside αλ vanishes in two steps: "
        "β - αλ rounds to -αλ.",
        "Once zero, an entry stays zero, because PyTorch takes 0 from the subdifferential of |·| at 0.",
    )
    base = f"In float64 {real_hits} of {real_count:,} entries became 0 (share at most {real_share.high:.1e}). "
    rest: dict[str, Any] = {"headline": headline, "measured": (*measured, real_share), "control": control}
    rest |= {"predicted": predicted, "notes": notes}
    if real_hits > 0:
        return Judgement(Verdict.NOT_REPRODUCED, base, **rest)
    missing = _explanation_fails(records)
    if missing:
        return Judgement(Verdict.EXPLANATION_NOT_SUPPORTED, base + missing, **rest)
    base += (
        "With a dyadic αλ every start planted on a multiple of αλ vanishes and no neighbour does; the proximal step "
        "takes every entry to 0. "
    )
    if found:
        because = base + f"But the other precisions have exact zeros: {_sentence(found)}."
        correction = (
            "With probability 1 for real numbers. In finite precision an entry becomes exactly 0 with a probability "
            f"that depends on the lattice of the starts and on αλ: {_sentence(found)}"
        )
        if single:
            correction += (
                f". In float32 with αλ = {_travel_words(TRAVELS[0])}, all {LARGE} entries stay non-zero with "
                f"probability {(1 - single) ** LARGE:.6f}, and of 10⁸ parameters about {1e8 * single:.0f} become 0"
            )
        return Judgement(Verdict.WITH_CORRECTION, because, correction=correction + ".", **rest)
    most = max((p * _count(r.cell), p) for r, _, p, _ in expected if r in rounded)
    if most[0] < 3:
        size = f"{math.ceil(3 / most[1]):,} random starts" if most[1] > 0 else "a list of all starts of a precision"
        because = base + f"None was seen in the other precisions, where at most {most[0]:.2g} were to be expected."
        return Judgement(Verdict.INCONCLUSIVE, because, decided_by=size, **rest)
    return Judgement(Verdict.REPRODUCED, base + "None of the other precisions has an exact zero.", **rest)


def _name_of(record: Record, index: int) -> str:
    return _name(record.parameters["dtype"], record.parameters["travel"], SAMPLERS[index])


def _sentence(found: Sequence[tuple[Record, int, float]]) -> str:
    """The probabilities of exact zeros for starts drawn by torch.rand, by precision."""
    by_dtype: dict[str, list[str]] = {}
    for record, index, probability in found:
        if SAMPLERS[index] == "rand":
            text = f"{probability:.2g} at αλ = {_travel_words(record.parameters['travel'])}"
            by_dtype.setdefault(record.parameters["dtype"], []).append(text)
    return "; ".join(f"{dtype} {', '.join(texts)}" for dtype, texts in by_dtype.items())


def _ranges(found: Sequence[tuple[Record, int, float]]) -> str:
    """The smallest and largest probability of an exact zero in each precision."""
    by_dtype: dict[str, list[float]] = {}
    for record, _, probability in found:
        by_dtype.setdefault(record.parameters["dtype"], []).append(probability)
    return ", ".join(
        f"{dtype} {extremes.smallest(p):.0e} to {extremes.largest(p):.0e}" for dtype, p in by_dtype.items()
    )


def _explanation_fails(records: Sequence[Record]) -> str:
    """What contradicts the explanation, in words; empty where nothing does."""
    dyadic = [r for r in records if _dyadic(r.parameters["travel"])]
    planted, vanished, beside = (sum(r[n] for r in dyadic) for n in ("planted", "planted_zero", "beside_zero"))
    tried, zero = (sum(r[name] for r in records) for name in ("proximal_count", "proximal_zero"))
    if vanished < planted or beside > 0:
        return (
            f"Of {planted} starts planted on multiples of a dyadic αλ {vanished} vanish, and {beside} of their "
            f"neighbours do: being a multiple of αλ is not what decides."
        )
    if zero < tried:
        return f"The proximal step leaves {tried - zero:,} of {tried:,} entries non-zero too: the step does not decide."
    return ""


def _share_in_words(records: Sequence[Record]) -> str:
    """How many entries the proximal step makes exactly 0, such as "all of 500" or "3 of 500"."""
    tried, zero = (sum(r[name] for r in records) for name in ("proximal_count", "proximal_zero"))
    return f"{'all' if zero == tried else f'{zero:,}'} of {tried:,}"


def _control(records: Sequence[Record], expected: Sequence[tuple[Record, int, float, str]]) -> tuple[Value, ...]:
    """Proximal step, planted starts, multiples among the hits, and whether counts agree with the lists."""
    tried, zero = (sum(r[name] for r in records) for name in ("proximal_count", "proximal_zero"))
    values = [proportion_value("proximal_zero", "entries that the proximal step makes exactly 0", zero, tried)]
    for name, kind, wanted in (("dyadic", "a dyadic αλ", True), ("decimal", "αλ = 0.01", False)):
        chosen = [r for r in records if _dyadic(r.parameters["travel"]) == wanted]
        planted = sum(r["planted"] for r in chosen)
        for what, label in (("planted_zero", "starts on multiples of"), ("beside_zero", "starts next to multiples of")):
            values.append(
                proportion_value(
                    f"{what}_{name}",
                    f"{label} {kind} that vanish, all precisions",
                    sum(r[what] for r in chosen),
                    planted,
                )
            )
        hits = sum(sum(r["hits"]) for r in chosen)
        if hits:
            multiples = sum(sum(r["multiples"]) for r in chosen)
            label = f"random starts that vanish, which are multiples of {kind} (eq. 9)"
            values.append(proportion_value(f"multiples_{name}", label, multiples, hits))
    listed = [(r, i, p) for r, i, p, _ in expected if math.isfinite(r["exact"][i])]
    agree = sum(_covers(_shares(r)[i], p) for r, i, p in listed)
    label = "listed probabilities inside the 95 % interval of the random starts"
    return (*values, Value("lists_agree", label, agree, count=len(listed)))


def _covers(share: Value, probability: float) -> bool:
    """Whether a share's interval covers a probability."""
    return share.low is not None and share.high is not None and share.low <= probability <= share.high


def draw(records: Sequence[Record]) -> list[Figure]:
    """Probability of an exact zero by precision, and how the zeros arise along the run."""
    panels = []
    for index, sampler in enumerate(SAMPLERS):
        series = []
        for travel, tone in zip(TRAVELS, ("ours", "a"), strict=True):
            chosen = [r for r in records if r.parameters["travel"] == travel]
            names = [r.parameters["dtype"] for r in chosen]
            shares = [_shares(r)[index] for r in chosen]
            # A count of zero has no place on a logarithmic axis: its upper limit is drawn as a bar's end instead.
            tops = [float(s.high or 0) if s.value == 0 else float(s.value or 0) for s in shares]
            lows = [top if s.value == 0 else s.low for s, top in zip(shares, tops, strict=True)]
            series.append(
                Series(
                    "points",
                    f"αλ = {_travel_words(travel)}, counted",
                    names,
                    tops,
                    lows,
                    [s.high for s in shares],
                    tone,
                )
            )
            theory = [p if (p := _expected(r, index)[0]) > 0 else None for r in chosen]
            series.append(Series("points", f"αλ = {_travel_words(travel)}, predicted", names, theory, tone="theory"))
        title = f"β₀ by {_sampler_words(sampler)}"
        panels.append(Panel(title, Axis("precision"), Axis("probability of an exact zero", True), tuple(series)))
    curves = []
    for record, tone in zip((r for r in records if r.parameters["travel"] == TRAVELS[1]), "abcd", strict=False):
        share = [value or None for value in record["share"][0]]
        curves.append(Series("line", record.parameters["dtype"], record["steps"], share, tone=tone))
    panels.append(
        Panel(
            f"Along the run, αλ = {_travel_words(TRAVELS[1])}",
            Axis("step k"),
            Axis("share of exact zeros", True),
            tuple(curves),
        )
    )
    caption = (
        "Left and middle: the share of entries that become exactly 0 falls with the spacing of the numbers; where none "
        "was counted the upper limit is drawn. Right: entries vanish when they reach zero, until all have crossed it."
    )
    return [Figure("Exact zeros by precision", caption, tuple(panels))]
