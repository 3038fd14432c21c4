"""Claim `paradox-lasso`: what is measured, and that the evidence decides."""

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.lasso.lasso_data import draw_lasso
from nonsmooth.claims.lasso.paradox_lasso import FAST, Evidence, draw, fits, floor, judge, measure, plan, spread
from nonsmooth.lab import Cell, Context, Record


def fabricate(seeds=20, small=1.0, large=1.0, proximal=None, signal=1.0, shift=0.0):
    """Records in the shape of the plan's. Norms are the paper's floor plus what is exact, times the factors given."""
    spreads = np.linspace(-1, 1, seeds)
    records = []
    for cell in plan(Settings()):
        p = cell.parameters
        norms = []
        for strength, step_size in zip(p["strengths"], p["step_sizes"], strict=True):
            exact = np.full(seeds, 1.7) if strength < 0.2 else np.zeros(seeds)
            norm = exact + (0.0 if p["part"] != "subgradient" else floor(strength, step_size))
            if p["part"] == "subgradient":
                norm = norm * (large if strength >= 10 else small) + spreads * (0.7 if strength >= 10 else 0.5) + shift
                if p["response"] == "signal":
                    norm = norm * signal
            if p["part"] == "proximal" and proximal is not None and strength >= 10:
                norm = norm + proximal
            norms.append(norm.tolist())
        values = dict.fromkeys(("last", "cycle", "half_way", "quarter_way", "zeros", "gap"), norms)
        values |= {"strengths": list(p["strengths"]), "step_sizes": list(p["step_sizes"])}
        if p["part"] == "exact":
            values["largest_useful_strength"] = [0.47] * seeds
        records.append(Record(cell, values))
    return records


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"small": 0.5}, Verdict.WITH_CORRECTION),
        ({"large": 1.08}, Verdict.WITH_CORRECTION),
        ({"large": 1.2}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"proximal": 30.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"signal": 2.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"large": 0.01}, Verdict.NOT_REPRODUCED),
        ({"seeds": 4}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(changes, verdict):
    assert judge(fabricate(**changes)).verdict is verdict


def test_a_share_near_one_half_is_inconclusive():
    records = fabricate()
    sweep = next(r for r in records if r.parameters["strengths"] == FAST and r.parameters["part"] == "subgradient")
    norms = list(sweep["last"])
    at = FAST.index(10.0)
    norms[at] = [25.0] * 11 + [0.5] * 9
    records[records.index(sweep)] = Record(sweep.cell, {**sweep.values, "last": norms})
    assert judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_correction_says_which_strength_fits():
    records = fabricate()
    slow = next(r for r in records if r.parameters["strengths"][0] == 0.001 and r.parameters["part"] == "subgradient")
    norms = [list(row) for row in slow["last"]]
    norms[1] = [5.0 + 0.01 * i for i in range(20)]
    records[records.index(slow)] = Record(slow.cell, {**slow.values, "last": norms})
    judgement = judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "1.62 fits λ = 0.1 " in judgement.correction
    assert "5.095 at λ = 0.01" in judgement.correction


def test_every_figure_can_be_drawn_from_the_plans_records():
    figures = draw(fabricate())
    assert [len(figure.panels) for figure in figures] == [2]


def test_the_spread_is_where_one_more_draw_falls():
    """95 % of new draws from a normal law lie within: counted over many samples."""
    generator = np.random.default_rng(0)
    inside = [fits(generator.normal(), generator.normal(size=8)) for _ in range(2000)]
    assert 0.93 < np.mean(inside) < 0.97
    assert spread(np.array([3.0])) == (3.0, 3.0)


def small_cell(part, **changes):
    parameters = {"part": part, "seeds": 2, "steps": 60, "strengths": (10.0, 0.5), "step_sizes": (0.01, 0.02),
                  "response": "paper", "start": "uniform"}  # fmt: skip
    return Cell("paradox-lasso", {**parameters, **changes}, seed=3)


def test_the_recursion_is_torchs_sgd_on_the_objective_as_printed():
    values = measure(small_cell("subgradient"), Context())
    drawn = draw_lasso(3, 2)
    for i in range(2):
        for j, (strength, step_size) in enumerate([(10.0, 0.01), (0.5, 0.02)]):
            beta = drawn.start[i].clone().requires_grad_()
            optimiser = torch.optim.SGD([beta], lr=step_size)
            for _ in range(60):
                optimiser.zero_grad()
                loss = (drawn.response[i] - drawn.data[i] @ beta).square().mean() + strength * beta.abs().sum()
                loss.backward()
                optimiser.step()
            assert values["last"][j][i] == pytest.approx(beta.abs().sum().item(), rel=1e-9)


def test_controls_are_what_they_are_called():
    proximal = measure(small_cell("proximal", step_sizes=(0.01, 0.01)), Context())
    exact = measure(small_cell("exact"), Context())
    # λ = 10 lies far above λ_max: both have all their zeros there, and the certificate holds.
    assert proximal["last"][0] == exact["last"][0] == [0.0, 0.0]
    assert proximal["zeros"][0] == exact["zeros"][0] == [500, 500]
    assert max(exact["largest_useful_strength"]) < 10
    assert np.max(exact["gap"]) < 1e-6
    assert measure(small_cell("subgradient"), Context())["zeros"] == [[0, 0], [0, 0]]


def test_the_floor_at_ten_is_the_predicted_one():
    norms = measure(small_cell("subgradient", seeds=6, strengths=(10.0,), step_sizes=(0.01,)), Context())
    assert np.mean(norms["cycle"]) == pytest.approx(floor(10.0), rel=0.02)


def test_what_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="strength 7"):
        Evidence(fabricate()).norms(7.0)
