"""Contrasts and their intervals against SciPy's t tests, blocks, and the choice of step sizes."""

import math

import numpy as np
import pytest
from scipy import stats

from nonsmooth.claims.framework import Missing, Quantity
from nonsmooth.claims.networks.factorial import (
    CONTRASTS,
    as_factor,
    average,
    blocks_of,
    contrast,
    growth,
    own_best,
    units_of,
)
from nonsmooth.lab import Cell, Record
from nonsmooth.models import ACTIVATIONS, WEIGHT_LAYERS

WHAT = Quantity("what", "what is estimated")


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


def test_an_incomplete_block_gives_only_the_contrasts_of_what_it_has():
    records = block(1, 1, 1, 1) + block(2, 2, 2, 2, seed=1) + block(3, 3, 3, 1, depth=19)[::3]
    records += block(4, 4, 4, 4, learning_rate=0.2)
    blocks = blocks_of(records)
    assert len(blocks) == 4
    (pair,) = (b for b in blocks if not b.complete)
    assert contrast(pair, "gap", loss) == 2
    assert contrast(pair, "smoothness", loss) is None


def test_one_depth_gives_the_t_interval_of_its_seeds():
    samples = dict(enumerate((0.3, 0.1, 0.25, 0.4)))
    estimate = average(WHAT, {11: samples})
    expected = stats.ttest_1samp(list(samples.values()), 0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    assert estimate.value == pytest.approx(np.mean(list(samples.values())))
    assert estimate.count == 4


def test_growth_between_two_depths_is_the_paired_interval_of_the_seeds():
    shallow, deep = {0: 0.1, 1: 0.2, 2: 0.15}, {0: 0.5, 1: 0.45, 2: 0.7}
    estimate = growth(WHAT, {11: shallow, 19: deep}, WEIGHT_LAYERS)
    expected = stats.ttest_rel(list(deep.values()), list(shallow.values())).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_what_the_depths_of_a_seed_share_widens_the_interval_of_their_mean():
    """Taken as independent, the two depths would give an interval that is shorter by the root of two."""
    samples = dict(enumerate((0.3, 0.1, 0.25, 0.4)))
    one, two = average(WHAT, {11: samples}), average(WHAT, {11: samples, 19: samples})
    assert (two.low, two.high) == pytest.approx((one.low, one.high))


def test_growth_over_three_depths_is_that_of_the_regression_line():
    means = {11: 0.1, 13: 0.4, 19: 0.3}
    units = {depth: {0: mean - 0.01, 1: mean + 0.01} for depth, mean in means.items()}
    layers = [WEIGHT_LAYERS[depth] for depth in means]
    expected = 8 * stats.linregress(layers, list(means.values())).slope
    assert growth(WHAT, units, WEIGHT_LAYERS).value == pytest.approx(expected)


def test_what_cannot_be_had_is_missing():
    assert isinstance(growth(WHAT, {11: {0: 0.1, 1: 0.2}}, WEIGHT_LAYERS), Missing)
    assert isinstance(average(WHAT, {}), Missing)
    assert isinstance(average(WHAT, {11: {0: 0.1}, 19: {1: 0.2}}), Missing), "no seed has both depths"
    assert as_factor(average(WHAT, {})) == average(WHAT, {})


def test_a_single_seed_has_no_interval():
    estimate = average(WHAT, {11: {0: 0.1}, 19: {0: 0.2}})
    assert estimate.value == pytest.approx(0.15)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert (as_factor(estimate).low, as_factor(estimate).high) == (0, math.inf)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        common = generator.normal(0, 0.3, size=3)
        units = {
            depth: dict(enumerate(common + generator.normal(mean, 0.1, size=3)))
            for depth, mean in ((11, 0.1), (13, 0.2), (19, 0.6))
        }
        estimate = average(WHAT, units)
        covered.append(estimate.low <= 0.3 <= estimate.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_step_sizes_of_one_seed_are_averaged_before_the_interval():
    records = block(1.0, 1, 1, 0.8, learning_rate=0.1) + block(1.0, 1, 1, 0.4, learning_rate=0.2)
    assert units_of(blocks_of(records), "gap", loss) == {11: {0: pytest.approx(0.4)}}


def test_own_best_picks_a_step_size_for_each_activation():
    records = []
    for seed, noise in enumerate((0.0, 0.02, -0.02)):
        records += block(1.0 + noise, 1.1, 1.2, 2.0, learning_rate=0.1, seed=seed)
        records += block(1.5, 1.6, 1.0, 0.5 + noise, learning_rate=0.2, seed=seed)
    chosen = own_best(blocks_of(records))
    assert [b.seed for b in chosen] == [0, 1, 2]
    rates = {a: {b.runs[a].parameters["learning_rate"] for b in chosen} for a in ACTIVATIONS}
    assert list(rates.values()) == [{0.1}, {0.1}, {0.2}, {0.2}]
    assert average(WHAT, units_of(chosen, "gap", loss)).value == pytest.approx(0.5)
