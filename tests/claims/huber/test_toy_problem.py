"""Claim `toy-problem`: crossings against a loop, Wendel's formula, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import toy_problem as claim
from nonsmooth.lab import Cell, Context, Record

STEPS = claim.LENGTHS[-1]


def fabricate(paper=0.05, small=0.05, tall=1.0, control=1.0, paper_short=None, seeds=16):
    """Records in which the last crossing lies at these shares of the run."""
    records = []

    def add(share, samples, features, penalty="L2", positive=False, short=None):
        shares = {length: share if short is None or length == STEPS else short for length in claim.LENGTHS}
        values = {
            "length": list(claim.LENGTHS),
            "last": [[[int(share * length)] * 4] * seeds for length, share in shares.items()],
            "turning": [[[0.0] * 4] * seeds for _ in claim.LENGTHS],
            "left": [[True] * 4] * seeds,
        }
        parameters = {"part": "crossings", "samples": samples, "features": features, "steps": STEPS, "seeds": seeds}
        parameters |= {"penalty": penalty, "positive": positive}
        records.append(Record(Cell("toy-problem", parameters), values))

    for penalty in claim.PENALTIES:
        add(paper, *claim.PAPER_SIZE, penalty=penalty, short=paper_short)
    add(small, 50, 200)
    for samples in claim.SAMPLES:
        add(tall if samples > 40 else small, samples, 20)
    for samples in claim.TALL:
        add(control, samples, 20, positive=True)
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"paper": 1.0, "small": 1.0}, Verdict.REPRODUCED),
        ({"tall": 0.05}, Verdict.NOT_REPRODUCED),
        ({"control": 0.05}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert claim.study.judge(records).verdict is verdict
    assert claim.study.draw(records)


@pytest.mark.parametrize("missing", [{"positive": True}, {"samples": 20}, {"features": 20}])
def test_a_missing_part_decides_nothing(missing):
    ((key, value),) = missing.items()
    records = [r for r in fabricate() if r.parameters[key] != value]
    assert claim.study.judge(records).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("world", "what"),
    [
        ({"paper": 1.0}, "samples and features: 50, 200 instead of 20, 500"),
        ({"paper_short": 1.0}, "steps of a run: 400 instead of 1,600"),
    ],
)
def test_a_verdict_that_hangs_on_size_or_length_is_named(world, what):
    judgement = claim.study.judge(fabricate(**world))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert what in [one.what for one in judgement.robustness.flips]


def test_data_on_which_the_runs_do_cross_kinks_are_named():
    judgement = claim.study.judge(fabricate())
    assert [one.verdict for one in judgement.robustness.flips] == [Verdict.REPRODUCED]
    assert "This holds with fewer samples than features" in judgement.because


@pytest.mark.parametrize(("samples", "features", "exact"), [(5, 2, 5 / 16), (40, 20, 0.5), (10, 20, 1.0)])
def test_wendel(samples, features, exact):
    """N/2^(N-1) in the plane, a half for N = 2P, 1 for N ≤ P."""
    assert claim.wendel(samples, features) == pytest.approx(exact)


def test_wendel_by_drawing():
    angles = torch.rand(20000, 5, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    ordered = angles.sort(1).values
    around = torch.cat([ordered.diff(dim=1), ordered[:, :1] + 2 * math.pi - ordered[:, -1:]], 1)
    assert float((around.amax(1) > math.pi).float().mean()) == pytest.approx(claim.wendel(5, 2), abs=0.015)


def test_crossings_against_a_plain_loop():
    parameters = {"part": "crossings", "samples": 12, "features": 4, "steps": 400, "seeds": 2}
    parameters |= {"penalty": "L2", "positive": False}
    values = claim.study.measure(Cell("toy-problem", parameters, seed=3), Context())
    assert values["length"] == [400]
    for place, seed in enumerate((3, 4)):
        generator = torch.Generator().manual_seed(seed)
        data = torch.rand(12, 4, generator=generator, dtype=torch.float64) * 2 - 1
        response = -torch.rand(12, generator=generator, dtype=torch.float64)
        start = torch.rand(1, 4, generator=generator, dtype=torch.float64)[0] * 2 - 1
        largest = torch.linalg.eigvalsh(data.T @ data)[-1]
        for column, multiple in enumerate(claim.MULTIPLES):
            point, last, alpha = start, 0, multiple / (largest + 0.01)
            for step in range(1, 401):
                active = (data @ point).clamp(min=0)
                slope = -2 * (response - active) * (active > 0)
                moved = point - alpha * (slope @ data + 0.02 * point)
                if ((data @ moved > 0) != (data @ point > 0)).any():
                    last = step
                point = moved
            assert values["last"][0][place][column] == last


def test_the_plan_has_every_size():
    cells = claim.study.plan(Settings(seeds=2))
    assert len(set(cells)) == len(cells) == 14
