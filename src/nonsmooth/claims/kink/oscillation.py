"""Proposition 3.2: the subgradient method on λ‖β‖₁ ends in a two-cycle, and does not converge."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth import extremes
from nonsmooth.claims.framework import (
    Afterthought,
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
    Runs,
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    below,
)
from nonsmooth.claims.kink import dose
from nonsmooth.dynamics import Constant, Diminishing, iterate, proximal_step
from nonsmooth.dynamics.recording import LastStep, Points, Recording, State, Trace, log_spaced, norm
from nonsmooth.dynamics.two_cycle import median_settling_steps, settling_steps
from nonsmooth.lab import Cell
from nonsmooth.problems import RoundedL1, l1_norm

ALPHA = 0.01
SIZES = ((1, 1.0), (10, 1.0), (100, 1.0), (1000, 1.0), (100, 0.1), (100, 10.0), (100, 100.0))
"""(P, λ)."""
FEATURES = 100
"""P of the controls."""
STEPS = 1600
"""Of the diminishing and proximal steps."""
STEP_SIZES = dict.fromkeys((0.001, 0.003, 0.01, 0.03, 0.1), 3000)
"""α of the twins, at λ = 1, with the number of steps: at 0.99 of 2/L, 0.98 to the power of it has to vanish."""
DECREASES = ((0.1, 0.5), (0.25, 1.0))
"""(α₀, p) of the diminishing step sizes α₀/(t+1)^p; each can travel farther than 1 in these steps."""

REQUIRED = Choice(
    "required",
    0.99,
    (0.9, 0.999),
    "share of the runs that must do what holds with probability 1",
    "The rest is left to rounding, which moves a start across a multiple of αλ.",
)
STILL = Choice(
    "still",
    1e-9,
    (1e-6, 1e-3),
    "movement in a step, in αλ, below which a run has converged",
    "Above rounding, and below any cycle that a float64 run can hold.",
)
KEPT = Choice(
    "kept",
    0.9,
    (0.7, 0.99),
    "share of ‖β‖∞ that is left after three quarters of a run which counts as keeping the cycle",
    "A constant step keeps all of it; α₀/√k leaves half.",
)

CYCLES = Quantity("cycles", "starts that end in the two-cycle")
MET = Quantity("n0_met", "starts whose N₀ is max ⌊|β₀|/αλ⌋, float64")
OFF = Quantity("off", "median of N₀ measured less predicted")
OTHERS = Quantity(
    "others", "‖β‖∞ at the end over that after a quarter of the run, the largest under diminishing or proximal steps"
)

CLAIM = Claim(
    id="oscillation",
    plain="With a constant learning rate a weight under an L1 penalty ends up hopping across zero for ever.",
    title="After N₀ steps, a two-cycle",
    where="§3, Proposition 3.2",
    statement=(
        "On λ₁‖β‖₁ with a constant step the sequence does not converge: from some N₀ on it alternates between two "
        "vectors, both of infinity norm below αλ₁."
    ),
    explanation=(
        "The proof: no entry is ever zero (Proposition 3.1), so by eq. (8) each one moves by αλ₁ a step, towards zero, "
        "until it is some γ in (0, αλ₁); from there it goes to γ - αλ₁ and back, for ever. N₀ is the largest number of "
        "steps n until then. The paper's title lays this to non-differentiability."
    ),
    control=(
        "N₀ = max ⌊|β₀|/αλ₁⌋, as the proof has it. C¹ twins of λ‖β‖₁ over widths and step sizes: if it takes a kink, "
        "none oscillates; if it takes a step above 2/L, those with α > 2/L do. The proximal step and diminishing "
        "steps on the kink itself: if the kink alone makes the cycle, these keep it."
    ),
    paper=(Value("bound", "infinity norm of both vectors of the cycle, as a multiple of αλ₁: below", 1),),
)


DOSE = dose.DoseResponse(
    "the oscillation",
    "oscillate",
    STILL,
    "What the proposition states of λ‖β‖₁ holds. But a constant step alternates where α > 2/L, with a kink or "
    "without; a kink is the limit L = ∞. On the kink itself diminishing and proximal steps do not keep the cycle.",
)
RULE = Rule(
    Row(below(CYCLES, REQUIRED), Outcome(Verdict.NOT_REPRODUCED, "no two-cycle")),
    Row(
        ~below(OTHERS, KEPT),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "every step does it",
            "On the kink itself other steps keep the cycle, so the constant subgradient step is not the reason.",
        ),
    ),
    *DOSE.rows,
    Row(
        below(MET, REQUIRED),
        Outcome(
            Verdict.WITH_CORRECTION,
            "it begins at another step",
            correction="The cycle begins {off:+g} steps (median) from max ⌊|β₀|/αλ⌋.",
        ),
    ),
    otherwise=Outcome(
        Verdict.REPRODUCED,
        "the kink makes the cycle",
        "Without the kink {twin_above:.0%} of the twins with α > 2/L oscillate, and other steps end the cycle.",
    ),
    always="{cycles.hits:,} of {cycles.count:,} starts end in a two-cycle below αλ, and N₀ = max ⌊|β₀|/αλ⌋ is met by "
    "{n0_met.hits:,}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="alternates between two vectors of infinity norm < αλ",
        ours="{cycles.hits:,} of {cycles.count:,} starts; N₀ met by {n0_met.hits:,}",
        control="C¹ twins oscillate in {twin_above:.0%} of the runs with α > 2/L, {twin_below:.0%} with α < 2/L",
    ),
    choices=(REQUIRED, STILL, KEPT, dose.HALF, dose.LADDER, dose.LENGTH, dose.step_size_choice(tuple(STEP_SIZES))),
    afterthoughts=(
        Afterthought(
            "twins below and above 2/L are judged apart",
            "2026-11",
            "One share over all widths depends on which widths are in the list.",
            "“explanation not supported” became “with a correction”: the effect ends at 2/L.",
        ),
        Afterthought(
            "twins at five step sizes instead of one",
            "2026-11",
            "The claim is about every constant step size.",
            "Nothing: without data the effect depends on ε/αλ alone.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """A cell for each dimension and λ in float64, one in float32, and the controls."""
    seeds, few = scale.seeds(200, 2000), scale.seeds(20, 200)
    for features, strength in SIZES:
        cost = (20 + round(1 / (ALPHA * strength))) * (1e-4 + 1e-8 * features * len(seeds))
        for dtype in ("float64", "float32") if (features, strength) == (1000, 1.0) else ("float64",):
            yield kink.cell(features=features, strength=strength, dtype=dtype, seeds=seeds, cost=cost)
    yield kept.cell(seeds=few, cost=STEPS * (2e-4 + 6e-8 * FEATURES * len(few)))
    yield twins.cell(seeds=few, cost=sum(STEP_SIZES.values()) * (1e-4 + 4e-8 * FEATURES * len(few)))


def _starts(run: Run, count: int, features: int) -> Tensor:
    """β₀ ~ U[-1, 1], shape (1, count, features)."""
    return torch.rand(1, count, features, generator=run.generator(), dtype=torch.float64) * 2 - 1


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


@study.experiment(
    part="kink", seed_axes=dict.fromkeys(("measured", "predicted", "margin", "alternates", "largest", "hop"), 0)
)
def kink(run: Run, *, features: int, strength: float, dtype: str, seeds: int) -> Mapping[str, Any]:
    """N₀ measured and predicted, and the cycle, for each start: lists over the starts.

    N₀ is one less than the last step at which β_k differs from β_{k-2}; the tolerance of 1e-4 αλ covers rounding, and
    every change before the cycle is αλ or more.
    """
    start, travel = _starts(run, seeds, features).to(getattr(torch, dtype)), ALPHA * strength
    steps = 20 + round(1 / travel)
    record: dict[str, Recording] = {"last": LastStep(_Changed(1e-4 * travel)), "cycle": Points((steps - 1, steps))}
    found = iterate(l1_norm(features, strength, start.dtype), start, Constant(ALPHA), steps, record)
    points = found["cycle"][:, :, 0, :].double()
    ratio = start[0].double().abs().amax(-1) / travel
    predicted = settling_steps(start[0].double(), travel).amax(-1)
    return {
        "measured": (found["last"][0] - 1).clamp(min=0).tolist(),
        "predicted": predicted.long().tolist(),
        # How far the coordinate that decides N₀ starts from a multiple of αλ, as a share of αλ.
        "margin": (ratio - ratio.round()).abs().tolist(),
        "alternates": (found["last"][0] < steps).tolist(),
        "largest": (points.abs().amax(dim=(0, 1)) / travel).tolist(),
        "hop": ((points[1] - points[0]).abs().amin(0) / travel).tolist(),
    }


@study.experiment(part="dose", seed_axes=dose.SEED_AXES)
def twins(run: Run, *, seeds: int) -> Mapping[str, Any]:
    """The last movement of each twin, the largest of its coordinates', as a multiple of αλ."""

    def moved(last: Tensor, alpha: float) -> Tensor:
        return (last[1] - last[0]).abs().amax(0)[..., 0] / alpha

    start = _starts(run, seeds, FEATURES)[0]
    return dose.run_twins(partial(RoundedL1, FEATURES), start, (1.0,), STEP_SIZES, moved)


@study.experiment(part="kept", seed_axes={"size": 2})
def kept(run: Run, *, seeds: int) -> Mapping[str, Any]:
    """Constant, diminishing and proximal steps on the kink: ‖β_k‖∞ at chosen steps [rule][step][start]."""
    start, problem, at = _starts(run, seeds, FEATURES), l1_norm(FEATURES, 1.0), log_spaced(STEPS, 60)
    record = {"size": Trace(norm(torch.inf), at)}
    runs = [iterate(problem, start, Constant(ALPHA), STEPS, record)]
    runs += [iterate(problem, start, Diminishing(first, power), STEPS, record) for first, power in DECREASES]
    runs.append(iterate(problem, start, Constant(ALPHA), STEPS, record, method=lambda: proximal_step(1.0)))
    names = ["constant", *(f"{first:g}/(k+1)^{power:g}" for first, power in DECREASES), "proximal, constant"]
    final = [ALPHA, *(first / STEPS**power for first, power in DECREASES), 0.0]
    return {"rule": names, "last_step": final, "at": at, "size": [found["size"][:, 0].tolist() for found in runs]}


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Shares of starts in the cycle, N₀ against its closed form, and the controls."""
    doubles, singles = (evidence[kink].where(dtype=name) for name in ("float64", "float32"))
    fulfilled = doubles.joined("alternates") & (doubles.joined("largest") < 1)
    met = {runs: runs.joined("measured") == runs.joined("predicted") for runs in (doubles, singles) if len(runs)}
    measured: list[Finding] = [
        CYCLES.missing("is not a number")
        if np.isnan(doubles.joined("largest")).any()
        else CYCLES.share(int(fulfilled.sum()), doubles.seeds),
        MET.share(int(met[doubles].sum()), doubles.seeds),
    ]
    if singles in met:
        same = Quantity("n0_met_float32", "the same, float32")
        measured.append(same.share(int(met[singles].sum()), singles.seeds))
    measured.append(
        Value("largest", "largest infinity norm in a cycle over αλ", float(doubles.joined("largest").max()))
    )
    predicted: list[Finding] = [Value("threshold", "α over 2/L at which a C¹ twin starts to oscillate", 1.0)]
    for record in doubles:
        features, strength = record.parameters["features"], record.parameters["strength"]
        n0 = Quantity(f"n0_{features}_{strength:g}", f"median of N₀, P = {features}, λ = {strength:g}")
        measured.append(n0.median(record["measured"]))
        predicted.append(n0.number(median_settling_steps(features, ALPHA * strength)))
    other = evidence[kept].one()
    ends = [
        Quantity(f"end_{i}", f"‖β‖∞ at the end, {rule} steps").median(size[-1])
        for i, (rule, size) in enumerate(zip(other["rule"], other["size"], strict=True))
    ]
    early = next(i for i, step in enumerate(other["at"]) if step >= STEPS / 4)
    left = [np.median(size[-1]) / np.median(size[early]) if any(size[early]) else 0.0 for size in other["size"][1:]]
    return Findings(
        measured,
        (*DOSE.findings(evidence[twins].one(), choices), *ends),
        predicted,
        derived=(
            OTHERS.number(float(extremes.largest(left))),
            OFF.number(float(np.median(doubles.joined("measured") - doubles.joined("predicted")))),
        ),
        notes=_misses(Runs([*doubles, *singles], "kink")),
    )


def _misses(runs: Runs) -> tuple[str, ...]:
    """How close to a multiple of αλ the starts lie whose N₀ is not the predicted one; nothing where none is."""
    margins = runs.joined("margin")[runs.joined("measured") != runs.joined("predicted")]
    if not len(margins):
        return ()
    return (f"The {len(margins)} starts that miss N₀ lie within {margins.max():.1e} αλ of a multiple of αλ.",)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """N₀ against its closed form, other steps on the kink, and the twins."""
    del found
    doubles, other = evidence[kink].where(dtype="float64"), evidence[kept].one()
    clouds = [
        Series(
            "points",
            f"P = {record.parameters['features']}, λ = {record.parameters['strength']:g}",
            record["predicted"][:70],
            record["measured"][:70],
            tone=tone,
        )
        for record, tone in zip(doubles, "abcdefg", strict=False)
    ]
    top = float(doubles.joined("predicted").max())
    clouds.append(Series("line", "equal", (0, top), (0, top), tone="theory", dashed=True))
    n0 = Panel("When the cycle begins", Axis("N₀ = max ⌊|β₀|/αλ⌋"), Axis("N₀ measured"), tuple(clouds))
    lines = []
    for rule, size, tone in zip(other["rule"], other["size"], ("ours", "a", "b", "control"), strict=True):
        middle = [float(np.median(row)) or None for row in size]
        pairs = [(k, m) for k, m in zip(other["at"], middle, strict=True) if k > 0]
        lines.append(Series("line", rule, [k for k, _ in pairs], [m for _, m in pairs], tone=tone))
    sizes = Panel("Other steps on the kink", Axis("step k", True), Axis("median ‖β_k‖∞", True), tuple(lines))
    return [
        Figure(
            "The two-cycle, and what it takes",
            "Left: every run begins to alternate when the closed form says. Right: on the kink, diminishing steps "
            "shrink the cycle and the proximal step ends it at exactly 0 (the line stops).",
            (n0, sizes),
        ),
        DOSE.figure(evidence[twins].one(), "movement in the last step, over αλ"),
    ]
