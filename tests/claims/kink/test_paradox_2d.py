"""The paper's two-dimensional example against torch.optim.SGD with autograd, and what other evidence would say."""

import copy

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import paradox_2d
from nonsmooth.lab import Context, Record


@pytest.fixture(scope="module")
def records():
    cells = paradox_2d.plan(Settings(seeds=300))
    return [Record(cell, paradox_2d.measure(cell, Context())) for cell in cells]


def changed(records, part, **values):
    """The records with other values in one part."""
    return [
        Record(r.cell, {**copy.deepcopy(dict(r.values)), **values}) if r.parameters["part"] == part else r
        for r in records
    ]


def sgd_two_cycle(start, alpha, strength, steps):
    beta = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimiser = torch.optim.SGD([beta], lr=alpha)
    points = []
    for _ in range(steps + 1):
        optimiser.zero_grad()
        (strength * beta.abs().sum()).backward()
        optimiser.step()
        points.append(beta.detach().tolist())
    return points[-2:]


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_the_run_is_what_torch_sgd_does(records, strength):
    exact = next(r for r in records if r.parameters.get("dtype") == "float64")
    index = paradox_2d.STRENGTHS.index(strength)
    cycle = sgd_two_cycle([0.5053, 0.5053], 0.01, strength, 400)
    assert np.array(exact["cycle"][index]) == pytest.approx(np.array(cycle), abs=1e-12)
    for name, origin in (("reduced_from_even", cycle[0]), ("reduced_from_odd", cycle[1])):
        assert np.array(exact[name][index]) == pytest.approx(
            np.array(sgd_two_cycle(origin, 0.001, strength, 400)), abs=1e-12
        )


def test_verdict_on_the_measured_evidence(records):
    judgement = paradox_2d.judge(records)
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    measured = {v.name: v for v in judgement.measured}
    assert measured["matches"].value == 10
    for printed, computed in zip(paradox_2d.CLAIM.paper, judgement.measured, strict=False):
        assert computed.name == printed.name
        assert round(computed.value, 4) == printed.value
    control = {v.name: v.value for v in judgement.control}
    assert control["widest_identical"] == 0.004  # γ = 0.0053 lies in [ε, αλ - ε] for ε up to 0.0047
    assert control["stable_twins"] == 0


def test_without_the_paradox_on_the_twins_the_explanation_stands(records):
    twin = next(r for r in records if r.parameters["part"] == "twin")
    quiet = changed(records, "twin", smallest=[0.0] * len(twin["smallest"]), largest=[0.0] * len(twin["largest"]))
    assert paradox_2d.judge(quiet).verdict is Verdict.REPRODUCED


def test_a_paradox_under_the_proximal_step_refutes_the_explanation(records):
    twin = next(r for r in records if r.parameters["part"] == "twin")
    other = changed(records, "twin", smallest=[0.0] * len(twin["smallest"]), largest=[0.0] * len(twin["largest"]))
    other = changed(other, "proximal", smallest=[0.0094, 0.9], largest=[0.0106, 1.1])
    judgement = paradox_2d.judge(other)
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    assert "proximal step on the same function still has the paradox" in judgement.because


def test_another_cycle_is_not_the_papers(records):
    other = changed(records, "paper", cycle=[[[0.0053, 0.0053], [-0.0047, -0.0047]], [[0.1, 0.1], [-0.9, -0.9]]])
    judgement = paradox_2d.judge(other)
    assert judgement.verdict is Verdict.NOT_REPRODUCED
    assert "λ = 100" in judgement.because


def test_random_starts_have_counter_examples_at_one_iterate_but_not_over_the_cycle(records):
    chance = next(r for r in records if r.parameters["part"] == "random")
    assert all(count == 0 for count in chance["reversed"])
    assert chance["larger"][0] < chance.parameters["seeds"]
    assert chance["proximal_zero"] == chance.parameters["seeds"]


def test_figures_have_points_to_draw(records):
    for figure in paradox_2d.draw(records):
        assert all(panel.series for panel in figure.panels)
