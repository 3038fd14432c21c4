"""The closed form of the subgradient method on λ‖β‖₁ against exact rationals."""

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.dynamics.two_cycle import median_settling_steps, settling_steps


@given(st.integers(-(10**6), 10**6).filter(bool), st.integers(10**4, 10**6))
@settings(deadline=None)
def test_the_closed_form_is_the_recursion_in_rational_arithmetic(numerator, travel):
    """Eq. (8) run in exact fractions; the sizes keep the float64 division exact enough for the floor."""
    start, step = Fraction(numerator, 2**20), Fraction(travel, 2**20) + Fraction(1, 2**25)
    point, steps = start, 0
    while abs(point) >= step:
        point -= step if point > 0 else -step
        steps += 1
    tensor = torch.tensor(float(start), dtype=torch.float64)
    assert settling_steps(tensor, float(step)).item() == steps


def test_the_median_of_the_largest_of_uniform_starts():
    starts = torch.rand(4001, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    assert median_settling_steps(10, 0.01) == settling_steps(starts, 0.01).amax(-1).median()
