"""Claim `rate`: counted steps against closed forms, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import rate
from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import FirstStep
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import SlopedLine

ACCURACIES = [10 ** (-k / 4) for k in range(2, 15)]


def fabricate(smooth, nonsmooth, twin, noise=0.0):
    """Records with given exponents; `noise` spreads the points about the line."""
    records = []
    exponents = {"smooth worst case": smooth, "non-smooth worst case": nonsmooth, "smooth twin": twin}
    exponents |= {"every subgradient method": 2.0}
    for family, exponent in exponents.items():
        steps = [9 * e**-exponent * math.exp(noise * (-1) ** i) for i, e in enumerate(ACCURACIES)]
        records.append(Record(Cell("rate", {"family": family}), {"accuracy": ACCURACIES, "steps": steps}))
    for family in ("typical smooth", "typical sharp, tuned", "typical sharp, 1/√t"):
        values = {"accuracy": ACCURACIES, "steps": [[1 / e for e in ACCURACIES]] * 3}
        records.append(Record(Cell("rate", {"family": family}), values))
    return records


@pytest.mark.parametrize(
    ("exponents", "noise", "verdict"),
    [
        ((1.0, 2.0, 1.0), 0.0, Verdict.REPRODUCED),
        ((1.0, 2.0, 2.0), 0.0, Verdict.EXPLANATION_NOT_SUPPORTED),
        ((1.0, 1.0, 1.0), 0.0, Verdict.NOT_REPRODUCED),
        ((2.0, 2.0, 2.0), 0.0, Verdict.NOT_REPRODUCED),
        ((1.0, 2.0, 2.0), 1.5, Verdict.INCONCLUSIVE),
        ((1.0, 2.0, 2.5), 0.0, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(exponents, noise, verdict):
    records = fabricate(*exponents, noise=noise)
    assert rate.judge(records).verdict is verdict
    assert rate.draw(records)


def test_worst_cases_take_the_steps_of_their_closed_forms():
    for e in (0.1, 0.01, 0.001):
        smooth = rate._steps_on_line(slope=2 * e, width=2 * e, step_size=1.0, accuracy=e)
        assert abs(smooth - (0.25 / e - 0.5)) <= 1
        kinked = rate._steps_on_line(slope=2 * e, width=0.0, step_size=e, accuracy=e)
        assert abs(kinked - 0.25 / e**2) <= 1


def test_the_scalar_recursion_is_the_ensembles():
    accuracy, width = 0.02, 0.002
    line = SlopedLine(torch.tensor([0.04], dtype=torch.float64), torch.tensor([width], dtype=torch.float64))
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    recording = {"first": FirstStep(lambda state: state.evaluation.value <= accuracy)}
    run = iterate(line, start, Constant(accuracy), 2000, recording)
    assert run["first"].item() == rate._steps_on_line(slope=0.04, width=width, step_size=accuracy, accuracy=accuracy)


def test_a_tuned_step_reaches_a_sharp_minimum_in_proportion_to_the_accuracy():
    record = rate.measure(Cell("rate", {"family": "typical sharp, tuned", "seeds": 2}), Context())
    for row in record["steps"]:
        assert row == sorted(row)
        assert all(math.isfinite(step) for step in row)


def test_the_plan_spans_three_decades():
    for scale in ("quick", "standard", "paper"):
        cells = rate.plan(Settings(scale=scale))
        accuracies = next(c.parameters["accuracies"] for c in cells if c.parameters["family"] == "smooth twin")
        assert max(accuracies) / min(accuracies) >= 999


def test_the_note_on_typical_problems_follows_the_evidence():
    records = fabricate(1.0, 2.0, 2.0)
    assert any("power 1 (smooth" in note for note in rate.judge(records).notes)
    smooth = next(r for r in records if r.parameters["family"] == "typical smooth")
    smooth.values["steps"] = [[e**-1.5 for e in ACCURACIES]] * 3
    assert any("power 1.5 (smooth" in note for note in rate.judge(records).notes)
