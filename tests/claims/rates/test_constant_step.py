"""Claim `constant-step`: the runs against a plain loop, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import constant_step
from nonsmooth.claims.rates.constant_step import EDGES, LENGTHS, SPECIAL, TWINS
from nonsmooth.lab import Cell, Context, Record


def fabricate(stable=1.0, unstable=0.0, kink=0.0, count=20, long=0, only=None):
    """Records in which shares of the draws converge; before `long` steps none of them has.

    `only` is the one function with a kink on which constant steps converge, besides the special case.
    """
    records = []
    for name in (*TWINS, *TWINS.values()):
        distance = []
        for length in LENGTHS:
            rows = []
            for edge in EDGES:
                share = kink if name in TWINS else stable if edge < 1 else unstable
                there = count if name in (SPECIAL, only) else round(share * count)
                there = 0 if length < long else there
                rows.append([1e-12 if i * there % count < there else 0.5 for i in range(count)])
            distance.append(rows)
        cell = Cell("constant-step", {"part": "constant", "problem": name, "seeds": count})
        records.append(Record(cell, {"distance": distance}))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"kink": 1.0}, Verdict.NOT_REPRODUCED),
        ({"unstable": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"stable": 0.0}, Verdict.REPRODUCED),
        ({"stable": 0.5}, Verdict.INCONCLUSIVE),
        ({"count": 1}, Verdict.INCONCLUSIVE),
        ({"count": 3}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert constant_step.study.judge(records).verdict is verdict
    assert constant_step.study.draw(records)


def test_a_missing_part_and_a_distance_that_is_no_number_decide_nothing():
    assert constant_step.study.judge([]).verdict is Verdict.INCONCLUSIVE
    assert constant_step.study.judge(fabricate()[1:]).verdict is Verdict.INCONCLUSIVE
    records = fabricate()
    records[0].values["distance"][0][0][0] = math.nan
    judgement = constant_step.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "not a number" in judgement.because


def test_a_run_length_that_turns_the_verdict_is_not_silent():
    judgement = constant_step.study.judge(fabricate(long=1000))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert Verdict.REPRODUCED in [flip.verdict for flip in judgement.robustness.flips]
    assert "number of steps of the runs: 300" in judgement.robustness.flips[0].what


def test_the_special_case_alone_is_named():
    judgement = constant_step.study.judge(fabricate())
    assert [flip.verdict for flip in judgement.robustness.flips] == [Verdict.NOT_REPRODUCED]
    assert "This holds where a run does not leave the kinks behind" in judgement.because


def test_a_function_with_a_kink_that_converges_is_not_silent():
    judgement = constant_step.study.judge(fabricate(only="LASSO"))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("LASSO" in flip.what for flip in judgement.robustness.flips)


@pytest.mark.parametrize("problem", ["Huber regression", "LASSO", "ReLU regression", "‖β‖₁, rounded"])
def test_distances_against_a_plain_loop(problem):
    cell = Cell("constant-step", {"part": "constant", "problem": problem, "seeds": 2}, seed=3)
    found = np.array(constant_step.study.measure(cell, Context())["distance"])
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 20, 50), (2, 20), (2, 50))
    data, response, start = (torch.rand(*s, generator=generator, dtype=torch.float64) * 2 - 1 for s in shapes)
    for seed in range(2):
        z, y, top = data[seed], response[seed], torch.linalg.matrix_norm(data[seed], ord=2).item() ** 2

        def loss(b, z=z, y=y):
            if problem == "Huber regression":
                return torch.nn.functional.huber_loss(z @ b, y)
            if problem == "LASSO":
                return (y - z @ b).square().mean() + 0.1 * b.abs().sum()
            if problem == "ReLU regression":
                return (-y.abs() - torch.relu(z @ b)).square().sum() + b.square().sum()
            return torch.nn.functional.huber_loss(b, torch.zeros_like(b), delta=0.1, reduction="sum") / 0.1

        lipschitz = {"Huber regression": top / 20, "LASSO": top / 10, "ReLU regression": 2 * top + 2}
        alpha = 0.5 * 2 / lipschitz.get(problem, 10.0)
        beta = start[seed].clone()
        for _ in range(LENGTHS[0]):
            free = beta.clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss(free), free)
            beta = beta - alpha * slope
        left = found[0, EDGES.index(0.5), seed]
        if problem == "Huber regression":
            # All β without residuals are stationary: β less its share that the rows of Z can reach.
            nearest = torch.linalg.pinv(z) @ (z @ start[seed] - y)
            expected = (torch.linalg.pinv(z) @ (z @ beta - y)).norm() / nearest.norm()
        elif problem == "LASSO":
            assert 1e-3 < left < 0.3
            continue
        else:
            expected = beta.norm() / start[seed].norm()
        assert left == pytest.approx(expected.item(), rel=1e-6, abs=1e-12)


def test_every_function_is_planned_once():
    cells = constant_step.study.plan(Settings(seeds=2))
    assert sorted(c.parameters["problem"] for c in cells) == sorted((*TWINS, *TWINS.values()))
