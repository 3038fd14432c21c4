"""Claim `edge-of-stability`: one descent against a plain loop, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import edge_of_stability as edge
from nonsmooth.claims.networks.digit_rows import digit_rows
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models import draw_perceptrons


def fabricate(relu=1.0, tanh=1.0, spared=0.6, seeds=10, widths=(16, 32), early=None):
    """Records in which runs at the two larger steps are due and lie at so much of the threshold."""
    records = []
    for name, level in (("relu", relu), ("tanh", tanh)):
        for width in widths:
            rows = [0.24, spared, level, level]
            values = {key: [[[row] * seeds for _ in range(3)] for row in rows] for key in edge.READINGS}
            if early is not None and name == "relu":
                values["sharpness"][1] = [[early] * seeds] * 3
            values |= {"initial": [3.0] * seeds, "at": [400, 600, 800], "loss": values["sharpness"]}
            parameters = {"activation": name, "width": width, "images": 100, "steps": 800, "seeds": seeds}
            records.append(Record(Cell("edge-of-stability", parameters), values))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.NOT_REPRODUCED),
        ({"relu": 0.6}, Verdict.REPRODUCED),
        ({"relu": 1.8}, Verdict.REPRODUCED),
        ({"tanh": 0.7}, Verdict.INCONCLUSIVE),
        ({"relu": 0.7, "tanh": 0.7}, Verdict.INCONCLUSIVE),
        ({"early": 1.0}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        ({"relu": math.nan}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    judgement = edge.study.judge(records)
    assert judgement.verdict is verdict
    assert edge.study.draw(records)


def test_nothing_measured_decides_nothing():
    assert edge.study.judge([]).verdict is Verdict.INCONCLUSIVE
    smooth = [record for record in fabricate() if record.parameters["activation"] == "tanh"]
    assert edge.study.judge(smooth).verdict is Verdict.INCONCLUSIVE


def test_runs_that_are_not_due_are_not_asked_to_settle():
    """Small steps end far below the threshold, on every network: no evidence against the edge."""
    records = fabricate()
    values = {v.name: v for v in edge.study.judge(records).measured}
    assert (values["met_relu"].value, values["early_relu"].value) == (1, 0)
    assert values["met_relu"].count == 20, "networks, not runs"


def test_the_identity_on_two_cycles_decides_nothing():
    without = fabricate()
    for record in without:
        record.values["segment"] = np.full((4, 3, 10), 7.0).tolist()
    assert edge.study.judge(without).verdict is edge.study.judge(fabricate()).verdict
    assert "segment_relu" not in edge.study.rule.quantities()


def test_an_alternative_that_turns_the_verdict_is_named():
    """ReLU at 1.15 of the threshold lies in one band and not in the other."""
    judgement = edge.study.judge(fabricate(relu=1.15))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("0.95, 1.1" in flip.what for flip in judgement.robustness.flips)


def test_a_descent_against_a_plain_loop_and_a_dense_hessian():
    parameters = {"activation": "relu", "width": 3, "images": 20, "steps": 8, "seeds": 2}
    found = edge.study.measure(Cell("edge-of-stability", parameters, seed=5), Context())
    inputs, labels = digit_rows(20)
    targets = nn.functional.one_hot(labels, 10).float()
    layers = draw_perceptrons((64, 3, 3, 10), (6,), "default")
    shapes = [part[0].shape for part in layers]

    def loss(flat):
        w1, b1, w2, b2, w3, b3 = (
            part.view(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)
        )
        hidden = torch.relu(torch.relu(inputs @ w1 + b1) @ w2 + b2)
        return (hidden @ w3 + b3 - targets).square().sum(1).mean() / 2

    flat = torch.cat([part.flatten() for part in layers])

    def spectrum(at):
        return torch.linalg.eigvalsh(torch.func.hessian(loss)(at))

    first = float(spectrum(flat)[-1])
    assert found["initial"][1] == pytest.approx(first, rel=0.01)
    alpha, point = edge.LADDER[2] * 2 / found["initial"][1], flat
    for _ in range(8):
        before, point = point, point - alpha * torch.func.grad(loss)(point)
    eigenvalues = spectrum(point)
    assert found["sharpness"][2][2][1] == pytest.approx(alpha / 2 * float(eigenvalues[-1]), rel=0.01)
    assert found["second"][2][2][1] == pytest.approx(alpha / 2 * float(eigenvalues[-2]), rel=0.05)
    assert found["loss"][2][2][1] == pytest.approx(float(loss(point)), rel=1e-4)
    move, change = point - before, torch.func.grad(loss)(point) - torch.func.grad(loss)(before)
    assert found["segment"][2][2][1] == pytest.approx(alpha / 2 * float(change @ move / (move @ move)), rel=1e-2)
    middle = torch.func.hessian(loss)((point + before) / 2)
    assert found["hessian"][2][2][1] == pytest.approx(alpha / 2 * float(move @ middle @ move / (move @ move)), rel=1e-2)


def test_the_plan_has_two_widths_and_the_control():
    cells = edge.study.plan(Settings())
    assert {(c.parameters["activation"], c.parameters["width"]) for c in cells} == {
        (name, width) for name in ("tanh", "relu") for width in (16, 32)
    }
    assert all(c.parameters["seeds"] >= 5 for c in cells)
