"""Huber regression as a counter-example to Ma et al. (2022): quadratic at its minimum, unstable all the same (§4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

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
from nonsmooth.claims.huber import huber_runs
from nonsmooth.claims.huber.huber_data import (
    EDITION,
    ENTRIES,
    TONES,
)
from nonsmooth.lab import Cell

NAMES = ("huber", "pseudo-huber", "power 3/2", "squared", "quartic")
ALPHAS = (0.5, 0.75, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0)
READINGS = {
    "median of the late iterates": "orbit_exponent",
    "largest of the late iterates": "orbit_exponent_largest",
    "along the top eigenvector, as far out": "top_exponent",
}

STEP_SIZES = Choice(
    "alphas",
    (1.0, 10.0),
    ((0.75,), (0.8,), (1.5, 2.0, 5.0), (30.0,)),
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
REGION = Choice(
    "region",
    "as far out as the iterates go",
    ("at the minimum alone",),
    "region over which growth is read",
    "Ma et al. speak of a region beyond the reach of the quadratic approximation.",
    "where growth is read as far out as the iterates go, as Ma et al. read it",
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
    plain="The Huber loss grows quadratically at its minimum and swings all the same, against a published theory.",
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
    choices=(STEP_SIZES, QUADRATIC, READ, REGION, MOST),
    afterthoughts=(
        Afterthought(
            "the claim is stated as the paper's contribution, a counter-example",
            "2026-11",
            "It was stated as its two premises (quadratic at the minimum, unstable), which hold.",
            "“reproduced, explanation not supported” became “not reproduced”; no number changed.",
        ),
        Afterthought(
            "growth at the minimum alone is an alternative, and so is α = 0.75, just above 2/L",
            "2026-11",
            "It is how the paper reads the growth; it stood in a note, and no alternative was judged by it.",
            "The verdict is said to hold where growth is read where the iterates go.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Each loss on both kinds of data, all step sizes and seeds in one cell."""
    seeds, steps = scale.seeds(8, 64), scale(1_000, 10_000)
    for name in NAMES:
        for entries in ENTRIES:
            cost = 3.5e-5 * len(seeds) * steps
            yield growth.cell(loss=name, entries=entries, steps=steps, alphas=ALPHAS, seeds=seeds, cost=cost)


OF_SEEDS = ("edge", "diverged", "moving", *READINGS.values(), "amplitude", "amplitude_predicted", "exponent")
growth = study.experiment(part="growth", seed_axes=dict.fromkeys(OF_SEEDS, 0))(huber_runs.growth)


def _at(runs: Runs, value: str, alphas: Sequence[float]) -> np.ndarray:
    """A value of all seeds at these step sizes, shape (step sizes × seeds of all records,)."""
    columns = [
        [row[list(record.parameters["alphas"]).index(alpha)] for row in record[value]]
        for record in runs
        for alpha in alphas
    ]
    return np.array([item for column in columns for item in column], dtype=float)


def _word(name: str) -> str:
    """A loss's name within an identifier."""
    return name.replace("-", "_").replace(" ", "_").replace("/", "_")


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Exponents at the minimum and on the orbit, and what becomes of the runs, for each loss."""
    runs, papers = {name: evidence[growth].some(loss=name) for name in NAMES}, STEP_SIZES.value

    def minimum(name: str) -> Finding:
        quantity = Quantity(f"minimum_{_word(name)}", f"growth exponent at the minimum, {name}")
        return quantity.median([row[0] for row in runs[name].joined("exponent")])

    def unstable(name: str) -> Finding:
        label = f"runs at α = 1 and 10 that neither converge nor diverge, {name}"
        return Quantity(f"unstable_{_word(name)}", label).share_of(_at(runs[name], "moving", papers))

    def gone(name: str) -> Finding:
        quantity = Quantity(f"diverged_{_word(name)}", f"runs at α = 1 and 10 that diverge, {name}")
        return quantity.share_of(_at(runs[name], "diverged", papers))

    largest: Finding = ORBIT.missing()
    read = [
        [row[0] for row in of.joined("exponent")]
        if choices.region != REGION.value
        else _finite(_at(of, READINGS[choices.read], (alpha,)))
        for of in runs["huber"].by("entries").values()
        for alpha in choices.alphas
    ]
    orbits = [one for values in read if isinstance(one := ORBIT.median(values), Estimate)]
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
            minimum("huber"),
            unstable("huber"),
            *_orbits(runs["huber"], "huber"),
            *top,
            _amplitude(runs["huber"], "huber"),
        ),
        (
            *map(minimum, NAMES[1:]),
            *map(unstable, NAMES[1:]),
            *_orbits(runs["pseudo-huber"], "pseudo-huber"),
            *map(gone, ("squared", "quartic")),
            _amplitude(runs["pseudo-huber"], "pseudo-huber"),
        ),
        (
            Value("quadratic", "exponent of quadratic growth", 2),
            Value("linear", "exponent of a loss of bounded slope, far from the minimum", 1),
        ),
        derived=(
            largest,
            UNSTABLE.share_of(_at(runs["huber"], "moving", choices.alphas)),
            TWIN_UNSTABLE.share_of(_at(runs["pseudo-huber"], "moving", choices.alphas)),
            CONTROL.share_of(_at(runs["squared"], "diverged", choices.alphas)),
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
            f"orbit_{_word(name)}_{entries}_{alpha:g}",
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
    return Quantity(f"amplitude_{_word(name)}", label).median(ratios)


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
