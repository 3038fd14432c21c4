"""Claim `unstable-convergence`: bounds that hold by theorem, and the verdict under evidence of every kind."""

import math

import numpy as np
import pytest

from nonsmooth.claims.framework.claim import Settings, Verdict
from nonsmooth.claims.rates import unstable_convergence
from nonsmooth.dynamics.thresholds import diverged
from nonsmooth.lab import Cell, Context, Record


def fabricate(*, last=0.9, plane=1.0, searched=1.0, best=0.4, classical=0.9, diverging=("squared", "quartic")):
    """Records of a world with those largest constants, where the problems named diverge."""
    records = []
    for name in unstable_convergence.STEP_SIZES:
        values = {"diverged": [[name in diverging] * 2] * 3}
        if name not in unstable_convergence.UNBOUNDED:
            values |= {"last": [[last, 0.5]] * 3, "best": [[best, 0.1]] * 3, "classical": [[classical, 0.1]] * 3}
        cell = Cell("unstable-convergence", {"part": "problem", "problem": name, "seeds": 3})
        records.append(Record(cell, values))
    cell = Cell("unstable-convergence", {"part": "plane"})
    records.append(Record(cell, {"tilt": [0.1, 0.25], "last": [0.9, plane], "best": [0.1, 0.2]}))
    for features in (1, 2, 3):
        cell = Cell("unstable-convergence", {"part": "search", "features": features})
        values = {"last": 1.0 if features == 1 else searched, "best": 0.4, "above": 0.1, "runs": 100}
        records.append(Record(cell, values))
    cell = Cell("unstable-convergence", {"part": "not convex"})
    records.append(Record(cell, {"diverged": [True, True], "reached": [5.0, 9.0]}))
    return records


@pytest.mark.parametrize(
    ("world", "verdict"),
    [
        ({}, Verdict.EXPLANATION_NOT_SUPPORTED),
        ({"diverging": ("squared", "pseudo-huber")}, Verdict.REPRODUCED),
        ({"plane": 1.125}, Verdict.WITH_CORRECTION),
        ({"searched": 1.2}, Verdict.WITH_CORRECTION),
        ({"last": 1.01}, Verdict.WITH_CORRECTION),
        ({"diverging": ("squared", "huber")}, Verdict.NOT_REPRODUCED),
        ({"classical": 1.1, "plane": 1.125}, Verdict.NOT_REPRODUCED),
        ({"diverging": ()}, Verdict.INCONCLUSIVE),
    ],
)
def test_the_evidence_decides(world, verdict):
    records = fabricate(**world)
    assert unstable_convergence.judge(records).verdict is verdict
    assert unstable_convergence.draw(records)


def test_the_correction_states_the_constants_that_were_found():
    correction = unstable_convergence.judge(fabricate(plane=1.07, searched=1.3)).correction
    assert "1.07" in correction
    assert "1.3" in correction
    assert "not needed" in correction
    needed = unstable_convergence.judge(fabricate(plane=1.07, diverging=("squared", "pseudo-huber"))).correction
    assert "not needed" not in needed


def test_the_worst_case_in_the_plane_follows_its_closed_form():
    values = unstable_convergence.measure(
        Cell("unstable-convergence", {"part": "plane", "tilts": (0.1, 0.25, 0.4), "steps": 600}), Context()
    )
    assert values["last"] == pytest.approx([1 + e - 2 * e * e for e in (0.1, 0.25, 0.4)], abs=1e-4)


def test_on_the_line_the_printed_bound_holds_and_the_best_iterate_is_within_half_of_it():
    parameters = {"part": "search", "features": 1, "polytopes": 64, "starts": 8, "steps": 300}
    values = unstable_convergence.measure(Cell("unstable-convergence", parameters, seed=3), Context())
    assert 0.9 < values["last"] <= 1 + 1e-12
    assert values["best"] <= 0.5 + 1e-12


def test_in_space_the_search_finds_last_iterates_above_the_printed_bound():
    parameters = {"part": "search", "features": 3, "polytopes": 128, "starts": 16, "steps": 300}
    values = unstable_convergence.measure(Cell("unstable-convergence", parameters), Context())
    assert values["last"] > 1
    assert values["best"] <= 0.5


@pytest.mark.parametrize("problem", unstable_convergence.KINKED)
def test_the_classical_bound_of_the_best_iterate_holds_at_every_step(problem):
    parameters = {"part": "problem", "problem": problem, "alphas": (1.0, 10.0), "steps": 200, "seeds": 2}
    values = unstable_convergence.measure(Cell("unstable-convergence", parameters, seed=1), Context())
    assert np.max(values["classical"]) <= 1 + 1e-12
    assert not np.any(values["diverged"])


@pytest.mark.parametrize("problem", unstable_convergence.UNBOUNDED)
def test_unbounded_gradients_diverge_under_the_same_steps(problem):
    parameters = {"part": "problem", "problem": problem, "alphas": (1.0, 10.0), "steps": 1000, "seeds": 2}
    values = unstable_convergence.measure(Cell("unstable-convergence", parameters, seed=1), Context())
    assert np.all(values["diverged"])


def test_a_bounded_gradient_without_convexity_walks_away():
    values = unstable_convergence.measure(Cell("unstable-convergence", {"part": "not convex", "steps": 500}), Context())
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
    cells = unstable_convergence.plan(Settings(scale=scale, seeds=2))
    assert len(set(cells)) == len(cells)
