"""Proposition 3.2: the subgradient method on λ‖β‖₁ ends in a two-cycle, and does not converge."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.absolute_value import HuberisedL1, proximal_step, settling_steps
from nonsmooth.claims.claim import Claim, Headline, Judgement, Settings, Value, Verdict
from nonsmooth.claims.evidence import find_part, find_parts
from nonsmooth.claims.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.statistics import median_value, proportion_value
from nonsmooth.dynamics import Constant, Diminishing, iterate
from nonsmooth.dynamics.recording import LastStep, Points, Recording, State, Trace, log_spaced, norm
from nonsmooth.lab import Cell, Context, Record, Scalar
from nonsmooth.problems import l1_norm

ALPHA = 0.01
SIZES = ((1, 1.0), (10, 1.0), (100, 1.0), (1000, 1.0), (100, 0.1), (100, 10.0), (100, 100.0))
"""(P, λ)."""
EDGES = (0.25, 0.5, 0.9, 0.99, 1.01, 1.1, 2.0, 5.0, 50.0)
"""Step size of the twins as a multiple of 2/L."""
FEATURES = 100
"""P of the controls."""
STEPS = 1600
"""Of the controls: enough for 0.98 to the power of it to vanish, at 0.99 of 2/L."""
DECREASES = ((0.1, 0.5), (0.25, 1.0))
"""(α₀, p) of the diminishing step sizes α₀/(t+1)^p; each can travel farther than 1 in these steps."""
STILL = 1e-9
"""A run that moves less than this in a step has converged."""
REQUIRED = 0.99
"""Share of the runs that must do what holds with probability 1, where the machine rounds."""

CLAIM = Claim(
    id="oscillation",
    title="After N₀ steps, a two-cycle",
    where="§3, Proposition 3.2",
    statement=(
        "On λ₁‖β‖₁ with a constant step the sequence does not converge: from some N₀ on it alternates between two "
        "vectors, both of infinity norm below αλ₁."
    ),
    explanation=(
        "The gradient jumps at the kink instead of tending to 0: a coordinate walks down in steps of αλ₁ until it lies "
        "within αλ₁ of zero, n = ⌊|β₀|/αλ₁⌋ steps, and then hops over the kink for ever; N₀ is the largest n."
    ),
    control=(
        "C¹ twins of λ‖β‖₁, on which the gradient does tend to 0: if the kink is the reason, none may oscillate; if "
        "the step size is, they do where α > 2/L. The proximal step and diminishing steps on the kink itself: if the "
        "kink alone makes the cycle, these keep it."
    ),
    paper=(Value("bound", "infinity norm of both vectors of the cycle, as a multiple of αλ₁: below", 1),),
)


def plan(settings: Settings) -> list[Cell]:
    """A cell for each dimension and λ in float64, one in float32, and the controls."""
    seeds = settings.seed_range({"quick": 200, "standard": 2000, "paper": 2000}[settings.scale])
    few = settings.seed_range({"quick": 20, "standard": 200, "paper": 200}[settings.scale])
    cells = []
    for features, strength in SIZES:
        steps = 20 + round(1 / (ALPHA * strength))
        for dtype in ("float64", "float32") if (features, strength) == (1000, 1.0) else ("float64",):
            parameters: dict[str, Scalar] = {"part": "kink", "features": features, "strength": strength, "dtype": dtype}
            cost = steps * (1e-4 + 1e-8 * features * len(seeds))
            cells.append(Cell(CLAIM.id, {**parameters, "seeds": len(seeds)}, seed=seeds.start, cost=cost))
    for part in ("twin", "kept"):
        cost = STEPS * (2e-4 + 6e-8 * FEATURES * len(few))
        cells.append(Cell(CLAIM.id, {"part": part, "seeds": len(few)}, seed=few.start, cost=cost))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Runs on the kink, on twins without it, or on the kink with other steps."""
    del context
    count = int(str(cell.parameters["seeds"]))
    generator = torch.Generator().manual_seed(cell.seed)
    if cell.parameters["part"] == "twin":
        return _twins(_starts(count, FEATURES, generator))
    if cell.parameters["part"] == "kept":
        return _other_steps(_starts(count, FEATURES, generator))
    dtype = getattr(torch, str(cell.parameters["dtype"]))
    start = _starts(count, int(str(cell.parameters["features"])), generator).to(dtype)
    return _kink(start, float(str(cell.parameters["strength"])))


def _starts(count: int, features: int, generator: torch.Generator) -> Tensor:
    """β₀ ~ U[-1, 1], shape (1, count, features)."""
    return torch.rand(1, count, features, generator=generator, dtype=torch.float64) * 2 - 1


class _Changed:
    """Whether a point differs from the one two steps earlier by more than `tolerance` in any coordinate."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._recent: deque[Tensor] = deque(maxlen=2)

    def __call__(self, state: State) -> Tensor:
        point = state.point
        earlier = self._recent[0] if len(self._recent) == 2 else point
        changed: Tensor = ((point - earlier).abs() > self._tolerance).any(-1)
        self._recent.append(point)
        return changed


def _kink(start: Tensor, strength: float) -> Mapping[str, Any]:
    """N₀ measured and predicted, and the cycle, for each start: lists over the starts.

    N₀ is one less than the last step at which β_k differs from β_{k-2}; the tolerance of 1e-4 αλ covers rounding, and
    every change before the cycle is αλ or more.
    """
    features, travel = start.shape[-1], ALPHA * strength
    steps = 20 + round(1 / travel)
    record: dict[str, Recording] = {"last": LastStep(_Changed(1e-4 * travel)), "cycle": Points((steps - 1, steps))}
    run = iterate(l1_norm(features, strength, start.dtype), start, Constant(ALPHA), steps, record)
    points = run["cycle"][:, :, 0, :].double()
    ratio = start[0].double().abs().amax(-1) / travel
    predicted = settling_steps(start[0].double(), travel).amax(-1)
    return {
        "measured": (run["last"][0] - 1).clamp(min=0).tolist(),
        "predicted": predicted.long().tolist(),
        # How far the coordinate that decides N₀ starts from a multiple of αλ, as a share of αλ.
        "margin": (ratio - ratio.round()).abs().tolist(),
        "alternates": (run["last"][0] < steps).tolist(),
        "largest": (points.abs().amax(dim=(0, 1)) / travel).tolist(),
        "hop": ((points[1] - points[0]).abs().amin(0) / travel).tolist(),
    }


def _twins(start: Tensor) -> Mapping[str, Any]:
    """The last movement of each twin, as a multiple of αλ: [edge][start]."""
    starts, variants = start[0].unsqueeze(1), len(EDGES)
    width = ALPHA / (2 * torch.tensor(EDGES, dtype=torch.float64))
    problem = HuberisedL1(FEATURES, 1.0, width)
    ends = iterate(
        problem,
        starts.expand(-1, variants, -1).contiguous(),
        Constant(ALPHA),
        STEPS,
        {"end": Points((STEPS - 1, STEPS))},
    )["end"]
    moved = (ends[1] - ends[0]).abs().amax(0) / ALPHA
    edges = (ALPHA * problem.gradient_lipschitz[0] / 2).tolist()
    return {"edge": edges, "moved": moved.T.tolist()}


def _other_steps(start: Tensor) -> Mapping[str, Any]:
    """Constant, diminishing and proximal steps on the kink: ‖β_k‖∞ at chosen steps [rule][step][start]."""
    problem, at = l1_norm(FEATURES, 1.0), log_spaced(STEPS, 60)
    record = {"size": Trace(norm(torch.inf), at)}
    runs = [iterate(problem, start, Constant(ALPHA), STEPS, record)]
    runs += [iterate(problem, start, Diminishing(first, power), STEPS, record) for first, power in DECREASES]
    runs.append(iterate(problem, start, Constant(ALPHA), STEPS, record, method=lambda: proximal_step(1.0)))
    names = ["constant", *(f"{first:g}/(k+1)^{power:g}" for first, power in DECREASES), "proximal, constant"]
    final = [ALPHA, *(first / STEPS**power for first, power in DECREASES), 0.0]
    return {"rule": names, "last_step": final, "at": at, "size": [run["size"][:, 0].tolist() for run in runs]}


def _fulfilled(record: Record) -> int:
    """Starts that alternate between two vectors, both of infinity norm below αλ."""
    return sum(a and size < 1 for a, size in zip(record["alternates"], record["largest"], strict=True))


def _met(record: Record) -> int:
    """Starts for which N₀ is what the closed form says."""
    return sum(a == b for a, b in zip(record["measured"], record["predicted"], strict=True))


def _median_predicted(features: int, travel: float) -> int:
    """The median of N₀ over starts: the least n with ((n+1)αλ)^P ≥ 1/2."""
    n = 0
    while ((n + 1) * travel) ** features < 0.5:
        n += 1
    return n


def _twin_shares(twin: Record) -> tuple[Value, Value]:
    """How many twins oscillate with α below, and above, 2/L."""
    below, above = ([row for e, row in zip(twin["edge"], twin["moved"], strict=True) if (e > 1) == up] for up in (0, 1))
    return (
        proportion_value("twin_below", "C¹ twins that oscillate, α < 2/L", *_oscillating(below)),
        proportion_value("twin_above", "C¹ twins that oscillate, α > 2/L", *_oscillating(above)),
    )


def _oscillating(rows: Sequence[Sequence[float]]) -> tuple[int, int]:
    """How many runs still move, and how many there are."""
    moves = [moved > STILL for row in rows for moved in row]
    return sum(moves), len(moves)


def judge(records: Sequence[Record]) -> Judgement:
    """The cycle in float64 first, then N₀, then the controls.

    The share of starts that alternate between two vectors, both of infinity norm below αλ, must be above 0.99 with its
    whole interval (the rest is left to rounding): if the interval lies below, "not reproduced"; if it straddles,
    "inconclusive". The explanation then fails ("explanation not supported") if more than half of the C¹ twins with
    α > 2/L oscillate as well, so that no kink is needed, or if the proximal or the diminishing steps keep the cycle of
    the constant step. Otherwise the verdict is "reproduced with a correction" if N₀ = max ⌊|β₀|/αλ⌋ is missed by more
    than 1 % of the starts (the correction states the difference), else "reproduced".
    """
    doubles = find_parts(records, "kink", dtype="float64")
    singles = find_parts(records, "kink", dtype="float32")
    twin, kept = find_part(records, "twin"), find_part(records, "kept")
    count = sum(r.parameters["seeds"] for r in doubles)
    cycles = proportion_value("cycles", "starts that end in the two-cycle", sum(map(_fulfilled, doubles)), count)
    met = proportion_value("n0_met", "starts whose N₀ is max ⌊|β₀|/αλ⌋, float64", sum(map(_met, doubles)), count)
    measured, predicted = [cycles, met], []
    if singles:
        many = sum(r.parameters["seeds"] for r in singles)
        measured.append(proportion_value("n0_met_float32", "the same, float32", sum(map(_met, singles)), many))
    measured.append(
        Value(
            "largest",
            "largest infinity norm in a cycle over αλ",
            extremes.largest(extremes.largest(r["largest"]) for r in doubles),
        )
    )
    for record in doubles:
        features, strength = record.parameters["features"], record.parameters["strength"]
        name, label = f"n0_{features}_{strength:g}", f"median of N₀, P = {features}, λ = {strength:g}"
        measured.append(median_value(name, label, record["measured"]))
        predicted.append(Value(name, label, _median_predicted(features, ALPHA * strength)))

    below, above = _twin_shares(twin)
    sizes = {rule: size[-1] for rule, size in zip(kept["rule"], kept["size"], strict=True)}
    ends = [
        median_value(f"end_{i}", f"‖β‖∞ at the end, {rule} steps", end) for i, (rule, end) in enumerate(sizes.items())
    ]
    constant, *others = (float(end.value or 0) for end in ends)
    threshold = _threshold(twin)
    control = (below, above, *threshold, *ends)
    predicted.append(Value("threshold", "α over 2/L at which a C¹ twin starts to oscillate", 1.0))
    headline = Headline(
        paper="alternates between two vectors of infinity norm < αλ",
        ours=f"{sum(map(_fulfilled, doubles)):,} of {count:,} starts; N₀ met by {sum(map(_met, doubles)):,}",
        control=f"C¹ twins oscillate in {above.value:.0%} of the runs with α > 2/L, {below.value:.0%} with α < 2/L",
    )
    rest: dict[str, Any] = {"headline": headline, "measured": tuple(measured), "control": control}
    rest |= {"predicted": tuple(predicted), "notes": _misses([*doubles, *singles])}
    base = f"{sum(map(_fulfilled, doubles)):,} of {count:,} starts end in a two-cycle below αλ"
    base += f", and N₀ = max ⌊|β₀|/αλ⌋ is met by {sum(map(_met, doubles)):,}. "
    low, high = float(cycles.low or 0), float(cycles.high or 0)
    if high < REQUIRED:
        return Judgement(Verdict.NOT_REPRODUCED, base, **rest)
    if low < REQUIRED:
        size = "at least 400 starts: with fewer the interval reaches below 0.99 even if none fails"
        return Judgement(Verdict.INCONCLUSIVE, base, decided_by=size, **rest)
    without_kink, persists = float(above.low or 0) > 0.5, any(end > constant / 2 for end in others)
    if without_kink or persists:
        why = (
            f"But no kink is needed: the C¹ twins oscillate in {above.value:.0%} of the runs where α > 2/L and "
            f"{below.value:.0%} where α < 2/L, between {threshold[0]} and {threshold[1]} of "
            "2/L it changes. "
            if without_kink
            else ""
        )
        why += (
            "On the kink itself other steps keep the cycle, so the constant subgradient step is not the reason."
            if persists
            else "Nor is a kink enough: with diminishing or proximal steps ‖β‖∞ on it falls to "
            f"{extremes.largest(others):.2g}, against {constant:.2g} with the constant step. "
            "What the kink changes is that every constant α is above the threshold, since its L is infinite."
        )
        return Judgement(Verdict.EXPLANATION_NOT_SUPPORTED, base + why, **rest)
    if float(met.high or 0) < REQUIRED:
        off = median_value("off", "", [a - b for r in doubles for a, b in _pairs(r)]).value
        correction = f"The cycle begins {off:+g} steps (median) from max ⌊|β₀|/αλ⌋."
        return Judgement(Verdict.WITH_CORRECTION, base, correction=correction, **rest)
    why = f"Without the kink {above.value:.0%} of the twins with α > 2/L oscillate, and other steps end the cycle."
    return Judgement(Verdict.REPRODUCED, base + why, **rest)


def _misses(records: Sequence[Record]) -> tuple[str, ...]:
    """How close to a multiple of αλ the starts lie whose N₀ is not the predicted one; nothing where none is."""
    margins = [margin for r in records for (a, b), margin in zip(_pairs(r), r["margin"], strict=True) if a != b]
    if not margins:
        return ()
    return (
        f"The {len(margins)} starts that miss N₀ lie within {extremes.largest(margins):.1e} αλ of a multiple of αλ.",
    )


def _pairs(record: Record) -> list[tuple[int, int]]:
    """N₀ measured and predicted, start by start."""
    return list(zip(record["measured"], record["predicted"], strict=True))


def _threshold(twin: Record) -> tuple[Value, Value]:
    """The largest step size at which no twin oscillates, and the smallest at which all do, over 2/L."""
    moving = {edge: _oscillating([row]) for edge, row in zip(twin["edge"], twin["moved"], strict=True)}
    still = [edge for edge, (moves, _) in moving.items() if moves == 0]
    all_move = [edge for edge, (moves, runs) in moving.items() if moves == runs]
    return (
        Value("converges_at", "largest α over 2/L at which every C¹ twin converges", max(still, default=None)),
        Value("oscillates_at", "smallest α over 2/L at which every C¹ twin oscillates", min(all_move, default=None)),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """N₀ against its closed form, the twins by step size, and other steps on the kink."""
    doubles = find_parts(records, "kink", dtype="float64")
    twin, kept = find_part(records, "twin"), find_part(records, "kept")
    clouds = []
    for record, tone in zip(doubles, "abcdefg", strict=False):
        measured, predicted = record["measured"][:70], record["predicted"][:70]
        name = f"P = {record.parameters['features']}, λ = {record.parameters['strength']:g}"
        clouds.append(Series("points", name, predicted, measured, tone=tone))
    top = extremes.largest(extremes.largest(r["predicted"]) for r in doubles)
    clouds.append(Series("line", "equal", (0, top), (0, top), tone="theory", dashed=True))
    n0 = Panel("When the cycle begins", Axis("N₀ = max ⌊|β₀|/αλ⌋"), Axis("N₀ measured"), tuple(clouds))
    medians = [median_value("moved", "", row) for row in twin["moved"]]
    shown = [(e, m) for e, m in zip(twin["edge"], medians, strict=True) if float(m.value or 0) > STILL]
    steady = [e for e, m in zip(twin["edge"], medians, strict=True) if float(m.value or 0) <= STILL]
    by_edge = Panel(
        "C¹ twins",
        Axis("α over 2/L", True),
        Axis("movement per step at the end, over αλ"),
        (
            Series(
                "points",
                "oscillates",
                [e for e, _ in shown],
                [float(m.value or 0) for _, m in shown],
                [m.low for _, m in shown],
                [m.high for _, m in shown],
                "control",
            ),
            Series("points", "converged", steady, [0.0] * len(steady), tone="neutral"),
            Series("vertical", "α = 2/L", (1.0,), tone="theory", dashed=True),
            Series("horizontal", "on the kink", y=(1.0,), tone="ours"),
        ),
    )
    lines = []
    for rule, size, tone in zip(kept["rule"], kept["size"], ("ours", "a", "b", "control"), strict=True):
        middle = [float(median_value("size", "", row).value or 0) or None for row in size]
        pairs = [(k, m) for k, m in zip(kept["at"], middle, strict=True) if k > 0]
        lines.append(Series("line", rule, [k for k, _ in pairs], [m for _, m in pairs], tone=tone))
    sizes = Panel("Other steps on the kink", Axis("step k", True), Axis("median ‖β_k‖∞", True), tuple(lines))
    return [
        Figure(
            "The two-cycle, and what it takes",
            "Left: every run begins to alternate when the closed form says. Middle: gradient steps on a C¹ function "
            "alternate too as soon as α > 2/L. Right: on the kink, diminishing steps shrink the cycle and the "
            "proximal step ends it at exactly 0 (the line stops).",
            (n0, by_edge, sizes),
        )
    ]
