"""Claim `subquadratic`: amplitudes and exponents against closed forms, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.huber import subquadratic
from nonsmooth.dynamics.thresholds import two_cycle_amplitude
from nonsmooth.lab import Cell, Context, Record
from nonsmooth.problems import Huber, Power, Regression

MINIMUM = {"huber": 2.0, "pseudo-huber": 2.0, "power 3/2": 1.5, "squared": 2.0, "quartic": 4.0}


def fabricate(*, orbit=1.5, minimum=2.0, unstable=("huber", "pseudo-huber", "power 3/2"), diverging=None, seeds=8):
    """Records of a world with those exponents for Huber, in which the losses named converge unstably."""
    alphas = list(subquadratic.ALPHAS)
    records = []
    for name in subquadratic.NAMES:
        moves = name in unstable
        gone = (not moves) if diverging is None else name in diverging
        at_minimum = minimum if name == "huber" else MINIMUM[name]
        along_orbit = (orbit if name == "huber" else 1.4) if moves else math.nan
        for entries in ("uniform", "normal"):
            parameters = {"part": "growth", "loss": name, "entries": entries, "alphas": tuple(alphas), "seeds": seeds}
            values = {
                "edge": [0.7] * seeds,
                "diverged": [[gone] * len(alphas)] * seeds,
                "moving": [[moves] * len(alphas)] * seeds,
                "amplitude": [[1.0 if moves else math.nan] * len(alphas)] * seeds,
                "amplitude_predicted": [[1.0] * len(alphas)] * seeds,
                "distance": [1e-3, 1.0],
                "exponent": [[at_minimum, 1.0]] * seeds,
            }
            for key in ("orbit_exponent", "orbit_exponent_largest", "top_exponent"):
                values[key] = [[along_orbit + 0.001 * i] * len(alphas) for i in range(seeds)]
            records.append(Record(Cell("subquadratic", parameters), values))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.NOT_REPRODUCED),
        ({"orbit": 2.0, "unstable": ("huber", "power 3/2")}, Verdict.REPRODUCED),
        ({"orbit": 2.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"unstable": ("huber",)}, Verdict.NOT_REPRODUCED),
        ({"orbit": 1.95}, Verdict.INCONCLUSIVE),
        ({"orbit": math.nan}, Verdict.INCONCLUSIVE),
        ({"minimum": math.nan}, Verdict.INCONCLUSIVE),
        ({"minimum": 1.5}, Verdict.NOT_REPRODUCED),
        ({"unstable": ("pseudo-huber",)}, Verdict.NOT_REPRODUCED),
        ({"diverging": ()}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert subquadratic.study.judge(records).verdict is verdict
    assert subquadratic.study.draw(records)


def test_what_is_refuted_is_the_counter_example():
    judgement = subquadratic.study.judge(fabricate())
    assert "counter-example" in subquadratic.CLAIM.statement
    assert judgement.says.startswith("no counter-example")
    assert subquadratic.study.judge(fabricate(minimum=1.5)).says == "not quadratic at the minimum"


@pytest.mark.parametrize("loss", subquadratic.NAMES[:2])
def test_a_missing_loss_decides_nothing(loss):
    records = [r for r in fabricate() if r.parameters["loss"] != loss]
    assert subquadratic.study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_growth_that_hangs_on_the_step_size_is_named():
    records = fabricate()
    for record in records:
        if record.parameters["loss"] == "huber":
            for row in record.values["orbit_exponent"]:
                row[2] = 2.0
    judgement = subquadratic.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "step sizes α: 0.8 instead of 1, 10" in [one.what for one in judgement.robustness.flips]


def test_growth_at_the_minimum_alone_is_the_paper_s_reading_and_is_named():
    judgement = subquadratic.study.judge(fabricate())
    assert [one.verdict for one in judgement.robustness.flips] == [Verdict.EXPLANATION_NOT_SUPPORTED]
    assert "at the minimum alone" in judgement.robustness.flips[0].what
    assert "This holds where growth is read as far out as the iterates go" in judgement.because
    # Without a smooth loss that does the same, that reading makes it a counter-example.
    lone = subquadratic.study.judge(fabricate(unstable=("huber", "power 3/2")))
    assert [one.verdict for one in lone.robustness.flips] == [Verdict.REPRODUCED]


def test_the_predicted_two_cycle_on_the_line():
    # Huber with one sample and one feature: f(t) = huber(t), slope 1 beyond 1, so 2t/α = 1 at t = α/2.
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    step_size = torch.tensor([[0.5, 3.0, 10.0]], dtype=torch.float64)
    huber = Regression(one, torch.zeros(1, 1, dtype=torch.float64), loss=Huber())
    found = two_cycle_amplitude(huber, 0 * one, one, step_size)
    assert found[0].tolist() == pytest.approx([0.0, 1.5, 5.0], rel=1e-5)
    # |t|^(3/2)/(3/2) has slope √t: √t = 2t/α at t = α²/4.
    power = Regression(one, torch.zeros(1, 1, dtype=torch.float64), loss=Power(1.5))
    found = two_cycle_amplitude(power, 0 * one, one, step_size)
    assert found[0].tolist() == pytest.approx([0.0625, 2.25, 25.0], rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "moving", "exponent"),
    [("huber", True, (1.0, 1.95)), ("power 3/2", True, (1.5, 1.5)), ("squared", False, ())],
)
def test_measured_growth(loss, moving, exponent):
    parameters = {"part": "growth", "loss": loss, "entries": "uniform", "steps": 400, "alphas": (0.3, 1.0, 10.0)}
    values = subquadratic.study.measure(Cell("subquadratic", {**parameters, "seeds": 1}), Context())
    assert values["moving"][0][1:] == [moving, moving]
    assert values["moving"][0][0] == (loss == "power 3/2")
    assert values["exponent"][0][0] == pytest.approx(1.5 if loss == "power 3/2" else 2.0, abs=1e-6)
    seen = np.asarray(values["orbit_exponent"][0][1:])
    if moving:
        assert (seen >= exponent[0] - 1e-9).all()
        assert (seen <= exponent[1] + 1e-9).all()
    else:
        assert np.isnan(seen).all()
        assert values["diverged"][0] == [False, True, True]


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_the_plan_measures_every_loss(scale):
    cells = subquadratic.study.plan(Settings(scale=scale))
    assert len(set(cells)) == len(cells)
    assert {cell.parameters["loss"] for cell in cells} == set(subquadratic.NAMES)
