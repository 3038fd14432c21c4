"""Claim `huber-smooth`: the instrument on small data, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import huber_smooth
from nonsmooth.lab import Cell, Context, Record


def fabricate(*, near=1.0, far=1.0, quotient=1.0, squared=1.0, shrinking=True, spread=0.0, shorter=None, seeds=8):
    """Records of a world in which the thresholds and the largest quotient are the given ones."""
    spreading = np.linspace(-spread, spread, seeds)
    distance = [1e-4, 1e-3, 1e-2]
    records = []

    def add(values, **parameters):
        records.append(Record(Cell("huber-smooth", {**parameters, "seeds": seeds}), values))

    for entries in ("uniform", "normal"):
        for loss, top in (("huber", quotient), ("absolute", 1e6)):
            add(
                {
                    "smoothness": [3.0] * seeds,
                    "distance": distance,
                    "quotient": [[top, 0.9 * top, 0.5]] * seeds,
                    "length": [1e-6, 1.0],
                    "across": [[top, 0.1]] * seeds,
                },
                part="constant",
                loss=loss,
                entries=entries,
            )
        for loss, ratio in (("huber", near), ("squared", squared), ("pseudo-huber", 1.0)):
            values = {"distance": distance, "ratio": [[ratio * (1 + s)] * 3 for s in spreading]}
            add(values, part="near", loss=loss, entries=entries)
        row = [1e-4, 1e-3, 1e-2] if shrinking else [1.0, 1.0, 1.0]
        add({"distance": distance, "ratio": [row] * seeds}, part="near", loss="absolute", entries=entries)
        for loss, ratio in (("huber", far), ("squared", squared), ("absolute", 0.0)):
            values = {"ratio": [ratio * (1 + s) for s in spreading]}
            add(values, part="far", loss=loss, entries=entries, start="uniform")
    for loss in ("huber", "squared", "absolute"):
        values = {"ratio": [0.5, 2.0], "reached": [1e-20, 0.5]}
        add(values, part="sweep", loss=loss, entries="uniform")
    for entries in ("uniform", "normal"):
        values = {"ratio": [(far if shorter is None else shorter) * (1 + s) for s in spreading]}
        add(values, part="far, shorter", entries=entries, steps=500)
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.NOT_REPRODUCED),
        ({"quotient": 50.0}, Verdict.NOT_REPRODUCED),
        ({"near": 3.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"far": 0.5}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"far": 3.0, "quotient": 50.0}, Verdict.REPRODUCED),
        ({"near": 3.0, "quotient": 0.8}, Verdict.REPRODUCED),
        ({"squared": 0.9}, Verdict.INCONCLUSIVE),
        ({"shrinking": False}, Verdict.INCONCLUSIVE),
        ({"near": 1.01, "spread": 0.008}, Verdict.INCONCLUSIVE),
        ({"far": math.nan}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        ({"quotient": math.nan, "near": 3.0}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    judgement = huber_smooth.study.judge(records)
    assert judgement.verdict is verdict
    assert huber_smooth.study.draw(records)


def test_a_quotient_above_the_constant_is_seen_by_the_text_too():
    assert "up to 1·L" in huber_smooth.study.judge(fabricate()).headline.ours
    assert "up to 1.001·L" in huber_smooth.study.judge(fabricate(quotient=1.001)).headline.ours


@pytest.mark.parametrize("part", ["constant", "near", "far", "sweep"])
def test_a_missing_part_decides_nothing(part):
    records = [r for r in fabricate() if r.parameters["part"] != part]
    assert huber_smooth.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_threshold_that_hangs_on_the_run_length_is_named():
    judgement = huber_smooth.study.judge(fabricate(shorter=0.5))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert [one.what for one in judgement.robustness.flips] == ["steps of a run from afar: 500 instead of 1,000"]


@pytest.mark.parametrize(("loss", "low", "high"), [("huber", 0.999, 1.001), ("absolute", 0.0, 0.2)])
def test_bisection_near_a_minimiser(loss, low, high):
    cell = Cell("huber-smooth", {"part": "near", "loss": loss, "entries": "uniform", "seeds": 1})
    (row,) = huber_smooth.study.measure(cell, Context())["ratio"]
    assert all(low <= ratio <= high for ratio in row)


def test_the_search_for_the_constant_finds_the_largest_hessian_eigenvalue():
    cell = Cell("huber-smooth", {"part": "constant", "loss": "huber", "entries": "normal", "seeds": 2}, seed=5)
    values = huber_smooth.study.measure(cell, Context())
    for row in values["quotient"]:
        assert 1 - 1e-6 <= max(row) <= 1 + 1e-9
        assert row[-1] < 0.9


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_the_plan_counts_its_seeds(scale):
    cells = huber_smooth.study.plan(Settings(scale=scale, seeds=3, first_seed=7))
    assert len(set(cells)) == len(cells)
    assert {cell.seed for cell in cells} == {7}
    assert {cell.parameters["part"] for cell in cells} == {"constant", "near", "far", "far, shorter", "sweep"}
