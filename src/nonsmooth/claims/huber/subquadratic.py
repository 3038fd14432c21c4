"""Huber regression as a counter-example to Ma et al. (2022): quadratic at its minimum, unstable all the same (§4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    Estimate,
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
    above,
    below,
    within,
)
from nonsmooth.claims.huber.huber_data import (
    EDITION,
    ENTRIES,
    LOSSES,
    TONES,
    curvature_of,
    draw_regression,
    draw_start,
    interpolant,
)
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import State, Trace
from nonsmooth.dynamics.recording import loss as loss_value
from nonsmooth.dynamics.thresholds import diverged, find_threshold, growth_exponent, top_direction
from nonsmooth.lab import Cell
from nonsmooth.problems import Regression

NAMES = ("huber", "pseudo-huber", "power 3/2", "squared", "quartic")
ALPHAS = (0.5, 0.75, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0)
DISTANCES = tuple(float(t) for t in np.geomspace(1e-3, 1e3, 31))
CONVERGED = 1e-6
LATE = 100
READINGS = {
    "median of the late iterates": "orbit_exponent",
    "largest of the late iterates": "orbit_exponent_largest",
    "along the top eigenvector, as far out": "top_exponent",
}

STEP_SIZES = Choice(
    "alphas",
    (1.0, 10.0),
    ((0.8,), (1.5, 2.0, 5.0), (30.0,)),
    "step sizes α",
    "The two of Figure 3 above 2/L.",
)
QUADRATIC = Choice(
    "quadratic",
    1.95,
    (1.9, 1.99),
    "exponent from which growth counts as quadratic",
    "The exponent is computed exactly, so that the distance from 2 is a matter of words.",
)
READ = Choice(
    "read",
    "median of the late iterates",
    tuple(READINGS)[1:],
    "where growth is read",
    "Where the run is when it neither converges nor diverges.",
)
MOST = Choice("most", 0.5, (0.75,), "share of the runs that counts as most", "The shares found are 0 or 1.")

MINIMUM = Quantity("minimum_huber", "growth exponent at the minimum, huber")
TWIN_MINIMUM = Quantity("minimum_pseudo_huber", "growth exponent at the minimum, pseudo-huber")
UNSTABLE = Quantity("unstable", "Huber runs that neither converge nor diverge")
TWIN_UNSTABLE = Quantity("twin_unstable", "pseudo-Huber runs that neither converge nor diverge")
CONTROL = Quantity("control_diverges", "squared-loss runs that diverge")
ORBIT = Quantity("orbit", "growth exponent where Huber's iterates move, the largest of all data and step sizes")

CLAIM = Claim(
    id="subquadratic",
    title="A counter-example to subquadratic growth",
    where="contributions; §4, Subquadratic losses and unstable convergence",
    statement=(
        "The Huber regression is a counter-example to the claim of Ma et al. (2022) that subquadratic behaviour around "
        "the minimum is responsible for the edge of stability: within the vicinity of its global minimum it grows "
        "quadratically, and yet it shows unstable convergence."
    ),
    explanation="The Huber loss lacks the twice differentiability that the definition of Ma et al. requires.",
    control=(
        "The growth where the iterates move, and not at the minimum alone; and losses of the same data with other "
        "growth: quadratic everywhere, superquadratic, subquadratic from the minimum on, and the pseudo-Huber loss, "
        "which grows as Huber does and has derivatives of every order."
    ),
    paper=(Value("exponent_minimum", "growth exponent of Huber at its minimum", 2),),
    edition=EDITION,
)

RULE = Rule(
    Row(
        ~within(MINIMUM, QUADRATIC, 2.05),
        Outcome(Verdict.NOT_REPRODUCED, "not quadratic at the minimum"),
    ),
    Row(below(UNSTABLE, MOST), Outcome(Verdict.NOT_REPRODUCED, "no unstable convergence")),
    Row(
        ~above(CONTROL, MOST),
        Outcome(
            Verdict.INCONCLUSIVE,
            "the control does not diverge",
            decided_by="longer runs, until the squared loss above 2/L is seen to diverge",
        ),
    ),
    Row(
        below(ORBIT, QUADRATIC),
        Outcome(
            Verdict.NOT_REPRODUCED,
            "no counter-example: it grows subquadratically",
            "That is subquadratic growth in a neighbourhood of the minimum, beyond the reach of the quadratic "
            "approximation, as Ma et al. describe it. The premises hold, the counter-example does not. The squared "
            "loss, quadratic everywhere, diverges in {control_diverges:.0%} of the runs.",
        ),
    ),
    Row(
        above(TWIN_UNSTABLE, MOST) & within(TWIN_MINIMUM, QUADRATIC, 2.05),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "a smooth loss does it",
            "The C^∞ pseudo-Huber loss is quadratic at its minimum and converges unstably as well.",
        ),
    ),
    otherwise=Outcome(Verdict.REPRODUCED, "a counter-example"),
    always="Huber's growth exponent is {minimum_huber} at the minimum and at most {orbit} where the iterates move; "
    "{unstable.hits} of {unstable.count} runs neither converge nor diverge. Of the C^∞ pseudo-Huber loss, which "
    "has {minimum_pseudo_huber} at the minimum, {twin_unstable.hits} of {twin_unstable.count} do the same.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="exponent 2, unstable all the same: a counter-example",
        ours="{minimum_huber:v} at the minimum, at most {orbit:v} where it moves",
        control="pseudo-Huber: unstable in {twin_unstable:.0%}; squared: {control_diverges:.0%} diverge",
    ),
    choices=(STEP_SIZES, QUADRATIC, READ, MOST),
    afterthoughts=(
        Afterthought(
            "the claim is stated as the paper's contribution, a counter-example",
            "2026-11",
            "It was stated as its two premises (quadratic at the minimum, unstable), which hold.",
            "“reproduced, explanation not supported” became “not reproduced”; no number changed.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Each loss on both kinds of data, all step sizes and seeds in one cell."""
    seeds, steps = scale.seeds(8, 64), scale(1_000, 10_000)
    for name in NAMES:
        for entries in ENTRIES:
            cost = 8e-5 * len(seeds) * steps
            yield growth.cell(loss=name, entries=entries, steps=steps, alphas=ALPHAS, seeds=seeds, cost=cost)


@study.experiment(
    part="growth",
    seed_axes=dict.fromkeys(
        ("edge", "diverged", "moving", *READINGS.values(), "amplitude", "amplitude_predicted", "exponent"), 0
    ),
)
def growth(run: Run, *, loss: str, entries: str, steps: int, alphas: Sequence[float], seeds: int) -> Mapping[str, Any]:
    """Growth exponents along the top direction and on the orbit: rows are seeds, columns distances or step sizes."""
    problem = draw_regression(entries, run.seed, seeds, LOSSES[loss])
    minimiser, direction = interpolant(problem), top_direction(problem)
    step_size = torch.tensor([alphas], dtype=torch.float64)
    start = draw_start("uniform", run.seed, seeds).expand(-1, len(alphas), -1).contiguous()

    def exponent(state: State) -> Tensor:
        # To the nearest minimiser, or to any other: the residuals along the ray are the same.
        inner: Tensor = (state.evaluation.subgradient * (state.point - minimiser)).sum(-1)
        return inner / state.evaluation.value

    def amplitude(state: State) -> Tensor:
        along: Tensor = ((state.point - minimiser) * direction).sum(-1)
        return along.abs()

    late = range(steps - LATE + 1, steps + 1)
    record = {
        "loss": Trace(loss_value, range(steps + 1)),
        "exponent": Trace(exponent, late),
        "amplitude": Trace(amplitude, late),
    }
    # One block, since the quantities above hold the data of all instances.
    found = iterate(problem, start, Constant(step_size), steps, record, block=seeds, progress=run.context.progress)
    gone = torch.from_numpy(diverged(found["loss"].numpy()))
    moving = ~gone & (found["loss"][-LATE:].amax(0) >= CONVERGED * found["loss"][0])
    visited = found["amplitude"].median(0).values
    distances = torch.tensor(DISTANCES, dtype=torch.float64).view(1, -1, 1)

    def where_moving(values: Tensor) -> list[Any]:
        kept: list[Any] = torch.where(moving, values, torch.nan).tolist()
        return kept

    return {
        "edge": (2 / curvature_of(entries, run.seed, seeds))[:, 0].tolist(),
        "diverged": gone.tolist(),
        "moving": moving.tolist(),
        "orbit_exponent": where_moving(found["exponent"].median(0).values),
        "orbit_exponent_largest": where_moving(found["exponent"].amax(0)),
        "top_exponent": where_moving(
            growth_exponent(problem, minimiser + visited.unsqueeze(-1) * direction, minimiser)
        ),
        "amplitude": where_moving(visited),
        "amplitude_predicted": two_cycle_amplitude(problem, minimiser, direction, step_size.expand(seeds, -1)).tolist(),
        "distance": list(DISTANCES),
        "exponent": growth_exponent(problem, minimiser + distances * direction, minimiser).tolist(),
    }


def two_cycle_amplitude(problem: Regression, minimiser: Tensor, direction: Tensor, step_size: Tensor) -> Tensor:
    """The t at which one step leads from x* + t·v to x* - t·v along v, if the loss were even: ⟨∇f, v⟩ = 2t/α."""

    def overshoots(distance: Tensor) -> Tensor:
        gradient = problem.subgradient(minimiser + distance.unsqueeze(-1) * direction)
        return step_size * (gradient * direction).sum(-1) > 2 * distance

    return find_threshold(overshoots, torch.full_like(step_size, 1e-6), torch.full_like(step_size, 1e6)).estimate


def _at(runs: Runs, value: str, alphas: Sequence[float]) -> np.ndarray:
    """A value of all seeds at these step sizes, shape (step sizes × seeds of all records,)."""
    columns = [
        [row[list(record.parameters["alphas"]).index(alpha)] for row in record[value]]
        for record in runs
        for alpha in alphas
    ]
    return np.array([item for column in columns for item in column], dtype=float)


def _share(quantity: Quantity, runs: Runs, value: str, alphas: Sequence[float]) -> Finding:
    found = _at(runs, value, alphas)
    return quantity.share(int((found == 1).sum()), len(found))


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Exponents at the minimum and on the orbit, and what becomes of the runs, for each loss."""
    runs, papers = evidence[growth].by("loss"), STEP_SIZES.value
    words = {name: name.replace("-", "_").replace(" ", "_").replace("/", "_") for name in runs}
    labels = {
        "minimum": "growth exponent at the minimum",
        "moving": "runs at α = 1 and 10 that neither converge nor diverge",
        "diverged": "runs at α = 1 and 10 that diverge",
    }
    keys = {"minimum": "minimum", "moving": "unstable", "diverged": "diverged"}

    def of_each(value: str, names: Sequence[str]) -> list[Finding]:
        quantities = [Quantity(f"{keys[value]}_{words[name]}", f"{labels[value]}, {name}") for name in names]
        if value == "minimum":
            pairs = zip(quantities, names, strict=True)
            return [one.median([row[0] for row in runs[name].joined("exponent")]) for one, name in pairs]
        return [_share(one, runs[name], value, papers) for one, name in zip(quantities, names, strict=True)]

    largest: Finding = ORBIT.missing()
    orbits = [
        one
        for of in runs["huber"].by("entries").values()
        for alpha in choices.alphas
        if isinstance(one := ORBIT.median(_finite(_at(of, READINGS[choices.read], (alpha,)))), Estimate)
    ]
    if orbits:
        largest = extremes.largest(orbits, key=lambda one: one.upper)
    top = [
        Quantity(
            f"top_{alpha:g}", f"growth exponent along the top eigenvector at the distance visited, α = {alpha:g}, huber"
        ).median(_finite(_at(runs["huber"], "top_exponent", (alpha,))))
        for alpha in papers
    ]
    return Findings(
        (
            *of_each("minimum", NAMES[:1]),
            *of_each("moving", NAMES[:1]),
            *_orbits(runs["huber"], "huber"),
            *top,
            _amplitude(runs["huber"], "huber"),
        ),
        (
            *of_each("minimum", NAMES[1:]),
            *of_each("moving", NAMES[1:]),
            *_orbits(runs["pseudo-huber"], "pseudo-huber"),
            *of_each("diverged", ("squared", "quartic")),
            _amplitude(runs["pseudo-huber"], "pseudo-huber"),
        ),
        (
            Value("quadratic", "exponent of quadratic growth", 2),
            Value("linear", "exponent of a loss of bounded slope, far from the minimum", 1),
        ),
        derived=(
            largest,
            _share(UNSTABLE, runs["huber"], "moving", choices.alphas),
            _share(TWIN_UNSTABLE, runs["pseudo-huber"], "moving", choices.alphas),
            _share(CONTROL, runs["squared"], "diverged", choices.alphas),
        ),
        notes=(
            "Ma et al. say of networks that the quadratic approximation “usually holds in a very small neighborhood”, "
            "and that the loss grows subquadratically “in a region beyond the reach” of it (abstract, 2022): Huber, "
            "quadratic up to residuals of 1 and linear beyond, is of that kind.",
            "Growth at the minimum decides whether a run leaves it (it does above 2/L); growth farther out decides "
            "whether it goes on leaving. If growth is read at the minimum alone, the counter-example stands, but then "
            "the C^∞ pseudo-Huber loss is one too.",
            "The predicted amplitude is that of the two-cycle along the top eigenvector, where the slope at t is 2t/α: "
            "it needs nothing but the growth of the loss, with or without a second derivative.",
            'The paper\'s remark that L-smooth functions "are twice differentiable by definition" does not fit its eq. '
            "(5), which asks for a Lipschitz gradient: Huber has one and is not twice differentiable.",
        ),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    """Without those of runs that do not move."""
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def _orbits(runs: Runs, name: str) -> list[Finding]:
    """The exponent at late iterates, for each kind of data and α of the paper; each seed's median over late steps."""
    return [
        Quantity(
            f"orbit_{name.replace('-', '_')}_{entries}_{alpha:g}",
            f"growth exponent on the orbit, α = {alpha:g}, {name}, {entries} data",
        ).median(_finite(_at(runs.where(entries=entries), "orbit_exponent", (alpha,))))
        for entries in ENTRIES
        for alpha in STEP_SIZES.value
    ]


def _amplitude(runs: Runs, name: str) -> Finding:
    """Measured over predicted amplitude, over the seeds and step sizes from 2/L to twice that."""
    ratios: list[float] = []
    for record in runs:
        edge, alphas = np.array(record["edge"])[:, None], np.array(record.parameters["alphas"])
        ratio = np.array(record["amplitude"], dtype=float) / np.array(record["amplitude_predicted"])
        ratios += ratio[(edge < alphas) & (alphas < 2 * edge) & np.isfinite(ratio)].tolist()
    label = f"amplitude over that of the predicted two-cycle, α between 2/L and 4/L, {name}"
    return Quantity(f"amplitude_{name.replace('-', '_')}", label).median(ratios)


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Growth against the distance from the minimum, growth on the orbit against α, and amplitudes."""
    del found
    along, orbit, amplitude = [], [], []
    records = evidence[growth].where(entries="uniform")
    for record in records:
        name, alphas = record.parameters["loss"], record.parameters["alphas"]
        tone = TONES[name]
        along.append(Series("line", name, record["distance"], np.median(record["exponent"], axis=0), tone=tone))
        if not np.any(record["moving"]):
            continue
        middle = {
            key: np.median(np.array(record[key], dtype=float), axis=0)
            for key in ("orbit_exponent", "amplitude", "amplitude_predicted")
        }
        middle["amplitude_predicted"][np.isnan(middle["amplitude"])] = np.nan
        orbit.append(Series("line", name, alphas, middle["orbit_exponent"], tone=tone))
        amplitude.append(Series("points", name, alphas, middle["amplitude"], tone=tone))
        predicted = middle["amplitude_predicted"]
        amplitude.append(Series("line", f"{name}, predicted", alphas, predicted, tone=tone, dashed=True))
    edge = Series("vertical", "2/L", x=(float(np.median(records[0]["edge"])),), tone="theory", dashed=True)
    quadratic, step_size = Series("horizontal", "quadratic", y=(2.0,), tone="theory"), Axis("step size α", log=True)
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
                    tuple(along),
                ),
                Panel("growth on the orbit", step_size, Axis("exponent"), (*orbit, quadratic, edge)),
                Panel("amplitude", step_size, Axis("distance along the top eigenvector", log=True), tuple(amplitude)),
            ),
        )
    ]
