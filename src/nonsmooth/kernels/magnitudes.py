"""The prox of each penalty that is a sum over coordinates, as a function of magnitudes, written for Triton.

What each function is given and gives is that of `magnitude_prox` of the penalty, in the types of
`nonsmooth.kernels.arithmetic`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nonsmooth.kernels.arithmetic import LARGEST, LARGEST_DOUBLE, capped, positive, product, quotient, root, smaller

WIDE = tl.constexpr(1e6)
"""From such a γ on numbers are taken in units of it, since γλ may be beyond all numbers."""


@triton.jit
def squared_sine_of_a_third(sine):
    """sin²(asin(q)/3) for q in [0, 1], by Newton's method.

    x = sin(asin(q)/3) is the smallest root of 3x - 4x³ = q. Beyond q = 1/2 that loses digits, since both roots meet at
    q = 1, and so d = 1/2 - x is found there, from 6d² - 4d³ = 1 - q.
    """
    x = sine / 3
    rest = 1 - sine
    d = root(rest / 6)
    d = d * (1 + d / 3)
    for _ in tl.static_range(4):
        x = x - ((3 - 4 * x * x) * x - sine) / (3 - 12 * x * x)
        # At q = 1 there is nothing to divide by, nor to correct.
        slope = 12 * d * (1 - d)
        d = d - tl.where(slope > 0, ((6 - 4 * d) * d * d - rest) / tl.where(slope > 0, slope, 1.0), 0.0)
    x = tl.where(sine > 0.5, 0.5 - d, x)
    return x * x


@triton.jit
def shrunk(
    size, strength, step, shape, KIND: tl.constexpr, NUMBER: tl.constexpr, EUCLIDEAN: tl.constexpr, T: tl.constexpr
):
    """The prox of a magnitude: what `magnitude_prox` of the penalty of that kind gives.

    Args:
        size: |w|, T.
        strength: λ, float64, or λcⱼ by coordinate in T.
        step: D, float64, or by coordinate in T.
        shape: the penalty's other number, float64.
    """
    if KIND == "l1":
        found = positive(size - product(strength, step, NUMBER, EUCLIDEAN, T))
    elif KIND == "elastic_net":
        share = shape if NUMBER else shape.to(T)
        kept = positive(size - product(strength * share, step, NUMBER, EUCLIDEAN, T))
        found = quotient(kept, 1 + product(strength * (1 - share), step, NUMBER, EUCLIDEAN, T))
    elif KIND == "l0":
        # √(λ·step) from two roots: the product may leave the range of T where the root does not.
        far = capped(root(2 * strength).to(T) * root(step).to(T), T)
        found = tl.where(size <= far, 0.0, size)
    elif KIND == "transformed_l1":
        found = _transformed(size, strength, step, shape, NUMBER, EUCLIDEAN, T)
    elif KIND == "mcp":
        found = _minimax_concave(size, strength, step.to(T), shape, NUMBER, T)
    else:
        found = _smoothly_clipped(size, strength, step, shape, NUMBER, EUCLIDEAN, T)
    return found


@triton.jit
def _transformed(size, strength, step, shape, NUMBER: tl.constexpr, EUCLIDEAN: tl.constexpr, T: tl.constexpr):
    """The largest root of a cubic above the threshold, exactly zero up to it (Zhang & Xin 2017)."""
    a = shape.to(T)
    above = (shape + 1).to(T)
    base = a + size
    half: tl.constexpr = LARGEST_DOUBLE / 2 if T == tl.float64 else LARGEST / 2
    base = tl.where(base > half, half, base)
    weight = product(strength, step, NUMBER, EUCLIDEAN, T)
    # Each ratio by itself: the powers of a small or large shape leave the range.
    share = 6.75 * quotient(a, base) * quotient(above, base) * quotient(weight, base)
    share = tl.where(share > 1, 1.0, share)
    found = size - (4 / 3) * base * squared_sine_of_a_third(root(share))
    far = capped(root(2 * (shape + 1)).to(T) * root(strength).to(T) * root(step).to(T), T)
    threshold = smaller(quotient(far, a), 1.0) * smaller(far, a) / 2 + positive(far - a)
    return tl.where(size <= threshold, 0.0, found)


@triton.jit
def _minimax_concave(size, strength, step, shape, NUMBER: tl.constexpr, T: tl.constexpr):
    """The firm threshold for steps below γ, a hard threshold from there on."""
    unit = tl.where(shape > WIDE, shape, 1.0)
    inverse = (1 / unit).to(T)
    edge = (shape / unit).to(T)
    flat = _flat(strength, shape / unit, NUMBER, T)
    single = step < capped(shape, T)
    below = tl.where(single, step, 0.0)
    ratio = quotient(below, edge - below * inverse)
    firm = size - smaller(positive(flat - size * inverse) * ratio, size)
    far = capped(root(shape).to(T) * root(step), T)
    return tl.where(single, firm, tl.where(size <= product(strength, far, NUMBER, False, T), 0.0, size))


@triton.jit
def _smoothly_clipped(size, strength, step, shape, NUMBER: tl.constexpr, EUCLIDEAN: tl.constexpr, T: tl.constexpr):
    """A soft threshold by the slope at the result for steps below γ - 1; from there on it jumps."""
    unit = tl.where(shape > WIDE, shape, 1.0)
    inverse = (1 / unit).to(T)
    edge = ((shape - 1) / unit).to(T)
    flat = _flat(strength, shape / unit, NUMBER, T)
    threshold = product(strength, step, NUMBER, EUCLIDEAN, T)
    step = step.to(T)
    single = step < capped(shape - 1, T)
    below = tl.where(single, step, 0.0)
    ratio = quotient(below, edge - below * inverse)
    falling = positive(flat - size * inverse) * ratio
    soft = size - smaller(threshold, size)
    continuous = size - smaller(smaller(falling, threshold), size)
    # Where the costs of the soft threshold and of no shrinkage are equal.
    top = capped(shape + 1, T)
    middle = tl.where(step < top, step / 2 + top / 2, capped(root(shape + 1).to(T) * root(step), T))
    jump = product(strength, middle, NUMBER, False, T)
    return tl.where(single, continuous, tl.where(size <= jump, soft, size))


@triton.jit
def _flat(strength, shape, NUMBER: tl.constexpr, T: tl.constexpr):
    """γλ, from where on weights are left alone."""
    if NUMBER:
        found = strength * shape
    else:
        found = strength * shape.to(T)
    return capped(found, T)


@triton.jit
def slope_at_zero(strength, shape, KIND: tl.constexpr, NUMBER: tl.constexpr, T: tl.constexpr):
    """κ, the slope of the penalty at zero."""
    found = strength
    if KIND == "elastic_net":
        found = strength * (shape if NUMBER else shape.to(T))
    if KIND == "transformed_l1":
        found = strength * ((shape + 1) / shape if NUMBER else ((shape + 1) / shape).to(T))
    return found.to(T)
