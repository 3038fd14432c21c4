"""Bisection, gradient quotients and growth exponents against closed forms."""

import math

import pytest
import torch

from nonsmooth.dynamics import Constant, iterate
from nonsmooth.dynamics.recording import Largest, Trace, loss
from nonsmooth.dynamics.thresholds import find_threshold, gradient_quotient, growth_exponent, top_direction
from nonsmooth.problems import Absolute, Huber, Power, Regression, SlopedLine, huber_regression, l1_norm


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_bisection_finds_each_runs_own_threshold():
    truth = column(0.3, 2.0, 77.0)
    found = find_threshold(lambda a: a <= truth, torch.full_like(truth, 1e-3), torch.full_like(truth, 1e3), 1e-9)
    torch.testing.assert_close(found.estimate, truth, rtol=1e-8, atol=0)
    assert (found.below <= truth).all()
    assert (found.above > truth).all()


def test_without_a_change_in_the_range_the_threshold_is_zero_or_infinite():
    low, high = column(0.1, 0.1, 0.1), column(10.0, 10.0, 10.0)
    found = find_threshold(lambda a: a < column(0.01, 1.0, 100.0), low, high)
    assert found.estimate[0].item() == 0.0
    assert found.estimate[1].item() == pytest.approx(1.0, rel=1e-5)
    assert found.estimate[2].item() == math.inf


def test_a_range_or_tolerance_that_makes_no_sense_is_named():
    with pytest.raises(ValueError, match="low is"):
        find_threshold(lambda a: a < 1, column(2.0), column(1.0))
    with pytest.raises(ValueError, match="tolerance is 0"):
        find_threshold(lambda a: a < 1, column(1.0), column(2.0), 0.0)


def test_gradient_descent_on_a_parabola_turns_unstable_at_two_over_its_curvature():
    data = torch.diag_embed(draw(3, 4, seed=1) + 2)
    problem = Regression(data, torch.zeros(3, 4, dtype=torch.float64), loss=Power(2.0))
    start = draw(3, 1, 4)

    def stable(step_size):
        run = iterate(problem, start, Constant(step_size), 300, {"f": Trace(loss, [0]), "late": Largest(loss, 290)})
        return run["late"] < run["f"][0]

    edge = 2 / data.square().amax((1, 2)).unsqueeze(-1)
    found = find_threshold(stable, edge / 4, edge * 4, 1e-3).estimate
    torch.testing.assert_close(found, edge, rtol=1e-2, atol=0)


def test_no_pair_exceeds_the_constant_and_a_pair_along_the_top_direction_attains_it():
    problem = huber_regression(draw(2, 5, 9, seed=3), draw(2, 5, seed=4))
    first, second = draw(2, 200, 9, seed=5) * 3, draw(2, 200, 9, seed=6) * 3
    assert (gradient_quotient(problem, first, second) <= problem.gradient_lipschitz * (1 + 1e-12)).all()
    step = 1e-3 * top_direction(problem)
    torch.testing.assert_close(
        gradient_quotient(problem, problem.minimizer, problem.minimizer + step), problem.gradient_lipschitz
    )


def test_a_kinks_quotient_grows_as_the_pair_closes_in():
    problem = l1_norm(1, 3.0)
    for half in (1.0, 1e-3, 1e-6):
        point = torch.full((1, 1, 1), half, dtype=torch.float64)
        assert gradient_quotient(problem, -point, point).item() == pytest.approx(3 / half)


@pytest.mark.parametrize(
    ("loss", "exponent"), [(Power(2.0), 2.0), (Power(4.0), 4.0), (Power(1.5), 1.5), (Absolute(), 1.0)]
)
def test_a_power_grows_with_its_exponent_from_its_minimiser(loss, exponent):
    problem = Regression(draw(2, 3, 6), draw(2, 3, seed=1), loss=loss)
    point = problem.minimizer + draw(2, 7, 6, seed=2) * torch.logspace(-3, 3, 7, dtype=torch.float64).view(1, 7, 1)
    found = growth_exponent(problem, point, problem.minimizer)
    torch.testing.assert_close(found, torch.full_like(found, exponent), rtol=1e-6, atol=0)


def test_huber_grows_quadratically_inside_and_as_the_distance_far_outside():
    width = 1.0
    line = SlopedLine(torch.ones(4, dtype=torch.float64), torch.full((4,), width, dtype=torch.float64))
    point = torch.tensor([0.1, 1.0, 2.0, 1e6], dtype=torch.float64).view(1, 4, 1)
    found = growth_exponent(line, point, torch.zeros(1, 1, 1, dtype=torch.float64))[0]
    # Outside, t·1/(t - w/2).
    assert found.tolist() == pytest.approx([2.0, 2.0, 2 / 1.5, 1e6 / (1e6 - 0.5)])


def test_the_top_direction_stretches_by_the_largest_singular_value():
    problem = Regression(draw(3, 4, 7), draw(3, 4), loss=Huber())
    vector = top_direction(problem)
    torch.testing.assert_close(torch.linalg.vector_norm(vector, dim=-1), torch.ones(3, 1, dtype=torch.float64))
    stretched = torch.linalg.vector_norm(vector @ problem.data.mT, dim=-1).squeeze(-1)
    torch.testing.assert_close(stretched, torch.linalg.matrix_norm(problem.data, ord=2))
