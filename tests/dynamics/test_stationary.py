import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from nonsmooth.dynamics import stationary_law
from nonsmooth.dynamics.stationary import subgradient_law, subgradient_mean
from nonsmooth.optim import ProxAdam, ProxSGD, attach
from nonsmooth.penalties import L1, MCP


def made(kind, step_size=0.01, **options):
    return lambda parameters: kind(parameters, lr=step_size, **options)


SGD, ADAM, RMSPROP, ADAGRAD = (
    made(kind) for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad)
)
MOMENTUM = made(torch.optim.SGD, momentum=0.9)


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


def rmsprop_step(weight, gradient, state, _step):
    state["v"] = 0.99 * state.get("v", 0.0) + 0.01 * gradient**2
    return weight - 0.01 * gradient / (math.sqrt(state["v"]) + 1e-8)


class Coupled(torch.optim.SGD):
    """Divides the gradient by its norm over all coordinates."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.grad / parameter.grad.norm()
        return super().step(closure)


def test_plain_sgd_follows_the_closed_form_within_a_thousandth():
    law, seen = subgradient_law(0.01, 0.1), stationary_law(SGD, 0.1, coordinates=200_000, window=16)
    assert seen.settled
    assert seen.mean_magnitude == pytest.approx(law.mean_magnitude, rel=1e-3)
    assert seen.closed_form == law.mean_magnitude == subgradient_mean(0.01, 0.1)
    # |w| is uniform on (0, αλ). A coordinate's two values lie symmetrically, so their mean is αλ/2 without an error;
    # the fraction below τ of n independent cycles is a binomial share of them.
    for threshold in (1e-5, 1e-4, 5e-4, 9e-4, 2e-3):
        assert seen.fraction_below(threshold) == pytest.approx(law.fraction_below(threshold), abs=5e-3)
    assert seen.quantile(0.5) == pytest.approx(5e-4, rel=0.01)
    assert seen.exact_zeros == law.exact_zeros == 0
    assert seen.flips_per_step == law.flips_per_step == 1


@pytest.mark.slow
def test_two_million_coordinates_follow_the_closed_form_in_little_time():
    seen = stationary_law(SGD, 0.1, coordinates=2_000_000)
    assert seen.mean_magnitude == pytest.approx(0.01 * 0.1 / 2, rel=1e-3)
    visited = np.interp(np.linspace(0, 1, 100), seen.cumulative, seen.magnitudes)
    np.testing.assert_allclose(visited, np.linspace(0, 1e-3, 100), atol=3e-6)


def test_closed_form_gives_the_numbers_of_the_paper():
    parameters = 138_357_544
    assert subgradient_law(0.01, 0.1).l1_norm(parameters) == pytest.approx(69178.772, abs=1e-3)
    assert subgradient_law(0.01, 0.1).fraction_below(1e-5) == pytest.approx(0.01)
    assert subgradient_law(0.01, 0.001).l1_norm(parameters) == pytest.approx(691.788, abs=1e-3)
    assert subgradient_law(0.01, 0.001).fraction_below(1e-5) == pytest.approx(1.0)


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_the_mean_under_noise_is_the_closed_form(noise):
    seen = stationary_law(SGD, 0.1, noise, window=2048)
    assert seen.settled
    assert seen.closed_form == pytest.approx(0.01 * (0.01 + noise**2) / 0.2)
    assert abs(seen.mean_magnitude - seen.closed_form) < 5 * seen.standard_error
    assert seen.standard_error < 0.01 * seen.closed_form


def test_only_plain_sgd_has_a_closed_form():
    assert stationary_law(MOMENTUM, 0.1, coordinates=100).closed_form is None
    assert stationary_law(made(torch.optim.SGD, weight_decay=0.1), 0.1, coordinates=100).closed_form is None
    assert stationary_law(ADAM, 0.1, coordinates=100).closed_form is None


def test_fraction_below_and_quantile_are_inverse():
    law = subgradient_law(0.1, 2.0)
    assert law.fraction_below(0.0) == 0.0
    assert law.fraction_below(0.3) == 1.0
    assert law.quantile(0.25) == pytest.approx(0.05)
    assert law.fraction_below(law.quantile(0.7)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("make_optimizer", "update"),
    [(MOMENTUM, heavy_ball), (ADAM, adam_step), (RMSPROP, rmsprop_step)],
    ids=["momentum", "adam", "rmsprop"],
)
def test_against_a_recursion_in_plain_python(make_optimizer, update):
    """The same starts, burn-in cut off at the same step: the same magnitudes."""
    count, window = 60, 100
    weights = torch.empty(count, dtype=torch.float64)
    weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    law = stationary_law(make_optimizer, 0.1, coordinates=count, start=0.1, window=window, max_steps=256)
    magnitudes = brute_force(update, 0.1, weights.tolist(), law.steps, window)
    assert law.mean_magnitude == pytest.approx(magnitudes.mean(), rel=1e-6)
    assert law.quantile(0.3) == pytest.approx(np.quantile(magnitudes, 0.3), rel=5e-3)
    assert law.exact_zeros == pytest.approx(np.mean(magnitudes == 0), abs=1e-9)
    for threshold in (1e-4, 1e-3, 3e-3):
        assert law.fraction_below(threshold) == pytest.approx(np.mean(magnitudes < threshold), abs=2e-3)


def test_standard_error_is_the_spread_between_seeds():
    laws = [stationary_law(MOMENTUM, 0.1, coordinates=400, seed=seed) for seed in range(12)]
    z = [(law.mean_magnitude - 0.0012222) / law.standard_error for law in laws]
    # A sum of squares of 12 standard normals.
    assert 0.001 < stats.chi2.cdf(sum(value**2 for value in z), 12) < 0.999


def test_floors_scale_as_their_optimiser_says():
    def floor(make_optimizer, strength):
        return stationary_law(make_optimizer, strength, coordinates=2000).mean_magnitude

    assert floor(SGD, 0.2) == pytest.approx(2 * floor(SGD, 0.1), rel=1e-3)
    assert floor(MOMENTUM, 0.2) == pytest.approx(2 * floor(MOMENTUM, 0.1), rel=1e-3)
    assert floor(MOMENTUM, 0.1) > 2 * floor(SGD, 0.1)
    assert floor(ADAM, 1.0) == pytest.approx(floor(ADAM, 0.001), rel=0.01)
    assert floor(made(torch.optim.Adam, 0.02), 0.1) == pytest.approx(2 * floor(ADAM, 0.1), rel=0.01)


def test_rmsprop_slides_into_exact_zeros_and_settles():
    law = stationary_law(RMSPROP, 0.1, coordinates=500)
    assert law.settled
    assert law.exact_zeros > 0.5
    # What is not zero keeps a two-cycle of its full step.
    assert law.flips_per_step == pytest.approx(1 - law.exact_zeros)


def test_adagrad_does_not_settle():
    law = stationary_law(ADAGRAD, 0.1, coordinates=200, max_steps=5000)
    assert not law.settled
    assert law.drift < -0.1
    assert law.steps == 4096


def test_a_start_too_far_away_does_not_settle():
    """The mean hardly changes from window to window, and yet no weight has reached the kink."""
    far = stationary_law(made(torch.optim.SGD, 1e-6), 1e-3, coordinates=200, start=1.0, max_steps=4096)
    assert abs(far.drift) < 1e-4
    assert not far.settled
    assert stationary_law(made(torch.optim.SGD, 1e-6), 1e-3, coordinates=200, max_steps=4096).settled


def test_in_bfloat16_weights_stall_where_steps_are_lost():
    def law(dtype):
        return stationary_law(
            made(torch.optim.SGD, 1e-4), 0.1, coordinates=500, start=0.01, max_steps=1 << 14, dtype=dtype
        )

    exact, rounded = law(torch.float32), law(torch.bfloat16)
    assert exact.stalled == 0
    assert exact.mean_magnitude == pytest.approx(5e-6, rel=1e-3)
    assert rounded.stalled > 0.5
    # αλ = 1e-5 is lost in weights above 512·αλ, half a unit in the last place.
    assert rounded.mean_magnitude > 100 * exact.mean_magnitude


def test_bfloat16_magnitudes_are_counted_where_they_lie():
    law = stationary_law(SGD, 0.1, coordinates=1000, dtype=torch.bfloat16)
    atom = float(torch.tensor(law.quantile(0.5)).bfloat16())
    assert law.fraction_below(atom * (1 + 2**-8)) > law.fraction_below(atom)


def test_a_network_s_weights_as_the_start():
    weights = torch.cat([torch.zeros(300), 0.3 * torch.randn(700, generator=torch.Generator().manual_seed(0))])
    law = stationary_law(SGD, 0.1, coordinates=4000, start=weights)
    # Also what starts at 0: a network's loss would not leave it there.
    assert law.exact_zeros == 0
    assert law.mean_magnitude == pytest.approx(5e-4, rel=1e-6)
    assert law.stalled == 0


def trained_head(make_optimizer, steps=2000, window=500):
    """A linear head of zeros under cross-entropy + ‖w‖₁: its mean norm at the end, and its exact zeros."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 50, generator=generator)
    labels = (inputs @ torch.randn(50, 10, generator=generator)).argmax(1)
    head = nn.Linear(50, 10)
    parameters = list(head.parameters())
    for parameter in parameters:
        nn.init.zeros_(parameter)
    optimizer, norms = make_optimizer(parameters), []
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(inputs), labels).backward()
        for parameter in parameters:
            parameter.grad.add_(torch.sign(parameter.detach()))
        optimizer.step()
        norms.append(sum(float(parameter.detach().abs().sum()) for parameter in parameters))
    zeros = sum(int((parameter == 0).sum()) for parameter in parameters)
    return float(np.mean(norms[-window:])), zeros


@pytest.mark.parametrize(
    ("kind", "accuracy"),
    # Adam's weights start on few of its cycles, and the loss moves them to others.
    [(torch.optim.SGD, 0.01), (torch.optim.RMSprop, 0.01), (torch.optim.Adam, 0.2)],
)
def test_weights_of_zero_are_predicted_as_a_head_of_zeros_trains(kind, accuracy):
    norm, zeros = trained_head(made(kind, 1e-3))
    law = stationary_law(made(kind, 1e-3), 1.0, start=torch.zeros(510), coordinates=256, dtype=torch.float32)
    assert law.settled
    assert zeros == law.exact_zeros == 0
    assert law.l1_norm(510) == pytest.approx(norm, rel=accuracy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_of_zero_do_not_fall_back_to_it_in_rounding(dtype):
    for start in (torch.zeros(5), torch.tensor([-0.0]), 1e-60):  # the last is lost beside a step
        law = stationary_law(made(torch.optim.SGD, 1e-3), 1.0, start=start, coordinates=500, dtype=dtype)
        assert law.exact_zeros == 0
        assert law.mean_magnitude == pytest.approx(5e-4, rel=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_proximal_optimiser_takes_weights_of_zero_back(noise):
    def law(start):
        return stationary_law(made(ProxSGD, penalty=L1(1.0)), 1.0, noise, start=start, coordinates=2000)

    from_zero, from_afar = law(torch.zeros(10)), law(None)
    assert from_zero.exact_zeros == pytest.approx(from_afar.exact_zeros, abs=1e-3)
    assert from_zero.exact_zeros == 1 if noise == 0 else from_zero.exact_zeros > 0.99


def test_the_start_decides_between_adam_s_cycles():
    near, far = (stationary_law(ADAM, 0.1, start=start) for start in (0.003, None))
    assert near.settled
    assert far.settled
    assert abs(near.mean_magnitude - far.mean_magnitude) > 4 * math.hypot(near.standard_error, far.standard_error)


def test_a_proximal_step_has_no_floor():
    law = stationary_law(made(ProxSGD, penalty=L1(0.1)), 0.1, coordinates=500)
    assert law.settled
    assert law.exact_zeros == 1
    assert law.mean_magnitude == 0
    assert law.fraction_below(1e-12) == 1
    noisy = stationary_law(made(ProxSGD, penalty=L1(0.1)), 0.1, 0.1, coordinates=2000)
    plain = stationary_law(SGD, 0.1, 0.1, coordinates=2000)
    assert 0.3 < noisy.exact_zeros < 1
    assert noisy.mean_magnitude < plain.mean_magnitude / 2


def test_the_gradient_of_a_proximal_optimiser_is_the_noise_alone():
    """Against a recursion in numpy: w ← S(w - ασξ, αλ)."""
    law = stationary_law(made(ProxSGD, penalty=L1(0.1)), 0.1, 0.2)
    rng, weight, means, zeros = np.random.default_rng(0), np.zeros(8192), [], []
    for step in range(1500):
        moved = weight - 0.01 * 0.2 * rng.standard_normal(len(weight))
        weight = np.sign(moved) * np.maximum(np.abs(moved) - 0.01 * 0.1, 0)
        if step >= 1000:
            means.append(np.abs(weight).mean())
            zeros.append(np.mean(weight == 0))
    assert law.mean_magnitude == pytest.approx(np.mean(means), rel=0.02)
    assert law.exact_zeros == pytest.approx(np.mean(zeros), abs=0.01)


def test_an_attached_penalty_is_recognised():
    law = stationary_law(lambda p: attach(torch.optim.Adam(p, lr=0.01), L1(0.1)), 0.1, coordinates=200)
    assert law.exact_zeros == 1


def test_a_third_party_s_optimiser():
    class SignDescent(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.sub_(torch.sign(parameter.grad), alpha=group["lr"])

    law = stationary_law(made(SignDescent), 7.0, coordinates=1000)
    assert law.mean_magnitude == pytest.approx(0.005, rel=1e-3)


def test_an_optimiser_that_spares_vectors_is_seen_as_it_treats_weights():
    class SparesVectors(Coupled):
        def step(self, closure=None):
            matrices = all(parameter.ndim > 1 for group in self.param_groups for parameter in group["params"])
            return Coupled.step(self, closure) if matrices else torch.optim.SGD.step(self, closure)

    with pytest.raises(ValueError, match="SparesVectors, which moves a coordinate by what the others are"):
        stationary_law(made(SparesVectors), 0.1)


def test_an_optimiser_that_puts_another_tensor_in_a_weight_s_place():
    class Replaces(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data = parameter.data.clone()
            return loss

    law = stationary_law(made(Replaces), 0.1, coordinates=500)
    assert law.settled
    assert law.mean_magnitude == pytest.approx(5e-4, rel=1e-3)


def test_what_kept_a_law_from_settling_is_told():
    """Also where the mean of |w| has come to rest, so that its drift does not tell."""
    drifting = stationary_law(ADAGRAD, 0.1, coordinates=200, max_steps=5000)
    assert drifting.unsettled.startswith("in the last comparison, mean |w| went from ")
    far = stationary_law(made(torch.optim.SGD, 1e-6), 1e-3, coordinates=200, start=1.0, max_steps=4096)
    assert far.unsettled == "in the last comparison, 100.00% of the weights were still on their way to zero"
    short = stationary_law(SGD, 0.1, coordinates=50, max_steps=64)
    assert short.unsettled == "there were too few steps for a comparison"
    settled = stationary_law(SGD, 0.1, coordinates=50, start=0.001)
    assert settled.unsettled == ""
    # Two windows less are one agreement less.
    almost = stationary_law(SGD, 0.1, coordinates=50, start=0.001, max_steps=settled.steps - 1)
    assert almost.steps == settled.steps // 2
    assert almost.unsettled.startswith("only the last comparison agreed, and it takes 2 in a row")


def test_zeros_and_flips_can_keep_a_law_from_settling():
    zeros = stationary_law(RMSPROP, 0.1, coordinates=500, max_steps=2048)
    assert "the probability of a flip went from" in zeros.unsettled
    assert "the probability of an exact zero went from" in zeros.unsettled


def test_a_law_prints_shortly():
    law, unsettled = (stationary_law(ADAM, 0.1, coordinates=500, max_steps=steps) for steps in (1 << 15, 200))
    assert len(repr(law)) < 400
    assert law.settled
    assert str(law) == (
        f"law of |w| at the kink: L1 norm {law.mean_magnitude:.4g} ± {law.standard_error:.1g} per weight, "
        f"0.00% exactly zero, settled after {law.steps:,} steps"
    )
    assert f"not settled: {unsettled.unsettled}" in str(unsettled)


def test_numbers_of_numpy_are_those_of_python():
    exact = stationary_law(SGD, 0.5, 0.25, coordinates=64, start=0.125, window=16, max_steps=4096, seed=3)
    assert exact == stationary_law(
        SGD,
        np.float32(0.5),
        np.float64(0.25),
        coordinates=np.int64(64),
        start=np.float32(0.125),
        window=np.uint8(16),
        max_steps=np.int32(4096),
        seed=np.int64(3),
    )
    assert type(subgradient_mean(np.float32(0.5), np.int64(1))) is float


@pytest.mark.parametrize(
    ("rate", "lam", "noise"), [(1.0, 1.0, 1e200), (1e-200, 1e200, 3e200), (1.0, 1e-200, 0.0), (0.5, 1e-200, 2e-200)]
)
def test_a_mean_whose_squares_leave_the_floats(rate, lam, noise):
    """Against whole fractions; what is too large for a float is infinite."""
    exact = Fraction(rate) * (Fraction(lam) ** 2 + Fraction(noise) ** 2) / (2 * Fraction(lam))
    expected = math.inf if exact > Fraction(sys.float_info.max) else float(exact)
    assert subgradient_mean(rate, lam, noise) == pytest.approx(expected, rel=1e-15)


def test_an_optimiser_that_never_moves_stalls():
    law = stationary_law(made(torch.optim.SGD, 0.0), 0.1, coordinates=100, start=1.0)
    assert law.stalled == 1


def test_random_numbers_depend_on_the_seed_and_leave_the_global_ones_alone():
    class Dithered(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad = parameter.grad + 0.01 * torch.randn_like(parameter)
            return super().step(closure)

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (
        stationary_law(made(Dithered), 0.1, 0.05, coordinates=50, window=5, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"coordinates": 0}, "coordinates is 0"),
        ({"window": 0}, "window is 0"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"seed": -1}, "seed is -1; accepted is a whole number of at least 0"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"start": 0.0}, "start is 0.0"),
        ({"start": torch.empty(0)}, "start has 0 weights"),
        ({"start": torch.tensor([math.nan])}, "start has 1 weights"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"strength": math.inf}, "strength is inf"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        stationary_law(SGD, **{"strength": 0.1, **arguments})


@pytest.mark.parametrize(
    ("make_optimizer", "named"),
    [
        (made(ProxAdam, penalty=L1(0.2)), "strength is 0.1, but the optimizer's penalty has 0.2"),
        (made(ProxSGD, penalty=MCP(0.1, 3.0)), "MCP"),
        (made(torch.optim.LBFGS), "LBFGS, whose step needs a closure"),
        (made(torch.optim.SGD, 0.0), "start is None, and the optimiser does not move"),
        (made(Coupled), "Coupled, which moves a coordinate by what the others are"),
        (lambda p: torch.optim.SGD([*p, torch.ones(1)], lr=0.1), "an optimiser of 2 parameters"),
    ],
    ids=["another-lambda", "another-penalty", "closure", "no-step", "coupled", "other-parameters"],
)
def test_optimisers_without_a_law_are_named(make_optimizer, named):
    with pytest.raises(ValueError, match=named):
        stationary_law(make_optimizer, 0.1, coordinates=10)


def test_something_else_than_an_optimiser_is_named():
    with pytest.raises(TypeError, match=r"accepted is a torch\.optim\.Optimizer"):
        stationary_law(lambda p: p, 0.1)


def test_divergence_is_named():
    with pytest.raises(FloatingPointError, match="SGD diverges"):
        stationary_law(made(torch.optim.SGD, 10.0, weight_decay=1.0), 0.1, coordinates=10)


def test_bad_laws_are_named():
    with pytest.raises(ValueError, match="strength is -1"):
        subgradient_law(0.1, -1)
    with pytest.raises(ValueError, match="probability is 2"):
        subgradient_law(0.1, 1).quantile(2)


class AsksForALoss(torch.optim.SGD):
    """An optimiser whose step calls the closure that it was not given."""

    def step(self, closure=None):
        closure()
        super().step()


def test_arguments_of_the_wrong_kind_are_named():
    def make(parameters):
        return torch.optim.SGD(parameters, lr=0.01)

    with pytest.raises(ValueError, match=r"coordinates is 1000\.0"):
        stationary_law(make, 1.0, coordinates=1e3)
    with pytest.raises(ValueError, match="coordinates is '64'"):
        stationary_law(make, 1.0, coordinates="64")
    with pytest.raises(TypeError, match=r"strength is '0\.1'; accepted is a positive number"):
        stationary_law(make, "0.1")
    with pytest.raises(TypeError, match="noise is None; accepted is a number of at least 0"):
        stationary_law(make, 0.1, None)
    with pytest.raises(TypeError, match="make_optimizer is of type SGD; accepted is a function"):
        stationary_law(make([torch.zeros(1, requires_grad=True)]), 0.1)
    with pytest.raises(TypeError, match="start is a list"):
        stationary_law(make, 1.0, start=[0.1, 0.2])
    with pytest.raises(ValueError, match="strength is 1e"):
        stationary_law(make, 1e39, dtype=torch.float32)
    with pytest.raises(ValueError, match="AsksForALoss, whose step needs a closure"):
        stationary_law(lambda parameters: AsksForALoss(parameters, lr=0.01), 1.0)


class _NormHistory(torch.optim.Optimizer):
    """Steps that go by what a norm over all coordinates was in steps before: by its mean, its maximum, or a jump."""

    def __init__(self, params, how):
        super().__init__(params, {"lr": 0.01})
        self.how, self.norms, self.drift, self.before = how, [], 0.0, (math.inf, math.inf)

    def _both_larger(self, *norms):
        before, self.before = self.before, norms
        return norms[0] > 1.01 * before[0] and norms[1] > before[1]

    @torch.no_grad()
    def step(self):
        (parameter,) = self.param_groups[0]["params"]
        gradient = parameter.grad
        norm = float(gradient.norm())
        self.norms.append(norm)
        self.drift += float(gradient.sum()) / norm
        factor = {
            "mean": norm / (sum(self.norms) / len(self.norms)),
            "maximum": norm / max(self.norms),
            "late": 1.0 if len(self.norms) < 12 else self.norms[0] / self.norms[-1],
            "jump": 1.0 if len(self.norms) < 2 else min(1.0, 2 * self.norms[-2] / norm),
            "distance": 1 + abs(self.drift),
            "columns": parameter.norm(dim=0),
            "rows": parameter.norm(dim=1, keepdim=True),
            "both larger": 0.5 if self._both_larger(norm, float(parameter.norm())) else 1.0,
        }[self.how]
        parameter -= 0.01 * factor * gradient.sign()


@pytest.mark.parametrize("how", ["mean", "maximum", "late", "jump", "distance", "columns", "rows", "both larger"])
def test_an_optimiser_that_goes_by_the_history_of_a_norm_is_refused(how):
    with pytest.raises(ValueError, match="_NormHistory, which moves a coordinate by what the others are, or were"):
        stationary_law(lambda parameters: _NormHistory(parameters, how), 0.1, coordinates=8, max_steps=64)


@pytest.mark.parametrize(
    "name",
    [
        "Prodigy",
        "AdaNorm",
        "StableAdamW",
        "DAdaptAdam",
        "Adai",
        "MARS",
        "Lamb",
        "LARS",
        "NovoGrad",
        "StableSPAM",
        "ASGD",
        "TAM",
        "AdaTAM",
        "Alice",
    ],
)
def test_optimisers_of_a_collection_that_act_on_all_coordinates_are_refused(name):
    collection = pytest.importorskip("pytorch_optimizer")
    with pytest.raises(ValueError, match="moves a coordinate by what the others are, or were"):
        stationary_law(
            lambda parameters: getattr(collection, name)(parameters, lr=0.01), 0.1, coordinates=8, max_steps=64
        )


@pytest.mark.parametrize("name", ["Lion", "AdaBelief", "Adan", "ADOPT", "LaProp", "AdEMAMix", "Grams", "AdaBound"])
def test_optimisers_of_a_collection_that_act_on_each_coordinate_are_accepted(name):
    collection = pytest.importorskip("pytorch_optimizer")
    law = stationary_law(
        lambda parameters: getattr(collection, name)(parameters, lr=0.01), 0.1, coordinates=8, max_steps=64, window=8
    )
    assert law.mean_magnitude > 0
