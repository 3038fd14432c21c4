"""Claim `unstable-convergence`: bounds that hold by theorem, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import unstable_convergence
from nonsmooth.dynamics.thresholds import diverged
from nonsmooth.lab import Cell, Context, Record


def fabricate(
    *,
    last=0.9,
    plane=1.0,
    searched=1.0,
    chain=1.0,
    best=0.4,
    classical=0.9,
    diverging=("squared", "quartic"),
    growing=("separable",),
    count=24,
):
    """Records of a world with those largest constants, where the problems named diverge and ‖x‖ grows."""
    records = []
    for name, alphas in unstable_convergence.STEP_SIZES.items():
        values = {"diverged": [[name in diverging] * 2] * count}
        if name not in unstable_convergence.UNBOUNDED:
            values |= {"last": [[last, 0.5]] * count, "best": [[best, 0.1]] * count}
            values |= {"classical": [[classical, 0.1]] * count}
        parameters = {"part": "problem", "problem": name, "seeds": count, "alphas": alphas, "steps": 9}
        records.append(Record(Cell("unstable-convergence", parameters), values))
    cell = Cell("unstable-convergence", {"part": "plane", "tilts": (0.1, 0.25), "steps": 9})
    records.append(Record(cell, {"tilt": [0.1, 0.25], "last": [0.9, plane], "best": [0.1, 0.2]}))
    for features in unstable_convergence.DIMENSIONS:
        parameters = {"part": "search", "features": features, "polytopes": 1, "starts": 1, "steps": 9}
        values = {"last": 1.0 if features == 1 else searched, "best": 0.4, "above": 0.1, "runs": 100}
        records.append(Record(Cell("unstable-convergence", parameters), values))
    cell = Cell("unstable-convergence", {"part": "not convex", "steps": 9})
    records.append(Record(cell, {"diverged": [True, True], "reached": [5.0, 9.0]}))
    cell = Cell("unstable-convergence", {"part": "chain", "sizes": (16, 64)})
    records.append(Record(cell, {"size": [16, 64], "last": [chain - 0.1, chain], "beside": [chain, chain]}))
    names = ["max(-x, -2x)", "|x|", "logistic, separable", "logistic, mixed"]
    late = [[[2.0 if any(g in name for g in growing) else 1.0] * count] * 3 for name in names]
    values = {"name": names, "early": [[[1.0] * count] * 3] * 4, "late": late}
    cell = Cell("unstable-convergence", {"part": "minimiser", "steps": 9, "seeds": count})
    return [*records, Record(cell, values)]


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({"growing": ()}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"growing": (), "diverging": ("squared", "quartic", "pseudo-huber")}, Verdict.REPRODUCED),
        ({}, Verdict.WITH_CORRECTION),
        ({"plane": 1.125}, Verdict.WITH_CORRECTION),
        ({"searched": 1.2}, Verdict.WITH_CORRECTION),
        ({"chain": 1.9}, Verdict.WITH_CORRECTION),
        ({"last": 1.01}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "quartic", "huber")}, Verdict.NOT_REPRODUCED),
        ({"classical": 1.1, "plane": 1.125}, Verdict.NOT_REPRODUCED),
        ({"diverging": ()}, Verdict.INCONCLUSIVE),
        ({"count": 1}, Verdict.INCONCLUSIVE),
        ({"classical": math.nan}, Verdict.INCONCLUSIVE),
        ({"chain": math.nan}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert unstable_convergence.study.judge(records).verdict is verdict
    assert unstable_convergence.study.draw(records)


@pytest.mark.parametrize("part", ["problem", "plane", "search", "not convex", "chain", "minimiser"])
def test_a_missing_part_decides_nothing(part):
    records = [r for r in fabricate() if r.parameters["part"] != part]
    judgement = unstable_convergence.study.judge(records)
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_where_only_one_construction_exceeds_the_bound_it_is_named_and_the_others_turn_nothing_silently():
    judgement = unstable_convergence.study.judge(fabricate(chain=1.9, growing=()))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert {flip.verdict for flip in judgement.robustness.flips} == {Verdict.EXPLANATION_NOT_SUPPORTED}
    assert "lower bound" in judgement.because


def test_the_correction_names_the_condition():
    correction = unstable_convergence.study.judge(fabricate()).correction
    assert "only where there is a minimiser" in correction
    assert "24 of 24 data sets" in correction


def test_the_correction_states_the_constants_that_were_found():
    judgement = unstable_convergence.study.judge(fabricate(plane=1.07, searched=1.3, chain=1.6))
    assert "1.07" in judgement.correction
    assert "1.6 (" in judgement.because
    assert "0% of the runs on a smooth loss" in judgement.correction


def test_the_chain_rises_from_the_minimiser_and_from_beside_it():
    values = unstable_convergence.study.measure(
        Cell("unstable-convergence", {"part": "chain", "sizes": (64, 256)}), Context()
    )
    assert values["last"] == pytest.approx(values["beside"], rel=1e-6)
    assert values["last"][1] - values["last"][0] == pytest.approx(0.219 * math.log(4), rel=0.03)


def test_without_a_minimiser_the_iterates_grow_on_and_with_one_they_do_not():
    cell = Cell("unstable-convergence", {"part": "minimiser", "steps": 1000, "seeds": 3}, seed=2)
    values = unstable_convergence.study.measure(cell, Context())
    growth = dict(zip(values["name"], (np.array(values["late"]) / np.array(values["early"])).min(1), strict=True))
    assert growth["max(-x, -2x)"].min() > 9
    assert growth["|x|"].max() == 1
    assert growth["logistic, separable"].min() > 1.5
    assert growth["logistic, mixed"].max() < 1.05


def test_the_worst_case_in_the_plane_follows_its_closed_form():
    values = unstable_convergence.study.measure(
        Cell("unstable-convergence", {"part": "plane", "tilts": (0.1, 0.25, 0.4), "steps": 600}), Context()
    )
    assert values["last"] == pytest.approx([1 + e - 2 * e * e for e in (0.1, 0.25, 0.4)], abs=1e-4)


def test_on_the_line_the_printed_bound_holds_and_the_best_iterate_is_within_half_of_it():
    parameters = {"part": "search", "features": 1, "polytopes": 64, "starts": 8, "steps": 300}
    values = unstable_convergence.study.measure(Cell("unstable-convergence", parameters, seed=3), Context())
    assert 0.9 < values["last"] <= 1 + 1e-12
    assert values["best"] <= 0.5 + 1e-12


def test_in_space_the_search_finds_last_iterates_above_the_printed_bound():
    parameters = {"part": "search", "features": 3, "polytopes": 128, "starts": 16, "steps": 300}
    values = unstable_convergence.study.measure(Cell("unstable-convergence", parameters), Context())
    assert values["last"] > 1
    assert values["best"] <= 0.5


@pytest.mark.parametrize("problem", unstable_convergence.KINKED)
def test_the_classical_bound_of_the_best_iterate_holds_at_every_step(problem):
    parameters = {"part": "problem", "problem": problem, "alphas": (1.0, 10.0), "steps": 200, "seeds": 2}
    values = unstable_convergence.study.measure(Cell("unstable-convergence", parameters, seed=1), Context())
    assert np.max(values["classical"]) <= 1 + 1e-12
    assert not np.any(values["diverged"])


@pytest.mark.parametrize("problem", unstable_convergence.UNBOUNDED)
def test_unbounded_gradients_diverge_under_the_same_steps(problem):
    parameters = {"part": "problem", "problem": problem, "alphas": (1.0, 10.0), "steps": 1000, "seeds": 2}
    values = unstable_convergence.study.measure(Cell("unstable-convergence", parameters, seed=1), Context())
    assert np.all(values["diverged"])


def test_a_bounded_gradient_without_convexity_walks_away():
    values = unstable_convergence.study.measure(
        Cell("unstable-convergence", {"part": "not convex", "steps": 500}), Context()
    )
    assert all(values["diverged"])
    # Two pi a step, a tenth of it in the loss.
    assert values["reached"][0] == pytest.approx(math.pi / 10 + 500 * 0.2 * math.pi, rel=1e-6)


def test_divergence_is_growth_or_overflow_and_not_size():
    steps = np.arange(1001.0)
    runs = np.stack([steps, 1e9 * (2 + np.cos(steps)), np.where(steps > 500, np.inf, 1.0), 1 / (1 + steps)], axis=1)
    assert diverged(runs).tolist() == [True, False, True, False]
    assert diverged(np.where(steps == 1000, np.nan, 1.0)[:, None]).tolist() == [True]


@pytest.mark.parametrize("scale", ["quick", "standard", "paper"])
def test_the_plan_has_no_cell_twice(scale):
    cells = unstable_convergence.study.plan(Settings(scale=scale, seeds=2))
    assert len(set(cells)) == len(cells)
