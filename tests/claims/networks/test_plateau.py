"""What is read off one run's losses, and that a cell gives the same bits twice."""

import math

import numpy as np
import pytest

from nonsmooth.claims.framework import Run
from nonsmooth.claims.networks.plateau import CHANCE, CURVE_POINTS, LEAVING, OPTIMISERS, WINDOW, describe, measure
from nonsmooth.dynamics.training import History
from nonsmooth.lab import Context


def history(losses, diverged_at=None):
    return History(list(range(1, len(losses) + 1)), list(losses), {}, diverged_at)


def test_a_run_at_chance_never_leaves():
    values = describe(history([CHANCE] * 200), 200)
    assert values["left_at"] is None
    assert values["loss_after"] is None
    assert values["mean_loss"] == pytest.approx(CHANCE)


def test_a_drop_is_seen_as_soon_as_the_mean_over_the_window_says_so():
    low = 0.5 * CHANCE
    values = describe(history([CHANCE] * 100 + [low] * 100), 200)
    needed = math.floor((1 - LEAVING) * CHANCE / (CHANCE - low) * WINDOW) + 1
    assert values["left_at"] == 100 + needed
    assert values["loss_after"] == pytest.approx(low)
    assert values["mean_loss"] == pytest.approx(0.75 * CHANCE)
    assert values["final_loss"] == pytest.approx(low)


def test_a_lucky_batch_is_not_leaving():
    losses = np.full(200, CHANCE)
    losses[90] = 1.4
    assert describe(history(losses), 200)["left_at"] is None


def test_leaving_too_late_has_no_speed_after():
    values = describe(history([CHANCE] * 160 + [0.1] * 40), 200)
    assert values["left_at"] is not None
    assert values["loss_after"] is None


def test_a_spike_costs_as_much_as_knowing_nothing():
    losses = [1.0] * 200
    losses[50] = 1e25
    assert describe(history(losses), 200)["mean_loss"] == pytest.approx((199 + CHANCE) / 200)


def test_after_a_divergence_the_loss_counts_as_chance():
    values = describe(history([1.0] * 50 + [math.nan], diverged_at=51), 200)
    assert values["mean_loss"] == pytest.approx((50 + 150 * CHANCE) / 200)
    assert values["final_loss"] == math.inf
    assert values["diverged_at"] == 51
    assert values["left_at"] == WINDOW
    assert max(values["curve_step"]) == 50


def test_a_divergence_before_the_first_window():
    values = describe(history([CHANCE, math.inf], diverged_at=2), 200)
    assert values["left_at"] is None
    assert values["mean_loss"] == pytest.approx(CHANCE)


@pytest.mark.parametrize("steps", [1, 49, 130, 400])
def test_the_curve_is_thinned_and_keeps_the_mean(steps):
    losses = np.random.default_rng(0).uniform(0, 2, steps)
    values = describe(history(losses), steps)
    assert len(values["curve_step"]) <= CURVE_POINTS
    assert values["curve_step"][-1] == steps
    widths = np.diff([0, *values["curve_step"]])
    assert np.average(values["curve_loss"], weights=widths) == pytest.approx(losses.mean())


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_cell_gives_the_same_bits_twice_and_other_bits_with_another_seed(optimiser):
    parameters = {
        "images": "digits",
        "limit": 40,
        "test_limit": 20,
        "activation": "piecewise-linear-gelu",
        "depth": 11,
        "initialisation": "kaiming",
        "optimiser": optimiser,
        "learning_rate": 0.001,
        "batch_size": 4,
        "steps": 12,
    }
    first, second, other = (measure(Run(seed, Context()), **parameters) for seed in (0, 0, 1))
    assert first == second
    assert first["curve_loss"] != other["curve_loss"]
    assert len(first["curve_loss"]) == 12
    assert 0 <= first["test_accuracy"] <= 1


def test_a_checkpoint_changes_nothing(tmp_path):
    parameters = {
        "images": "digits",
        "limit": 16,
        "test_limit": 10,
        "activation": "relu",
        "depth": 11,
        "initialisation": "kaiming",
        "optimiser": "adam",
        "learning_rate": 0.001,
        "batch_size": 8,
        "steps": 5,
    }
    plain = measure(Run(0, Context()), **parameters)
    for _ in range(2):
        assert measure(Run(0, Context(scratch=tmp_path), "key"), **parameters) == plain
