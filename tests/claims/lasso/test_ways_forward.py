"""Claim `ways-forward`: what is measured, and that the evidence decides."""

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.lasso.sparse_methods import DESCENT, NAMED, PLAIN
from nonsmooth.claims.lasso.ways_forward import draw, judge, measure, plan
from nonsmooth.claims.lasso.ways_forward_evidence import Evidence
from nonsmooth.lab import Cell, Context, Record

EXACT = (480, 485, 500, 492)


def table(rows, seeds):
    return [[row] * seeds for row in rows]


def fabricate(seeds=6, zeros=None, residual=None, network=None, rounded=None, accuracy=None, gap=1e-15):
    """Records in the shape of the plan's: every method is exact and sparse, NGDM neither, unless told otherwise.

    `zeros`, `residual`, `network` and `accuracy` replace a method's value at every strength; `rounded` is the residual
    and the number of wrong entries in the support of the rounded NGDM.
    """
    zeros, residual = {PLAIN: 0, **(zeros or {})}, {PLAIN: 1.5, **(residual or {})}
    network, accuracy = {PLAIN: 0.0, **(network or {})}, accuracy or {}
    wrong, rounded_residual = rounded or (85, 1.04)
    records = []
    for cell in plan(Settings()):
        part, name = cell.parameters["part"], cell.parameters["method"]
        if part == "network":
            values = {"zero_share": [network.get(name, 0.5)] * 2, "accuracy": [accuracy.get(name, 0.96)] * 2,
                      "objective": [0.4] * 2, "residual": [9.0] * 2, "flicker": [10.0] * 2,
                      "rounded_zero_share": [0.5] * 2, "rounded_accuracy": [0.96] * 2,
                      "rounded_objective": [0.4] * 2}  # fmt: skip
            records.append(Record(cell, {key: table(rows, 3) for key, rows in values.items()}))
            continue
        exact = EXACT if part == "full batch" else EXACT[:2]
        count = len(exact)
        values = {"exact_zeros": exact, "zeros": [zeros[name]] * count if name in zeros else exact,
                  "residual": [residual.get(name, 1e-9)] * count, "lasso_residual": [1.0] * count,
                  "wrong_in_support": [0] * count, "flicker": [1.0] * count, "reference_gap": [gap] * count,
                  "rounded_wrong_in_support": [wrong] * count,
                  "rounded_residual": [rounded_residual] * count}  # fmt: skip
        records.append(Record(cell, {key: table(rows, seeds) for key, rows in values.items()}))
    return records


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.REPRODUCED),
        ({"residual": {"l1-RDA": 0.3}}, Verdict.WITH_CORRECTION),
        ({"zeros": {"u/v split": 30}}, Verdict.NOT_REPRODUCED),
        ({"zeros": {PLAIN: 400}}, Verdict.NOT_REPRODUCED),
        ({"network": {"xRDA": 0.01}}, Verdict.NOT_REPRODUCED),
        ({"accuracy": {"transformed L1": 0.5}}, Verdict.NOT_REPRODUCED),
        ({"network": {PLAIN: 0.4}}, Verdict.NOT_REPRODUCED),
        ({"rounded": (0, 1e-6)}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"rounded": (0, 0.5)}, Verdict.REPRODUCED),
        ({"rounded": (3, 1e-6)}, Verdict.REPRODUCED),
        ({"seeds": 3}, Verdict.INCONCLUSIVE),
        ({"gap": 1e-3}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(changes, verdict):
    assert judge(fabricate(**changes)).verdict is verdict


def test_methods_that_the_paper_does_not_name_do_not_decide():
    assert judge(fabricate(zeros={"truncated gradient": 0}, residual={"FISTA": 5.0})).verdict is Verdict.REPRODUCED


def test_a_correction_names_the_method_the_strengths_and_the_residual():
    correction = judge(fabricate(residual={"l1-RDA": 0.3})).correction
    assert "l1-RDA at λ = 0.01 (0.3), 0.1 (0.3), 10 (0.3), 0.5 λ_max (0.3)" in correction
    assert "xRDA" not in correction.replace("l1-RDA", "")


def test_every_figure_can_be_drawn_from_the_plans_records():
    assert [len(figure.panels) for figure in draw(fabricate())] == [2, 2]


def run(part, method, **changes):
    parameters = {"part": part, "method": method, "seeds": 2, "steps": 400, "strengths": (0.2, 10.0), "shares": (0.5,),
                  "step_size": 0.03, "rows": 5, **changes}  # fmt: skip
    return measure(Cell("ways-forward", parameters, seed=1), Context())


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
    planned = {cell.parameters["method"] for cell in plan(Settings()) if cell.parameters["part"] == "full batch"}
    assert set(NAMED) <= planned


def test_what_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="coordinate descent"):
        Evidence(fabricate()).table("network", DESCENT, "zero_share")
