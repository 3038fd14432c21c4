"""Claim `ways-forward`: what is measured, and that the evidence decides."""

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.lasso.sparse_methods import DESCENT, ITERATIVE, NAMED, PLAIN
from nonsmooth.claims.lasso.sparse_runs import WIDTHS
from nonsmooth.claims.lasso.ways_forward import study
from nonsmooth.claims.lasso.ways_forward_evidence import BUDGETS
from nonsmooth.lab import Cell, Context, Record

EXACT = (480, 485, 500, 492)


def table(rows, seeds):
    return [[row] * seeds for row in rows]


def fabricate(
    seeds=6, zeros=None, residual=None, network=None, accuracy=None, gap=1e-15, rounding=None, lead=0.0, early=1.0
):
    """Records in the shape of the plan's: every method is exact and sparse, NGDM neither, unless told otherwise.

    `zeros`, `residual`, `network` and `accuracy` replace a method's value at every strength. `rounding` is the residual
    of the rounded NGDM on the LASSO problem (by width, where it differs), and `lead` its share of zeros on the network
    less the proximal step's. After the first budget the methods have found `early` of the zeros.
    """
    zeros, residual = {PLAIN: 0, **(zeros or {})}, {PLAIN: 1.5, **(residual or {})}
    network, accuracy = {PLAIN: 0.0, **(network or {})}, accuracy or {}
    rounding = dict.fromkeys(WIDTHS, 0.5) | (rounding or {})
    records = []
    for cell in study.plan(Settings(seeds=seeds)):
        part, name = cell.parameters["part"], cell.parameters.get("method")
        exact = EXACT[:2] if part == "rows" else EXACT[:1] if part == "budgets" else EXACT
        if part == "network":
            values = {"zero_share": [network.get(name, 0.5)] * 2, "accuracy": [accuracy.get(name, 0.96)] * 2,
                      "objective": [0.4] * 2, "residual": [9.0] * 2, "flicker": [10.0] * 2,
                      "rounded_zero_share": [0.5] * 2, "rounded_accuracy": [0.96] * 2,
                      "rounded_objective": [0.4] * 2}  # fmt: skip
        elif part == "rounded network":
            shares = [[[0.5 + lead] * seeds] * 2] * len(WIDTHS) + [[[0.5] * seeds] * 2]
            same = [[[0.96] * seeds] * 2] * (len(WIDTHS) + 1)
            records.append(Record(cell, {"zero_share": shares, "accuracy": same, "objective": same}))
            continue
        elif part == "rounded":
            wrong = [[table([4] * 4, seeds)] * len(WIDTHS)] * len(BUDGETS)
            residuals = [[table([rounding[width]] * 4, seeds) for width in WIDTHS]] * len(BUDGETS)
            values = {"zeros": wrong, "gap": wrong, "wrong_in_support": wrong, "residual": residuals}
            records.append(Record(cell, {**values, "exact_zeros": table(exact, seeds)}))
            continue
        elif part == "budgets":
            share = zeros.get(name, exact[0]) / exact[0]
            found = [table([exact[0] * (early if n == BUDGETS[0] else share)], seeds) for n in BUDGETS]
            left = [table([residual.get(name, 1e-9)], seeds)] * len(BUDGETS)
            records.append(Record(cell, {"zeros": found, "residual": left, "exact_zeros": table(exact, seeds)}))
            continue
        else:
            count = len(exact)
            values = {"exact_zeros": exact, "zeros": [zeros[name]] * count if name in zeros else exact,
                      "residual": [residual.get(name, 1e-9)] * count, "lasso_residual": [1.0] * count,
                      "wrong_in_support": [0] * count, "flicker": [1.0] * count, "reference_gap": [gap] * count,
                      "rounded_wrong_in_support": [85] * count, "rounded_residual": [1.04] * count}  # fmt: skip
        records.append(Record(cell, {key: table(rows, seeds) for key, rows in values.items()}))
    return records


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.WITH_CORRECTION),
        ({"lead": -0.2}, Verdict.REPRODUCED),
        ({"rounding": dict.fromkeys(WIDTHS, 1e-6)}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"rounding": dict.fromkeys(WIDTHS, 1e-6), "lead": -0.2}, Verdict.REPRODUCED),
        ({"residual": {"l1-RDA": 0.3}}, Verdict.WITH_CORRECTION),
        ({"zeros": {"u/v split": 30}}, Verdict.NOT_REPRODUCED),
        ({"zeros": {PLAIN: 400}}, Verdict.NOT_REPRODUCED),
        ({"network": {"xRDA": 0.01}}, Verdict.NOT_REPRODUCED),
        ({"accuracy": {"transformed L1": 0.5}}, Verdict.NOT_REPRODUCED),
        ({"network": {PLAIN: 0.4}}, Verdict.NOT_REPRODUCED),
        ({"seeds": 3}, Verdict.INCONCLUSIVE),
        ({"seeds": 1}, Verdict.INCONCLUSIVE),
        ({"gap": 1e-3}, Verdict.INCONCLUSIVE),
        ({"lead": np.nan}, Verdict.INCONCLUSIVE),
        ({"accuracy": {PLAIN: np.nan}}, Verdict.INCONCLUSIVE),
        ({"residual": {"u/v split": np.nan}}, Verdict.WITH_CORRECTION),
        ({"rounding": dict.fromkeys(WIDTHS, np.nan)}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(changes, verdict):
    assert study.judge(fabricate(**changes)).verdict is verdict


@pytest.mark.parametrize("part", ["full batch", "network", "budgets", "rounded", "rounded network"])
def test_a_missing_part_decides_nothing(part):
    records = [r for r in fabricate() if r.parameters["part"] != part]
    assert study.judge(records).verdict is Verdict.INCONCLUSIVE


def test_methods_that_the_paper_does_not_name_do_not_decide():
    judgement = study.judge(fabricate(zeros={"truncated gradient": 0}, residual={"FISTA": 5.0}))
    assert judgement.verdict is Verdict.WITH_CORRECTION


def test_a_budget_that_is_too_short_is_named_with_its_condition():
    """At 1,000 steps of 0.0003 no weight can have come from 1 to zero: the flip is the budget's, not the method's."""
    judgement = study.judge(fabricate(early=0.2))
    assert judgement.verdict is Verdict.WITH_CORRECTION
    assert [(f.verdict, "1,000 instead of 5,000" in f.what) for f in judgement.robustness.flips] == [
        (Verdict.NOT_REPRODUCED, True)
    ]
    assert "where the steps can carry a weight to zero" in judgement.because


def test_a_width_at_which_rounding_reaches_the_optimum_makes_it_inconclusive():
    judgement = study.judge(fabricate(rounding={"3αλ": 1e-6}))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "3αλ" in judgement.robustness.flips[0].what


def test_the_correction_names_the_methods_that_are_short_of_the_optimum():
    correction = study.judge(fabricate(residual={"l1-RDA": 0.3})).correction
    assert "4 of 5" in correction
    assert "l1-RDA 0.3 λ → 0.3 λ" in correction
    assert "xRDA" not in correction.replace("l1-RDA", "")


def test_every_figure_can_be_drawn_from_the_plans_records():
    assert [len(figure.panels) for figure in study.draw(fabricate())] == [2, 3]


def run(part, method, **changes):
    parameters = {"part": part, "method": method, "seeds": 2, "steps": 400, "strengths": (0.2, 10.0), "shares": (0.5,),
                  "step_size": 0.03, "rows": 5, **changes}  # fmt: skip
    unused = {"full batch": {"rows"}, "rows": set(), "network": {"rows", "shares"}}[part]
    cell = Cell("ways-forward", {name: value for name, value in parameters.items() if name not in unused}, seed=1)
    return study.measure(cell, Context())


def test_on_the_lasso_fista_is_exact_and_ngdm_is_neither_sparse_nor_optimal():
    good, plain, exact = (run("full batch", method) for method in ("FISTA", PLAIN, DESCENT))
    assert good["zeros"] == exact["zeros"] == exact["exact_zeros"]
    assert np.max(good["residual"]) < 1e-6
    assert np.max(np.abs(good["gap"])) < 1e-9
    assert np.max(exact["residual"]) < 1e-9
    assert np.max(plain["zeros"]) == 0
    assert np.min(plain["residual"]) > 0.5
    assert np.min(plain["gap"]) > 1e-3
    # At λ = 10 the exact solution is zero: NGDM's weights lie within αλ of it, and most of them are rounded to it.
    assert np.min(plain["rounded_zeros"][1]) > 400


def test_each_method_is_held_to_its_own_objective():
    adaptive = run("full batch", "xRDA, adaptive", steps=3000)
    assert np.max(adaptive["residual"]) < 0.01
    assert np.max(adaptive["lasso_residual"]) > 0.5


@pytest.mark.parametrize("method", ["ProxSGD with momentum", "ProxAdam"])
def test_optimisers_of_this_package_solve_for_the_same_strength(method):
    found = run("full batch", method, steps=2500)
    assert found["zeros"] == found["exact_zeros"]
    assert np.max(found["residual"]) < 1e-3


def test_rows_are_the_same_each_time_and_averaging_calms_the_support():
    settings = {"strengths": (0.2,), "steps": 1500, "step_size": 0.006}
    first, again = run("rows", "proximal gradient", **settings), run("rows", "proximal gradient", **settings)
    assert first == again
    averaged = run("rows", "l1-RDA", **settings)
    assert 10 * np.max(averaged["flicker"]) < np.min(first["flicker"])


def test_on_a_network_the_prox_gives_zeros_where_ngdm_has_none():
    settings = {"strengths": (0.003,), "steps": 300, "step_size": 0.2, "seeds": 2}
    plain, proximal = (run("network", method, **settings) for method in (PLAIN, "proximal gradient"))
    assert np.max(plain["zero_share"]) == 0
    assert np.min(proximal["zero_share"]) > 0.1
    assert min(np.min(plain["accuracy"]), np.min(proximal["accuracy"])) > 0.7
    assert plain["weights"] == 64 * 64 + 64 * 10


def test_all_named_methods_are_planned():
    planned = {cell.parameters["method"] for cell in study.plan(Settings()) if cell.parameters["part"] == "full batch"}
    assert set(NAMED) <= planned
    assert {c.parameters["method"] for c in study.plan(Settings()) if c.parameters["part"] == "budgets"} == set(
        ITERATIVE
    )


def test_budgets_end_where_runs_of_that_length_end():
    parameters = {"part": "budgets", "method": "u/v split", "step_size": 0.03, "strengths": (0.2,)}
    parameters |= {"budgets": (100, 400), "seeds": 2}
    values = study.measure(Cell("ways-forward", parameters, seed=1), Context())
    whole = run("full batch", "u/v split", strengths=(0.2,), shares=())
    assert values["zeros"][-1] == whole["zeros"]
    assert values["residual"][-1] == pytest.approx(np.array(whole["residual"]))
    assert np.max(values["zeros"][0]) < np.min(values["zeros"][1])


def test_rounding_at_the_bound_of_the_swing_finds_the_support_that_rounding_at_the_step_misses():
    parameters = {"part": "rounded", "step_size": 0.03, "strengths": (0.2,), "shares": (), "budgets": (400, 2000),
                  "seeds": 2}  # fmt: skip
    values = study.measure(Cell("ways-forward", parameters, seed=1), Context())
    whole = run("full batch", PLAIN, strengths=(0.2,), shares=())
    wrong = np.array(values["wrong_in_support"])
    assert wrong[0, 0].tolist() == whole["rounded_wrong_in_support"]
    assert wrong[1, WIDTHS.index("2αλ")].max() < 15
    assert wrong[1, WIDTHS.index("αλ")].min() > 60
    # A coordinate whose solution is zero swings within 2αλ, whatever the sign of its gradient.
    assert np.array(values["residual"])[1].min() > 0.1


def test_on_a_network_the_rounded_ngdm_and_the_proximal_step_see_the_same_images():
    parameters = {"part": "rounded network", "step_size": 0.2, "strengths": (0.003,), "steps": 200, "seeds": 2}
    values = study.measure(Cell("ways-forward", parameters, seed=1), Context())
    whole = run("network", PLAIN, strengths=(0.003,), steps=200, step_size=0.2)
    proximal = run("network", "proximal gradient", strengths=(0.003,), steps=200, step_size=0.2)
    assert values["zero_share"][0] == whole["rounded_zero_share"]
    assert values["zero_share"][-1] == pytest.approx(np.array(proximal["zero_share"]), abs=0.01)
    assert np.diff(np.array(values["zero_share"])[:3, 0, 0]).min() > 0


def test_what_was_not_measured_decides_nothing():
    records = [r for r in fabricate() if r.parameters.get("method") != DESCENT]
    assert study.judge(records).verdict is Verdict.INCONCLUSIVE
