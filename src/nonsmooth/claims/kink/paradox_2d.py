"""§3: two coordinates, two penalties: the larger penalty ends with the larger norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_part
from nonsmooth.claims.framework.statistics import median_value, proportion_value
from nonsmooth.claims.kink.paradox_2d_runs import (
    DECADES,
    NARROW,
    REDUCED,
    STEP_SIZE,
    STRENGTHS,
    VANISHED,
    decades,
    paper_run,
    proximal_run,
    random_starts,
    twin_run,
)
from nonsmooth.lab import Cell, Context, Record


class Printed(NamedTuple):
    """A number that the paper prints, and where it is looked up: `extreme` over the cycle of its `quantity`."""

    name: str
    quantity: str
    alpha: float
    strength: float
    extreme: str
    number: float


PRINTED = (
    Printed("upper_1", "coordinate", STEP_SIZE, 1.0, "upper", 0.0053),
    Printed("lower_1", "coordinate", STEP_SIZE, 1.0, "lower", -0.0047),
    Printed("upper_100", "coordinate", STEP_SIZE, 100.0, "upper", 0.5053),
    Printed("lower_100", "coordinate", STEP_SIZE, 100.0, "lower", -0.4947),
    Printed("reduced_upper_1", "coordinate", REDUCED, 1.0, "upper", 0.0003),
    Printed("reduced_lower_1", "coordinate", REDUCED, 1.0, "lower", -0.0007),
    Printed("reduced_upper_100", "coordinate", REDUCED, 100.0, "upper", 0.0053),
    Printed("reduced_lower_100", "coordinate", REDUCED, 100.0, "lower", -0.0947),
    Printed("largest_norm_1", "norm", STEP_SIZE, 1.0, "upper", 0.0106),
    Printed("smallest_norm_100", "norm", STEP_SIZE, 100.0, "lower", 0.9894),
)


def _label(printed: Printed) -> str:
    """What a reader sees of a printed number."""
    end = {"upper": "largest", "lower": "smallest"}[printed.extreme]
    what = "L1 norm" if printed.quantity == "norm" else "coordinate"
    return f"{end} {what} in the cycle, λ = {printed.strength:g}, α = {printed.alpha:g}"


CLAIM = Claim(
    id="paradox-2d",
    title="The larger penalty, the larger norm: two coordinates",
    where="§3, after Proposition 3.2",
    statement=(
        "From β₀ = [0.5053, 0.5053] with α = 0.01, λ = 1 ends between 0.0053 and -0.0047 and λ = 100 between 0.5053 "
        "and -0.4947; with α then reduced to 0.001, between 0.0003 and -0.0007, and between 0.0053 and -0.0947. "
        "Increasing the penalty increases the L1 norm, and a smaller step size does not resolve it."
    ),
    explanation=(
        "The minimum of λ‖β‖₁ is a point where it is not differentiable: NGDM with a constant step rattles across it "
        "with an error of the order αλ, as the subgradient method does, so a larger λ leaves a larger error."
    ),
    control=(
        "Same α, λ and start: a proximal step on the same non-differentiable function, and gradient steps on a C¹ twin "
        "whose kink is rounded off over a width ε. If the kink is the reason, the twin has no paradox; if the constant "
        "step is, the proximal step still has one or not at all according to whether the step or the function is at "
        "fault. Random starts: how often the larger λ has the larger norm."
    ),
    paper=tuple(Value(p.name, _label(p), p.number) for p in PRINTED),
)


def plan(settings: Settings) -> list[Cell]:
    """The paper's run in two precisions, the controls from the same start, and random starts."""
    starts = settings.seed_range({"quick": 10_000, "standard": 200_000, "paper": 1_000_000}[settings.scale])
    cost = len(starts) * 1e-4 + 0.1
    cells = [Cell(CLAIM.id, {"part": "paper", "dtype": dtype}, cost=0.3) for dtype in ("float64", "float32")]
    cells += [Cell(CLAIM.id, {"part": part}, cost=0.5) for part in ("proximal", "twin", "decades")]
    return [*cells, Cell(CLAIM.id, {"part": "random", "seeds": len(starts)}, seed=starts.start, cost=cost)]


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """One part of the experiment; see the functions that it calls."""
    del context
    part = cell.parameters["part"]
    if part == "paper":
        return paper_run(getattr(torch, str(cell.parameters["dtype"])))
    if part == "random":
        return random_starts(int(str(cell.parameters["seeds"])), cell.seed)
    return {"proximal": proximal_run, "twin": twin_run, "decades": decades}[str(part)]()


def _look_up(record: Record, printed: Printed, origin: str) -> float:
    """The computed number that stands beside a printed one; `origin` is the point of the cycle α is reduced from."""
    cycles = record["cycle"] if printed.alpha == STEP_SIZE else record[f"reduced_from_{origin}"]
    points = cycles[STRENGTHS.index(printed.strength)]
    if printed.quantity == "norm":
        candidates = [sum(abs(x) for x in point) for point in points]
    else:
        candidates = [x for point in points for x in point]
    return float(extremes.largest(candidates) if printed.extreme == "upper" else extremes.smallest(candidates))


def _agrees(printed: Printed, computed: float) -> bool:
    """Whether a number rounds to the four decimals that the paper prints."""
    return round(computed, 4) == printed.number


def _paradox(smallest: Sequence[float], largest: Sequence[float]) -> bool:
    """Whether the cycle at λ = 100 lies wholly above the one at λ = 1, in the L1 norm."""
    return smallest[1] > largest[0] and smallest[1] > VANISHED


def judge(records: Sequence[Record]) -> Judgement:
    """Numbers first, then the two controls.

    Not reproduced: a printed number differs from the computed one (float64, rounded to four decimals, α reduced from
    whichever of the two points of the cycle fits better), or the L1 norms of the two cycles do not stand apart as
    printed. Otherwise the paradox is there, and the explanation is tested: it needs the paradox to vanish when the
    step is made proximal on the same non-differentiable function, and when the kink is rounded off (C¹ twin) at the
    same α, λ and start. If either control still shows the paradox (the whole cycle at λ = 100 above the whole cycle
    at λ = 1), the verdict is "reproduced, explanation not supported"; else "reproduced".
    """
    exact = find_part(records, "paper", dtype="float64")
    single = find_part(records, "paper", dtype="float32")
    agreeing = {origin: [_agrees(p, _look_up(exact, p, origin)) for p in PRINTED] for origin in ("even", "odd")}
    origin = max(agreeing, key=lambda name: sum(agreeing[name]))
    matches = sum(agreeing[origin])
    matches_single = sum(_agrees(p, _look_up(single, p, origin)) for p in PRINTED)
    norms = {p.name: _look_up(exact, p, origin) for p in PRINTED if p.quantity == "norm"}
    apart = norms["smallest_norm_100"] > norms["largest_norm_1"]

    proximal, twin, reductions, chance = (
        find_part(records, part) for part in ("proximal", "twin", "decades", "random")
    )
    in_proximal = _paradox(proximal["smallest"], proximal["largest"])
    in_twins = _paradox_by_width(twin)
    stable = [width for width in in_twins if extremes.largest(_edges(twin)[width]) < 1]
    shown = [width for width, present in in_twins.items() if present]
    same = _widest_identical(exact, twin)
    kink_last, twin_last = (extremes.largest(reductions[name][-1]) for name in ("kink", "twin"))

    measured = (
        *(Value(p.name, _label(p), _look_up(exact, p, origin)) for p in PRINTED),
        Value("matches", "printed numbers met to four decimals, float64", matches, count=len(PRINTED)),
        Value("matches_float32", "printed numbers met to four decimals, float32", matches_single, count=len(PRINTED)),
        Value("matches_other", "the same, α reduced from the other point", min(map(sum, agreeing.values()))),
        *_random_values(chance),
    )
    control = (
        Value("proximal_1", "largest L1 norm, proximal step, λ = 1", proximal["largest"][0]),
        Value("proximal_100", "largest L1 norm, proximal step, λ = 100", proximal["largest"][1]),
        proportion_value(
            "proximal_zero",
            "random starts that the proximal step takes to exactly 0 at both λ",
            chance["proximal_zero"],
            chance.parameters["seeds"],
        ),
        Value("twins_with_paradox", "widths at which the C¹ twin has the paradox", len(shown), count=len(in_twins)),
        Value("stable_twins", "of which with α < 2/L at both λ", sum(in_twins[w] for w in stable), count=len(stable)),
        Value("widest_identical", "widest ε whose twin ends in the very cycles that the paper prints", same),
        Value("kink_at_last", f"largest norm of the two λ after reducing α to {DECADES[-1]:g}, kink", kink_last),
        Value("twin_at_last", f"the same, twin with ε = {NARROW:g}", twin_last),
    )
    predicted = (Value("mean_ratio", "ratio of the norms averaged over the cycle, λ = 100 to λ = 1", STRENGTHS[1]),)
    headline = Headline(
        paper="L1 norm ≤ 0.0106 at λ = 1, ≥ 0.9894 at λ = 100",
        ours=(
            f"≤ {norms['largest_norm_1']:.4f} and ≥ {norms['smallest_norm_100']:.4f}; "
            f"{matches} of {len(PRINTED)} printed numbers met"
        ),
        control=(
            f"proximal step: {extremes.largest(proximal['largest']):.4g}; "
            f"C¹ twin: the same paradox at {len(shown)} of {len(in_twins)} widths"
        ),
    )
    notes = _notes(exact, chance, origin)
    if shown and not in_proximal:
        notes += (
            "The paper's section on the subgradient method speaks of a constant step on a λ-Lipschitz function, which "
            "the twin is too: in that reading the controls agree with it. They contradict the reading of its title and "
            "abstract, that non-differentiability is what makes the paradox.",
        )
    if matches < len(PRINTED) or not apart:
        missed = ", ".join(_label(p) for p, met in zip(PRINTED, agreeing[origin], strict=True) if not met)
        because = f"Of {len(PRINTED)} printed numbers {matches} are met to four decimals; missed: {missed or 'none'}."
        return Judgement(Verdict.NOT_REPRODUCED, because, headline, measured, control, predicted, notes=notes)
    because = f"All {len(PRINTED)} printed numbers are met to four decimals. "
    because += (
        "The proximal step on the same function still has the paradox, so the step is not the reason. "
        if in_proximal
        else "With the same α, λ and start the proximal step ends at 0 for both λ: the step is at fault, not λ‖β‖₁. "
        if extremes.largest(proximal["largest"]) == 0
        else "The proximal step does not have the paradox. "
    )
    if shown:
        because += (
            f"But no kink is needed: the C¹, L-smooth twin has it at {len(shown)} of {len(in_twins)} widths"
            + (f", up to ε = {same:g} with the very cycles of the paper" if same else "")
            + f", and at {sum(in_twins[w] for w in stable)} of {len(stable)} widths where α < 2/L at both λ. "
            f"What the kink adds is that no α is small enough: with α reduced to {DECADES[-1]:g} the L1 norm "
            f"is {kink_last:.3g} at the kink and {twin_last:.3g} on the twin with ε = {NARROW:g}."
        )
    else:
        because += f"Without the kink the paradox is gone at all {len(in_twins)} widths."
    supported = not in_proximal and not shown
    verdict = Verdict.REPRODUCED if supported else Verdict.EXPLANATION_NOT_SUPPORTED
    return Judgement(verdict, because, headline, measured, control, predicted, notes=notes)


def _edges(twin: Record) -> dict[float, list[float]]:
    """Width → α as a multiple of 2/L, at each λ."""
    edges: dict[float, list[float]] = {}
    for width, edge in zip(twin["width"], twin["edge"], strict=True):
        edges.setdefault(width, []).append(edge)
    return edges


def _paradox_by_width(twin: Record) -> dict[float, bool]:
    """Width → whether the twin shows the paradox."""
    norms: dict[float, list[tuple[float, float]]] = {}
    for width, smallest, largest in zip(twin["width"], twin["smallest"], twin["largest"], strict=True):
        norms.setdefault(width, []).append((smallest, largest))
    return {w: _paradox([low for low, _ in pairs], [high for _, high in pairs]) for w, pairs in norms.items()}


def _widest_identical(exact: Record, twin: Record) -> float | None:
    """The widest ε at which the twin ends, at both λ, in the cycles that the kink ends in."""
    wanted = dict(zip(STRENGTHS, exact["cycle"], strict=True))
    same: dict[float, bool] = {}
    for width, strength, found in zip(twin["width"], twin["strength"], twin["coordinates"], strict=True):
        expected = sorted(point[0] for point in wanted[strength])
        close = all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(sorted(found), expected, strict=True))
        same[width] = same.get(width, True) and close
    return max((width for width, close in same.items() if close), default=None)


def _random_values(chance: Record) -> tuple[Value, ...]:
    """What random starts say of the comparison between λ = 1 and the largest ratio."""
    ratio, count = chance["ratio"][-1], chance.parameters["seeds"]
    counted = (
        ("larger", f"random starts with the larger norm at λ = {ratio:g}, last iterate"),
        ("separate", f"random starts whose whole cycle at λ = {ratio:g} has the larger norm"),
        ("reversed", f"random starts whose whole cycle at λ = {ratio:g} has the smaller norm"),
    )
    shares = tuple(proportion_value(name, label, chance[name][-1], count) for name, label in counted)
    means = chance["mean_norm_ratio"][-1]
    return (*shares, median_value("mean_ratio", f"ratio of the cycle's mean norms, λ = {ratio:g} to λ = 1", means))


def _notes(exact: Record, chance: Record, origin: str) -> tuple[str, ...]:
    """What depends on the point at which α is reduced, and a start that goes against the paradox."""
    whole, uneven = (
        all(
            math.isclose(a, b, abs_tol=1e-9)
            for one, other in zip(exact[f"{name}_from_even"], exact[f"{name}_from_odd"], strict=True)
            for a, b in zip(sorted(p[0] for p in one), sorted(p[0] for p in other), strict=True)
        )
        for name in ("reduced", "uneven")
    )
    text = (
        f"The paper does not say from which of the two points of the cycle α is reduced; the "
        f"{'second' if origin == 'odd' else 'first'} was taken. At a tenth of α the two "
        f"{'end in the same cycle, because αλ is a whole multiple of the new one' if whole else 'differ'}; "
        f"at α/2.5 they {'end in the same cycle too' if uneven else 'end in different cycles'}."
    )
    example = chance["example"]
    if not math.isfinite(example[0]):
        return (text,)
    return (
        text,
        f"The order of the norms at one iterate depends on β₀ modulo αλ: from β₀ = [{example[0]:.4f}, "
        f"{example[1]:.4f}] the last iterate at λ = {chance['ratio'][-1]:g} has the smaller L1 norm.",
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """The first steps of one coordinate, the norm as α is reduced, the twins by width, and random starts."""
    return [_draw_paths(records), _draw_controls(records)]


def _draw_paths(records: Sequence[Record]) -> Figure:
    paths = find_part(records, "paper", dtype="float64")["paths"]
    panels = []
    for strength, path in zip(STRENGTHS, paths, strict=True):
        steps = list(range(len(path)))
        rules = [
            Series("horizontal", f"printed: {p.number:g}", y=(p.number,), tone="paper", dashed=True)
            for p in PRINTED
            if p.quantity == "coordinate" and p.alpha == STEP_SIZE and p.strength == strength
        ]
        panels.append(
            Panel(
                f"λ = {strength:g}",
                Axis("step k"),
                Axis("coordinate of β_k"),
                (Series("line", "computed", steps, path), *rules),
            )
        )
    return Figure(
        "From the same start to two cycles",
        "One of the two equal coordinates. Each step has length αλ: at λ = 1 the run walks down to zero and then "
        "alternates within 0.01 of it, at λ = 100 it alternates within 1 from the start.",
        tuple(panels),
    )


def _draw_controls(records: Sequence[Record]) -> Figure:
    reductions, twin, chance = (find_part(records, part) for part in ("decades", "twin", "random"))
    series = []
    for name, label, dashed in (("kink", "kink", False), ("twin", f"C¹ twin, ε = {NARROW:g}", True)):
        for index, strength in enumerate(STRENGTHS):
            norms = [row[index] if row[index] > VANISHED else None for row in reductions[name]]
            tone = "ours" if name == "kink" else "control"
            series.append(
                Series("line", f"{label}, λ = {strength:g}", reductions["alpha"], norms, tone=tone, dashed=dashed)
            )
            series.append(Series("points", f"{label}, λ = {strength:g}", reductions["alpha"], norms, tone=tone))
    reduced = Panel(
        "α reduced tenfold again and again", Axis("step size α", True), Axis("largest L1 norm", True), tuple(series)
    )
    by_width = Panel(
        "The twin by width, α = 0.01",
        Axis("width ε of the rounded kink", True),
        Axis("largest L1 norm", True),
        tuple(
            Series("points", f"λ = {strength:g}", *_twin_points(twin, strength), tone=tone)
            for strength, tone in zip(STRENGTHS, ("a", "b"), strict=True)
        ),
    )
    count = chance.parameters["seeds"]
    shares = [proportion_value("share", "", n, count) for n in chance["larger"]]
    apart = [proportion_value("share", "", n, count) for n in chance["separate"]]
    random = Panel(
        f"{count:,} random starts",
        Axis("larger λ over smaller λ", True),
        Axis("share of starts"),
        tuple(
            Series(
                "points",
                name,
                chance["ratio"],
                [float(v.value or 0) for v in values],
                [v.low for v in values],
                [v.high for v in values],
                tone,
            )
            for name, values, tone in (
                ("larger norm at the last iterate", shares, "ours"),
                ("the whole cycle above the other", apart, "a"),
            )
        ),
    )
    return Figure(
        "What makes the paradox, and what removes it",
        "Left: at the kink the norm follows α for ever; on the C¹ twin it drops to zero (no point drawn) once α < 2/L. "
        "Middle: at the paper's α narrow twins end where the kink does. Right: the larger λ has the larger norm more "
        "often the larger the ratio is, not always.",
        (reduced, by_width, random),
    )


def _twin_points(twin: Record, strength: float) -> tuple[list[float], list[float | None]]:
    """Widths and largest norms of the twin at one λ; no point where it converged to 0."""
    rows = [
        (width, largest if largest > VANISHED else None)
        for width, other, largest in zip(twin["width"], twin["strength"], twin["largest"], strict=True)
        if other == strength
    ]
    return [width for width, _ in rows], [norm for _, norm in rows]
