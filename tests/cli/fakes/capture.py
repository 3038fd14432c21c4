"""A stand-in for a claim: six cells, a verdict that follows from their values, one figure."""

import os
import time
from pathlib import Path

from nonsmooth.claims.framework.claim import Claim, Headline, Judgement, Value, Verdict
from nonsmooth.figures.figure import Axis, Figure, Panel, Series
from nonsmooth.lab import Cell

CLAIM = Claim(
    id="capture",
    title="An invented claim",
    where="§0",
    statement="The value is the seed.",
    explanation="It says so.",
    control="The same, negated.",
    paper=(Value("largest", "largest value", 2.0),),
)


def plan(settings):
    return [
        Cell("capture", {"kind": kind, "step": 0.001}, seed, cost=0.1)
        for kind in ("plain", "negated")
        for seed in settings.seed_range(3)
    ]


def measure(cell, context):
    if os.environ.get("FAKE_FAILS") == f"{cell.parameters['kind']} {cell.seed}":
        raise ValueError(os.environ.get("FAKE_MESSAGE", "an invented failure"))
    if "FAKE_STARTED" in os.environ and cell.seed > 0:
        Path(os.environ["FAKE_STARTED"]).touch()
        context.progress(0.5)
        time.sleep(60)
    sign = 1 if cell.parameters["kind"] == "plain" else -1
    return {"value": float(sign * cell.seed), "infinite": float("inf")}


def judge(records):
    """Reproduced, if the largest value is 2; else *not reproduced*."""
    if "FAKE_JUDGE_FAILS" in os.environ:
        raise RuntimeError(os.environ.get("FAKE_MESSAGE", "an invented judge's failure"))
    largest = max(record["value"] for record in records)
    return Judgement(
        Verdict.REPRODUCED if largest == 2 else Verdict.NOT_REPRODUCED,
        f"The largest value is {largest}.",
        Headline("2", f"{largest}", "-2"),
        measured=(Value("largest", "largest value", largest, largest, float("inf"), len(records)),),
        control=(),
    )


def draw(records):
    if "FAKE_DRAW_FAILS" in os.environ:
        raise RuntimeError(os.environ.get("FAKE_MESSAGE", "an invented drawing's failure"))
    plain = [record for record in records if record.parameters["kind"] == "plain"]
    series = Series("points", "value", [r.seed for r in plain], [r["value"] for r in plain])
    if "FAKE_UNDRAWABLE" in os.environ:
        series = Series("points", "value", [r.seed for r in plain], [r["value"] for r in plain], tone="ours")
        object.__setattr__(series, "tone", "no such tone")
    return [Figure("Values", "The values are the seeds.", (Panel("", Axis("seed"), Axis("value"), (series,)),))]
