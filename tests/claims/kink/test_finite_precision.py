"""Lattices of starts and the recursion in each precision, against torch.rand and torch.optim.SGD themselves."""

import math
from fractions import Fraction

import pytest
import torch

from nonsmooth.claims.kink.finite_precision import (
    DTYPES,
    SAMPLERS,
    all_starts,
    draw_starts,
    multiples_probability,
    spacing_at,
    walk,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("travel", [0.01, 2**-7])
def test_walk_is_torch_sgd_bit_for_bit(dtype, travel):
    start = draw_starts(dtype, "rand", 500, torch.Generator().manual_seed(1))
    beta = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([beta], lr=travel)
    for _ in range(90):
        optimiser.zero_grad()
        beta.abs().sum().backward()
        optimiser.step()
    assert torch.equal(walk(start, travel, 90), beta.detach())


@pytest.mark.parametrize(
    ("dtype", "sampler"), [(d, s) for d in ("bfloat16", "float16") for s in SAMPLERS] + [("float32", "rand")]
)
def test_listed_starts_are_those_that_are_drawn(dtype, sampler):
    values, weights = all_starts(dtype, sampler)
    assert weights.sum().item() == pytest.approx(1)
    drawn = draw_starts(dtype, sampler, 100_000, torch.Generator().manual_seed(2))
    listed = torch.unique(values.abs())
    assert bool(torch.isin(drawn.abs(), listed).all())
    below = (drawn.abs() < 0.3).double().mean().item()
    expected = weights[values.abs() < 0.3].sum().item()
    assert abs(below - expected) < 5 * math.sqrt(expected * (1 - expected) / 100_000)


def test_lists_that_would_be_too_long_are_refused():
    with pytest.raises(ValueError, match="accepted are lattices"):
        all_starts("float64", "rand")
    with pytest.raises(ValueError, match="sampler"):
        draw_starts("float32", "normal", 3, torch.Generator())


@pytest.mark.parametrize(("dtype", "mantissa"), [("bfloat16", 7), ("float16", 10), ("float32", 23), ("float64", 52)])
def test_spacing(dtype, mantissa):
    assert spacing_at(0.01, dtype) == 2.0 ** (-7 - mantissa)  # 0.01 lies in [2^-7, 2^-6)


def test_probability_of_multiples():
    values, weights = all_starts("float32", "rand")
    on_multiples = torch.fmod(values.double(), 2**-7) == 0
    assert multiples_probability("float32", "rand", 2**-7) == pytest.approx(weights[on_multiples].sum().item())
    # By rounding: the interval that rounds to m/128 has half a unit below and half a unit above, of its own binade.
    cells = Fraction(0)
    for m in range(1, 129):
        exponent = math.floor(math.log2(m / 128))
        unit = Fraction(2) ** (exponent - 23)
        lower = unit / 2 if math.log2(m).is_integer() else unit
        cells += lower / 2 + (unit / 2 if m < 128 else 0)
    assert multiples_probability("float32", "rounded", 2**-7) == pytest.approx(float(cells), rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_proximal_walk_ends_at_zero(dtype):
    start = draw_starts(dtype, "rounded", 1000, torch.Generator().manual_seed(3))
    assert bool((walk(start, 0.01, 130, proximal=True) == 0).all())
    assert not bool((start == 0).any())
