"""Many proxes in a row as one, against the same by hand in fifty digits."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.optim.embeddings.composed_prox import composed, numbers_of
from nonsmooth.penalties import L1, ElasticNet, GroupL1


def take_last_(point, steps, first):
    """Overwrite rows by the proxes from the first of each on."""
    composed([numbers_of(penalty, step, point.shape) for penalty, step in steps], point).take_(point, first)


def magnitudes_by_hand(size, steps):
    """In fifty digits."""
    getcontext().prec = 50
    size = Decimal(size)
    for threshold, shrinkage in steps:
        size = max(size - Decimal(threshold), Decimal(0)) / (1 + Decimal(shrinkage))
    return float(size)


@given(
    strengths=st.lists(st.floats(0, 2), min_size=1, max_size=40),
    rate=st.sampled_from([1e-6, 0.01, 1.0, 50.0]),
    ratio=st.sampled_from([1.0, 0.5, 0.0]),
    size=st.floats(1e-3, 1e6),
    first=st.integers(0, 40),
)
@settings(max_examples=200, deadline=None)
def test_proxes_in_a_row_as_one(strengths, rate, ratio, size, first):
    """To a few roundings of the largest number that comes up, however fast weights shrink."""
    first = first % (len(strengths) + 1)
    steps = [(ElasticNet(strength, ratio), rate) for strength in strengths]
    point = torch.tensor([[size], [-size]], dtype=torch.float64)
    take_last_(point, steps, torch.tensor([first, first]))
    numbers = [(float(p.strength) * ratio * rate, float(p.strength) * (1 - ratio) * rate) for p, _ in steps[first:]]
    expected = magnitudes_by_hand(size, numbers)
    unshrunk = magnitudes_by_hand(size, [(0.0, shrinkage) for _, shrinkage in numbers])
    assert abs(float(point[0]) - expected) <= 2e-16 * (len(strengths) + 4) * unshrunk
    assert torch.equal(point[1], -point[0])


def test_many_steps_lose_no_digits():
    """The last ones are a trillionth of the first: a difference of running sums would have four digits of them."""
    steps = [(L1(1.0), 1e6 * 0.5**min_step) for min_step in range(60)]
    point = torch.full((60, 1), 1e-6, dtype=torch.float64)
    take_last_(point, steps, torch.arange(60))
    expected = [magnitudes_by_hand(1e-6, [(step, 0.0) for _, step in steps[first:]]) for first in range(60)]
    assert torch.allclose(point.reshape(-1), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-21)
    assert 0 < float((point == 0).double().mean()) < 1


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 5e-324, 1e308])
@pytest.mark.parametrize("penalty", [L1(0.1), L1(1e308), ElasticNet(0.1), ElasticNet(1e300), GroupL1(0.1)])
def test_numbers_at_the_ends_of_the_range(penalty, value):
    steps = [(penalty, 0.5)] * 3
    point = torch.full((4, 1), value, dtype=torch.float64)
    take_last_(point, steps, torch.tensor([0, 1, 2, 3]))
    for row, missed in enumerate((3, 2, 1, 0)):
        expected = torch.tensor([[value]], dtype=torch.float64)
        for _ in range(missed):
            expected = penalty.prox(expected, 0.5)
        assert torch.allclose(point[row], expected, rtol=1e-14, atol=0, equal_nan=True)
