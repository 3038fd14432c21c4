import math

import numpy as np
import pytest
import torch

from nonsmooth.dynamics.stationary import simulate_law, subgradient_law


def sgd(step_size, **options):
    return lambda parameters: torch.optim.SGD(parameters, lr=step_size, **options)


def adam(step_size):
    return lambda parameters: torch.optim.Adam(parameters, lr=step_size)


def brute_force(update, strength, starts, burn_in, window):
    """Magnitudes visited by a recursion written in plain Python, one coordinate at a time."""
    visited = []
    for start in starts:
        weight, state = float(start), {}
        for step in range(1, burn_in + window + 1):
            gradient = strength * (math.copysign(1.0, weight) if weight else 0.0)
            weight = update(weight, gradient, state, step)
            if step > burn_in:
                visited.append(abs(weight))
    return np.array(visited)


def heavy_ball(weight, gradient, state, _step):
    state["velocity"] = 0.9 * state.get("velocity", 0.0) + gradient
    return weight - 0.01 * state["velocity"]


def adam_step(weight, gradient, state, step):
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * gradient**2
    mean, square = state["m"] / (1 - 0.9**step), state["v"] / (1 - 0.999**step)
    return weight - 0.01 * mean / (math.sqrt(square) + 1e-8)


def starts(count, seed=0):
    weight = torch.empty(count, dtype=torch.float64)
    return weight.normal_(0.0, 0.01, generator=torch.Generator().manual_seed(seed)).tolist()


def test_plain_sgd_follows_the_closed_form():
    law = subgradient_law(0.01, 0.1)
    seen = simulate_law(sgd(0.01), 0.1, coordinates=20_000, burn_in=200, window=4)
    # |w| is uniform on (0, αλ): the mean of n independent coordinates has standard deviation αλ/√(12 n).
    assert seen.mean_magnitude == pytest.approx(law.mean_magnitude, abs=5 * 1e-3 / math.sqrt(12 * 20_000))
    for threshold in (1e-5, 1e-4, 5e-4, 9e-4, 2e-3):
        assert seen.fraction_below(threshold) == pytest.approx(law.fraction_below(threshold), abs=0.02)
    assert seen.exact_zeros == law.exact_zeros == 0
    assert seen.flips_per_step == law.flips_per_step == 1


def test_closed_form_gives_the_numbers_of_the_paper():
    parameters = 138_357_544
    assert subgradient_law(0.01, 0.1).l1_norm(parameters) == pytest.approx(69178.772, abs=1e-3)
    assert subgradient_law(0.01, 0.1).fraction_below(1e-5) == pytest.approx(0.01)
    assert subgradient_law(0.01, 0.001).l1_norm(parameters) == pytest.approx(691.788, abs=1e-3)
    assert subgradient_law(0.01, 0.001).fraction_below(1e-5) == pytest.approx(1.0)


def test_fraction_below_and_quantile_are_inverse():
    law = subgradient_law(0.1, 2.0)
    assert law.fraction_below(0.0) == 0.0
    assert law.fraction_below(0.3) == 1.0
    assert law.quantile(0.25) == pytest.approx(0.05)
    assert law.fraction_below(law.quantile(0.7)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("make_optimizer", "update", "burn_in"),
    [(sgd(0.01, momentum=0.9), heavy_ball, 150), (adam(0.01), adam_step, 150)],
    ids=["momentum", "adam"],
)
def test_against_a_recursion_in_plain_python(make_optimizer, update, burn_in):
    count, window = 200, 50
    magnitudes = brute_force(update, 0.1, starts(count), burn_in, window)
    law = simulate_law(make_optimizer, 0.1, coordinates=count, burn_in=burn_in, window=window)
    assert law.mean_magnitude == pytest.approx(magnitudes.mean(), rel=1e-6)
    assert law.quantile(0.5) == pytest.approx(np.median(magnitudes), rel=1e-6)
    for threshold in (1e-4, 1e-3):
        assert law.fraction_below(threshold) == pytest.approx(np.mean(magnitudes < threshold), abs=2e-3)


def test_floors_scale_as_their_optimiser_says():
    def floor(make_optimizer, strength):
        return simulate_law(make_optimizer, strength, coordinates=2000, burn_in=500).mean_magnitude

    assert floor(sgd(0.01), 0.2) == pytest.approx(2 * floor(sgd(0.01), 0.1), rel=0.05)
    assert floor(sgd(0.01, momentum=0.9), 0.1) > 2 * floor(sgd(0.01), 0.1)
    assert floor(adam(0.01), 1.0) == pytest.approx(floor(adam(0.01), 0.001), rel=0.01)
    assert floor(adam(0.02), 0.1) > 1.7 * floor(adam(0.01), 0.1)


def test_rmsprop_slides_into_exact_zeros():
    law = simulate_law(lambda p: torch.optim.RMSprop(p, lr=0.01), 0.1, coordinates=500, burn_in=3000)
    assert law.exact_zeros > 0.1


def test_starts_depend_on_the_seed():
    first, again, other = (
        simulate_law(adam(0.01), 0.1, coordinates=50, burn_in=50, window=5, seed=s) for s in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"coordinates": 0}, "coordinates is 0"),
        ({"window": 0}, "window is 0"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"start_deviation": 0.0}, "start_deviation is 0.0"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        simulate_law(sgd(0.01), 0.1, **arguments)


def test_bad_laws_are_named():
    with pytest.raises(ValueError, match="penalty_strength is -1"):
        subgradient_law(0.1, -1)
    with pytest.raises(ValueError, match="probability is 2"):
        subgradient_law(0.1, 1).quantile(2)
