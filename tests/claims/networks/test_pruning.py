"""Claim `pruning`: the verdict under evidence of every kind, and what is removed against a plain count."""

import math

import pytest
import torch

from nonsmooth.claims.framework import Run, Settings, Verdict
from nonsmooth.claims.networks import pruning as claim
from nonsmooth.claims.networks import small_networks as small
from nonsmooth.lab import Cell, Context, Record

SEEDS = 6


def record(rule, penalty, *, accuracy=0.95, left=0.9, below=0.01, width=0.8, width_cost=0.0, zeros=0.0, seeds=SEEDS):
    setting = {"network": "mlp", "images": "digits", "train_images": None, "steps": 10}
    cell = claim.pruned.cell(seeds=range(seeds), rule=rule, penalty=penalty, **setting)

    def row(value):
        return [value + 1e-3 * seed for seed in range(seeds)]

    share = [below if t <= 1e-5 else 0.9 if t > 1e-4 else 0.1 for t in claim.THRESHOLDS]
    one = {
        "accuracy": row(accuracy),
        "magnitude": [row(left)] * len(claim.FRACTIONS),
        "below": [row(each) for each in share],
        "below_accuracy": [row(accuracy)] * len(share),
        "width": row(width),
        "width_accuracy": row(accuracy - width_cost),
        "zeros": row(zeros),
    }
    return Record(cell, {"lengths": [5, 10], "weights": 100, **{name: [value, value] for name, value in one.items()}})


def evidence(ours=None, none=None, twin=None, **both):
    middle = small.PENALTIES["mlp"][1:]
    return [
        record("subgradient", 0.0, **{"left": 0.8} | both | (none or {})),
        *(record("subgradient", one, **both | (ours or {})) for one in middle),
        *(record("proximal", one, **{"zeros": 0.8} | both | (twin or {})) for one in middle),
    ]


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        ({}, Verdict.WITH_CORRECTION, "only the fixed threshold fails"),
        ({"accuracy": 0.1}, Verdict.INCONCLUSIVE, "the networks learn nothing"),
        ({"none": {"left": 0.95}}, Verdict.REPRODUCED, "the penalty prunes no better"),
        ({"ours": {"below": 0.9}}, Verdict.NOT_REPRODUCED, "it prunes as expected"),
        ({"ours": {"width_cost": 0.3}}, Verdict.WITH_CORRECTION, "it prunes, by magnitude only"),
        ({"ours": {"left": math.nan}}, Verdict.INCONCLUSIVE, "not measured"),
        ({"accuracy": math.nan}, Verdict.INCONCLUSIVE, "not measured"),
        ({"seeds": 1}, Verdict.INCONCLUSIVE, "the numbers do not decide"),
    ],
)
def test_the_evidence_decides(changes, verdict, says):
    records = evidence(**changes)
    judgement = claim.study.judge(records)
    assert (judgement.verdict, judgement.says) == (verdict, says)
    assert claim.study.draw(records)


@pytest.mark.parametrize("lacking", range(5))
def test_what_is_missing_decides_nothing_silently(lacking):
    records = evidence()
    del records[lacking]
    judgement = claim.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE or judgement.robustness.not_judged


def test_a_threshold_above_the_swing_turns_the_verdict_and_is_its_condition():
    judgement = claim.study.judge(evidence())
    assert "for a threshold of 1e-05" in judgement.because
    assert any("0.001 instead of 1e-05" in flip.what for flip in judgement.robustness.flips)


def test_a_sparsity_at_which_the_penalty_does_not_help_is_named():
    records = evidence()
    at = claim.FRACTIONS.index(0.95)
    for r in records[1:3]:
        r.values["magnitude"][-1] = [list(row) for row in r.values["magnitude"][-1]]
        r.values["magnitude"][-1][at] = [0.5] * SEEDS
    judgement = claim.study.judge(records)
    assert "where 0.9 of the weights are removed" in judgement.because
    assert any("0.95 instead of 0.9" in flip.what for flip in judgement.robustness.flips)


def test_a_shorter_run_flips_nothing_silently():
    records = evidence()
    for r in records[1:3]:
        r.values["magnitude"] = [[[0.5] * SEEDS] * len(claim.FRACTIONS), r.values["magnitude"][1]]
    judgement = claim.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("0 instead of -1" in flip.what for flip in judgement.robustness.flips)


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_plans(scale):
    cells = claim.study.plan(Settings(scale=scale))
    assert len({c.key for c in cells}) == len(cells)
    if scale == "quick":
        assert sum(c.cost for c in cells) < 20


def test_what_is_removed_against_a_plain_count():
    steps, penalty = 2 * claim.WINDOW, 0.01
    setting = {"network": "mlp", "images": "digits", "train_images": 300, "steps": steps, "rule": "subgradient"}
    parameters = {"part": "pruned", "penalty": penalty, "seeds": 2, **setting}
    found = claim.study.measure(Cell("pruning", parameters), Context())
    networks = small.stack(Run(0, Context()), "mlp", "digits", 300, penalty, "subgradient", 2)
    test = small.load(Run(0, Context()), "mlp", "digits", "test", None)
    pull = torch.zeros_like(networks.weights)
    for step in range(steps):
        slope = networks.step().abs()
        pull += slope if step >= claim.WINDOW else 0
    for seed, weights in enumerate(networks.weights):
        within = weights.abs() <= networks.lr * (penalty + pull[seed] / claim.WINDOW)
        assert found["width"][-1][seed] == pytest.approx(float(within.double().mean()), abs=1e-3)
        fraction = claim.FRACTIONS.index(0.5)
        kept = networks.weights.clone()
        kept[seed, weights.abs() < weights.abs().median()] = 0
        expected = float(networks.accuracy(test, kept)[seed])
        assert found["magnitude"][-1][fraction][seed] == pytest.approx(expected, abs=0.01)
        below = [float((weights.abs() < t).double().mean()) for t in claim.THRESHOLDS]
        assert [row[seed] for row in found["below"][-1]] == pytest.approx(below)
