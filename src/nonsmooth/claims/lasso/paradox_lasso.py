"""Claim `paradox-lasso`: on the LASSO problem of eq. (11) a larger penalty ends with a larger L1 norm (§3).

Parts of the experiment, each with pairs of step size α and strength λ on the same draws of W, y and β₀:
- "subgradient": NGDM, the paper's recursion; on the paper's data, on data with a signal, and on that signal permuted.
- "proximal": proximal gradient with the same α, λ and β₀.
- "exact": the certified solutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from nonsmooth import extremes
from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Settings, Value, Verdict, format_number
from nonsmooth.claims.framework.figure import Axis, Figure, Panel, Series
from nonsmooth.claims.framework.statistics import CONFIDENCE, median_value, proportion_value
from nonsmooth.claims.lasso.lasso_data import FEATURES, RESPONSES, draw_lasso
from nonsmooth.dynamics import Constant, iterate, subgradient_step
from nonsmooth.dynamics.optimised import Optimised
from nonsmooth.dynamics.recording import Trace, norm
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1
from nonsmooth.problems import lasso
from nonsmooth.problems.lasso_reference import largest_useful_strength, lasso_reference

PAPER_SMALL, PAPER_LARGE = 1.62, 25.4
CLAIM = Claim(
    id="paradox-lasso",
    title="A larger LASSO penalty, a larger L1 norm",
    where="§3, equation (11)",
    statement=(
        "On the LASSO problem with W 20×500, the same step size and the same start, NGDM ends with an L1 norm of 1.62 "
        "under a small penalty (λ is printed once as 0.01 and once as 0.1) and of 25.4 under λ = 10."
    ),
    explanation="NGDM oscillates about zero with an amplitude that grows with αλ, and never sets a weight to zero.",
    control=(
        "Proximal gradient from the same start with the same α and λ; the norm P·αλ/2 predicted for P oscillating "
        "weights that know nothing of the data; a response with a signal, and the same response permuted."
    ),
    paper=(
        Value("small_norm", "L1 norm at the small λ (0.01 or 0.1)", PAPER_SMALL),
        Value("large_norm", "L1 norm at λ = 10", PAPER_LARGE),
    ),
)

SMALL = (0.01, 0.1)
LARGE = 10.0
STEP_SIZE = 0.01
STEP_SIZES = (0.001, 0.003, 0.01, 0.03)
SLOW, FAST = (0.001, 0.01), (0.1, 0.3, 1.0, 10.0, 100.0)
"""Strengths over five decades: at α = 0.01 the slow ones need many steps to shrink the start."""
TWIN = (0.1, 1.0, LARGE)
"""Strengths of the proximal control."""
FLOOR_TOLERANCE = 0.1
MINIMUM_SEEDS = 6

Norms = NDArray[np.float64]


def plan(settings: Settings) -> list[Cell]:
    """The sweep over λ, the same by proximal gradient and exactly; other starts, step sizes and responses."""
    seeds = settings.seed_range({"quick": 20, "standard": 256, "paper": 256}[settings.scale])
    long, short = {"quick": (15_000, 4_000), "standard": (200_000, 40_000), "paper": (200_000, 40_000)}[settings.scale]

    def cell(part: str, strengths: Sequence[float], steps: int = short, **others: Any) -> Cell:
        sizes = others.pop("step_sizes", (STEP_SIZE,) * len(strengths))
        parameters = {
            "part": part, "seeds": len(seeds), "steps": steps, "strengths": tuple(strengths), "step_sizes": sizes,
            "response": "paper", "start": "uniform", **others,
        }  # fmt: skip
        cost = 0.3 if part == "exact" else steps * 1.2e-5 * (1 + 0.3 * len(strengths))
        version = 2 if part == "proximal" else 1
        return Cell("paradox-lasso", parameters, seeds[0], version=version, cost=cost * len(seeds))

    return [
        cell("subgradient", SLOW, long),
        cell("subgradient", FAST),
        cell("proximal", TWIN),
        cell("exact", (*SLOW, *FAST), 0),
        cell("subgradient", (*SMALL, LARGE), start="zeros"),
        cell("subgradient", (LARGE,) * len(STEP_SIZES), step_sizes=STEP_SIZES, steps=short // 2),
        *(cell("subgradient", (0.1, LARGE), response=response) for response in ("signal", "permuted")),
    ]


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """The norms at the end, by pair of step size and strength (first index) and by seed (second)."""
    parameters: Mapping[str, Any] = cell.parameters
    drawn = draw_lasso(cell.seed, parameters["seeds"], parameters["response"], parameters["start"])
    strengths = torch.tensor([parameters["strengths"]], dtype=torch.float64)
    shared = {"strengths": list(parameters["strengths"]), "step_sizes": list(parameters["step_sizes"])}
    if parameters["part"] == "exact":
        reference = lasso_reference(drawn.data, drawn.response, strengths, tolerance=1e-6)
        return {
            **shared,
            "last": reference.point.abs().sum(-1).T.tolist(),
            "zeros": (reference.point == 0).sum(-1).T.tolist(),
            "gap": reference.gap.T.tolist(),
            "largest_useful_strength": largest_useful_strength(drawn.data, drawn.response).tolist(),
        }
    steps, variants = parameters["steps"], strengths.shape[-1]

    def proximal_gradient() -> Optimised:
        penalty = L1(strengths.unsqueeze(-1))
        return Optimised(lambda parameters, step_size: ProxSGD(parameters, lr=step_size, penalty=penalty))

    run = iterate(
        lasso(drawn.data, drawn.response, strengths),
        drawn.starts(variants),
        Constant(torch.tensor([parameters["step_sizes"]], dtype=torch.float64)),
        steps,
        {"norm": Trace(norm(1), (steps // 4, steps // 2, steps - 1, steps))},
        method=proximal_gradient if parameters["part"] == "proximal" else lambda: subgradient_step,
        progress=context.progress,
    )
    quarter, half, previous, last = run["norm"].mT
    return {
        **shared,
        "last": last.tolist(),
        "cycle": ((previous + last) / 2).tolist(),
        "half_way": half.tolist(),
        "quarter_way": quarter.tolist(),
        "zeros": (run.point == 0).sum(-1).T.tolist(),
    }


class Evidence:
    """The records of this claim, looked up by what was run.

    Raises:
        ValueError: what is looked up was not measured.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def norms(
        self,
        strength: float,
        part: str = "subgradient",
        value: str = "last",
        step_size: float = STEP_SIZE,
        response: str = "paper",
        start: str = "uniform",
    ) -> Norms:
        """One value per seed."""
        wanted = {"part": part, "response": response, "start": start}
        for record in self._records:
            pairs = list(zip(record["step_sizes"], record["strengths"], strict=True))
            if all(record.parameters[k] == v for k, v in wanted.items()) and (step_size, strength) in pairs:
                return np.asarray(record[value][pairs.index((step_size, strength))], dtype=np.float64)
        raise ValueError(f"no record has strength {strength} and step size {step_size} with {wanted}")

    @property
    def largest_useful_strength(self) -> Norms:
        """λ_max by seed."""
        exact = next(record for record in self._records if record.parameters["part"] == "exact")
        return np.asarray(exact["largest_useful_strength"], dtype=np.float64)


def floor(strength: float, step_size: float = STEP_SIZE) -> float:
    """P·αλ/2: P weights on the two-cycle {γ, γ-αλ}, each of mean magnitude αλ/2."""
    return FEATURES * step_size * strength / 2


def spread(samples: Norms) -> tuple[float, float]:
    """Where one more draw falls with 95 % probability: mean ± t·s·√(1+1/n)."""
    count = len(samples)
    if count < 2:
        return float(samples[0]), float(samples[0])
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * samples.std(ddof=1) * (1 + 1 / count) ** 0.5)
    return float(samples.mean()) - half, float(samples.mean()) + half


def fits(number: float, samples: Norms) -> bool:
    """Whether the number could be one more draw."""
    low, high = spread(samples)
    return low <= number <= high


def judge(records: Sequence[Record]) -> Judgement:
    """Reproduced, if the norm at λ = 10 exceeds that at the small λ, in the paper's numbers, for the paper's reason.

    All at α = 0.01, the step size of the paper's Appendix B. A number *fits* if it lies where one more draw of the data
    falls with 95 % probability. The *reason* has three tests: proximal gradient with the same α, λ and start must not
    have the larger norm at λ = 10; the measured norm there must be within 10 % of P·αλ/2; and its medians under three
    responses (the paper's, one with a signal, and that one permuted) must lie within 10 % of each other.

    - Fewer than six seeds: *inconclusive*.
    - In half of the draws or fewer the norm at λ = 10 exceeds the norm at λ = 0.01 and at λ = 0.1: *not reproduced*. In
      more than half, but with an interval that reaches below one half: *inconclusive*.
    - A test of the reason fails: *reproduced, explanation not supported*.
    - 25.4 fits at λ = 10, and 1.62 fits at both of the strengths that the text prints for it: *reproduced*.
    - Otherwise *reproduced with a correction*, which says which numbers fit where.
    """
    evidence = Evidence(records)
    small = {strength: evidence.norms(strength) for strength in SMALL}
    large, proximal = evidence.norms(LARGE), evidence.norms(LARGE, "proximal")
    larger = np.all([large > norms for norms in small.values()], axis=0)
    share = proportion_value("larger", "draws in which λ = 10 has the larger norm", int(larger.sum()), len(larger))
    reasons = _failed_tests(evidence, large, proximal)
    fitting = [strength for strength in SMALL if fits(PAPER_SMALL, small[strength])]
    correction = None
    if len(large) < MINIMUM_SEEDS or (larger.mean() > 0.5 and (share.low or 0.0) <= 0.5):
        verdict = Verdict.INCONCLUSIVE
    elif larger.mean() <= 0.5:
        verdict = Verdict.NOT_REPRODUCED
    elif reasons:
        verdict = Verdict.EXPLANATION_NOT_SUPPORTED
    elif fits(PAPER_LARGE, large) and len(fitting) == len(SMALL):
        verdict = Verdict.REPRODUCED
    else:
        verdict, correction = Verdict.WITH_CORRECTION, _correction(small, large, fitting)
    measured = _measured(evidence, small, large)
    return Judgement(
        verdict,
        f"At α = {STEP_SIZE} the norm is {measured[1]} at λ = 0.1 and {measured[2]} at λ = 10, where P·αλ/2 = "
        f"{format_number(floor(LARGE))}; proximal gradient has {format_number(float(np.median(proximal)))} there. "
        + (" ".join(reasons) if reasons else "The norm at λ = 10 is set by α and λ alone; the data do not enter."),
        Headline(
            f"{PAPER_SMALL} at λ = 0.01 or 0.1; {PAPER_LARGE} at λ = 10",
            f"{format_number(measured[0].value)}; {format_number(measured[1].value)}; "
            f"{format_number(measured[2].value)} at λ = 0.01; 0.1; 10",
            f"proximal gradient, λ = 10: {format_number(float(np.median(proximal)))}",
        ),
        (*measured, share),
        _controls(evidence, proximal),
        _predictions(),
        correction=correction,
        decided_by=f"more draws than {len(large)}" if verdict is Verdict.INCONCLUSIVE else None,
        notes=_notes(evidence, small, fitting),
    )


def _failed_tests(evidence: Evidence, large: Norms, proximal: Norms) -> list[str]:
    """A sentence for each test of the explanation that fails."""
    failed = []
    small_proximal = float(np.median(evidence.norms(0.1, "proximal")))
    if float(np.median(proximal)) > small_proximal:
        failed.append("Proximal gradient has the larger norm at λ = 10 as well.")
    ratio = float(np.median(large)) / floor(LARGE)
    if abs(ratio - 1) > FLOOR_TOLERANCE:
        failed.append(f"The norm at λ = 10 is {format_number(ratio)} times P·αλ/2.")
    medians = {response: float(np.median(evidence.norms(LARGE, response=response))) for response in RESPONSES}
    if extremes.largest(medians.values()) > (1 + FLOOR_TOLERANCE) * extremes.smallest(medians.values()):
        listed = ", ".join(f"{format_number(median)} ({response})" for response, median in medians.items())
        failed.append(f"At λ = 10 the norm depends on the response: {listed}.")
    return failed


def _measured(evidence: Evidence, small: Mapping[float, Norms], large: Norms) -> tuple[Value, ...]:
    """The norms by strength, and the step size that 25.4 asks for."""
    values = [median_value(f"norm_{s}", f"L1 norm, λ = {s}, α = {STEP_SIZE}", list(n)) for s, n in small.items()]
    values.append(median_value("norm_10", f"L1 norm, λ = 10, α = {STEP_SIZE}", list(large)))
    cycle = evidence.norms(LARGE, value="cycle")
    values.append(median_value("cycle_10", "the same, mean of the last two iterates", list(cycle)))
    values += [_spread_value(f"spread_{s}", s, norms) for s, norms in {**small, LARGE: large}.items()]
    logs = [np.log(np.median(evidence.norms(LARGE, step_size=a))) for a in STEP_SIZES]
    fitted = float(np.exp(np.interp(np.log(PAPER_LARGE), logs, np.log(STEP_SIZES))))
    values.append(Value("fitted_step_size", f"α at which the median norm at λ = 10 is {PAPER_LARGE}", fitted))
    return tuple(values)


def _spread_value(name: str, strength: float, norms: Norms) -> Value:
    low, high = spread(norms)
    label = f"L1 norm of one more draw, λ = {format_number(strength)} (95 % prediction interval)"
    return Value(name, label, float(norms.mean()), low, high, len(norms))


def _controls(evidence: Evidence, proximal: Norms) -> tuple[Value, ...]:
    """Proximal gradient, the exact solution, other starts and responses."""
    zeros = evidence.norms(LARGE, "proximal", "zeros")
    return (
        median_value("proximal_0.1", "proximal gradient, λ = 0.1", list(evidence.norms(0.1, "proximal"))),
        median_value("proximal_10", "proximal gradient, λ = 10", list(proximal)),
        median_value("proximal_zeros_10", f"its exact zeros among {FEATURES}, λ = 10", list(zeros)),
        median_value("ngdm_zeros_10", "NGDM's exact zeros, λ = 10", list(evidence.norms(LARGE, value="zeros"))),
        *(median_value(f"exact_{s}", f"exact solution, λ = {s}", list(evidence.norms(s, "exact"))) for s in SMALL),
        median_value("exact_10", "exact solution, λ = 10", list(evidence.norms(LARGE, "exact"))),
        median_value("largest_useful", "λ_max, above which it is 0", list(evidence.largest_useful_strength)),
        *(
            median_value(f"zeros_start_{format_number(s)}", f"NGDM from β₀ = 0, λ = {format_number(s)}",
                         list(evidence.norms(s, start="zeros")))
            for s in (*SMALL, LARGE)
        ),
        *(
            median_value(f"{response}_{format_number(s)}", f"NGDM, response {word}, λ = {format_number(s)}",
                         list(evidence.norms(s, response=response)))
            for s in (0.1, LARGE)
            for response, word in (("signal", "with a signal"), ("permuted", "permuted"))
        ),
    )  # fmt: skip


def _predictions() -> tuple[Value, ...]:
    """P·αλ/2 beside each norm."""
    return tuple(
        Value(f"floor_{format_number(s)}", f"P·αλ/2, λ = {format_number(s)}", floor(s)) for s in (*SMALL, LARGE)
    )


def _correction(small: Mapping[float, Norms], large: Norms, fitting: Sequence[float]) -> str:
    """Which of the paper's numbers fit where."""
    ours = ", ".join(f"{format_number(float(np.median(n)))} at λ = {s}" for s, n in small.items())
    where = " and ".join(f"λ = {s}" for s in fitting) or "neither of the two strengths printed for it"
    whether = "fits" if fits(PAPER_LARGE, large) else "does not fit"
    return (
        f"{PAPER_SMALL} fits {where} (medians {ours}), and {PAPER_LARGE} {whether} the draws at λ = 10 "
        f"(median {format_number(float(np.median(large)))})."
    )


def _notes(evidence: Evidence, small: Mapping[float, Norms], fitting: Sequence[float]) -> tuple[str, ...]:
    """What a careful reader should know."""
    distances = {s: (PAPER_SMALL - float(n.mean())) / extremes.largest(float(n.std()), 1e-12) for s, n in small.items()}
    nearer = extremes.smallest(distances, key=lambda s: abs(distances[s]))
    where = ", ".join(f"{format_number(d)} standard deviations from the mean at λ = {s}" for s, d in distances.items())
    early = evidence.norms(SLOW[0], value="quarter_way"), evidence.norms(SLOW[0])
    scaled = "; ".join(
        f"{format_number(float(np.median(evidence.norms(LARGE, step_size=a))))} at α = {a} "
        f"(P·αλ/2 = {format_number(floor(LARGE, a))})"
        for a in STEP_SIZES
    )
    useful = float(np.median(evidence.largest_useful_strength))
    excess = small[0.1] - evidence.norms(0.1, "exact")
    return (
        f"The text gives λ = 0.01 and λ = 0.1 for the same run. Its norm of {PAPER_SMALL} is {where}: nearer to "
        f"λ = {nearer}" + ("; one draw cannot tell them apart." if len(fitting) == len(small) else "."),
        f"What the paper calls the optimal solution at λ = 10 is where NGDM ended. The exact solution has the norm "
        f"{format_number(float(np.median(evidence.norms(LARGE, 'exact'))))} there; it is 0 from λ_max = "
        f"{format_number(useful)} on.",
        f"At λ = 0.1 NGDM's norm exceeds the exact solution's by {format_number(float(np.median(excess)))}, where "
        f"P·αλ/2 is {format_number(floor(0.1))}.",
        f"At λ = 10 the norm follows the step size: {scaled}.",
        f"The left branch of the curve of norm against λ is a matter of steps: at λ = {SLOW[0]} the median falls from "
        f"{format_number(float(np.median(early[0])))} after a quarter of them to "
        f"{format_number(float(np.median(early[1])))} at the end. From β₀ = 0 the median at λ = 0.01 is "
        f"{format_number(float(np.median(evidence.norms(0.01, start='zeros'))))}, the exact solution's "
        f"{format_number(float(np.median(evidence.norms(0.01, 'exact'))))}.",
    )


def draw(records: Sequence[Record]) -> list[Figure]:
    """The norm against λ with its prediction, exact solution and proximal twin; the norm at λ = 10 against α."""
    evidence = Evidence(records)
    strengths = (*SLOW, *FAST)
    sweep = [evidence.norms(s) for s in strengths]
    quarter = [float(np.median(evidence.norms(s, value="quarter_way"))) for s in strengths]
    exact = [float(np.median(evidence.norms(s, "exact"))) for s in strengths]
    proximal = [float(np.median(evidence.norms(s, "proximal"))) for s in TWIN]
    medians = [float(np.median(n)) for n in sweep]
    by_strength = Panel(
        f"α = {STEP_SIZE}, β₀ ~ U[-1, 1]",
        Axis("penalty λ", log=True),
        Axis("L1 norm at the end", log=True),
        (
            Series("line", "NGDM, all steps", strengths, medians, [n.min() for n in sweep], [n.max() for n in sweep]),
            Series("line", "NGDM, a quarter of the steps", strengths, quarter, dashed=True),
            Series("line", "P·αλ/2", strengths, [floor(s) for s in strengths], tone="theory", dashed=True),
            Series("line", "exact solution", *_positive(strengths, exact), tone="neutral"),
            Series("points", "proximal gradient", *_positive(TWIN, proximal), tone="control"),
            Series("points", "paper", (*SMALL, LARGE), (PAPER_SMALL, PAPER_SMALL, PAPER_LARGE), tone="paper"),
        ),
    )
    by_step = [evidence.norms(LARGE, step_size=a) for a in STEP_SIZES]
    by_step_size = Panel(
        "λ = 10",
        Axis("step size α", log=True),
        Axis("L1 norm at the end", log=True),
        (
            Series("points", "NGDM", STEP_SIZES, [float(np.median(n)) for n in by_step],
                   [n.min() for n in by_step], [n.max() for n in by_step]),
            Series("line", "P·αλ/2", STEP_SIZES, [floor(LARGE, a) for a in STEP_SIZES], tone="theory", dashed=True),
            Series("horizontal", "paper", y=(PAPER_LARGE,), tone="paper"),
        ),
    )  # fmt: skip
    caption = (
        "Medians and ranges over draws. To the right of its minimum the norm is that of weights rattling across zero, "
        "P·αλ/2, where the exact solution is already zero (not drawn on a logarithmic axis); the left branch falls "
        "with the number of steps. At λ = 10 the norm measures the step size."
    )
    return [Figure("L1 norm against penalty, and against step size", caption, (by_strength, by_step_size))]


def _positive(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points that a logarithmic axis can show."""
    kept = [(a, b) for a, b in zip(x, y, strict=True) if b > 0]
    return [a for a, _ in kept], [b for _, b in kept]
