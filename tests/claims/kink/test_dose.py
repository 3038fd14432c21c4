"""The dose-response against a plain loop, and that a list of widths on one side of 2/L decides nothing."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.choice import Choice, Choices
from nonsmooth.claims.framework.claim import Verdict
from nonsmooth.claims.framework.quantity import Findings, Missing
from nonsmooth.claims.framework.rule import Outcome, Rule
from nonsmooth.claims.kink import dose
from nonsmooth.lab import Cell, Record
from nonsmooth.problems import RoundedL1

THRESHOLD = Choice("threshold", 0.5, (0.1,), "size", "Half of it.")
RESPONSE = dose.DoseResponse("the effect", "have it", THRESHOLD, "only above 2/L")
RULE = Rule(*RESPONSE.rows, otherwise=Outcome(Verdict.REPRODUCED, "it takes the kink"))
CHOICES = (THRESHOLD, dose.HALF, dose.LADDER, dose.LENGTH, dose.step_size_choice((0.01, 0.1)))


def verdict(values, **changed):
    choices = Choices(CHOICES, changed)
    findings = Findings(RESPONSE.findings(Record(Cell("claim", {"part": "dose"}), values), choices))
    return RULE.decide(findings, choices).gives.verdict, findings


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        (0.0, 1.0, Verdict.WITH_CORRECTION),
        (1.0, 1.0, Verdict.EXPLANATION_NOT_SUPPORTED),
        (1.0, 0.0, Verdict.EXPLANATION_NOT_SUPPORTED),
        (0.0, 0.0, Verdict.REPRODUCED),
        (math.nan, 1.0, Verdict.INCONCLUSIVE),
    ],
)
def test_three_cases(twin_values, below, above, expected):
    assert verdict(twin_values((0.01, 0.1), below, above))[0] is expected


@pytest.mark.parametrize("ladder", ["only α < 2/L", "only α > 2/L"])
@pytest.mark.parametrize(("below", "above"), [(0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_widths_on_one_side_decide_nothing_but_what_they_show(twin_values, ladder, below, above):
    found = verdict(twin_values((0.01, 0.1), below, above), ladder=ladder)[0]
    shown = ladder == "only α < 2/L" and below > 0
    assert found is (Verdict.EXPLANATION_NOT_SUPPORTED if shown else Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("ladder", ["every second", "within a factor 2 of 2/L", "farther than that"])
def test_other_lists_of_widths_agree(twin_values, ladder):
    assert verdict(twin_values((0.01, 0.1)), ladder=ladder)[0] is Verdict.WITH_CORRECTION


def test_one_start_decides_nothing(twin_values):
    assert verdict(twin_values((0.01, 0.1), starts=1))[0] is Verdict.INCONCLUSIVE


def test_the_interval_is_that_of_as_many_runs_as_starts(twin_values):
    findings = verdict(twin_values((0.01, 0.1)))[1]
    assert findings["twin_above"].count == 20
    assert findings["twin_above"].low == pytest.approx(0.025 ** (1 / 20))
    assert (findings["converges_at"].value, findings["oscillates_at"].value) == (0.99, 1.01)
    assert isinstance(verdict(twin_values((0.01, 0.1), 1.0, 1.0))[1]["converges_at"], Missing)


def test_the_figure_has_the_phase_line_at_one(twin_values):
    figure = RESPONSE.figure(Record(Cell("claim", {"part": "dose"}), twin_values((0.01, 0.1))), "size")
    line = next(series for series in figure.panels[0].series if series.name == "α = 2/L")
    assert line.y == pytest.approx((1.0, 1.0))


def test_twins_against_a_plain_loop():
    start = torch.tensor([[0.37, -0.81], [0.05, 0.6]], dtype=torch.float64)

    def size(last, alpha):
        return last[1].abs().sum(0)[..., 1] - last[1].abs().sum(0)[..., 0]

    found = dose.run_twins(lambda strength, width: RoundedL1(2, strength, width), start, (1.0, 7.0), {0.02: 40}, size)
    for share, length in enumerate((20, 40)):
        for index, width in enumerate(dose.WIDTHS):
            epsilon = width * 0.02 * 7.0 / 2
            for number, first in enumerate(start.numpy()):
                norms = []
                for strength in (1.0, 7.0):
                    point = first.copy()
                    for _ in range(length):
                        slope = np.sign(point) if epsilon == 0 else np.clip(point / epsilon, -1, 1)
                        point = point - 0.02 * strength * slope
                    norms.append(np.abs(point).sum())
                assert found["effect"][share][0][index][number] == pytest.approx(norms[1] - norms[0], abs=1e-12)
                assert found["dose"][0][index][number] == pytest.approx(1 / width if width else math.inf)
