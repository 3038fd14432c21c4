"""The laws of a prox over the whole range of each type, of λ and of the step, and against 60 digits by mpmath."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonsmooth.penalties import L0, L1, MCP, SCAD, ElasticNet, GroupL1, Nuclear, SparseGroupL1, TransformedL1

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MAKE = {
    "L1": L1,
    "L1, weighted": lambda strength: L1(strength, weights=torch.tensor([0.0, 1e-30, 1.0, 1e30], dtype=torch.float64)),
    "L1, tensor": lambda strength: L1(torch.tensor(strength, dtype=torch.float64)),
    "elastic net": ElasticNet,
    "ridge": lambda strength: ElasticNet(strength, 0.0),
    "MCP": MCP,
    "MCP, wide": lambda strength: MCP(strength, 1e30),
    "MCP, wider": lambda strength: MCP(strength, 1e300),
    "MCP, narrow": lambda strength: MCP(strength, 1e-300),
    "SCAD": SCAD,
    "SCAD, wide": lambda strength: SCAD(strength, 1e300),
    "L0": L0,
    **{
        f"transformed L1, {shape:g}": (lambda strength, shape=shape: TransformedL1(strength, shape))
        for shape in (1e-300, 1e-20, 1.0, 1e10, 1e200)
    },
    "groups": GroupL1,
    "sparse groups": lambda strength: SparseGroupL1(strength, 0.4),
    "nuclear": Nuclear,
}
SEPARABLE = {name: make for name, make in MAKE.items() if make(1.0).separable}
LENGTHS = st.one_of(
    st.sampled_from([0.0, 1e-310, 1e-45, 1e-38, 1e-20, 0.3, 1.0, 1e5, 1e30, 1e39, 1e154, 1e200, 1.7e308]),
    st.floats(-320, 308).map(lambda exponent: 10.0**exponent),
)


def points(dtype):
    """Sorted magnitudes from 0 to the largest number, in rows of four for the weights of one case."""
    kind = torch.finfo(dtype)
    sizes = [0.0, kind.tiny * kind.eps, kind.tiny, kind.tiny**0.5, 1e-3, 0.5, 1.0, 2.0, 100.0, kind.max**0.5]
    found = torch.tensor([*sizes, kind.max / 4, kind.max / 2, kind.max], dtype=torch.float64).to(dtype)
    return found.sort().values.unsqueeze(1).expand(-1, 4).clone()


def largest(step):
    return float(step.max()) if isinstance(step, torch.Tensor) else step


def proxes(penalty, point, step):
    """As optimisers call it, half precision in single; by the formula, in place, and as people call it."""
    half = point.dtype in (torch.float16, torch.bfloat16)
    precise = point.float() if half else point.clone()
    yield penalty.proximal_map(precise.clone(), step).to(point.dtype)
    penalty.prox_(precise, step)
    yield precise.to(point.dtype)
    if largest(step) < penalty.largest_step:
        yield penalty.prox(point, step)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAKE)
@given(strength=LENGTHS, step=LENGTHS, diagonal=st.booleans(), negative=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_prox_of_finite_numbers_is_finite_smaller_monotone_and_of_the_same_sign(
    name, dtype, strength, step, diagonal, negative
):
    penalty, point = MAKE[name](strength), points(dtype)
    if diagonal and name != "nuclear":
        step = torch.full(point.shape, step, dtype=torch.float64).to(torch.promote_types(dtype, torch.float32))
        step = step.clamp(max=torch.finfo(step.dtype).max)
    if negative:
        point = -point
    for found in proxes(penalty, point, step):
        assert found.dtype == dtype
        assert bool(found.isfinite().all())
        if name == "nuclear":
            continue
        assert bool((found.abs() <= point.abs() * (1 + 8 * torch.finfo(dtype).eps)).all())
        assert bool((found.double() * point.double().sign() >= 0).all())
        if name in SEPARABLE:
            sizes = found.double().abs()
            assert bool((sizes.diff(dim=0) >= -8 * torch.finfo(dtype).eps * sizes[:-1]).all())
        if largest(step) == 0:
            assert torch.equal(found, point)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SEPARABLE)
@given(strength=LENGTHS, step=LENGTHS, diagonal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_infinity_stays_and_nan_comes_only_from_nan(name, dtype, strength, step, diagonal):
    """Also where the threshold overflows: it counts as the largest number."""
    point = torch.tensor([math.inf, -math.inf, math.nan, math.inf], dtype=dtype)
    if diagonal:
        step = torch.full(point.shape, step, dtype=torch.float64).to(torch.promote_types(dtype, torch.float32))
        step = step.clamp(max=torch.finfo(step.dtype).max)
    for found in proxes(MAKE[name](strength), point, step):
        assert torch.equal(found.isnan(), point.isnan())
        assert torch.equal(found[~point.isnan()], point[~point.isnan()])


def cost(penalty, z, s, weight):
    """λ·step·ρ(z) + (z - s)²/2, in as many digits as mpmath is set to; MCP and SCAD have `weight` as (λ, step)."""
    strength, step = weight
    if isinstance(penalty, L1):
        term = strength * z
    elif isinstance(penalty, L0):
        term = strength * (z != 0)
    elif isinstance(penalty, TransformedL1):
        a = mpmath.mpf(penalty.shape)
        term = strength * (a + 1) * z / (a + z)
    elif isinstance(penalty, MCP):
        gamma = mpmath.mpf(penalty.gamma)
        term = strength * z - z**2 / (2 * gamma) if z <= gamma * strength else gamma * strength**2 / 2
    else:
        gamma = mpmath.mpf(penalty.gamma)
        flat, falling = min(z, strength), min(z, gamma * strength) - min(z, strength)
        term = strength * flat + strength * falling - falling**2 / (2 * (gamma - 1))
    return step * term + (z - s) ** 2 / 2


def candidates(penalty, s, weight):
    """Zero, ends of pieces, and stationary points of each piece."""
    strength, step = weight
    found = [mpmath.mpf(0), s]
    if isinstance(penalty, L1 | MCP | SCAD):
        found.append(s - strength * step)
    if isinstance(penalty, MCP):
        gamma = mpmath.mpf(penalty.gamma)
        found.append(gamma * strength)
        if gamma != step:
            found.append((s - strength * step) * gamma / (gamma - step))
    if isinstance(penalty, SCAD):
        gamma = mpmath.mpf(penalty.gamma)
        found += [strength, gamma * strength]
        if gamma - 1 != step:
            found.append(((gamma - 1) * s - gamma * strength * step) / (gamma - 1 - step))
    if isinstance(penalty, TransformedL1):
        a = mpmath.mpf(penalty.shape)
        # (z - s)(a + z)² + λ·step·a(a+1) = 0; its largest root, by bisection on the convex side.
        slope = strength * step * a * (a + 1)
        low = max(mpmath.mpf(0), (2 * s - a) / 3)
        if (low - s) * (a + low) ** 2 + slope <= 0:
            high = s
            for _ in range(400):
                middle = (low + high) / 2
                low, high = (middle, high) if (middle - s) * (a + middle) ** 2 + slope < 0 else (low, middle)
            found.append(low)
    return [z for z in found if z >= 0]


ORACLES = {
    name: make for name, make in SEPARABLE.items() if name not in ("L1, weighted", "L1, tensor", "elastic net", "ridge")
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ORACLES)
def test_at_the_ends_of_the_range_it_is_the_minimiser(name, dtype):
    """Against the best of all candidates in 700 digits: no worse a cost, and the point where it is unique."""
    kind = torch.finfo(dtype)
    checked = 0
    with mpmath.workdps(700):
        for strength in (1e-200, 1e-30, 0.3, 1e25, 1e39, 1e200):
            for step in (1e-200, 1e-20, 0.7, 1e20, 1e200):
                if not 1e-290 < strength * step < 1e290:
                    continue  # beyond all numbers: bounds, not digits
                penalty = ORACLES[name](strength)
                point = points(dtype)[1:, 0]
                found = penalty.proximal_map(point, step)
                weight = mpmath.mpf(strength), mpmath.mpf(step)
                for s, z in zip(point.tolist(), found.tolist(), strict=True):
                    exact = mpmath.mpf(s)
                    best = min(candidates(penalty, exact, weight), key=lambda z: cost(penalty, z, exact, weight))
                    least = cost(penalty, best, exact, weight)
                    if abs(z - best) <= 64 * kind.eps * max(best, kind.tiny):
                        checked += 1
                        continue
                    # The two sides of a jump cost alike.
                    worse = cost(penalty, mpmath.mpf(z), exact, weight) - least
                    assert worse <= 64 * kind.eps * max(least, exact**2), (strength, step, s, z, float(best))
    assert checked > 300


def test_a_lambda_beyond_the_range_takes_complex_numbers_to_zero_and_leaves_infinity():
    point = torch.tensor([3 + 4j, complex(math.inf, 0), 1e-3j], dtype=torch.complex64)
    for penalty in (L1(1e39), L0(1e39), MCP(1e39), GroupL1(1e39, index=[0, 1, 2])):
        found = penalty.proximal_map(point, 1.0)
        assert found[0] == 0
        assert found[2] == 0
        assert bool(found[1].real == math.inf)
