"""Claim `subquadratic`: Huber grows quadratically at its minimum and still converges unstably (§4, Ma et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.find_parts import find_parts
from nonsmooth.claims.framework.statistics import median_value, proportion_value
from nonsmooth.claims.huber.huber_data import ENTRIES, draw_regression, draw_start, interpolant
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import State, Trace, loss
from nonsmooth.dynamics.thresholds import diverged, find_threshold, growth_exponent, top_direction
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Huber, Loss, Power, PseudoHuber, Regression

CLAIM = Claim(
    id="subquadratic",
    title="Quadratic growth at the minimum, unstable convergence all the same",
    where="§4, Subquadratic losses and unstable convergence",
    statement=(
        "Ma et al. (2022) explain the edge of stability by subquadratic growth of the loss around the minimum. Near "
        "its global minimum the Huber regression grows quadratically, and yet it shows unstable convergence."
    ),
    explanation="The Huber loss lacks the twice differentiability that the definition of Ma et al. requires.",
    control=(
        "The growth where the iterates move, and not at the minimum alone; and losses of the same data with other "
        "growth: quadratic everywhere, superquadratic, subquadratic from the minimum on, and the pseudo-Huber loss, "
        "which grows as Huber does and has derivatives of every order."
    ),
    paper=(Value("exponent_minimum", "growth exponent of Huber at its minimum", 2),),
    edition=(
        "February 2024 (arXiv 2401.08426, early version). Versions from November 2024 on turn the conclusion round: "
        'from the edge of stability being "inapplicable" to its "occurring in a broader class of functions"'
    ),
)

LOSSES: Mapping[str, Loss] = {
    "huber": Huber(),
    "pseudo-huber": PseudoHuber(),
    "power 3/2": Power(1.5),
    "squared": Power(2.0),
    "quartic": Power(4.0),
}
ALPHAS = (0.5, 0.75, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0)
PAPER_ALPHAS = (1.0, 10.0)
"""The two step sizes of Figure 3 above 2/L."""
DISTANCES = tuple(float(t) for t in np.geomspace(1e-3, 1e3, 31))
TOLERANCE = 0.05
"""How far an exponent may lie from 2 and still count as quadratic."""
CONVERGED = 1e-6
LATE = 100


def plan(settings: Settings) -> list[Cell]:
    """Each loss on both kinds of data, all step sizes and seeds in one cell."""
    seeds = settings.seed_range({"quick": 8, "standard": 64, "paper": 64}[settings.scale])
    steps = {"quick": 1_000, "standard": 10_000, "paper": 10_000}[settings.scale]
    cells = []
    for name in LOSSES:
        for entries in ENTRIES:
            parameters: dict[str, Any] = {"part": "growth", "loss": name, "entries": entries, "steps": steps}
            parameters |= {"alphas": ALPHAS, "seeds": len(seeds)}
            cells.append(Cell("subquadratic", parameters, seeds[0], cost=8e-5 * len(seeds) * steps))
    return cells


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Growth exponents along the top direction and on the orbit: rows are seeds, columns distances or step sizes."""
    parameters: Mapping[str, Any] = cell.parameters
    seeds, steps, alphas = parameters["seeds"], parameters["steps"], parameters["alphas"]
    problem = draw_regression(parameters["entries"], cell.seed, seeds, LOSSES[parameters["loss"]])
    smoothness = draw_regression(parameters["entries"], cell.seed, seeds).gradient_lipschitz
    minimiser, direction = interpolant(problem), top_direction(problem)
    step_size = torch.tensor([alphas], dtype=torch.float64)
    start = draw_start("uniform", cell.seed, seeds).expand(-1, len(alphas), -1).contiguous()

    def exponent(state: State) -> Tensor:
        # To the nearest minimiser, or to any other: the residuals along the ray are the same.
        inner: Tensor = (state.evaluation.subgradient * (state.point - minimiser)).sum(-1)
        return inner / state.evaluation.value

    def amplitude(state: State) -> Tensor:
        along: Tensor = ((state.point - minimiser) * direction).sum(-1)
        return along.abs()

    late = range(steps - LATE + 1, steps + 1)
    record = {
        "loss": Trace(loss, range(steps + 1)),
        "exponent": Trace(exponent, late),
        "amplitude": Trace(amplitude, late),
    }
    # One block, since the quantities above hold the data of all instances.
    run = iterate(problem, start, Constant(step_size), steps, record, block=seeds, progress=context.progress)
    gone = torch.from_numpy(diverged(run["loss"].numpy()))
    converged = run["loss"][-LATE:].amax(0) < CONVERGED * run["loss"][0]
    moving = ~gone & ~converged
    visited = run["amplitude"].median(0).values
    distances = torch.tensor(DISTANCES, dtype=torch.float64).view(1, -1, 1)
    return {
        "edge": [] if smoothness is None else (2 / smoothness)[:, 0].tolist(),
        "diverged": gone.tolist(),
        "moving": moving.tolist(),
        "orbit_exponent": _where(moving, run["exponent"].median(0).values).tolist(),
        "orbit_exponent_largest": _where(moving, run["exponent"].amax(0)).tolist(),
        "top_exponent": _where(
            moving, growth_exponent(problem, minimiser + visited.unsqueeze(-1) * direction, minimiser)
        ).tolist(),
        "amplitude": _where(moving, visited).tolist(),
        "amplitude_predicted": _two_cycle_amplitude(
            problem, minimiser, direction, step_size.expand(seeds, -1)
        ).tolist(),
        "distance": list(DISTANCES),
        "exponent": growth_exponent(problem, minimiser + distances * direction, minimiser).tolist(),
    }


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if Huber grows quadratically where the iterates move, and a smooth loss does not do the same.

    A run *converges unstably* if its loss neither diverges (the last tenth's largest not finite, or above ten times the
    first hundredth's) nor falls below 1e-6 of the first. The growth exponent d log(f - f*)/d log t is computed exactly,
    at the minimum along the top eigenvector, and at the points that late iterates visit, along the ray from the
    minimisers. It is *quadratic* if its interval lies within 0.05 of 2, *subquadratic* if it lies below that.

    - Huber's exponent at the minimum is not quadratic, or not all its runs at α = 1 and 10 converge unstably: *not
      reproduced*.
    - The squared loss does not diverge there: *inconclusive*.
    - Huber is not subquadratic on its orbits at α = 1 and 10, and not all of the pseudo-Huber runs converge unstably:
      *reproduced*.
    - Huber is subquadratic on them, and all of the pseudo-Huber runs, quadratic at the minimum too, converge unstably:
      *reproduced, explanation not supported*.
    - Only one of the last two holds: *reproduced with a correction*.
    """
    minimum = {name: _minimum_value(records, name) for name in LOSSES}
    unstable = {name: _unstable_value(records, name) for name in LOSSES}
    orbit = _orbit_values(records, "huber")
    smooth_orbit = _orbit_values(records, "pseudo-huber")
    gone = {name: _diverged_value(records, name) for name in ("squared", "quartic")}
    subquadratic = all(value.high is not None and value.high < 2 - TOLERANCE for value in orbit)
    twin = _is_quadratic(minimum["pseudo-huber"]) and unstable["pseudo-huber"].value == 1
    if not _is_quadratic(minimum["huber"]) or unstable["huber"].value != 1:
        verdict = Verdict.NOT_REPRODUCED
    elif not gone["squared"].value:
        verdict = Verdict.INCONCLUSIVE
    elif subquadratic and twin:
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED
    elif subquadratic or twin:
        verdict = Verdict.WITH_CORRECTION
    else:
        verdict = Verdict.REPRODUCED
    shown, smooth_shown = (" and ".join(map(str, values[: len(PAPER_ALPHAS)])) for values in (orbit, smooth_orbit))
    correction = f"Huber's growth exponent is {minimum['huber']} at the minimum and {shown} where the iterates move. "
    correction += (
        "That is subquadratic growth, as Ma et al. say, and no counterexample to them."
        if subquadratic
        else "The counterexample stands, but a smooth loss gives it as well: the second derivative is not the reason."
    )
    return Judgement(
        verdict,
        f"Huber's growth exponent is {minimum['huber']} at the minimum and {shown} at the points that the iterates "
        f"visit at α = 1 and 10 (uniform data). The C^∞ pseudo-Huber loss has {minimum['pseudo-huber']} at the minimum "
        f"and {smooth_shown} on its orbits; {_count(unstable['pseudo-huber'])} of {unstable['pseudo-huber'].count} of "
        "its runs converge unstably.",
        Headline(
            "exponent 2, unstable all the same",
            f"{format_number(minimum['huber'].value)} at the minimum, {_brief(orbit)} on the orbits",
            f"pseudo-Huber: {_brief(smooth_orbit)}; squared: {_count(gone['squared'])} of {gone['squared'].count} "
            "diverge",
        ),
        (minimum["huber"], unstable["huber"], *orbit, *_top_values(records), _amplitude_value(records, "huber")),
        (
            *(minimum[name] for name in LOSSES if name != "huber"),
            *(unstable[name] for name in LOSSES if name != "huber"),
            *smooth_orbit,
            *gone.values(),
            _amplitude_value(records, "pseudo-huber"),
        ),
        predicted=(
            Value("quadratic", "exponent of quadratic growth", 2),
            Value("linear", "exponent of a loss of bounded slope, far from the minimum", 1),
        ),
        correction=correction if verdict is Verdict.WITH_CORRECTION else None,
        decided_by=(
            "longer runs, until the squared loss above 2/L is seen to diverge"
            if verdict is Verdict.INCONCLUSIVE
            else None
        ),
        notes=(
            "Growth at the minimum decides whether a run leaves it (it does above 2/L); growth farther out decides "
            "whether it goes on leaving. Huber is quadratic up to residuals of 1 and linear beyond.",
            "The predicted amplitude is that of the two-cycle along the top eigenvector, where the slope at t is 2t/α: "
            "it needs nothing but the growth of the loss, with or without a second derivative.",
            'The paper\'s remark that L-smooth functions "are twice differentiable by definition" does not fit its eq. '
            "(5), which asks for a Lipschitz gradient: Huber has one and is not twice differentiable.",
        ),
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """Growth against the distance from the minimum, growth on the orbit against α, and amplitudes."""
    tones = {"huber": "ours", "pseudo-huber": "b", "power 3/2": "c", "squared": "control", "quartic": "d"}
    growth, orbit, amplitude = [], [], []
    edge = None
    for name, tone in tones.items():
        for record in find_parts(records, "growth", loss=name, entries="uniform"):
            along = np.median(np.asarray(record["exponent"]), axis=0).tolist()
            growth.append(Series("line", name, record["distance"], along, tone=tone))
            edge = Series("vertical", "2/L", x=(float(np.median(record["edge"])),), tone="theory", dashed=True)
            if not np.any(record["moving"]):
                continue
            alphas = record.parameters["alphas"]
            orbit.append(Series("line", name, alphas, _medians(record, "orbit_exponent"), tone=tone))
            amplitude.append(Series("points", name, alphas, _medians(record, "amplitude"), tone=tone))
            predicted = [
                value if moves is not None else None
                for value, moves in zip(
                    _medians(record, "amplitude_predicted"), _medians(record, "amplitude"), strict=True
                )
            ]
            amplitude.append(Series("line", f"{name}, predicted", alphas, predicted, tone=tone, dashed=True))
    step_size = Axis("step size α", log=True)
    quadratic = Series("horizontal", "quadratic", y=(2.0,), tone="theory", dashed=True)
    rule = () if edge is None else (edge,)
    return [
        Figure(
            "Growth of the loss at the minimum, and where the iterates move",
            "Left: the growth exponent at distance t from a minimiser along the top eigenvector: Huber and its smooth "
            "twin are quadratic near it and linear far from it. Middle: the exponent at the points that late iterates "
            "visit (losses that diverge or converge have none). Right: how far the iterates are from the minimisers "
            "along the top eigenvector, and the two-cycle that the growth alone predicts. Medians over seeds.",
            (
                Panel(
                    "growth along the top eigenvector",
                    Axis("distance t", log=True),
                    Axis("exponent d log f / d log t"),
                    tuple(growth),
                ),
                Panel("growth on the orbit", step_size, Axis("exponent"), (*orbit, quadratic, *rule)),
                Panel("amplitude", step_size, Axis("distance along the top eigenvector", log=True), tuple(amplitude)),
            ),
        )
    ]


def _where(chosen: Tensor, values: Tensor) -> Tensor:
    """The values, not-a-number where there is nothing to measure."""
    return torch.where(chosen, values, torch.nan)


def _two_cycle_amplitude(problem: Regression, minimiser: Tensor, direction: Tensor, step_size: Tensor) -> Tensor:
    """The t at which one step leads from x* + t·v to x* - t·v along v, if the loss were even: ⟨∇f, v⟩ = 2t/α."""

    def overshoots(distance: Tensor) -> Tensor:
        gradient = problem.subgradient(minimiser + distance.unsqueeze(-1) * direction)
        return step_size * (gradient * direction).sum(-1) > 2 * distance

    return find_threshold(overshoots, torch.full_like(step_size, 1e-6), torch.full_like(step_size, 1e6)).estimate


def _column(record: Record, name: str, alpha: float) -> list[Any]:
    """A value at one step size, a seed each."""
    place = list(record.parameters["alphas"]).index(alpha)
    return [row[place] for row in record[name]]


def _medians(record: Record, name: str) -> list[float | None]:
    """The median over seeds at each step size; None where a seed has none."""
    medians = np.median(np.asarray(record[name], dtype=float), axis=0)
    return [float(value) if np.isfinite(value) and value > 0 else None for value in medians]


def _minimum_value(records: Sequence[Record], name: str) -> Value:
    """The exponent at the smallest distance."""
    samples = [row[0] for record in find_parts(records, "growth", loss=name) for row in record["exponent"]]
    return median_value(f"minimum_{_word(name)}", f"growth exponent at the minimum, {name}", samples)


def _is_quadratic(value: Value) -> bool:
    if value.low is None or value.high is None:
        return False
    return value.low >= 2 - TOLERANCE and value.high <= 2 + TOLERANCE


def _unstable_value(records: Sequence[Record], name: str) -> Value:
    runs = [
        moving
        for record in find_parts(records, "growth", loss=name)
        for alpha in PAPER_ALPHAS
        for moving in _column(record, "moving", alpha)
    ]
    label = f"runs at α = 1 and 10 that neither converge nor diverge, {name}"
    return proportion_value(f"unstable_{_word(name)}", label, sum(runs), len(runs))


def _diverged_value(records: Sequence[Record], name: str) -> Value:
    runs = [
        gone
        for record in find_parts(records, "growth", loss=name)
        for alpha in PAPER_ALPHAS
        for gone in _column(record, "diverged", alpha)
    ]
    return proportion_value(
        f"diverged_{_word(name)}", f"runs at α = 1 and 10 that diverge, {name}", sum(runs), len(runs)
    )


def _orbit_values(records: Sequence[Record], name: str) -> list[Value]:
    """The exponent at late iterates, for each kind of data and α; each seed's median over its late steps."""
    values = []
    for entries in ENTRIES:
        found = find_parts(records, "growth", loss=name, entries=entries)
        for alpha in PAPER_ALPHAS:
            samples = [value for r in found for value in _column(r, "orbit_exponent", alpha) if np.isfinite(value)]
            key = f"orbit_{_word(name)}_{entries}_{alpha:g}"
            label = f"growth exponent on the orbit, α = {alpha:g}, {name}, {entries} data"
            values.append(median_value(key, label, samples) if samples else Value(key, label, None, count=0))
    return values


def _brief(values: Sequence[Value]) -> str:
    """The first values, those of uniform data, without their intervals."""
    return " and ".join(format_number(value.value) for value in values[: len(PAPER_ALPHAS)])


def _top_values(records: Sequence[Record]) -> list[Value]:
    """The exponent along the top eigenvector, as far out as the iterates are."""
    values = []
    for alpha in PAPER_ALPHAS:
        found = find_parts(records, "growth", loss="huber")
        samples = [value for r in found for value in _column(r, "top_exponent", alpha) if np.isfinite(value)]
        if samples:
            label = f"growth exponent along the top eigenvector at the distance visited, α = {alpha:g}, huber"
            values.append(median_value(f"top_{alpha:g}", label, samples))
    return values


def _amplitude_value(records: Sequence[Record], name: str) -> Value:
    """Measured over predicted amplitude, over the seeds and step sizes from 2/L to twice that."""
    ratios = []
    for record in find_parts(records, "growth", loss=name):
        rows = zip(record["edge"], record["amplitude"], record["amplitude_predicted"], strict=True)
        for edge, amplitudes, predictions in rows:
            for alpha, seen, predicted in zip(record.parameters["alphas"], amplitudes, predictions, strict=True):
                if edge < alpha < 2 * edge and np.isfinite(seen):
                    ratios.append(seen / predicted)
    label = f"amplitude over that of the predicted two-cycle, α between 2/L and 4/L, {name}"
    key = f"amplitude_{_word(name)}"
    return median_value(key, label, ratios) if ratios else Value(key, label, None, count=0)


def _word(name: str) -> str:
    return name.replace("-", "_").replace(" ", "_").replace("/", "_")


def _count(share: Value) -> int:
    return round(float(share.value or 0) * (share.count or 0))
