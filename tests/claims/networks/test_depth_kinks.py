"""Claim `depth-kinks`: the measures against other ways to count, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.networks import depth_kinks, kink_density
from nonsmooth.kinks.crossings import crossings
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.models import draw_perceptrons, preactivations

SEEDS = 10


def fabricate(width=1.0, inputs=0.0, weights=0.5, smooth=0.001, noise=0.02, seeds=SEEDS, trained=None):
    """Records whose measures go with powers of depth: at equal width, and at equal units in inputs and weights."""
    records = []
    for family, widths in depth_kinks.WIDTHS.items():
        for depth, units in zip(depth_kinks.DEPTHS, widths, strict=True):
            powers = (
                {"inputs": width, "weights": width} if family == "width" else {"inputs": inputs, "weights": weights}
            )
            jitter = np.exp(noise * np.random.default_rng((depth, units)).normal(size=seeds))
            levels = {space: (depth**power * jitter).tolist() for space, power in powers.items()}
            later = levels if trained is None else {space: (depth**trained * jitter).tolist() for space in powers}
            spaces = {"line": "inputs", "near": "inputs", "move": "weights", "gap": "weights"}
            values = {name: [levels[space], later[space]] for name, space in spaces.items()}
            parameters = {"part": "perceptron", "family": family, "depth": depth, "width": units, "seeds": seeds}
            records.append(Record(Cell("depth-kinks", parameters), values | {"loss": [[2.0] * seeds] * 2}))
    for depth in (11, 13, 19):
        parameters = {"part": "vgg", "depth": depth, "images": "digits", "seeds": seeds}
        jitter = np.random.default_rng(depth).normal(size=seeds)
        records.append(
            Record(Cell("depth-kinks", parameters), {"line": (depth + jitter).tolist(), "units": 3000 * depth})
        )
    for name in depth_kinks.SMOOTH:
        parameters = {"part": "dose", "activation": name, "depth": 4, "width": 32, "seeds": seeds}
        gap = [smooth if name == "gelu" else 0.5] * seeds
        records.append(Record(Cell("depth-kinks", parameters), {"gap": gap}))
    return records


@pytest.mark.parametrize(
    ("evidence", "verdict", "says"),
    [
        ({}, Verdict.WITH_CORRECTION, "in the weights, not inputs"),
        ({"weights": 0.0}, Verdict.WITH_CORRECTION, "more units, not more depth"),
        ({"inputs": 0.5, "weights": 0.0}, Verdict.WITH_CORRECTION, "in the inputs, not weights"),
        ({"inputs": 0.5}, Verdict.REPRODUCED, "depth adds kinks"),
        ({"width": 0.0}, Verdict.NOT_REPRODUCED, "no more with depth"),
        ({"smooth": 0.5}, Verdict.INCONCLUSIVE, "it measures no kinks"),
        ({"noise": 2.0}, Verdict.INCONCLUSIVE, None),
        ({"seeds": 1}, Verdict.INCONCLUSIVE, None),
        ({"inputs": math.nan}, Verdict.INCONCLUSIVE, "not measured"),
        ({"smooth": math.nan}, Verdict.INCONCLUSIVE, "not measured"),
    ],
)
def test_the_evidence_decides(evidence, verdict, says):
    records = fabricate(**evidence)
    judgement = depth_kinks.study.judge(records)
    assert judgement.verdict is verdict
    assert says is None or judgement.says == says
    assert depth_kinks.study.draw(records)


@pytest.mark.parametrize("part", ["perceptron", "dose"])
def test_a_part_that_was_not_measured_decides_nothing(part):
    records = [record for record in fabricate() if record.parameters["part"] != part]
    assert depth_kinks.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_verdict_that_training_turns_is_not_given():
    judgement = depth_kinks.study.judge(fabricate(inputs=0.5, trained=0.0))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert any("trained" in flip.what for flip in judgement.robustness.flips)


def as_module(layers):
    modules = []
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.load_state_dict({"weight": weight[0].T, "bias": bias[0, 0]})
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def test_kinks_of_one_layer_on_a_line_are_those_of_its_formula():
    """A unit's kink lies at t = -z₀/(z₁ - z₀) on the line, which is on it where z₀ and z₁ have different signs."""
    layers = draw_perceptrons((4, 50, 2), (0, 1))
    ends = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    found = kink_density.kinks_per_length(layers, ends, 3, 2000)
    signs = preactivations(layers, ends, torch.relu)[0] > 0
    crossed = (signs[:, ::2] != signs[:, 1::2]).sum(-1)
    torch.testing.assert_close(found, (crossed / (ends[1::2] - ends[::2]).norm(dim=1)).mean(1))


def test_the_nearest_kink_by_search_along_many_directions():
    """At the distance itself no unit has changed in any direction; towards the nearest kink one changes just after."""
    layers = draw_perceptrons((2, 20, 20, 2), (0,))
    point = torch.randn(1, 2, generator=torch.Generator().manual_seed(3))
    distance = float(kink_density.nearest_kink(layers, point)[0])
    angles = torch.linspace(0, 2 * math.pi, 2000)
    circle = torch.stack([angles.cos(), angles.sin()], 1)

    def changed(radius):
        here, there = (
            torch.cat(preactivations(layers, p, torch.relu)[:-1], -1) > 0 for p in (point, point + radius * circle)
        )
        return bool((here != there).any())

    assert not changed(0.999 * distance)
    assert changed(1.01 * distance)


def test_kinks_of_a_move_are_the_crossings_of_the_package():
    layers = draw_perceptrons((4, 30, 30, 2), (0,))
    rows = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    found = float(kink_density.kinks_per_move(layers, rows, 7)[0])
    norm = torch.cat([part.flatten() for part in layers]).norm()
    drawn = [torch.randn(part.shape, generator=torch.Generator().manual_seed(7 + i)) for i, part in enumerate(layers)]
    share = kink_density.DISPLACEMENT * norm / torch.cat([part.flatten() for part in drawn]).norm()
    moved = [part + share * shift for part, shift in zip(layers, drawn, strict=True)]
    before, after = as_module(layers), as_module(moved)
    counted = crossings(before, rows, before.state_dict(), after.state_dict())
    assert counted.distance == pytest.approx(float(kink_density.DISPLACEMENT * norm), rel=1e-4)
    assert found == pytest.approx(counted.changed / 200 / counted.distance, rel=1e-4)


def test_rounding_takes_the_gap_away():
    cells = [c for c in depth_kinks.study.plan(Settings(seeds=3)) if c.parameters["part"] == "dose"]
    gaps = {c.parameters["activation"]: np.median(depth_kinks.study.measure(c, Context())["gap"]) for c in cells}
    assert gaps["gelu"] < 0.1 * gaps["relu"]
    assert gaps["C¹ ReLU 1"] < gaps["C¹ ReLU 0.1"]


def test_every_experiment_measures_what_is_judged():
    cells = [c for c in depth_kinks.study.plan(Settings(seeds=2)) if c.parameters.get("depth") in (1, 2, 4, 11)]
    records = [Record(cell, depth_kinks.study.measure(cell, Context())) for cell in cells]
    judgement = depth_kinks.study.judge(records)
    assert {v.name: v for v in judgement.measured}["width_inputs"].value == pytest.approx(1, abs=0.3)
