"""Claim `bound`: the norms against numpy, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import bound
from nonsmooth.lab import Cell, Context, Record

COUNT = 100


def fabricate(example=1.06, worse=None, better=None, infinity=0.9, count=COUNT):
    """Records whose norms over αλ are given as functions of P."""
    values = {"strengths": [1.0, 100.0], "better": [0.9, 0.9], "worse": [example] * 2, "infinity": [0.5] * 2}
    records = [Record(Cell("bound", {"part": "paper"}), values)]
    for features in bound.SIZES:
        high = worse(features) if worse else 0.6 * features
        low = better(features) if better else 0.4 * features
        values = {
            "better": [low] * count,
            "worse": [high] * count,
            "infinity": [infinity] * count,
            "total": [low + high] * count,
            "lipschitz": features**0.5,
            "proximal": [0.0],
        }
        records.append(Record(Cell("bound", {"part": "random", "features": features, "seeds": count}), values))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"example": 0.9, "worse": lambda p: 0.9}, Verdict.REPRODUCED),
        ({"example": 1.06, "worse": lambda p: 0.9}, Verdict.WITH_CORRECTION),
        ({"infinity": 1.2, "worse": lambda p: 2.0 * p, "better": lambda p: 1.5 * p}, Verdict.NOT_REPRODUCED),
        ({"count": 5}, Verdict.INCONCLUSIVE),
        ({"infinity": math.nan}, Verdict.INCONCLUSIVE),
        ({"example": math.nan, "worse": lambda p: 0.9}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    assert bound.study.judge(records).verdict is verdict
    assert bound.study.draw(records)


def test_the_correction_lists_only_what_holds():
    text = bound.study.judge(fabricate(infinity=1.2)).correction
    assert "∞" not in text
    assert "Pαλ₁/2" in text


def test_norms_against_a_plain_loop():
    cell = Cell("bound", {"part": "random", "features": 4, "seeds": 30}, seed=7)
    record = bound.study.measure(cell, Context())
    start = torch.rand(1, 30, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)[0].numpy() * 2 - 1
    points = [start]
    for _ in range(bound.STEPS):
        points.append(points[-1] - 0.01 * np.sign(points[-1]))
    lengths = np.stack([np.abs(p).sum(1) / 0.01 for p in points[-2:]])
    assert record["better"] == pytest.approx(lengths.min(0))
    assert record["worse"] == pytest.approx(lengths.max(0))
    assert record["infinity"] == pytest.approx(np.stack([np.abs(p).max(1) / 0.01 for p in points[-2:]]).max(0))


def test_measured_evidence():
    cells = [c for c in bound.study.plan(Settings(seeds=200)) if c.parameters.get("features", 1) <= 30]
    records = [Record(cell, bound.study.measure(cell, Context())) for cell in cells]
    judgement = bound.study.judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    measured = {v.name: v for v in judgement.measured}
    assert measured["paper_worse_1"].value == pytest.approx(1.06)
    assert measured["paper_worse_100"].value == pytest.approx(1.0106)
    for predicted in judgement.predicted:
        share = measured[predicted.name]
        assert share.low - 0.03 <= predicted.value <= share.high + 0.03


def test_without_random_starts_there_is_no_verdict():
    assert bound.study.judge(fabricate()[:1]).verdict is Verdict.INCONCLUSIVE
    assert bound.study.judge(fabricate()[1:]).verdict is Verdict.INCONCLUSIVE
