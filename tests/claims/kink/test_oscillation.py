"""Claim `oscillation`: the cycle against a plain loop, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import oscillation
from nonsmooth.lab import Cell, Context, Record

COUNT = 100


def fabricate(twin_values, cycling=COUNT, offset=0, above=0.01, below=0.0, left=0.1, largest=0.9, count=COUNT):
    """Records in which `cycling` of each hundred starts cycle, and others move by so much at the end."""
    records = []
    for features, strength in oscillation.SIZES:
        values = {
            "measured": [9 + offset] * count,
            "predicted": [9] * count,
            "margin": [0.2] * count,
            "alternates": [i < cycling for i in range(count)],
            "largest": [largest] * count,
            "hop": [1.0] * count,
        }
        parameters = {"part": "kink", "features": features, "strength": strength, "dtype": "float64", "seeds": count}
        records.append(Record(Cell("oscillation", parameters), values))
    twin = twin_values(oscillation.STEP_SIZES, below, above)
    names, ends = ["constant", "slow", "slower", "proximal, constant"], [1.0, left, left, 0.0]
    size = [[[1.0] * 20, [0.01] * 20, [0.01 * end] * 20] for end in ends]
    kept = {"rule": names, "last_step": ends, "at": [0, 400, 1600], "size": size}
    for part, values in (("dose", twin), ("kept", kept)):
        records.append(Record(Cell("oscillation", {"part": part, "seeds": 20}), values))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"below": 0.01}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"above": 0.0}, Verdict.REPRODUCED),
        ({"above": 0.0, "left": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"above": 0.0, "offset": 1}, Verdict.WITH_CORRECTION),
        ({"cycling": 90}, Verdict.NOT_REPRODUCED),
        ({"cycling": 99}, Verdict.INCONCLUSIVE),
        ({"cycling": 5, "count": 5}, Verdict.INCONCLUSIVE),
        ({"left": math.nan}, Verdict.INCONCLUSIVE),
        ({"largest": math.nan}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(twin_values, evidence, verdict):
    records = fabricate(twin_values, **evidence)
    judgement = oscillation.study.judge(records)
    assert judgement.verdict is verdict
    assert oscillation.study.draw(records)


def test_the_correction_states_the_offset(twin_values):
    assert "+3 steps" in oscillation.study.judge(fabricate(twin_values, above=0.0, offset=3)).correction


def test_misses_are_named_with_their_distance(twin_values):
    assert "2.0e-01" in oscillation.study.judge(fabricate(twin_values, offset=1)).notes[0]
    assert oscillation.study.judge(fabricate(twin_values)).notes == ()


def test_a_norm_above_the_bound_is_no_cycle_of_the_proposition(twin_values):
    records = fabricate(twin_values)
    records[0].values["largest"][:] = [1.5] * COUNT
    assert oscillation.study.judge(records).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_n0_against_a_plain_loop(strength):
    parameters = {"part": "kink", "features": 3, "strength": strength, "dtype": "float64", "seeds": 20}
    record = oscillation.study.measure(Cell("oscillation", parameters, seed=4), Context())
    generator = torch.Generator().manual_seed(4)
    starts = torch.rand(1, 20, 3, generator=generator, dtype=torch.float64)[0] * 2 - 1
    travel = 0.01 * strength
    for start, n0 in zip(starts, record["measured"], strict=True):
        points = [start]
        for _ in range(150):
            points.append(points[-1] - travel * points[-1].sign())
        same = [bool(torch.allclose(a, b, atol=1e-9)) for a, b in zip(points, points[2:], strict=False)]
        assert n0 == same.index(True)
        assert all(same[n0:])


def test_what_a_list_of_widths_turns_is_named(twin_values):
    robustness = oscillation.study.judge(fabricate(twin_values)).robustness
    turned = [flip for flip in robustness.flips if "widths" in flip.what]
    assert {flip.verdict for flip in turned} == {Verdict.INCONCLUSIVE}
    assert len(turned) == 2


def test_measured_evidence():
    cells = [c for c in oscillation.study.plan(Settings(seeds=8)) if c.parameters.get("features") != 1000]
    records = [Record(cell, oscillation.study.measure(cell, Context())) for cell in cells]
    judgement = oscillation.study.judge(records)
    control = {v.name: v.value for v in judgement.control}
    assert (control["converges_at"], control["oscillates_at"]) == pytest.approx((0.99, 1.01))
    assert control["end_3"] == 0
    assert next(v for v in judgement.measured if v.name == "n0_met").value == 1
