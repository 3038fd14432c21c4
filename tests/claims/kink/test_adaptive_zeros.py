"""Claim `adaptive-zeros`: the optimizers against plain recursions, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import adaptive_zeros
from nonsmooth.lab import Context, Record

NONE = dict.fromkeys(adaptive_zeros.LIST.value, 0.0)


def fabricate(shares=None, steady=0.0, proximal=1.0, late=(), count=1000):
    """Records with these shares of zeros in every precision; of `late` variants at the last length only."""
    shares = {"Adagrad": 0.15, "RMSprop": 0.7, "proximal": proximal, "RMSprop, bias corrected": steady} | (shares or {})
    records = []
    for cell in adaptive_zeros.study.plan(Settings(seeds=count)):
        share, lengths = shares.get(cell.parameters["variant"], 0.0), len(adaptive_zeros.LENGTHS)
        row = [i < share * count for i in range(count)]
        early = [False] * count if cell.parameters["variant"] in late else row
        zero = [[early] * (lengths - 1) + [row] for _ in cell.parameters["step_sizes"]]
        values = {"step_sizes": list(cell.parameters["step_sizes"]), "zero": zero, "lost": [0] * len(zero)}
        records.append(Record(cell, values))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"shares": NONE}, Verdict.REPRODUCED),
        ({"shares": dict.fromkeys(adaptive_zeros.VARIANTS, 0.5)}, Verdict.NOT_REPRODUCED),
        ({"steady": 0.5}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"proximal": 0.5}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"shares": NONE, "count": 1}, Verdict.INCONCLUSIVE),
        ({"shares": NONE, "count": 20}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    assert adaptive_zeros.study.judge(records).verdict is verdict
    assert adaptive_zeros.study.draw(records)


def test_zeros_that_come_late_are_said_to():
    judgement = adaptive_zeros.study.judge(fabricate(late=("RMSprop", "Adagrad")))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "after 4,000 steps" in judgement.because
    assert {flip.verdict for flip in judgement.robustness.flips} >= {Verdict.REPRODUCED}


def test_the_variants_that_the_paper_runs_are_an_alternative():
    judgement = adaptive_zeros.study.judge(fabricate())
    named = [flip for flip in judgement.robustness.flips if "SGD and Adam" in flip.what]
    assert [flip.verdict for flip in named] == [Verdict.REPRODUCED]
    assert "where Adagrad or RMSprop is among the variants" in judgement.because


def test_entries_that_are_not_finite_are_not_kept():
    records = fabricate(shares=NONE)
    next(r for r in records if r.parameters["variant"] == "Adam").values["lost"][:] = [1]
    assert adaptive_zeros.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_without_a_variant_there_is_no_verdict():
    records = [r for r in fabricate() if r.parameters["variant"] != "Adam"]
    assert adaptive_zeros.study.judge(records).verdict is Verdict.INCONCLUSIVE


def measured(monkeypatch, variant, dtype="float64", steps=300, alpha=0.01):
    monkeypatch.setattr(adaptive_zeros, "LENGTHS", (steps // 2, steps))
    cell = adaptive_zeros.zeros.cell(variant=variant, dtype=dtype, step_sizes=(alpha,), seeds=range(5, 55))
    return adaptive_zeros.study.measure(cell, Context())["zero"][0][-1]


@pytest.mark.parametrize(("variant", "power"), [("SGD, RMSprop's steps", None), ("SGD, Adagrad's steps", 0.5)])
def test_shrinking_steps_against_a_plain_recursion(monkeypatch, variant, power):
    """Bit for bit, in float64; and RMSprop itself ends with the same entries at zero, but for rounding."""
    found, t = measured(monkeypatch, variant, steps=2500), np.arange(1, 2501)
    lengths = 0.01 / np.sqrt(1 - 0.99**t) if power is None else 0.01 / t**power
    point = (torch.rand(50, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1).numpy()
    for length in lengths:
        point = point - length * np.sign(point)
    assert found == (point == 0).tolist()
    if power is None:
        assert sum(found) > 20
        assert np.mean(np.array(measured(monkeypatch, "RMSprop", steps=2500)) == np.array(found)) > 0.9


@pytest.mark.parametrize("variant", ["SGD", "Adam", "RMSprop, bias corrected", "momentum"])
def test_steady_steps_make_no_zero(monkeypatch, variant):
    assert not any(measured(monkeypatch, variant))


def test_rmsprop_makes_as_many_as_predicted(monkeypatch):
    zero = measured(monkeypatch, "RMSprop", "float32", steps=1200)
    assert np.mean(zero) == pytest.approx(adaptive_zeros.slide(0.01), abs=0.15)


def test_the_proximal_step_makes_every_entry_zero(monkeypatch):
    assert all(measured(monkeypatch, "proximal"))


def test_half_precision_is_run(monkeypatch):
    assert sum(measured(monkeypatch, "RMSprop", "float16", steps=600)) > 10
    assert math.isfinite(adaptive_zeros.slide(0.03))
