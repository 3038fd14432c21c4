"""Claim `paradox-lasso`: what is measured, and that the evidence decides."""

import math

import numpy as np
import pytest
import torch

from nonsmooth.claims.framework import Evidence, NotStoredError
from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.lasso import paradox_lasso
from nonsmooth.claims.lasso.lasso_data import draw_lasso
from nonsmooth.claims.lasso.paradox_lasso import FAST, TWIN_STEPS, fits, floor, norms_of, spread, study
from nonsmooth.lab import Cell, Context, Record


def fabricate(
    twin_values,
    seeds=20,
    small=1.0,
    large=1.0,
    proximal=None,
    signal=1.0,
    shift=0.0,
    doubled=1.0,
    above=-1.0,
    below=-1.0,
):
    """Records in the shape of the plan's. Norms are the paper's floor plus what is exact, times the factors given."""
    spreads = np.linspace(-1, 1, seeds)
    records = []
    for cell in study.plan(Settings(seeds=seeds)):
        p = cell.parameters
        if p["part"] == "dose":
            records.append(Record(cell, twin_values(TWIN_STEPS, below, above, starts=p["seeds"])))
            continue
        norms = []
        for strength, step_size in zip(p["strengths"], p["step_sizes"], strict=True):
            exact = np.full(seeds, 1.7) if strength < 0.2 else np.zeros(seeds)
            norm = exact + (0.0 if p["part"] != "subgradient" else floor(strength, step_size))
            if p["part"] == "subgradient":
                norm = norm * (large if strength >= 10 else small) + spreads * (0.7 if strength >= 10 else 0.5) + shift
                norm = norm * {"signal": signal, "doubled": doubled}.get(p["response"], 1.0)
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
        ({"large": 1.08}, Verdict.INCONCLUSIVE),  # a tolerance of 5 % turns it
        ({"large": 1.2}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"proximal": 30.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"signal": 2.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"doubled": 2.0}, Verdict.REPRODUCED),
        ({"above": 1.0}, Verdict.WITH_CORRECTION),
        ({"above": 1.0, "below": 1.0}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"above": math.nan}, Verdict.INCONCLUSIVE),
        ({"shift": math.nan}, Verdict.INCONCLUSIVE),
        ({"large": 0.01}, Verdict.NOT_REPRODUCED),
        ({"seeds": 4}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(twin_values, changes, verdict):
    assert study.judge(fabricate(twin_values, **changes)).verdict is verdict


@pytest.mark.parametrize("missing", ["exact", "proximal", "dose", "subgradient"])
def test_without_a_part_there_is_no_verdict(twin_values, missing):
    records = [r for r in fabricate(twin_values, above=1.0) if r.parameters["part"] != missing]
    assert study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_run_too_short_is_said_to_turn_the_verdict(twin_values):
    """At a quarter of the run the small λ have not shrunk the start yet."""
    records = fabricate(twin_values, above=1.0)
    for record in records:
        if record.parameters["part"] == "subgradient" and record.parameters["strengths"][0] < 0.2:
            early = [[100.0] * 20 if s < 1 else row for s, row in zip(record["strengths"], record["last"], strict=True)]
            record.values["quarter_way"] = early
    judgement = study.judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "1/(αλ) steps" in judgement.because
    assert any(flip.verdict is Verdict.NOT_REPRODUCED for flip in judgement.robustness.flips)


def test_a_share_near_one_half_is_inconclusive(twin_values):
    records = fabricate(twin_values)
    sweep = next(r for r in records if r.parameters["strengths"] == FAST and r.parameters["part"] == "subgradient")
    norms = list(sweep["last"])
    at = FAST.index(10.0)
    norms[at] = [25.0] * 11 + [0.5] * 9
    records[records.index(sweep)] = Record(sweep.cell, {**sweep.values, "last": norms})
    assert study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_a_correction_says_which_strength_fits(twin_values):
    records = fabricate(twin_values)
    slow = next(r for r in records if r.parameters["strengths"][0] == 0.001 and r.parameters["part"] == "subgradient")
    norms = [list(row) for row in slow["last"]]
    norms[1] = [5.0 + 0.01 * i for i in range(20)]
    records[records.index(slow)] = Record(slow.cell, {**slow.values, "last": norms})
    judgement = study.judge(records)
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert "1.62 fits λ = 0.1 " in judgement.correction
    assert "5.095 at λ = 0.01" in judgement.correction


def test_every_figure_can_be_drawn_from_the_plans_records(twin_values):
    figures = study.draw(fabricate(twin_values))
    assert [len(figure.panels) for figure in figures] == [2, 2]


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
    values = study.measure(small_cell("subgradient"), Context())
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
    proximal = study.measure(small_cell("proximal", step_sizes=(0.01, 0.01)), Context())
    exact = study.measure(small_cell("exact"), Context())
    # λ = 10 lies far above λ_max: both have all their zeros there, and the certificate holds.
    assert proximal["last"][0] == exact["last"][0] == [0.0, 0.0]
    assert proximal["zeros"][0] == exact["zeros"][0] == [500, 500]
    assert max(exact["largest_useful_strength"]) < 10
    assert np.max(exact["gap"]) < 1e-6
    assert study.measure(small_cell("subgradient"), Context())["zeros"] == [[0, 0], [0, 0]]


def test_the_floor_at_ten_is_the_predicted_one():
    norms = study.measure(small_cell("subgradient", seeds=6, strengths=(10.0,), step_sizes=(0.01,)), Context())
    assert np.mean(norms["cycle"]) == pytest.approx(floor(10.0), rel=0.02)


def test_what_was_not_measured_is_refused(twin_values):
    with pytest.raises(NotStoredError, match=r"strength 7\.0"):
        norms_of(Evidence(fabricate(twin_values), study.experiments), 7.0)


def test_the_twins_constant_is_that_of_data_and_penalty():
    record = study.measure(paradox_lasso.twins.cell(seeds=range(3, 4)), Context())
    largest = 2 / 20 * torch.linalg.matrix_norm(draw_lasso(3, 1).data[0], ord=2).item() ** 2
    width = record["width"][0] * 0.01 * 10 / 2
    assert record["dose"][0][0][0] == pytest.approx(0.01 * (largest + 10 / width) / 2)
