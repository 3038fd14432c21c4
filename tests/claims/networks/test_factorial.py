"""Contrasts and their intervals against SciPy's t tests, blocks, and the choice of step sizes."""

import math

import numpy as np
import pytest
from scipy import stats

from nonsmooth.claims.networks.factorial import (
    CONTRASTS,
    average,
    blocks_of,
    by_stratum,
    contrast,
    growth,
    own_best,
    weighted,
)
from nonsmooth.lab import Cell, Record
from nonsmooth.models import ACTIVATIONS


def record(activation, loss, *, depth=11, initialisation="kaiming", optimiser="sgd", learning_rate=0.1, seed=0):
    parameters = {
        "activation": activation,
        "depth": depth,
        "initialisation": initialisation,
        "optimiser": optimiser,
        "learning_rate": learning_rate,
    }
    return Record(Cell("depth", parameters, seed=seed), {"mean_loss": loss, "left_at": 30})


def loss(run):
    return run["mean_loss"]


def block(relu, smooth_relu, piecewise, gelu, **where):
    return [
        record(a, value, **where) for a, value in zip(ACTIVATIONS, (relu, smooth_relu, piecewise, gelu), strict=True)
    ]


def test_the_contrasts_recover_the_effects_that_a_block_is_made_of():
    base, smoothness, shape, interaction = 1.0, 0.3, -0.2, 0.05
    (made,) = blocks_of(
        block(*(base + s * smoothness / 2 + k * shape / 2 + s * k * interaction / 2 for k in (1, -1) for s in (1, -1)))
    )
    effects = {name: contrast(made, name, loss) for name in CONTRASTS}
    assert effects == pytest.approx(
        {
            "gap": smoothness + shape,
            "smoothness": smoothness,
            "shape": shape,
            "interaction": interaction,
            "excess": smoothness - shape,
        }
    )


def test_what_four_twins_share_drops_out():
    (low,) = blocks_of(block(1.0, 0.9, 0.8, 0.6))
    (high,) = blocks_of(block(2.0, 1.9, 1.8, 1.6))
    assert [contrast(low, n, loss) for n in CONTRASTS] == pytest.approx([contrast(high, n, loss) for n in CONTRASTS])


def test_an_incomplete_block_is_left_out_and_blocks_are_told_apart_by_everything_they_share():
    records = block(1, 1, 1, 1) + block(2, 2, 2, 2, seed=1) + block(3, 3, 3, 3, depth=19)[:3]
    records += block(4, 4, 4, 4, learning_rate=0.2) + block(5, 5, 5, 5, optimiser="adam")
    assert len(blocks_of(records)) == 4


def test_one_stratum_gives_the_t_interval_of_its_seeds():
    samples = dict(enumerate((0.3, 0.1, 0.25, 0.4)))
    estimate = average({(11, "kaiming"): samples})
    expected = stats.ttest_1samp(list(samples.values()), 0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.value == pytest.approx(np.mean(list(samples.values())))
    assert estimate.seeds == 4


def test_growth_between_two_depths_is_the_pooled_two_sample_interval():
    shallow, deep = {0: 0.1, 1: 0.2, 2: 0.15}, {0: 0.5, 1: 0.45, 2: 0.7}
    estimate = growth({(11, "kaiming"): shallow, (19, "kaiming"): deep}, float)
    expected = stats.ttest_ind(list(deep.values()), list(shallow.values())).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_growth_over_three_depths_is_that_of_the_regression_line():
    means = {9: 0.1, 11: 0.4, 17: 0.3}
    units = {(depth, "kaiming"): {0: mean - 0.01, 1: mean + 0.01} for depth, mean in means.items()}
    assert growth(units, float).value == pytest.approx(8 * stats.linregress(list(means), list(means.values())).slope)


def test_growth_needs_two_depths():
    assert growth({(11, "kaiming"): {0: 0.1, 1: 0.2}, (11, "default"): {0: 0.1}}, float) is None


def test_a_single_seed_has_no_interval():
    estimate = average({(11, "kaiming"): {0: 0.1}, (19, "kaiming"): {0: 0.2}})
    assert estimate.value == pytest.approx(0.15)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert estimate.seeds_to_see(0.05) is None
    assert estimate.as_value("n", "l").low is None


def test_a_stratum_without_seeds_gives_no_estimate():
    assert weighted({(11, "kaiming"): {}}, {(11, "kaiming"): 1.0}) is None
    assert average({}) is None


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        units = {
            (depth, "kaiming"): dict(enumerate(generator.normal(mean, 0.3, size=3)))
            for depth, mean in ((11, 0.1), (13, 0.2), (19, 0.6))
        }
        estimate = average(units)
        covered.append(estimate.low <= 0.3 <= estimate.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_seeds_to_see_makes_the_interval_as_narrow_as_it_says():
    estimate = average({(11, "kaiming"): dict(enumerate((0.0, 0.4, -0.3, 0.3, 0.1, -0.1, 0.2, 0.0)))})
    half = (estimate.high - estimate.low) / 2
    assert half * math.sqrt(8 / estimate.seeds_to_see(0.1)) == pytest.approx(0.1, rel=0.05)


def test_step_sizes_of_one_seed_are_averaged_before_the_interval():
    records = block(1.0, 1, 1, 0.8, learning_rate=0.1) + block(1.0, 1, 1, 0.4, learning_rate=0.2)
    assert by_stratum(blocks_of(records), "gap", loss) == {(11, "kaiming"): {0: pytest.approx(0.4)}}


def test_own_best_picks_a_step_size_for_each_activation():
    records = []
    for seed, noise in enumerate((0.0, 0.02, -0.02)):
        records += block(1.0 + noise, 1.1, 1.2, 2.0, learning_rate=0.1, seed=seed)
        records += block(1.5, 1.6, 1.0, 0.5 + noise, learning_rate=0.2, seed=seed)
    chosen = own_best(blocks_of(records))
    assert [b.seed for b in chosen] == [0, 1, 2]
    rates = {a: {b.runs[a].parameters["learning_rate"] for b in chosen} for a in ACTIVATIONS}
    assert list(rates.values()) == [{0.1}, {0.1}, {0.2}, {0.2}]
    assert average(by_stratum(chosen, "gap", loss)).value == pytest.approx(0.5)
