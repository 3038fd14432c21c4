"""Claim `kumar-convex`: its checks on functions known to pass or fail, and the verdict under evidence of every kind."""

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import kumar_convex as claim
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Regression, relu_regression

SEEDS = 20


def fabricate(violations=0, distance=0.0, kink=1.0, advantage=0.0, control=SEEDS):
    """Records with that many violating seeds in each cell of y ≤ 0 (`violations`) and of y > 0 (`control`)."""
    records = []
    for penalty in claim.PENALTIES:
        for positive in claim.POSITIVE:
            broken = control if positive else violations
            values = {
                "violations": [2.0] * broken + [0.0] * (SEEDS - broken),
                "excess": [-1e-7] * SEEDS,
                "distance": [distance] * SEEDS,
                "kink": [kink] * SEEDS,
                "advantage": [advantage] * SEEDS,
                "profile": [1.0] * 81,
            }
            parameters = {"penalty": penalty, "positive": positive, "segments": 10}
            records.append(Record(Cell("kumar-convex", parameters), values))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"violations": 1}, Verdict.NOT_REPRODUCED),
        ({"distance": 0.1}, Verdict.NOT_REPRODUCED),
        ({"kink": 0.0}, Verdict.NOT_REPRODUCED),
        ({"advantage": -0.1}, Verdict.NOT_REPRODUCED),
        ({"control": 0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"control": 4}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    assert claim.judge(records).verdict is verdict
    assert claim.draw(records)


def problem(positive, l1=0.0, link=None):
    generator = torch.Generator().manual_seed(1)
    shape = (1, claim.SAMPLES, claim.FEATURES)
    data = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    response = torch.full((1, claim.SAMPLES), 0.5 if positive else -0.5, dtype=torch.float64)
    return relu_regression(data, response, l1=l1, link=link)


def test_the_segments_find_a_dent_and_only_where_there_is_one():
    generator = torch.Generator().manual_seed(0)
    assert claim._convexity_excess(problem(positive=True), 200, generator).max() > 1e-6
    assert claim._convexity_excess(problem(positive=False), 200, generator).max() <= claim.ROUNDING


def test_the_kink_is_measured_and_a_linear_model_has_none():
    kinked = problem(positive=False)
    linear = Regression(kinked.data, kinked.response)
    assert claim._smallest_kink(kinked, torch.Generator().manual_seed(0)) > 0.1
    assert abs(claim._smallest_kink(linear, torch.Generator().manual_seed(0))) < 1e-6


def test_the_kink_is_the_closed_form():
    """One sample: f'(0; d) + f'(0; -d) = 2|y||z·d|, plus 2λ₁‖d‖₁."""
    kinked = problem(positive=False, l1=0.3)
    generator = torch.Generator().manual_seed(5)
    measured = claim._smallest_kink(kinked, generator)
    directions = claim._directions(torch.Generator().manual_seed(5), 200)[0]
    exact = (2 * 0.5 * (directions @ kinked.data[0].T).abs()).sum(-1) + 2 * 0.3 * directions.abs().sum(-1)
    assert measured == pytest.approx(exact.min().item(), rel=1e-9)


def test_the_search_finds_what_is_lower():
    assert claim._lowest_found(problem(positive=True), torch.Generator().manual_seed(0)) < -0.1
    assert claim._lowest_found(problem(positive=False), torch.Generator().manual_seed(0)) >= 0


def test_a_cell_of_the_plan():
    cell = claim.plan(Settings(seeds=2))[-1]
    values = claim.measure(cell, Context())
    assert len(values["violations"]) == 2
