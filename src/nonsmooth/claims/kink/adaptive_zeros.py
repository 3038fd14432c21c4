"""§3 and the introduction: the variants of gradient descent, and the exact zeros that some of them make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop

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
    NotStoredError,
    Outcome,
    Panel,
    Quantity,
    Row,
    Rule,
    Run,
    Scale,
    Series,
    Study,
    Value,
    Verdict,
    above,
    below,
    series_of,
)
from nonsmooth.claims.kink.finite_precision import DTYPES
from nonsmooth.dynamics.kink_ensemble import KinkEnsemble, KinkProblem
from nonsmooth.lab import Cell
from nonsmooth.optim import ProxSGD
from nonsmooth.penalties import L1

STRENGTH, DECAY = 1.0, 0.99
"""λ, and the decay ρ of RMSprop's average as torch has it."""
STEP_SIZES, LENGTHS, AT = (0.003, 0.01, 0.03), (1000, 2000, 4000), 0.01
"""α, the steps after which zeros are counted, and the α of the precisions other than float64."""

Steps = Callable[[float, int], float]
"""(α, t from 1) → step size, where it changes."""
Make = Callable[[list[Tensor], float], Optimizer]

VARIANTS: dict[str, Make] = {
    "SGD": lambda p, lr: SGD(p, lr=lr),
    "Adagrad": lambda p, lr: Adagrad(p, lr=lr),
    "RMSprop": lambda p, lr: RMSprop(p, lr=lr, alpha=DECAY),
    "Adam": lambda p, lr: Adam(p, lr=lr),
    "AMSGrad": lambda p, lr: Adam(p, lr=lr, amsgrad=True),
    "momentum": lambda p, lr: SGD(p, lr=lr, momentum=0.9),
    "Nesterov": lambda p, lr: SGD(p, lr=lr, momentum=0.9, nesterov=True),
}
"""The paper cites those for Adagrad, RMSprop, Adam and (for another purpose) AMSGrad; the last two are ours."""
CONTROLS: dict[str, Make] = {
    "RMSprop, bias corrected": lambda p, lr: Adam(p, lr=lr, betas=(0.0, DECAY)),
    "SGD, RMSprop's steps": VARIANTS["SGD"],
    "SGD, Adagrad's steps": VARIANTS["SGD"],
    "proximal": lambda p, lr: ProxSGD(p, lr=lr, penalty=L1(STRENGTH)),
}
SCHEDULES: dict[str, Steps] = {
    "SGD, RMSprop's steps": lambda lr, t: lr / (1 - DECAY**t) ** 0.5,
    "SGD, Adagrad's steps": lambda lr, t: lr / t**0.5,
}
"""The length of the steps of RMSprop and Adagrad where every gradient is ±λ; they do not depend on λ."""

FEW = Choice(
    "few", 0.01, (0.001, 0.1), "share of entries that counts as none", "A network pruned by less is not sparse."
)
PRECISION = Choice(
    "precision",
    "float64",
    ("float32", "bfloat16", "float16"),
    "precision",
    "The nearest to the real numbers of Proposition 3.1.",
    condition="in {value}",
)
STEPS = Choice(
    "steps",
    LENGTHS[-1],
    LENGTHS[:-1],
    "steps after which zeros are counted",
    "The longest run that was made: the slide to zero takes time.",
    condition="after {value} steps",
)
STEP_SIZE = Choice("step_size", AT, tuple(a for a in STEP_SIZES if a != AT), "α", "That of the paper's experiments.")
LIST = Choice(
    "variants",
    ("SGD", "Adagrad", "RMSprop", "Adam", "AMSGrad"),
    (("SGD", "Adagrad", "RMSprop"), tuple(VARIANTS)),
    "variants",
    "Those that the paper cites. Later versions of it drop Adam; momentum is in common use.",
)
SOURCE = Choice(
    "source",
    "those that the paper cites",
    ("SGD and Adam, which the paper runs",),
    "which variants are judged",
    "The sentence is about all that it names.",
    condition="where Adagrad or RMSprop is among the variants",
)

MOST = Quantity("most", "entries that become exactly 0 under the variant with the most")
LEAST = Quantity("least", "entries that become exactly 0 under the variant with the fewest")
STEADY = Quantity("steady", "entries that become exactly 0 under RMSprop with Adam's bias correction")
PROXIMAL = Quantity("proximal", "entries that the proximal step makes exactly 0")

CLAIM = Claim(
    id="adaptive-zeros",
    plain="Adam, RMSprop, Adagrad and their kin give no exact zeros under an L1 penalty either.",
    title="The variants of gradient descent never make a zero either",
    where="§3, with the introduction's list of variants",
    statement=(
        "“Gradient Descent (GD) and its variants” (the paper cites Adagrad, RMSprop and Adam), run on functions with "
        "kinks, “lack the capability to produce sparse solutions”."
    ),
    explanation=(
        "Proposition 3.1: an entry moves by αλ₁ a step, so it becomes zero only from countably many starts. It is "
        "about plain steps; for the variants the paper gives no reason."
    ),
    control=(
        "Exact zeros under torch's own optimizers in four precisions. An entry under steps that shrink while it "
        "oscillates comes nearer to zero by the difference of two steps each time: RMSprop with Adam's bias "
        "correction, whose steps keep their length, must make none, and plain SGD with the steps of RMSprop or "
        "Adagrad as many as they do. The proximal step must make every entry zero."
    ),
    paper=(Value("probability", "probability that an entry becomes exactly 0", 0),),
    edition="February 2024 (arXiv 2401.08426, early version); later versions, from November 2024, drop Adam from what "
    "they say of adaptive methods",
)

RULE = Rule(
    Row(below(MOST, FEW), Outcome(Verdict.REPRODUCED, "no variant makes zeros")),
    Row(above(LEAST, FEW), Outcome(Verdict.NOT_REPRODUCED, "every variant makes zeros")),
    Row(
        ~below(STEADY, FEW) | ~above(PROXIMAL, 0.99),
        Outcome(
            Verdict.EXPLANATION_NOT_SUPPORTED,
            "steady steps make zeros too",
            "But steps of constant length make zeros as well ({steady}), or the proximal step does not ({proximal}).",
        ),
    ),
    otherwise=Outcome(
        Verdict.WITH_CORRECTION,
        "not where steps shrink",
        "With bias correction RMSprop has {steady:.1%}, SGD with RMSprop's steps {steps_like_rmsprop:.1%}, and with "
        "Adagrad's {steps_like_adagrad:.1%}: zeros come of steps that shrink.",
        correction="True of steps that keep their length: {keeping}. Steps that shrink while an entry oscillates carry "
        "it to zero, until the difference of two steps is lost in rounding and it is exactly 0, where PyTorch's sign "
        "keeps it: {sliding}. In real numbers the slide has no end.",
    ),
    always="After {steps} steps in {precision} with α = {alpha}, the shares of exact zeros are {shares}.",
)

study = Study(
    CLAIM,
    rule=RULE,
    headline=Headline(
        paper="the variants give no zeros either",
        ours="{shares}",
        control="RMSprop with bias correction {steady:.1%}; SGD with RMSprop's steps {steps_like_rmsprop:.1%}",
    ),
    choices=(FEW, PRECISION, STEPS, STEP_SIZE, LIST, SOURCE),
    afterthoughts=(
        Afterthought(
            "run lengths up to 4,000 steps, and shrinking steps as the mechanism to test",
            "2026-11",
            "A first look at other starts showed that zeros come late in float64, and under RMSprop and Adagrad alone.",
            "Nothing is judged from that look; a length at which the zeros have not come is among the alternatives.",
        ),
        Afterthought(
            "plain SGD with Adam, the two that the paper runs, is an alternative",
            "2026-11",
            "Every list had a variant in it whose steps shrink.",
            "The verdict is said to hold where Adagrad or RMSprop is among the variants.",
        ),
    ),
)


@study.planned
def plan(scale: Scale) -> Iterable[Cell]:
    """Each variant in each precision, float64 at every step size; the controls in float64."""
    starts = scale.seeds(1024, 8192)
    for dtype in DTYPES:
        sizes = STEP_SIZES if dtype == "float64" else (AT,)
        for name in (*VARIANTS, *(CONTROLS if dtype == "float64" else ())):
            yield zeros.cell(variant=name, dtype=dtype, step_sizes=sizes, seeds=starts, cost=0.2 * len(sizes))


@study.experiment(seed_axes={"zero": 2})
def zeros(run: Run, *, variant: str, dtype: str, step_sizes: Sequence[float], seeds: int) -> Mapping[str, Any]:
    """Which entries are exactly 0, [α][length][start], and how many are not finite at the end, by α.

    All variants and step sizes start at the same β₀ ~ U[-1, 1], drawn in float64 and rounded.
    """
    make, schedule = {**VARIANTS, **CONTROLS}[variant], SCHEDULES.get(variant)
    start = torch.rand(seeds, generator=run.generator(), dtype=torch.float64) * 2 - 1
    zero: list[list[list[bool]]] = []
    lost = []
    for alpha in step_sizes:
        problem = KinkProblem(lambda p, lr=alpha: make(p, lr), STRENGTH, 0.0, DTYPES[dtype])  # type: ignore[misc]
        copies = KinkEnsemble(problem, start, run.generator())
        zero.append([])
        for step in range(1, LENGTHS[-1] + 1):
            if schedule:
                copies.optimizer.param_groups[0]["lr"] = schedule(alpha, step)
            copies.step()
            if step in LENGTHS:
                zero[-1].append((copies.weight == 0).tolist())
        lost.append(int((~torch.isfinite(copies.weight)).sum()))
    return {"step_sizes": list(step_sizes), "zero": zero, "lost": lost}


def share_of_zeros(evidence: Evidence, quantity: Quantity, variant: str, choices: Mapping[str, Any]) -> Estimate:
    """Of one variant, with the precision, α and run length that are chosen.

    Raises:
        NotStoredError: it was not measured, or went off.
    """
    record = evidence[zeros].one(variant=variant, dtype=choices["precision"])
    if choices["step_size"] not in record["step_sizes"]:
        raise NotStoredError(f"{variant} was not run with α = {choices['step_size']} in {choices['precision']}")
    at = record["step_sizes"].index(choices["step_size"])
    if record["lost"][at]:
        raise NotStoredError(f"{record['lost'][at]} entries under {variant} are not finite")
    zero = record["zero"][at][LENGTHS.index(choices["steps"])]
    found = quantity.share(sum(zero), len(zero))
    assert isinstance(found, Estimate)
    return found


def slide(alpha: float) -> float:
    """The share of entries that RMSprop's steps carry to zero, in real numbers, from starts in U[-1, 1].

    Steps have the lengths h_t = α/√(1-ρᵗ). From the step t on at which an entry passes zero it has a point on either
    side, h_t apart, and each comes nearer to zero by h_t - h_{t+1} in two steps. So the two come nearer by h_t - α in
    all, half of it each; the nearer point is uniform on (0, h_t/2), and arrives if it lies within half of that.
    """
    lengths = alpha / np.sqrt(1 - DECAY ** np.arange(1, LENGTHS[-1] + 1))
    starts = (np.arange(10_000) + 0.5) / 10_000
    passing = np.minimum(np.searchsorted(lengths.cumsum(), starts), len(lengths) - 1)
    return float((1 - alpha / lengths[passing]).mean())


@study.findings
def findings(evidence: Evidence, choices: Choices) -> Findings:
    """Shares of exact zeros of every variant and control."""
    shares = {
        name: share_of_zeros(evidence, Quantity(f"zeros_{name}", f"entries that {name} makes exactly 0"), name, choices)
        for name in VARIANTS
    }
    exact = {**choices, "precision": "float64"}
    controls = [
        share_of_zeros(evidence, Quantity(quantity, f"entries that become exactly 0, {name}"), name, exact)
        for name, quantity in zip(CONTROLS, ("", "steps_like_rmsprop", "steps_like_adagrad", ""), strict=True)
        if quantity
    ]
    judged = {name: shares[name] for name in (choices.variants if choices.source == SOURCE.value else ("SGD", "Adam"))}
    order = sorted(judged.values(), key=lambda one: one.value)
    precisions: list[Finding] = [
        share_of_zeros(
            evidence,
            Quantity(f"zeros_{name}_{dtype}", f"entries that {name} makes exactly 0, {dtype}"),
            name,
            {**choices, "precision": dtype, "step_size": AT},
        )
        for name in VARIANTS
        for dtype in DTYPES
        if dtype != "float64"
    ]
    words = {
        "shares": ", ".join(f"{name} {share:.1%}" for name, share in judged.items()),
        "keeping": ", ".join(name for name, share in judged.items() if share.upper < choices.few),
        "sliding": ", ".join(f"{name} {share:.0%}" for name, share in judged.items() if share.lower > choices.few),
        "steps": f"{choices.steps:,}",
        "precision": choices.precision,
        "alpha": f"{choices.step_size:g}",
    }
    lost = sum(sum(record["lost"]) for record in evidence[zeros])
    return Findings(
        (*shares.values(), *precisions),
        (
            share_of_zeros(evidence, STEADY, "RMSprop, bias corrected", exact),
            *controls,
            share_of_zeros(evidence, PROXIMAL, "proximal", exact),
            Value("lost", "entries that are not finite at the end, all runs", lost),
        ),
        (Value("zeros_RMSprop", "entries that RMSprop's shrinking steps carry to 0", slide(choices.step_size)),),
        (
            MOST.estimate(order[-1].value, order[-1].lower, order[-1].upper, order[-1].count),
            LEAST.estimate(order[0].value, order[0].lower, order[0].upper, order[0].count),
            *(Value(name, name, text) for name, text in words.items()),
        ),
        (
            "The zeros need PyTorch's sign(0) = 0: at 0 there is no gradient, and nothing moves the entry again.",
            "In bfloat16 the differences of the steps are lost before the slide begins.",
            "The paper's list has FTRL-like methods too (McMahan & Streeter, 2010), which torch does not have.",
        ),
    )


@study.figures
def draw(evidence: Evidence, found: Findings) -> list[Figure]:
    """Shares of exact zeros by variant and precision, and by run length."""
    del found
    names, quantity = list(VARIANTS), Quantity("zeros", "share of exact zeros")

    def share(name: str, dtype: str, steps: int) -> Finding:
        return share_of_zeros(evidence, quantity, name, {"precision": dtype, "step_size": AT, "steps": steps})

    bars = tuple(
        series_of("bars", dtype, names, [share(name, dtype, LENGTHS[-1]) for name in names], tone)
        for dtype, tone in zip(DTYPES, "abcd", strict=True)
    )
    sliding = ("RMSprop", "SGD, RMSprop's steps", "RMSprop, bias corrected", "Adagrad", "SGD, Adagrad's steps", "Adam")
    lines = [
        series_of("line", name, LENGTHS, [share(name, "float64", steps) for steps in LENGTHS], tone)
        for name, tone in zip(sliding, ("ours", "a", "control", "b", "c", "d"), strict=True)
    ]
    lines.append(Series("horizontal", "RMSprop, predicted", y=(slide(AT),), tone="theory", dashed=True))
    return [
        Figure(
            "Exact zeros under torch's optimizers",
            f"On λ‖β‖₁ with α = {AT}. Left: after {LENGTHS[-1]:,} steps, by precision. Right: in float64; plain SGD "
            "with the shrinking steps of RMSprop or Adagrad makes zeros as they do, RMSprop with bias correction none.",
            (
                Panel("By variant", Axis("variant"), Axis("share of exact zeros"), bars),
                Panel("Along the run", Axis("step k"), Axis("share of exact zeros"), tuple(lines)),
            ),
        )
    ]
