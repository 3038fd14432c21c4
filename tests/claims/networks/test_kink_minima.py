"""Claim `kink-minima`: slopes against closed forms, and the verdict under evidence of every kind."""

import math

import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import kink_minima as claim
from nonsmooth.lab import Cell, Context, Record

SEEDS = 10


def fabricate(hinge=0.5, fits=1e-7, smooth=1e-6, rest=0.02, half=None, seeds=SEEDS):
    """Records in which the slope jumps by so much at rest."""
    records = []
    for kind in claim.KINDS:
        at_rest = fits if kind in claim.FITTING else smooth if kind in claim.SMOOTH else hinge
        for steps in (2000, 1000):
            jump = half if half is not None and kind == "hinge" and steps == 1000 else at_rest
            values = {
                "loss": [0.1] * seeds,
                "rest": [rest] * seeds,
                "loss_kinks": [3] * seeds,
                "units_on_kinks": [2] * seeds,
                "jump": [[1e-8, 1e-8, jump]] * seeds,
                "nearest": [[0.1, 0.1, 1e-9]] * seeds,
            }
            parameters = {"part": "minimum", "kind": kind, "steps": steps, "seeds": seeds}
            records.append(Record(Cell("kink-minima", parameters), values))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"fits": 0.5}, Verdict.REPRODUCED),
        ({"hinge": 1e-8}, Verdict.NOT_REPRODUCED),
        ({"smooth": 0.5}, Verdict.INCONCLUSIVE),
        ({"rest": 0.5}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        *(({name: math.nan}, Verdict.INCONCLUSIVE) for name in ("hinge", "fits", "smooth", "rest")),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert claim.study.judge(records).verdict is verdict
    assert claim.study.draw(records)


@pytest.mark.parametrize("kind", ["hinge", "hinge_fits", "smooth"])
def test_a_missing_kind_decides_nothing(kind):
    records = [r for r in fabricate() if r.parameters["kind"] != kind]
    assert claim.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_verdict_that_hangs_on_the_length_is_named():
    judgement = claim.study.judge(fabricate(half=1e-8))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    against = [one.what for one in judgement.robustness.flips if one.verdict is not Verdict.INCONCLUSIVE]
    assert against == ["length of the runs: half instead of whole"]


def test_measured_kinds():
    def measure(kind, steps):
        parameters = {"part": "minimum", "kind": kind, "steps": steps, "seeds": 3}
        return claim.study.measure(Cell("kink-minima", parameters), Context())

    kinked, smooth = measure("squared", 600), measure("smooth", 600)
    assert all(start < 1e-5 and random < 1e-5 and end > 1e-3 for start, random, end in kinked["jump"])
    assert all(end < 1e-4 for _, _, end in smooth["jump"])
    assert all(
        units > 0 and near[2] < 1e-6 for units, near in zip(kinked["units_on_kinks"], kinked["nearest"], strict=True)
    )


def test_the_plan_runs_what_decides_twice():
    cells = claim.study.plan(Settings(seeds=2))
    assert len(set(cells)) == len(cells)
    assert {c.parameters["steps"] for c in cells if c.parameters["kind"] == "hinge"} == {1000, 2000}
