"""Claim `step-sizes`: the runs against torch.optim with PyTorch's schedulers, and the verdict under any evidence."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import step_sizes
from nonsmooth.claims.rates.step_size_evidence import count_arrivals, settings_above
from nonsmooth.claims.rates.step_size_runs import (
    DIMINISHING,
    FINITE,
    LENGTHS,
    REDUCING,
    SCHEDULES,
    STEP_SIZES,
    STEPS,
    WIDTH,
    run_problem,
)
from nonsmooth.lab import Cell, Context, Record

SEEDS = 20


@pytest.fixture(scope="module")
def sums():
    return step_sizes.study.measure(Cell("step-sizes", {"part": "series"}), Context())


def fabricate(sums, far=1.0, short=0.0, diminishing=1.0, twin=0.0, seeds=SEEDS, turns_at=0):
    """Records in which shares of the seeds arrive.

    `far` and `short` are of finite sums that reach the minimum or not, `diminishing` of diminishing steps that do, and
    `twin` of finite sums on the twin that do not. Before `turns_at` steps StepLR ends below the diminishing steps.
    """
    records = [Record(Cell("step-sizes", {"part": "series"}), sums)]
    for problem, alphas in STEP_SIZES.items():
        left = {name: 0.5 if name == REDUCING else 0.1 for name in SCHEDULES}
        end = [[[left[name]] * seeds for _ in alphas] for name in SCHEDULES]
        both = {"start": [1.0] * seeds, "farthest": [0.99] * seeds}
        along = {
            "half": end,
            "end": end,
            "median": [[[1.0, 0.5, row[0]] for row in rows] for rows in end],
            "steps": [0, 1, STEPS],
            "alpha": list(alphas),
            "certificate": 0.0,
        }
        gap, size = [], []
        for name, schedule in SCHEDULES.items():
            early = 0.01 if name == REDUCING else left[name]
            gap.append([[[early if n < turns_at else left[name]] * seeds for n in LENGTHS] for _ in alphas])
            size.append([])
            for alpha in alphas:
                size[-1].append([])
                for n in LENGTHS:
                    last = WIDTH if "twin" in problem else alpha * schedule.factor(n - 1)
                    reaches = alpha * sum(schedule.factor(t) for t in range(n)) >= 0.99
                    share = (far if reaches else twin if "twin" in problem else short) if name in FINITE else (
                        diminishing if reaches else 0.0
                    )  # fmt: skip
                    there = math.floor(share * seeds + 0.5)
                    size[-1][-1].append([last if i * there % seeds < there else 0.9 for i in range(seeds)])
        for part, values in (("run", along), ("lengths", {"gap": gap, "size": size})):
            parameters = {"part": part, "problem": problem, "seeds": seeds}
            parameters |= {"steps": STEPS} if part == "run" else {}
            records.append(Record(Cell("step-sizes", parameters), both | values))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"far": 0.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"far": 0.0, "twin": 1.0}, Verdict.REPRODUCED),
        ({"short": 1.0}, Verdict.NOT_REPRODUCED),
        ({"diminishing": 0.0}, Verdict.NOT_REPRODUCED),
        ({"short": 0.5}, Verdict.INCONCLUSIVE),
        ({"far": 0.5}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(sums, world, verdict):
    records = fabricate(sums, **world)
    assert step_sizes.study.judge(records).verdict is verdict
    assert step_sizes.study.draw(records)


def test_a_missing_part_and_a_size_that_is_no_number_decide_nothing(sums):
    assert step_sizes.study.judge([]).verdict is Verdict.INCONCLUSIVE
    assert step_sizes.study.judge(fabricate(sums)[:-2]).verdict is Verdict.INCONCLUSIVE
    records = fabricate(sums)
    lengths = next(r for r in records if r.parameters["part"] == "lengths" and r.parameters["problem"] == "L3")
    lengths.values["size"][1][0][-1][3] = math.nan
    judgement = step_sizes.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not a number" in judgement.because


@pytest.mark.parametrize("turns_at", [0, 300, 2000])
def test_who_is_ahead_when_turns_no_verdict(sums, turns_at):
    """The verdict flipped between 300 and 1,000 steps when the rule asked which schedule ends lower."""
    judgement = step_sizes.study.judge(fabricate(sums, turns_at=turns_at))
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    assert all("has arrived: 0.001" in one.what for one in judgement.robustness.flips)
    lengths = [what for what in judgement.robustness.unchanged if "number of steps" in what]
    assert len(lengths) == len(LENGTHS) - 1
    ahead = {v.name: v.value for v in judgement.measured}
    assert [ahead[f"higher_{n}"] for n in LENGTHS] == [float(n >= turns_at) for n in LENGTHS]


@pytest.mark.parametrize("name", ["StepLR(30, 0.1)", "diminishing, p = 0.5"])
def test_another_series_is_not_the_papers(sums, name):
    row = sums["names"].index(name)
    other = sums | {"sums": [list(r) for r in sums["sums"]]}
    other["sums"][row] = [50.0] * len(sums["lengths"])
    assert step_sizes.study.judge(fabricate(other)).verdict is Verdict.NOT_REPRODUCED


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
    found = run_problem("L2", 1, 5, (0, STEPS))
    generator = torch.Generator().manual_seed(5)
    shapes = ((1, 20, 500), (1, 500), (1, 20))
    data, start, response = (torch.rand(*s, generator=generator, dtype=torch.float64)[0] * 2 - 1 for s in shapes)
    response = -response.abs()

    def l2(beta):
        return (response - torch.relu(data @ beta)).square().sum() + 0.01 * beta.square().sum()

    rules = {
        REDUCING: lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.1),
        DIMINISHING: lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: (t + 1) ** -0.5),
    }
    for name, rule in rules.items():
        expected = sgd_gap(l2, start, STEP_SIZES["L2"][1], rule) - response.square().sum().item()
        assert found.gap[list(SCHEDULES).index(name), 1, -1, 0].item() == pytest.approx(expected, rel=1e-8)


def test_minimum_of_the_lasso_is_certified():
    found = run_problem("L4", 2, 0, (0, 200))
    assert 0 <= found.certificate < 1e-9
    assert found.gap.min() > -1e-9


def test_travel_decides_on_l3_and_the_left_gap_is_what_it_lacks():
    record = Record(
        Cell("step-sizes", {"part": "lengths", "problem": "L3", "seeds": 3}, seed=1),
        step_sizes.study.measure(
            Cell("step-sizes", {"part": "lengths", "problem": "L3", "seeds": 3}, seed=1), Context()
        ),
    )
    for length in LENGTHS:
        arrived = count_arrivals(record, length, FINITE)
        assert arrived[True, True] == arrived[False, True] == (3, 3)
        assert arrived[True, False] == arrived[False, False] == (0, 3)
    row, alpha = list(SCHEDULES).index("summable, p = 2"), STEP_SIZES["L3"][0]
    travel = alpha * sum(SCHEDULES["summable, p = 2"].factor(t) for t in range(STEPS))
    generator = torch.Generator().manual_seed(1)
    start = (torch.rand(3, 100, generator=generator, dtype=torch.float64) * 2 - 1).abs()
    # Where no coordinate settles for long, the gap left is what the steps could not travel.
    left = (start - travel).clamp(min=0).sum(1)
    assert np.array(record["gap"])[row, 0, -1] == pytest.approx(left.tolist(), abs=100 * alpha * 0.1)


def test_what_counts_as_arrival_turns_the_verdict_and_is_named(sums):
    judgement = step_sizes.study.judge(fabricate(sums))
    assert [one.verdict for one in judgement.robustness.flips] == [Verdict.NOT_REPRODUCED]
    assert "This holds where a run that is within its last step of the minimum has arrived" in judgement.because


def test_who_is_ahead_is_counted_over_settings(sums):
    records = fabricate(sums, turns_at=300)
    runs = step_sizes.lengths
    found = [r for r in records if runs.measures(r.cell)]
    evidence = step_sizes.Evidence(found, step_sizes.study.experiments)[runs]
    assert settings_above(evidence, ["L3", "L4"], 200).value == 0
    assert settings_above(evidence, ["L3", "L4"], 300).value == 1


def test_plan_and_measure():
    cells = step_sizes.study.plan(Settings(seeds=1))
    assert len(cells) == 1 + 2 * len(STEP_SIZES)
    cell = next(c for c in cells if c.parameters.get("problem") == "L3 twin")
    assert len(step_sizes.study.measure(cell, Context())["end"]) == len(SCHEDULES)


@pytest.mark.parametrize("value", ["sums", "limits"])
def test_sums_that_are_no_numbers_decide_nothing(sums, value):
    broken = {**sums, value: [[math.nan] * len(row) if value == "sums" else math.nan for row in sums[value]]}
    assert step_sizes.study.judge(fabricate(broken)).verdict is Verdict.INCONCLUSIVE
