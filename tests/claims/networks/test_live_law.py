"""Claim `live-law`: the verdict under evidence of every kind, and the measurement where the law is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework import Run, Settings, Verdict
from nonsmooth.claims.networks import live_law as claim
from nonsmooth.claims.networks import small_networks as small
from nonsmooth.claims.networks import swing
from nonsmooth.lab import Context, Record

SEEDS, WEIGHTS = 6, 1000
CLASSES = len(swing.NOISE_CLASSES) + 1


def record(rule, penalty, *, accuracy=0.95, norm=100.0, over=1.0, loud_over=0.3, swinging=1.0, seeds=SEEDS):
    """A network in which every second weight is held, half of those quietly, and its weights `over` their law."""
    setting = {"network": "mlp", "images": "digits", "train_images": None, "steps": 10}
    cell = claim.swing.cell(seeds=range(seeds), rule=rule, penalty=penalty, **setting)
    held = [250.0 * swinging, 0.0, 0.0, 250.0]
    one = {
        "accuracy": accuracy,
        "norm": norm,
        "zeros": 0.0,
        "held": held,
        "size": [held[0] * over, 0.0, 0.0, 5000.0 * loud_over],
        "law": [held[0], 0.0, 0.0, 5000.0],
        "sloped": [held[0], 0.0, 0.0, 1500.0],
        "within": 500,
        "within_size": 800.0,
        "below": [min(1.0, t) for t in swing.LADDER],
        "below_law": [min(1.0, t) for t in swing.LADDER],
    }
    values = {name: [[value] * seeds, [value] * seeds] for name, value in one.items()}
    return Record(cell, {"lengths": [5, 10], "weights": WEIGHTS, **values})


def evidence(live=None, dead=None, twin=None, seeds=SEEDS):
    live, dead, twin = ({"seeds": seeds} | (one or {}) for one in (live, {"norm": 1.0} | (dead or {}), twin))
    small_to_large = zip(small.PENALTIES["mlp"], (1.0, 0.5, 0.1), strict=True)
    records = [
        record("subgradient", penalty, **live | {"norm": live.get("norm", 100.0) * factor * 0.01 / penalty})
        for penalty, factor in small_to_large
    ]
    records.append(record("subgradient", claim.DEAD, **{"accuracy": 0.1} | dead))
    records += [record("proximal", one, **{"swinging": 0.01} | twin) for one in small.PENALTIES["mlp"][1:]]
    return records


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"live": {"accuracy": 0.2}}, Verdict.INCONCLUSIVE),
        ({"dead": {"norm": 3.0}}, Verdict.NOT_REPRODUCED),
        ({"twin": {"swinging": 0.9}}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"live": {"norm": 10.0}}, Verdict.REPRODUCED),
        ({"live": {"over": 1.5}}, Verdict.NOT_REPRODUCED),
        ({"live": {"over": math.nan}}, Verdict.INCONCLUSIVE),
        ({"dead": {"norm": math.nan}}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        ({"live": {"norm": math.nan}}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(changes, verdict):
    records = evidence(**changes)
    assert claim.study.judge(records).verdict is verdict
    assert claim.study.draw(records)


@pytest.mark.parametrize("lacking", ["dead", "twin", "live"])
def test_what_is_missing_decides_nothing(lacking):
    def is_it(r):
        dead, twin = r.parameters["penalty"] == claim.DEAD, r.parameters["rule"] == "proximal"
        return {"dead": dead, "twin": twin, "live": not dead and not twin}[lacking]

    assert claim.study.judge([r for r in evidence() if not is_it(r)]).verdict is Verdict.INCONCLUSIVE


def test_the_noise_up_to_which_a_weight_is_quiet_is_a_condition():
    records = evidence()
    for r in records:
        if r.parameters["penalty"] == 0.01 and r.parameters["rule"] == "subgradient":
            for name, value in (("held", 250.0), ("size", 100.0), ("law", 250.0)):
                for row in r.values[name][-1]:
                    row[2] = value
    judgement = claim.study.judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "noise of at most 1 λ" in judgement.because
    assert any("2 instead of 1" in flip.what for flip in judgement.robustness.flips)


def test_a_shorter_run_flips_nothing_silently():
    records = evidence()
    for r in records:
        r.values["norm"][0] = [1.0] * SEEDS
    judgement = claim.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("0 instead of -1" in flip.what for flip in judgement.robustness.flips)


def test_another_network_is_judged_where_it_was_trained():
    records = evidence()
    other = [
        replace(r, cell=claim.swing.cell(seeds=range(SEEDS), **_other(r.parameters)))
        for r in evidence(live={"over": 1.5})
    ]
    judgement = claim.study.judge([*records, *other])
    assert "for the network mlp" in judgement.because
    assert any("vgg11" in flip.what for flip in judgement.robustness.flips)


def _other(parameters):
    order = dict(zip(small.PENALTIES["mlp"], small.PENALTIES["vgg11"], strict=True))
    kept = {name: value for name, value in parameters.items() if name not in ("part", "seeds")}
    return kept | {"network": "vgg11", "penalty": order.get(kept["penalty"], kept["penalty"])}


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_plans(scale):
    cells = claim.study.plan(Settings(scale=scale))
    assert len({c.key for c in cells}) == len(cells)
    if scale == "quick":
        assert sum(c.cost for c in cells) < 40


def measured(penalty, rule="subgradient", steps=60):
    networks = small.stack(Run(0, Context()), "mlp", "digits", None, penalty, rule, 2)
    for _ in range(steps):
        networks.step()
    return swing.measure_swing(networks, torch.Generator().manual_seed(0))


def test_a_dead_network_is_at_the_floor_and_its_law_says_so():
    found = measured(1.0)
    assert found["norm"].numpy() == pytest.approx(1, abs=0.05)
    assert (found["size"].sum(1) / found["law"].sum(1)).numpy() == pytest.approx(1, abs=0.02)
    assert found["below"].numpy() == pytest.approx(np.minimum(1, swing.LADDER)[None].repeat(2, 0), abs=0.05)
    assert found["zeros"].max() == 0


def test_nothing_swings_under_proximal_steps_in_a_dead_network():
    found = measured(1.0, "proximal")
    assert found["zeros"].min() > 0.99
    assert found["held"].sum() == 0
