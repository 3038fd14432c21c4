"""Claim `curvature-estimates`: differences against `kink_gap`, and the verdict under evidence of every kind."""

import math

import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import curvature_estimates as claim
from nonsmooth.curvature import kink_gap
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems.convexity import unit

SEEDS = 8


def fabricate(top=5.0, random=20.0, smooth=1.001, wide=1.001, coarse=None, seeds=SEEDS):
    """Records in which the difference over uᵀHu is so much at all displacements; `coarse` at the largest one."""
    records = []
    for name in claim.ACTIVATIONS:
        for decay in (1e-3, 0.0) if name in claim.NEEDED else (1e-3,):
            ratio = {"relu": (top, random), claim.TWINS[-1]: (wide,) * 2}.get(name, (smooth,) * 2)
            rows = [[[ratio[0]] * seeds, *[[ratio[1]] * seeds] * claim.RANDOM] for _ in claim.DISPLACEMENTS]
            if coarse is not None and name == "relu":
                rows[-1] = [[coarse] * seeds] * (1 + claim.RANDOM)
            hessian = [[1.0] * seeds] * (1 + claim.RANDOM)
            values = {"rest": [1e-4] * seeds, "accuracy": [1.0] * seeds, "hessian": hessian, "start_hessian": hessian}
            values |= {"loss": rows, "gradient": rows, "start_loss": rows}
            parameters = {"part": "differences", "activation": name, "decay": decay, "steps": 800, "seeds": seeds}
            records.append(Record(Cell("curvature-estimates", parameters), values))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"smooth": 2.0}, Verdict.INCONCLUSIVE),
        ({"top": 1.001, "random": 1.001}, Verdict.NOT_REPRODUCED),
        ({"wide": 3.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"top": 1.001}, Verdict.WITH_CORRECTION),
        ({"random": 1.001}, Verdict.WITH_CORRECTION),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        *(({name: math.nan}, Verdict.INCONCLUSIVE) for name in ("top", "random", "smooth", "wide")),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert claim.study.judge(records).verdict is verdict
    assert claim.study.draw(records)


def test_corrections_name_the_direction():
    assert "0.000999 [0.000999, 0.000999] along the top" in claim.study.judge(fabricate(top=1.001)).correction


@pytest.mark.parametrize("name", claim.NEEDED)
def test_a_missing_activation_decides_nothing(name):
    gone = ("gelu", "tanh") if name == "gelu" else (name,)
    records = [r for r in fabricate() if r.parameters["activation"] not in gone]
    assert claim.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_verdict_that_hangs_on_the_displacement_is_named():
    judgement = claim.study.judge(fabricate(coarse=1.001))
    assert judgement.verdict is Verdict.REPRODUCED
    assert any("0.01 instead of 0.001" in one.what for one in judgement.robustness.flips)
    assert "This holds at a displacement of 0.001" in judgement.because


def test_the_differences_are_those_of_kink_gap():
    network = claim.digits_network("relu", 1e-3, 1)
    weights = network.start(range(1))
    generator = torch.Generator().manual_seed(7)
    unit(torch.randn(weights.shape, generator=generator, dtype=torch.float64))
    directions = [
        unit(torch.randn(weights.shape, generator=generator, dtype=torch.float64)) for _ in range(claim.RANDOM)
    ]
    hessian, of_loss, of_gradient = claim.curvatures(network, weights, 7)
    leaf = weights.clone().requires_grad_()
    for place, u in enumerate(directions, start=1):
        found = kink_gap(lambda: network.value(leaf)[0], [leaf], direction=u[0], epsilons=claim.DISPLACEMENTS)
        assert hessian[place, 0] == pytest.approx(found.hessian, rel=1e-6)
        assert of_gradient[:, place, 0].tolist() == pytest.approx(found.differences, rel=1e-5)
    # The difference of the loss is the mean of that of gradients over shorter displacements: the same where nothing
    # lies between.
    assert of_loss[0, :, 0].tolist() == pytest.approx(of_gradient[0, :, 0].tolist(), rel=1e-2, abs=1e-5)


def test_the_first_direction_is_the_top_eigenvector():
    network = claim.digits_network("tanh", 1e-3, 1)
    hessian, _, _ = claim.curvatures(network, network.start(range(1)), 0)
    top = hessian[0].item()
    assert top > 5 * hessian[1:].abs().max().item()


def test_a_measured_cell():
    parameters = {"part": "differences", "activation": "relu", "decay": 1e-3, "steps": 300, "seeds": 2}
    record = Record((cell := Cell("curvature-estimates", parameters)), claim.study.measure(cell, Context()))
    gaps = claim.gaps(record)
    assert gaps["random"].shape == (len(claim.DISPLACEMENTS), 2)
    assert (gaps["random"][0] > 0.9).all()


def test_the_plan_lists_every_activation():
    cells = claim.study.plan(Settings(seeds=2))
    assert {cell.parameters["activation"] for cell in cells} == set(claim.ACTIVATIONS)
