"""Claim `gelu-figures`: one curve against PyTorch's own layers, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import gelu_figures
from nonsmooth.claims.networks.digit_rows import digit_rows
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models import draw_perceptrons


def fabricate(gelu=0.5, rounded=0.5, noise=0.01, seeds=6, early=None):
    """Records in which ln of ReLU's loss lies so much above GELU's and above that of the narrow roundings."""
    gains = {"ReLU": 0.0, "GELU": gelu, "ELU": gelu, "SiLU": gelu}
    records = []
    for i, name in enumerate(gelu_figures.ACTIVATIONS):
        gain = gains.get(name, rounded)
        jitter = noise * np.random.default_rng(i).normal(size=seeds)
        logs = np.broadcast_to(-gain + jitter, (3, 8, seeds)).copy()
        if early is not None and name == "GELU":
            logs[:, :4] = -early
        parameters = {"activation": name, "start": "matched", "width": 32, "steps": 160, "seeds": seeds}
        at = [20 * (k + 1) for k in range(8)]
        records.append(Record(Cell("gelu-figures", parameters), {"at": at, "loss": np.exp(logs).tolist()}))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"rounded": 0.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"gelu": 0.0}, Verdict.NOT_REPRODUCED),
        ({"gelu": -0.5}, Verdict.NOT_REPRODUCED),
        ({"noise": 0.6}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        ({"gelu": math.nan}, Verdict.INCONCLUSIVE),
        ({"rounded": math.nan}, Verdict.INCONCLUSIVE),
        ({"early": -0.5}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(evidence, verdict):
    records = fabricate(**evidence)
    judgement = gelu_figures.study.judge(records)
    assert judgement.verdict is verdict
    assert gelu_figures.study.draw(records)
    if "early" in evidence:
        assert any("length of the runs: half" in flip.what for flip in judgement.robustness.flips)


def test_nothing_measured_decides_nothing():
    assert gelu_figures.study.judge([]).verdict is Verdict.INCONCLUSIVE
    without = [r for r in fabricate() if r.parameters["activation"] != "GELU"]
    assert gelu_figures.study.judge(without).verdict is Verdict.INCONCLUSIVE


def test_a_diverged_step_size_is_not_the_best():
    records = fabricate()
    records[0].values["loss"][0] = np.full((8, 6), math.nan).tolist()
    assert gelu_figures.study.judge(records).measured[0].value == pytest.approx(0.5, abs=0.05)


def test_a_curve_against_pytorchs_own_layers():
    parameters = {"activation": "SiLU", "start": "kaiming", "width": 5, "steps": 8, "seeds": 2}
    found = gelu_figures.study.measure(Cell("gelu-figures", parameters, seed=3), Context())
    layers = draw_perceptrons((64, *[5] * 7, 10), (4,))
    modules = []
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.load_state_dict({"weight": weight[0].T, "bias": bias[0, 0]})
        modules += [linear, nn.SiLU()]
    model, (inputs, labels) = nn.Sequential(*modules[:-1]), digit_rows(None)
    optimizer = torch.optim.Adam(model.parameters(), lr=gelu_figures.RATES[1])
    order = torch.Generator().manual_seed(4)
    for _ in range(8):
        rows = torch.randint(len(inputs), (gelu_figures.BATCH,), generator=order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    expected = nn.functional.cross_entropy(model(inputs), labels).item()
    assert found["loss"][1][-1][1] == pytest.approx(expected, rel=1e-3)


def test_the_dose_runs_from_relu_to_gelu():
    x = torch.linspace(-3, 3, 20_001)
    distances = [float((gelu_figures.ACTIVATIONS[f"GELU({k}x)/{k}"](x) - x.relu()).abs().max()) for k in (2, 4, 16)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == pytest.approx(0.17 / 16, rel=0.05)
    assert len(gelu_figures.study.plan(Settings())) == len(gelu_figures.ACTIVATIONS)
