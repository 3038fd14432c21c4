"""Claim `rate`: counted steps against closed forms, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import rate, rate_runs
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import FirstStep
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import SlopedLine

ACCURACIES = [10 ** (-k / 4) for k in range(2, 15)]
COUNT = 8


def fabricate(smooth=1.0, kink=2.0, fixed=1.0, moving=2.0, noise=0.0, count=COUNT):
    """Records with given exponents; `noise` spreads the seeds' exponents."""
    records, few = [], [1 / 8, 1 / 16, 1 / 32, 1 / 64]

    def steps(exponent, seed):
        # Mixed, so that each group of seeds has both.
        return [9 * e ** -(exponent + noise * (-1) ** (seed // 2 + seed)) for e in few]

    for family, power in zip((*rate.ON_LINE, rate.BOUND), (1.0, 2.0, 2.0), strict=True):
        sizes = {"sizes": (1,)} if family == rate.BOUND else {"accuracies": tuple(ACCURACIES)}
        values = {"accuracy": ACCURACIES, "steps": [9 * e**-power for e in ACCURACIES]}
        records.append(Record(Cell("rate", {"family": family, **sizes}), values))
    for family in (rate.SMOOTH, rate.SHARP, rate.SHARP_ROOT):
        values = {"accuracy": ACCURACIES, "steps": [[1 / e for e in ACCURACIES]] * 3}
        extra = {"steps": 9} if family == rate.SHARP_ROOT else {}
        records.append(Record(Cell("rate", {"family": family, "seeds": 3, **extra}), values))
    values = {"accuracy": few, "steps": [[k, k, k, k] for k in [9 * e**-smooth for e in few]]}
    records.append(Record(Cell("rate", {"part": "chain", "sizes": (1,)}), values))

    def by_size(exponent, columns):
        rows = [steps(exponent, seed) for seed in range(count)]
        return {"accuracy": few, "steps": [[[k] * columns for k in column] for column in zip(*rows, strict=True)]}

    shared = {"sizes": (1,), "seeds": count}
    records.append(Record(Cell("rate", {"part": "largest", **shared}), by_size(kink, 4)))
    for choice, moves, exponent in ((rate.WIDTH, False, fixed), (rate.RATIO, True, moving)):
        for width in (choice.value, *choice.alternatives):
            cell = Cell("rate", {"part": "rounded", "width": width, "moving": moves, **shared})
            records.append(Record(cell, by_size(exponent, 2)))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"moving": 1.0}, Verdict.REPRODUCED),
        ({"fixed": 2.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"kink": 1.0}, Verdict.NOT_REPRODUCED),
        ({"smooth": 2.0}, Verdict.NOT_REPRODUCED),
        ({"noise": 1.5}, Verdict.INCONCLUSIVE),
        ({"moving": 1.5, "noise": 0.1}, Verdict.INCONCLUSIVE),
        ({"count": 1}, Verdict.INCONCLUSIVE),
        ({"fixed": math.nan}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert rate.study.judge(records).verdict is verdict
    assert rate.study.draw(records)


def test_a_missing_part_decides_nothing():
    assert rate.study.judge([]).verdict is Verdict.INCONCLUSIVE
    for kept in (slice(1, None), slice(None, -6), slice(None, 6)):
        assert rate.study.judge(fabricate()[kept]).verdict is Verdict.INCONCLUSIVE


def test_a_width_that_turns_the_verdict_makes_it_inconclusive():
    records = fabricate()
    other = next(
        r for r in records if r.parameters.get("moving") and r.parameters["width"] == rate.RATIO.alternatives[0]
    )
    other.values["steps"] = next(r for r in fabricate(moving=1.0) if r.parameters.get("moving")).values["steps"]
    judgement = rate.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("goes with ε" in flip.what for flip in judgement.robustness.flips)


@pytest.mark.parametrize("size", [16, 64])
def test_searched_steps_against_a_plain_loop(size):
    values = rate.study.measure(Cell("rate", {"part": "rounded", "width": 0.25, "moving": True, "sizes": (size,),
                                              "seeds": 2}, seed=5), Context())  # fmt: skip
    kinked = rate.study.measure(Cell("rate", {"part": "largest", "sizes": (size,), "seeds": 2}, seed=5), Context())
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(2, size, generator=generator, dtype=torch.float64)
    starts = direction / direction.norm(dim=-1, keepdim=True) - size**-0.5
    weight, accuracy = size**-0.5, 0.5 * size**-0.5
    width = 0.25 * accuracy
    constant = 0.5 / width + weight

    def count(function, start, alpha, target):
        x, k = start.clone(), 0
        while True:
            free = x.clone().requires_grad_()
            value = function(free)
            if value.item() + weight / 2 < target:
                return k
            (slope,) = torch.autograd.grad(value, free)
            x, k = x - alpha * slope, k + 1

    def smooth(x):
        return width * torch.logsumexp(x / width, -1) - width * math.log(size) + weight / 2 * x.square().sum()

    def largest(x):
        return x.max() + weight / 2 * x.square().sum()

    for seed, start in enumerate(starts):
        assert values["steps"][0][seed][0] == count(smooth, start, 1 / constant, accuracy)
        assert kinked["steps"][0][seed][1] == count(largest, start, 0.5 * weight, accuracy)


def test_the_chain_needs_1_over_epsilon_whatever_the_step():
    values = rate.study.measure(Cell("rate", {"part": "chain", "sizes": (8, 16, 32)}), Context())
    for column in zip(*values["steps"], strict=True):
        slope = math.log(column[-1] / column[0]) / math.log(values["accuracy"][0] / values["accuracy"][-1])
        assert slope == pytest.approx(1, abs=0.1)


def test_worst_cases_take_the_steps_of_their_closed_forms():
    for e in (0.1, 0.01, 0.001):
        smooth = rate_runs._steps_on_line(slope=2 * e, width=2 * e, step_size=1.0, accuracy=e)
        assert abs(smooth - (0.25 / e - 0.5)) <= 1
        kinked = rate_runs._steps_on_line(slope=2 * e, width=0.0, step_size=e, accuracy=e)
        assert abs(kinked - 0.25 / e**2) <= 1


def test_the_scalar_recursion_is_the_ensembles():
    accuracy, width = 0.02, 0.002
    line = SlopedLine(torch.tensor([0.04], dtype=torch.float64), torch.tensor([width], dtype=torch.float64))
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    recording = {"first": FirstStep(lambda state: state.evaluation.value <= accuracy)}
    run = iterate(line, start, Constant(accuracy), 2000, recording)
    assert run["first"].item() == rate_runs._steps_on_line(
        slope=0.04, width=width, step_size=accuracy, accuracy=accuracy
    )


def test_a_tuned_step_reaches_a_sharp_minimum_in_proportion_to_the_accuracy():
    record = rate.study.measure(Cell("rate", {"family": "typical sharp, tuned", "seeds": 2}), Context())
    for row in record["steps"]:
        assert row == sorted(row)
        assert all(math.isfinite(step) for step in row)


def test_the_plan_spans_three_decades():
    for scale in ("quick", "standard", "paper"):
        cells = rate.study.plan(Settings(scale=scale))
        accuracies = next(c.parameters["accuracies"] for c in cells if c.parameters.get("family") == rate.ON_LINE[0])
        assert max(accuracies) / min(accuracies) >= 999


def test_the_note_on_typical_problems_follows_the_evidence():
    records = fabricate()
    assert any("power 1 (smooth" in note for note in rate.study.judge(records).notes)
    smooth = next(r for r in records if r.parameters.get("family") == "typical smooth")
    smooth.values["steps"] = [[e**-1.5 for e in ACCURACIES]] * 3
    assert any("power 1.5 (smooth" in note for note in rate.study.judge(records).notes)
