"""Claim `step-sizes`: the runs against torch.optim with PyTorch's schedulers, and the verdict under any evidence."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import step_sizes
from nonsmooth.claims.rates.step_size_runs import SCHEDULES, SMOOTH, STEP_SIZES, STEPS, run_problem, series
from nonsmooth.lab import Cell, Context, Record

SEEDS = 12


@pytest.fixture(scope="module")
def sums():
    return series()


def fabricate(sums, kink, patient, smooth):
    """Records in which schedules leave given gaps: reducing on kinks, patient reducing, reducing where smooth."""
    records = [Record(Cell("step-sizes", {"part": "series"}), sums)]
    for problem, alphas in STEP_SIZES.items():
        reducing = smooth if problem in SMOOTH else kink
        left = dict.fromkeys(SCHEDULES, 0.1) | {step_sizes.REDUCING: reducing}
        left |= dict.fromkeys(step_sizes.PATIENT, patient)
        end = [[[left[name]] * SEEDS for _ in alphas] for name in SCHEDULES]
        values = {
            "start": [1.0] * SEEDS,
            "half": end,
            "end": end,
            "median": [[[1.0, 0.5, row[0]] for row in rows] for rows in end],
            "steps": [0, 1, STEPS],
            "alpha": list(alphas),
            "farthest": [0.99] * SEEDS,
            "certificate": 0.0,
        }
        parameters = {"part": "run", "problem": problem, "steps": STEPS, "seeds": SEEDS}
        records.append(Record(Cell("step-sizes", parameters), values))
    return records


@pytest.mark.parametrize(
    ("kink", "patient", "smooth", "verdict"),
    [
        (0.5, 0.5, 0.01, Verdict.REPRODUCED),
        (0.5, 0.01, 0.01, Verdict.EXPLANATION_NOT_SUPPORTED),
        (0.5, 0.5, 0.5, Verdict.EXPLANATION_NOT_SUPPORTED),
        (0.01, 0.01, 0.01, Verdict.NOT_REPRODUCED),
    ],
)
def test_the_evidence_decides(sums, kink, patient, smooth, verdict):
    records = fabricate(sums, kink, patient, smooth)
    judgement = step_sizes.judge(records)
    assert judgement.verdict is verdict
    assert ("finite sum is not the reason" in judgement.because) == (kink > 0.1 > patient)
    assert ("no kink is needed" in judgement.because) == (kink > 0.1 and smooth > 0.1)
    assert step_sizes.draw(records)


def test_seeds_that_disagree_leave_it_open(sums):
    records = fabricate(sums, 0.5, 0.5, 0.01)
    row = list(SCHEDULES).index(step_sizes.REDUCING)
    for record in records[1:]:
        for gaps in record.values["end"][row]:
            gaps[:] = [0.5, 0.01] * (SEEDS // 2)
    judgement = step_sizes.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "at least 6 seeds" in judgement.decided_by


@pytest.mark.parametrize("name", ["StepLR(30, 0.1)", "diminishing, p = 0.5"])
def test_another_series_is_not_the_papers(sums, name):
    row = sums["names"].index(name)
    other = sums | {"sums": [list(r) for r in sums["sums"]]}
    other["sums"][row] = [50.0] * len(sums["lengths"])
    assert step_sizes.judge(fabricate(other, 0.5, 0.5, 0.01)).verdict is Verdict.NOT_REPRODUCED


def test_sums(sums):
    by_name = dict(zip(sums["names"], sums["sums"], strict=True))
    assert by_name["StepLR(30, 0.1)"][-1] == pytest.approx(30 / 0.9)
    assert by_name["summable, p = 2"][-1] == pytest.approx(math.pi**2 / 6, abs=1e-3)
    for n, total in zip(sums["lengths"], by_name["diminishing, p = 1"], strict=True):
        assert total == pytest.approx(math.log(n) + 0.5772156649 + 0.5 / n, abs=1e-2 / n)


@pytest.mark.parametrize(("every", "gamma"), [(30, 0.1), (100, 0.5)])
def test_the_schedule_is_pytorchs_steplr(every, gamma):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = torch.optim.lr_scheduler.StepLR(optimiser, every, gamma), []
    for _ in range(STEPS):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    schedule = SCHEDULES[f"StepLR({every}, {gamma})"]
    assert [schedule.factor(t) for t in range(STEPS)] == pytest.approx(rates, rel=1e-9)


def sgd_gap(closure, start, alpha, schedule):
    """f after the steps of torch.optim.SGD under a scheduler."""
    beta = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([beta], lr=alpha)
    scheduler = schedule(optimiser)
    for _ in range(STEPS):
        optimiser.zero_grad()
        closure(beta).backward()
        optimiser.step()
        scheduler.step()
    return closure(beta).item()


def test_runs_against_torch_sgd_and_its_schedulers():
    values = run_problem("L2", 1, 5)
    generator = torch.Generator().manual_seed(5)
    shapes = ((1, 20, 500), (1, 500), (1, 20))
    data, start, response = (torch.rand(*s, generator=generator, dtype=torch.float64)[0] * 2 - 1 for s in shapes)
    response = -response.abs()

    def l2(beta):
        return (response - torch.relu(data @ beta)).square().sum() + 0.01 * beta.square().sum()

    rules = {
        "StepLR(30, 0.1)": lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.1),
        "diminishing, p = 0.5": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: (t + 1) ** -0.5),
    }
    for name, rule in rules.items():
        expected = sgd_gap(l2, start, STEP_SIZES["L2"][1], rule) - response.square().sum().item()
        assert values["end"][list(SCHEDULES).index(name)][1][0] == pytest.approx(expected, rel=1e-8)


def test_minimum_of_the_lasso_is_certified():
    values = run_problem("L4", 2, 0)
    assert 0 <= values["certificate"] < 1e-9
    assert np.min(values["end"]) > -1e-9


def test_travel_decides_on_l3(sums):
    record = Record(
        Cell("step-sizes", {"part": "run", "problem": "L3", "steps": STEPS, "seeds": 3}), run_problem("L3", 3, 1)
    )
    shares = {v.name: v.value for v in step_sizes._travel_values([record], sums)}
    assert shares == {"travel_far": 1.0, "travel_short": 0.0}
    row = list(SCHEDULES).index("summable, p = 2")
    alpha, travel = record["alpha"][0], sums["travel"][row]
    generator = torch.Generator().manual_seed(1)
    start = (torch.rand(3, 100, generator=generator, dtype=torch.float64) * 2 - 1).abs()
    # Where no coordinate settles for long, the gap left is what the steps could not travel.
    left = (start - alpha * travel).clamp(min=0).sum(1)
    assert record["end"][row][0] == pytest.approx(left.tolist(), abs=100 * alpha * 0.1)


def test_plan_and_measure():
    cells = step_sizes.plan(Settings(seeds=1))
    assert len(cells) == 1 + len(STEP_SIZES)
    cell = next(c for c in cells if c.parameters.get("problem") == "L3 twin")
    assert len(step_sizes.measure(cell, Context())["end"]) == len(SCHEDULES)
