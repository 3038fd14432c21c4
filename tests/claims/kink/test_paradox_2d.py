"""The paper's two-dimensional example against torch.optim.SGD with autograd, and what other evidence would say."""

import copy
import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.kink import paradox_2d
from nonsmooth.lab import Context, Record


@pytest.fixture(scope="module")
def records():
    cells = [c for c in paradox_2d.study.plan(Settings(seeds=300)) if c.parameters["part"] != "dose"]
    cells += [c for c in paradox_2d.study.plan(Settings(seeds=20)) if c.parameters["part"] == "dose"]
    return [Record(cell, paradox_2d.study.measure(cell, Context())) for cell in cells]


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
    judgement = paradox_2d.study.judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    measured = {v.name: v for v in judgement.measured}
    assert measured["matches"].value == 10
    for printed, computed in zip(paradox_2d.CLAIM.paper, judgement.measured, strict=False):
        assert computed.name == printed.name
        assert round(computed.value, 4) == printed.value
    control = {v.name: v.value for v in judgement.control}
    assert (control["twin_below"], control["twin_above"], control["twin_limit"]) == (0, 1, 1)
    assert {flip.verdict for flip in judgement.robustness.flips} == {Verdict.INCONCLUSIVE}
    assert all("widths" in flip.what for flip in judgement.robustness.flips)


@pytest.mark.parametrize(
    ("below", "above", "verdict"),
    [
        (-1.0, 1.0, Verdict.WITH_CORRECTION),
        (-1.0, -1.0, Verdict.REPRODUCED),
        (1.0, 1.0, Verdict.EXPLANATION_NOT_SUPPORTED),
        (math.nan, 1.0, Verdict.INCONCLUSIVE),
    ],
)
def test_the_twins_decide(records, twin_values, below, above, verdict):
    other = changed(records, "dose", **twin_values(paradox_2d.STEP_SIZES, below, above))
    assert paradox_2d.study.judge(other).verdict is verdict


@pytest.mark.parametrize(
    ("widths", "before"),
    [((0.0001, 0.001, 0.004, 0.006, 0.1, 0.4), "explanation not supported"), ((0.6, 1.0), "reproduced")],
)
def test_the_lists_of_widths_that_turned_the_verdict_turn_it_no_more(records, widths, before):
    """Of α = 0.01 at λ = 100 alone: what the eight widths of old said, by which of them were listed."""
    values = next(r for r in records if r.parameters["part"] == "dose").values
    at = values["step_size"].index(0.01)
    near = [min(range(9), key=lambda w, e=e: abs(math.log(values["width"][w] * 0.5 / e))) for e in widths]
    kept = sorted({*near, 9})
    few = {name: [[row[w] for w in kept] for row in [values[name][at]]] for name in ("dose",)}
    few["effect"] = [[[length[at][w] for w in kept]] for length in values["effect"]]
    judgement = paradox_2d.study.judge(changed(records, "dose", step_size=[0.01], **few))
    assert judgement.verdict is Verdict.INCONCLUSIVE, before


def test_a_paradox_under_the_proximal_step_refutes_the_explanation(records):
    judgement = paradox_2d.study.judge(changed(records, "proximal", smallest=[0.0094, 0.9], largest=[0.0106, 1.1]))
    assert judgement.verdict is Verdict.EXPLANATION_NOT_SUPPORTED
    assert "proximal step on the same function still has the paradox" in judgement.because
    nothing = changed(records, "proximal", smallest=[0.0, math.nan], largest=[0.0, math.nan])
    assert paradox_2d.study.judge(nothing).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("part", ["paper", "proximal", "decades", "random", "dose"])
def test_without_a_part_there_is_no_verdict(records, part):
    rest = [r for r in records if r.parameters["part"] != part]
    assert paradox_2d.study.judge(rest).verdict is Verdict.INCONCLUSIVE


def test_another_cycle_is_not_the_papers(records):
    other = changed(records, "paper", cycle=[[[0.0053, 0.0053], [-0.0047, -0.0047]], [[0.1, 0.1], [-0.9, -0.9]]])
    judgement = paradox_2d.study.judge(other)
    assert judgement.verdict is Verdict.NOT_REPRODUCED
    assert "λ = 100" in judgement.because


def test_random_starts_have_counter_examples_at_one_iterate_but_not_over_the_cycle(records):
    chance = next(r for r in records if r.parameters["part"] == "random")
    assert all(count == 0 for count in chance["reversed"])
    assert chance["larger"][0] < chance.parameters["seeds"]
    assert chance["proximal_zero"] == chance.parameters["seeds"]


def test_figures_have_points_to_draw(records):
    for figure in paradox_2d.study.draw(records):
        assert all(panel.series for panel in figure.panels)


def test_a_cycle_that_is_no_number_decides_nothing(records):
    lost = [[[math.nan, math.nan]] * 2] * 2
    assert paradox_2d.study.judge(changed(records, "paper", cycle=lost)).verdict is Verdict.INCONCLUSIVE
