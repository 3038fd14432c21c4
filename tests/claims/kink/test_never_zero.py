"""Claim `never-zero`: the counts on the machine, and the verdict under evidence of every kind."""

import math

import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import never_zero
from nonsmooth.claims.kink.finite_precision import DTYPES
from nonsmooth.lab import Cell, Context, Record

COUNT = 10_000


def fabricate(hits=None, exact=None, count=COUNT, **changes):
    """Records with `hits` and a listed probability by precision; `changes` go into every record."""
    hits, exact = hits or {}, exact or {}
    records = []
    for dtype in DTYPES:
        for travel in never_zero.TRAVELS:
            listed = exact.get(dtype, 0.0 if dtype in ("bfloat16", "float16") else math.nan)
            values = {
                "hits": [hits.get(dtype, 0)] * 2,
                "at_start": [0, 0],
                "multiples": [hits.get(dtype, 0)] * 2,
                "exact": [listed] * 2,
                "share": [[0.0, 0.0]] * 2,
                "steps": [0, 100],
                "planted": 100,
                "planted_zero": 100,
                "beside_zero": 0,
                "proximal_zero": 50,
                "proximal_count": 50,
            }
            cell = Cell("never-zero", {"dtype": dtype, "travel": travel, "seeds": count})
            records.append(Record(cell, values | changes))
    other = {"at_zero": [0.0, 1.0], "kept": [5, 0], "differing": [0, 0]}
    return [*records, Record(Cell("never-zero", {"part": "at_zero", "seeds": 10}), other)]


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({"hits": {"bfloat16": 30}}, Verdict.WITH_CORRECTION),
        ({"exact": {"float16": 0.01}}, Verdict.WITH_CORRECTION),
        ({"hits": {"float64": 3}}, Verdict.NOT_REPRODUCED),
        ({"hits": {"bfloat16": 30}, "planted_zero": 90}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"hits": {"bfloat16": 30}, "beside_zero": 1}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"hits": {"bfloat16": 30}, "proximal_zero": 49}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({}, Verdict.INCONCLUSIVE),
        ({"hits": {"bfloat16": 3}, "count": 4}, Verdict.INCONCLUSIVE),
        ({"count": 10**9}, Verdict.REPRODUCED),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    assert never_zero.study.judge(records).verdict is verdict
    assert never_zero.study.draw(records)


def test_the_correction_carries_the_evidence():
    first = never_zero.study.judge(fabricate(exact={"bfloat16": 0.0123})).correction
    second = never_zero.study.judge(fabricate(exact={"bfloat16": 0.0456})).correction
    assert "0.012" in first
    assert "0.046" in second


def test_measured_cells():
    records = [
        Record(cell, never_zero.study.measure(cell, Context()))
        for cell in never_zero.study.plan(Settings(seeds=16384))
        if cell.parameters.get("dtype") != "float32"
    ]
    *counts, other = records
    by_cell = {(r.parameters["dtype"], r.parameters["travel"]): r for r in counts}
    assert other["kept"][0] > 12000
    assert other["kept"][1:] == other["differing"][1:] == [0, 0, 0]
    assert by_cell["float64", 0.01]["hits"] == [0, 0]
    assert by_cell["bfloat16", 2**-7]["hits"][0] > 12000
    for record in counts:
        assert record["share"][0][-1] == record["hits"][0] / 16384
        assert record["proximal_zero"] == record["proximal_count"]
    assert never_zero.study.judge(records).verdict is Verdict.WITH_CORRECTION


def test_without_a_part_there_is_no_verdict():
    records = fabricate(hits={"bfloat16": 30})
    assert never_zero.study.judge(records[:-1]).verdict is Verdict.INCONCLUSIVE
    assert never_zero.study.judge(records[-1:]).verdict is Verdict.INCONCLUSIVE
    low = [r for r in records if r.parameters.get("dtype") != "float64"]
    assert never_zero.study.judge(low).verdict is Verdict.INCONCLUSIVE
