"""Claim `kumar-convex`: its checks on functions known to pass or fail, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import kumar_convex as claim
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Regression, relu_regression
from nonsmooth.problems.convexity import (
    convexity_excess,
    directions,
    lowest_found,
    slope_jumps,
    smallest_kink,
)

SEEDS = 20


def fabricate(excess=-1e-7, distance=0.0, kink=1.0, advantage=0.0, jump=0.01, control=SEEDS):
    """Records in which y ≤ 0 has these values, and `control` seeds of y > 0 have a falling slope."""
    records = []
    for penalty in claim.PENALTIES:
        for positive in claim.POSITIVE:
            values = {
                "violations": [2.0 if positive else 0.0] * SEEDS,
                "excess": [1.0 if positive else excess] * SEEDS,
                "distance": [distance] * SEEDS,
                "kink": [kink] * SEEDS,
                "advantage": [advantage] * SEEDS,
                "profile": [1.0] * 81,
            }
            shared = {"penalty": penalty, "positive": positive, "seeds": SEEDS}
            records.append(Record(Cell("kumar-convex", {**shared, "segments": 10}), values))
            jumps = [-0.5] * control + [0.01] * (SEEDS - control) if positive else [jump] * SEEDS
            records.append(Record(Cell("kumar-convex", {**shared, "part": "jump"}), {"jump": jumps}))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"excess": 1e-3}, Verdict.NOT_REPRODUCED),
        ({"jump": -0.01}, Verdict.NOT_REPRODUCED),
        ({"distance": 0.1}, Verdict.NOT_REPRODUCED),
        ({"advantage": -0.1}, Verdict.NOT_REPRODUCED),
        ({"kink": 0.0}, Verdict.NOT_REPRODUCED),
        ({"control": 0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"control": 10}, Verdict.INCONCLUSIVE),
        *(({name: math.nan}, Verdict.INCONCLUSIVE) for name in ("excess", "jump", "distance", "advantage", "kink")),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    assert claim.study.judge(records).verdict is verdict
    assert claim.study.draw(records)


@pytest.mark.parametrize("missing", [{"part": "jump"}, {"segments": 10}, {"positive": 1}])
def test_a_missing_part_decides_nothing(missing):
    ((key, value),) = missing.items()
    records = [r for r in fabricate() if r.parameters.get(key) != value]
    assert claim.study.judge(records).verdict is Verdict.INCONCLUSIVE


def problem(positive, l1=0.0):
    generator = torch.Generator().manual_seed(1)
    shape = (1, claim.SAMPLES, claim.FEATURES)
    data = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    response = torch.full((1, claim.SAMPLES), -0.5, dtype=torch.float64)
    response[:, :positive] *= -1
    return relu_regression(data, response, l1=l1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_segments_find_a_dent_and_only_where_there_is_one():
    assert convexity_excess(problem(positive=20), 200, generator()).max() > 1e-6
    assert convexity_excess(problem(positive=0), 200, generator()).max() <= 1e-9


def test_the_slope_jumps_by_the_closed_form():
    for positive in (0, 1):
        one = problem(positive=positive)
        exact = -one.response[0] / one.response.abs().max()
        assert slope_jumps(one, generator(3)).tolist() == pytest.approx(exact.tolist(), abs=1e-6)


def test_the_jump_finds_a_single_positive_entry_that_segments_miss():
    one, seen = problem(positive=1), 0
    for seed in range(2, 7):
        assert slope_jumps(one, generator(seed)).min() < -0.9
        seen += bool(convexity_excess(one, 40, generator(seed)).max() > 1e-9)
    assert seen < 5


def test_the_kink_is_measured_and_a_linear_model_has_none():
    kinked = problem(positive=0)
    linear = Regression(kinked.data, kinked.response)
    assert smallest_kink(kinked, generator()) > 0.1
    assert abs(smallest_kink(linear, generator())) < 1e-6


def test_the_kink_is_the_closed_form():
    """One sample: f'(0; d) + f'(0; -d) = 2|y||z·d|, plus 2λ₁‖d‖₁."""
    kinked = problem(positive=0, l1=0.3)
    drawn = directions(claim.FEATURES, 200, generator(5))[0]
    exact = (2 * 0.5 * (drawn @ kinked.data[0].T).abs()).sum(-1) + 2 * 0.3 * drawn.abs().sum(-1)
    assert smallest_kink(kinked, generator(5)) == pytest.approx(exact.min().item(), rel=1e-9)


def test_the_search_finds_what_is_lower():
    assert lowest_found(problem(positive=20), generator()) < -0.1
    assert lowest_found(problem(positive=0), generator()) >= 0


def test_cells_of_the_plan():
    segments, jumps = claim.study.plan(Settings(seeds=2))[-2:]
    assert len(claim.study.measure(segments, Context())["violations"]) == 2
    assert max(claim.study.measure(jumps, Context())["jump"]) < 0
