"""Claim `huber`: Huber regression oscillates faster and faster with α and never diverges (§4, eq. 13, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_parts
from nonsmooth.claims.framework.statistics import median_value, proportion_value, slope_value
from nonsmooth.claims.huber.huber_data import ENTRIES, draw_regression, draw_start
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Trace, evenly_spaced, loss
from nonsmooth.dynamics.thresholds import diverged
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Huber, Loss, Power, PseudoHuber

CLAIM = Claim(
    id="huber",
    title="Huber regression under large constant steps",
    where="§4, equation (13), Figure 3",
    statement=(
        "On an overparameterised Huber regression, the losses for α = 0.1, 1 and 10 oscillate with larger and larger "
        "frequencies and never diverge; at α = 1 the loss first increases, before the oscillations become noticeable."
    ),
    explanation="The Huber loss function is convex, non-smooth and has bounded subgradients (Proposition 4.1).",
    control=(
        "On the same data the squared loss, with the same L and an unbounded gradient, and the pseudo-Huber loss, with "
        "derivatives of every order and a bounded gradient: the two parts of the explanation, each without the other."
    ),
    paper=(
        Value("alphas", "α of Figure 3", "0.1, 1, 10"),
        Value("diverged", "runs that diverge", 0),
    ),
    edition=(
        "February 2024 (arXiv 2401.08426, early version). The data and the start of Figure 3 are not given: Z and y "
        'are "arbitrary". Versions from November 2024 on turn the conclusion for the edge of stability round'
    ),
)

LOSSES: Mapping[str, Loss] = {"huber": Huber(), "squared": Power(2.0), "pseudo-huber": PseudoHuber()}
PAPER_ALPHAS = (0.1, 1.0, 10.0)
ALPHAS = (0.03, 0.1, 0.3, 0.5, 0.7, 0.75, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
EARLY = 100
"""Steps that Figure 3 could show; the late window is the last tenth of a run."""
RISE_WINDOW = 20
VANISHED = 1e-12
"""Below this share of the first loss a change is the rounding of a converged run, not an oscillation."""

Array = NDArray[np.float64]


def plan(settings: Settings) -> list[Cell]:
    """Sweeps of α for Huber on both kinds of data from several starts; the controls; long runs at the paper's α."""
    seeds = settings.seed_range({"quick": 8, "standard": 64, "paper": 64}[settings.scale])
    steps = {"quick": 1_000, "standard": 10_000, "paper": 10_000}[settings.scale]
    long = {"quick": 10_000, "standard": 100_000, "paper": 100_000}[settings.scale]
    kinds = [(e, s) for e in ENTRIES for s in ("zero", "uniform", "normal")]
    controls = kinds if settings.scale != "quick" else [("uniform", "zero"), ("uniform", "uniform")]
    cells = []
    for name in LOSSES:
        for entries, start in kinds if name == "huber" else controls:
            parameters: dict[str, Any] = {"part": "sweep", "loss": name, "entries": entries, "start": start}
            parameters |= {"steps": steps, "alphas": ALPHAS, "seeds": len(seeds)}
            cells.append(Cell("huber", parameters, seeds[0], cost=8e-5 * len(seeds) * steps))
    for entries in ENTRIES:
        parameters = {"part": "long", "loss": "huber", "entries": entries, "start": "uniform", "steps": long}
        parameters |= {"alphas": PAPER_ALPHAS, "seeds": 2}
        cells.append(Cell("huber", parameters, seeds[0], cost=2e-4 * long))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """How the losses of all seeds and step sizes go: rows are seeds, columns α."""
    parameters: Mapping[str, Any] = cell.parameters
    seeds, steps = parameters["seeds"], parameters["steps"]
    problem = draw_regression(parameters["entries"], cell.seed, seeds, LOSSES[parameters["loss"]])
    alphas = torch.tensor([parameters["alphas"]], dtype=torch.float64)
    start = draw_start(parameters["start"], cell.seed, seeds).expand(-1, alphas.shape[1], -1).contiguous()
    every = {"loss": Trace(loss, range(steps + 1))}
    losses = iterate(problem, start, Constant(alphas), steps, every, progress=context.progress)["loss"].numpy()
    tenth = max(1, steps // 10)
    constant = problem.gradient_lipschitz
    shown = [list(parameters["alphas"]).index(alpha) for alpha in PAPER_ALPHAS]
    at = list(evenly_spaced(min(EARLY, steps), EARLY + 1))
    with np.errstate(invalid="ignore", over="ignore"):
        late_largest = losses[-tenth:].max(axis=0)
    return {
        "edge": [] if constant is None else (2 / constant)[:, 0].tolist(),
        "diverged": diverged(losses).tolist(),
        "late_largest": late_largest.tolist(),
        "relative_largest": (losses[1 : RISE_WINDOW + 1].max(axis=0) / losses[0]).tolist(),
        "first_step": (losses[1] / losses[0]).tolist(),
        "early_frequency": turning_share(losses[: EARLY + 1], losses[0]).tolist(),
        "late_frequency": turning_share(losses[-tenth - 1 :], losses[0]).tolist(),
        "trace_at": at,
        "trace": losses[at][:, 0, shown].T.tolist(),
    }


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if nothing diverges, the frequency rises with α, the loss first rises at α = 1, all for the reason.

    A run *diverges* if the largest loss of its last tenth is not finite or above ten times that of its first hundredth.
    The *frequency* is the share of steps at which the loss turns from falling to rising or back, over the first 100
    steps and over the last tenth of the run; changes below 1e-12 of the first loss are rounding. The loss *first
    rises* if it exceeds the first loss within 20 steps.

    - A Huber run at one of the paper's step sizes diverges: *not reproduced*.
    - None does, and the squared loss diverges nowhere above 2/L either (so that the experiment could not have shown
      it): *inconclusive*.
    - None does; for every kind of data and start the interval of the frequency rises strictly from α = 0.1 to 1 and
      from 1 to 10, early and late, and at α = 1 the loss first rises in at least nine of ten runs: *reproduced* if
      the pseudo-Huber loss, smooth and with a bounded gradient, diverges somewhere, and *reproduced, explanation not
      supported* if it does not.
    - None does, but the frequencies or the first rise are otherwise: *reproduced with a correction*.
    """
    sweeps = find_parts(records, "sweep", loss="huber")
    huber = [*sweeps, *find_parts(records, "long", loss="huber")]
    ours = _diverged_value("diverged", "Huber runs that diverge at α = 0.1, 1, 10", huber, PAPER_ALPHAS)
    swept = _diverged_value("diverged_sweep", f"… at α from {ALPHAS[0]} to {ALPHAS[-1]:.0f}", huber, ALPHAS)
    squared = _diverged_value(
        "diverged_squared", "squared loss runs above 2/L that diverge", *_above(records, "squared")
    )
    pseudo = _diverged_value(
        "diverged_pseudo", "pseudo-Huber runs above 2/L that diverge", *_above(records, "pseudo-huber")
    )
    frequency = {(window, a): _frequency_value(sweeps, window, a) for window in _WINDOWS for a in PAPER_ALPHAS}
    rising = {window: all(_rises_throughout(record, window) for record in sweeps) for window in _WINDOWS}
    first_rise = {_setting(record): _first_rise_value(record) for record in sweeps}
    rises: dict[bool, list[str]] = {True: [], False: []}
    for setting, value in first_rise.items():
        rises[float(value.value or 0) >= 0.9].append(setting)
    as_stated = all(rising.values()) and not rises[False]
    if ours.value:
        verdict = Verdict.NOT_REPRODUCED
    elif not squared.value:
        verdict = Verdict.INCONCLUSIVE
    elif not as_stated:
        verdict = Verdict.WITH_CORRECTION
    else:
        verdict = Verdict.REPRODUCED if pseudo.value else Verdict.EXPLANATION_NOT_SUPPORTED
    amplitude = _amplitude_value(sweeps)
    edge = median_value("edge", "2/L, uniform data", next(r["edge"] for r in sweeps if _is(r, "uniform")))
    late = ", ".join(format_number(frequency["late", a].value) for a in PAPER_ALPHAS)
    early = ", ".join(format_number(frequency["early", a].value) for a in PAPER_ALPHAS)
    onset = _onset_value(sweeps)
    smooth = "does not diverge either" if not pseudo.value else "diverges"
    return Judgement(
        verdict,
        f"Of {ours.count} Huber runs at α = 0.1, 1 and 10, {_successes(ours)} diverge; of {squared.count} squared-loss "
        f"runs above 2/L, {_successes(squared)} do; the C^∞ pseudo-Huber loss {smooth}. The loss turns at a share of "
        f"{early} of the first {EARLY} steps and {late} of the late ones. At α = 1 it first rises for "
        f"{len(rises[True])} of {len(sweeps)} kinds of data and start.",
        Headline(
            "never diverges; frequency grows with α",
            f"{_successes(ours)} of {ours.count} diverge; late frequency {late}",
            f"squared: {_successes(squared)} of {squared.count} diverge; pseudo-Huber: {_successes(pseudo)} of "
            f"{pseudo.count}",
        ),
        (ours, swept, *frequency.values(), onset, amplitude, *first_rise.values()),
        (squared, pseudo),
        predicted=(edge,),
        correction=(
            _correction(frequency, onset, amplitude, rises, bool(pseudo.value))
            if verdict is Verdict.WITH_CORRECTION
            else None
        ),
        decided_by=(
            "longer runs, until the squared loss above 2/L is seen to diverge"
            if verdict is Verdict.INCONCLUSIVE
            else None
        ),
        notes=(
            "Z and y are drawn from U[-1, 1] or N(0, 1), the start is 0 or drawn from U[-1, 1] or N(0, 1): the paper "
            "gives none of them. y does not matter to the step size at which oscillation begins, Z does.",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """The losses at the paper's step sizes; frequency, size of the loss and divergence against α."""
    tones = ("a", "b", "c")
    panels = []
    for entries, start in (("uniform", "zero"), ("uniform", "uniform")):
        for record in find_parts(records, "sweep", loss="huber", entries=entries, start=start):
            series = tuple(
                Series(
                    "line", f"α = {alpha:g}", record["trace_at"], [extremes.largest(v, 1e-12) for v in trace], tone=tone
                )
                for alpha, trace, tone in zip(PAPER_ALPHAS, record["trace"], tones, strict=True)
            )
            panels.append(Panel(f"losses, start: {start}", Axis("step"), Axis("loss", log=True), series))
    frequency, largest = [], []
    for name, tone in (("huber", "ours"), ("pseudo-huber", "b"), ("squared", "control")):
        for record in find_parts(records, "sweep", loss=name, entries="uniform", start="uniform"):
            alphas = record.parameters["alphas"]
            bounded = [not any(column) for column in zip(*record["diverged"], strict=True)]
            turns = np.median(np.asarray(record["late_frequency"]), axis=0)
            turned = [float(t) if ok else None for t, ok in zip(turns, bounded, strict=True)]
            frequency.append(Series("line", name, alphas, turned, tone=tone))
            loss_reached = np.median(np.asarray(record["late_largest"]), axis=0)
            sizes = [
                extremes.largest(float(v), 1e-12) if ok else None for v, ok in zip(loss_reached, bounded, strict=True)
            ]
            largest.append(Series("line", name, alphas, sizes, tone=tone))
            if name == "huber":
                edge = Series("vertical", "2/L", x=(float(np.median(record["edge"])),), tone="theory", dashed=True)
    step_size = Axis("step size α", log=True)
    panels += [
        Panel("late frequency", step_size, Axis("share of steps at which the loss turns"), (*frequency, edge)),
        Panel("largest late loss", step_size, Axis("loss", log=True), (*largest, edge)),
    ]
    return [
        Figure(
            "Huber regression under large constant steps",
            "One seed's losses at the paper's three step sizes from two starts: whether the loss first rises depends "
            "on the start. Then, over α, the share of late steps at which the loss turns and the largest late loss "
            "(medians over seeds; where runs diverge there is no point): the frequency jumps at 2/L, the size grows "
            "with α, and the smooth pseudo-Huber loss stays bounded like Huber.",
            tuple(panels),
        )
    ]


def turning_share(losses: Array, first: Array) -> Array:
    """The share of steps at which the loss turns from falling to rising or from rising to falling.

    Args:
        losses: at consecutive steps, shape (steps, ...).
        first: the first losses, of the remaining shape; changes below `VANISHED` of them count as none.

    Returns:
        Shares between 0 (monotone) and 1 (a turn at every step).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.diff(losses, axis=0)
        signs = np.where(np.abs(change) > VANISHED * first, np.sign(change), 0.0)
        share: Array = (signs[1:] * signs[:-1] < 0).mean(axis=0)
    return share


_WINDOWS = ("early", "late")


def _column(record: Record, name: str, alpha: float) -> list[Any]:
    """A value at one step size, a seed each."""
    place = list(record.parameters["alphas"]).index(alpha)
    return [row[place] for row in record[name]]


def _is(record: Record, entries: str) -> bool:
    return bool(record.parameters["entries"] == entries)


def _setting(record: Record) -> str:
    return f"{record.parameters['entries']} data, {record.parameters['start']} start"


def _diverged_value(name: str, label: str, records: Sequence[Record], alphas: Sequence[float]) -> Value:
    """The share of runs that diverged, at those of the step sizes that each record has."""
    runs = [
        gone
        for record in records
        for alpha in alphas
        if alpha in record.parameters["alphas"]
        for gone in _column(record, "diverged", alpha)
    ]
    return proportion_value(name, label, sum(runs), len(runs))


def _above(records: Sequence[Record], name: str) -> tuple[list[Record], list[float]]:
    """The sweeps of a loss, and the step sizes that lie clearly above 2/L for all their seeds."""
    sweeps = find_parts(records, "sweep", loss=name)
    edge = extremes.largest(value for record in sweeps for value in record["edge"])
    return sweeps, [alpha for alpha in ALPHAS if alpha > 1.05 * edge]


def _successes(share: Value) -> int:
    return round(float(share.value or 0) * (share.count or 0))


def _frequency_value(sweeps: Sequence[Record], window: str, alpha: float) -> Value:
    samples = [share for record in sweeps for share in _column(record, f"{window}_frequency", alpha)]
    steps = f"first {EARLY} steps" if window == "early" else "last tenth of the run"
    return median_value(f"frequency_{window}_{alpha:g}", f"share of turns, α = {alpha:g}, {steps}", samples)


def _rises_throughout(record: Record, window: str) -> bool:
    """Whether the intervals of the frequency at 0.1, 1 and 10 lie strictly above one another."""
    values = [_frequency_value([record], window, alpha) for alpha in PAPER_ALPHAS]
    return all(
        lower.high is not None and upper.low is not None and lower.high < upper.low for lower, upper in pairwise(values)
    )


def _first_rise_value(record: Record) -> Value:
    risen = [value > 1 for value in _column(record, "relative_largest", 1.0)]
    name = f"first_rise_{record.parameters['entries']}_{record.parameters['start']}"
    return proportion_value(name, f"runs at α = 1 whose loss first rises: {_setting(record)}", sum(risen), len(risen))


def _onset_value(sweeps: Sequence[Record]) -> Value:
    """The smallest α of the sweep with late oscillations, in units of each seed's 2/L."""
    onsets = []
    for record in sweeps:
        alphas = record.parameters["alphas"]
        for edge, row in zip(record["edge"], record["late_frequency"], strict=True):
            oscillating = [alpha / edge for alpha, share in zip(alphas, row, strict=True) if share > 0]
            onsets.append(extremes.smallest(oscillating, default=float("inf")))
    return median_value("onset", "smallest α tried whose late loss oscillates, in units of 2/L", onsets)


def _amplitude_value(sweeps: Sequence[Record]) -> Value:
    """The exponent with which the late loss grows with α, from 1 on."""
    x, y = [], []
    for record in sweeps:
        for alpha in (a for a in record.parameters["alphas"] if a >= 1):
            reached = [value for value in _column(record, "late_largest", alpha) if 0 < value < np.inf]
            x += [float(np.log(alpha))] * len(reached)
            y += [float(np.log(value)) for value in reached]
    return slope_value("amplitude", "exponent of the largest late loss in α, from α = 1 on", x, y)


def _correction(
    frequency: Mapping[tuple[str, float], Value],
    onset: Value,
    amplitude: Value,
    rises: Mapping[bool, Sequence[str]],
    smooth_diverges: bool,
) -> str:
    late = [format_number(frequency["late", alpha].value) for alpha in PAPER_ALPHAS]
    early = [format_number(frequency["early", alpha].value) for alpha in PAPER_ALPHAS]
    text = (
        f"Huber regression does not diverge. Its late loss turns at a share of {late[0]}, {late[1]} and {late[2]} of "
        f"the steps at α = 0.1, 1 and 10 ({early[0]}, {early[1]} and {early[2]} of the first {EARLY}): the smallest "
        f"step size tried that oscillates is {format_number(onset.value)} times 2/L, and what grows with α beyond it "
        f"is the size of the loss, as α to the power {format_number(amplitude.value)}."
    )
    where = {key: "; ".join(names) for key, names in rises.items()}
    text += f" At α = 1 the loss first rises for: {where[True] or 'no start'}; not for: {where[False] or 'none'}."
    if not smooth_diverges:
        text += (
            " A bounded gradient is what keeps it from diverging: a smooth loss that has one does not diverge either."
        )
    return text
