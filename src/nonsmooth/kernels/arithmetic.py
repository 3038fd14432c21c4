"""What the programs share: how they read numbers, and the arithmetic of each prox, of the metric and of the memory.

All functions here are written for Triton, whose compiler goes on behind a return: there is one, at the end. T is the
type that is computed in, float64 for float64 and float32 for all others. Numbers of a parameter are float64, and what
they give together is cast to T; nothing of a coordinate's own is float64 where T is not.

Comparisons are written such that NaN passes, since on a device minimum and maximum drop it. Roots and quotients are
rounded to nearest, as PyTorch's are: Triton's plain ones are not.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from nonsmooth.kernels.numbers import Row

HALTED = tl.constexpr(int(Row.HALTED))
STRENGTH = tl.constexpr(int(Row.STRENGTH))
SHAPE = tl.constexpr(int(Row.SHAPE))
STEP = tl.constexpr(int(Row.STEP))
SCALE = tl.constexpr(int(Row.SCALE))
EPSILON = tl.constexpr(int(Row.EPSILON))
FULL = tl.constexpr(int(Row.FULL))
TIMES = tl.constexpr(int(Row.TIMES))
SLACK = tl.constexpr(int(Row.SLACK))
COUNT = tl.constexpr(int(Row.COUNT))
FORGETTING = tl.constexpr(int(Row.FORGETTING))
WARM_UP = tl.constexpr(int(Row.WARM_UP))

LARGEST = tl.constexpr(torch.finfo(torch.float32).max)
LARGEST_DOUBLE = tl.constexpr(torch.finfo(torch.float64).max)
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
TINY_DOUBLE = tl.constexpr(torch.finfo(torch.float64).tiny)

WIDE = tl.constexpr(1e6)
"""From such a γ on numbers are taken in units of it, since γλ may be beyond all numbers."""

UNIT = tl.constexpr(2.0**64)
"""A λ beyond 1e±20 is taken in units of it or of its inverse, so that float32 keeps its digits."""

TYPES: dict[torch.dtype | None, Any] = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.uint8: tl.uint8,
    None: tl.int8,  # of a role that is absent, and never read
}
"""Triton's types by torch's."""


def computed_in(dtype: torch.dtype | None) -> Any:
    """T, for parameters of a dtype."""
    return tl.float64 if dtype == torch.float64 else tl.float32


@triton.jit
def number(numbers, row: tl.constexpr, width, column):
    """A number of a parameter, float64."""
    return tl.load(numbers + (width * row + column))


@triton.jit
def place(addresses, role: tl.constexpr, count, owner, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """A pointer to the first coordinate of a role's tensor."""
    pointer = tl.load(addresses + (count * role + owner)).to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def read(pointer, offsets, size, WHOLE: tl.constexpr):
    """The coordinates of a block; WHOLE where all of them exist, since a mask would split wide loads."""
    if WHOLE:
        values = tl.load(pointer + offsets)
    else:
        values = tl.load(pointer + offsets, mask=offsets < size, other=0)
    return values


@triton.jit
def write(pointer, offsets, size, values, WHOLE: tl.constexpr):
    """Store the coordinates of a block, rounded once to the type of the tensor."""
    if WHOLE:
        tl.store(pointer + offsets, values)
    else:
        tl.store(pointer + offsets, values, mask=offsets < size)


@triton.jit
def root(values):
    """√, rounded to nearest."""
    if values.dtype == tl.float64:
        found = tl.sqrt(values)
    else:
        found = tl.sqrt_rn(values)
    return found


@triton.jit
def quotient(above, below):
    """The quotient, rounded to nearest."""
    if above.dtype == tl.float64:
        found = above / below
    else:
        found = tl.div_rn(above, below)
    return found


@triton.jit
def capped(values, T: tl.constexpr):
    """The values in T, at most the largest number of it."""
    if T == tl.float64:
        found = tl.where(values > LARGEST_DOUBLE, LARGEST_DOUBLE, values)
    else:
        found = tl.where(values > LARGEST, LARGEST, values)
    return found.to(T)


@triton.jit
def in_units(factor, values, T: tl.constexpr):
    """A number of float64 times values of T."""
    unit = tl.where(factor > 1e20, UNIT, tl.where(factor < 1e-20, 1 / UNIT, 1.0))
    return values * capped(factor / unit, T) * unit.to(T)


@triton.jit
def product(strength, step, NUMBER: tl.constexpr, EUCLIDEAN: tl.constexpr, T: tl.constexpr):
    """λ·step in T, at most the largest number, so that inf - t stays inf.

    NUMBER: λ is one of float64. EUCLIDEAN: the step is.
    """
    if NUMBER == EUCLIDEAN:
        found = strength * step
    elif NUMBER:
        found = in_units(strength, step, T)
    else:
        found = in_units(step, strength, T)
    return capped(found, T)


@triton.jit
def positive(values):
    """max(s, 0)."""
    return tl.where(values < 0, 0.0, values)


@triton.jit
def smaller(values, others):
    """min(s, t)."""
    return tl.where(values > others, others, values)


@triton.jit
def with_sign_of(sizes, signs):
    """|s| with the sign of t, that of -0 too."""
    if sizes.dtype == tl.float64:
        bits = tl.abs(sizes).to(tl.int64, bitcast=True) | (signs.to(tl.int64, bitcast=True) & -0x8000000000000000)
    else:
        bits = tl.abs(sizes).to(tl.int32, bitcast=True) | (signs.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(sizes.dtype, bitcast=True)


@triton.jit
def sign(values):
    """-1, 0 or 1; 0 for NaN."""
    return tl.where(values > 0, 1.0, tl.where(values < 0, -1.0, 0.0))


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
    factor = shape * 0 + 1
    if KIND == "elastic_net":
        factor = shape
    if KIND == "transformed_l1":
        factor = (shape + 1) / shape
    if NUMBER:
        found = strength * factor
    else:
        found = strength * factor.to(T)
    return found.to(T)


@triton.jit
def take_prox(
    point,
    at_zero,
    pull,
    square,
    mean,
    strength,
    numbers,
    width,
    column,
    KIND: tl.constexpr,
    METRIC: tl.constexpr,
    LIMITED: tl.constexpr,
    STEADY: tl.constexpr,
    NUMBER: tl.constexpr,
    T: tl.constexpr,
):
    """The prox of a block in the metric of a step, and with STEADY the memory of its pulls.

    Args:
        point: w after the step, T.
        at_zero: where w was 0 before the step.
        pull: the memory, T; read with STEADY only.
        square, mean: what the metric is made of, T; each is read only where METRIC has it.
        strength: λ, float64, or λcⱼ by coordinate in T.

    Returns:
        The prox, and the new memory.
    """
    EUCLIDEAN: tl.constexpr = METRIC == "euclidean"
    shape = number(numbers, SHAPE, width, column)
    if EUCLIDEAN:
        step = number(numbers, STEP, width, column)
        limit = point
    else:
        spread = square
        if METRIC == "centred":
            # A variance; rounding can take it below 0.
            spread = positive(square - mean * mean)
        epsilon = number(numbers, EPSILON, width, column).to(T)
        step = quotient(number(numbers, SCALE, width, column).to(T), root(spread) + epsilon)
        times = number(numbers, TIMES, width, column)
        slack = number(numbers, SLACK, width, column).to(T)
        if METRIC == "centred":
            limit = step * ((root(square) + epsilon) * times.to(T) - slack)
        else:
            limit = (times * number(numbers, FULL, width, column)).to(T) - step * slack
        limit = positive(limit)
    held = at_zero
    zero = at_zero
    if STEADY:
        slope = slope_at_zero(strength, shape, KIND, NUMBER, T)
        forgetting = number(numbers, FORGETTING, width, column)
        count = number(numbers, COUNT, width, column)
        count = tl.where(count < 1, 1.0, count)
        share = (forgetting + 1) / (count + forgetting)
        # A step of size 0, as in a warm-up, pulls at no weight.
        tiny: tl.constexpr = TINY_DOUBLE if T == tl.float64 else TINY
        metric = step.to(T)
        latest = quotient(point, tl.where(metric < tiny, tiny, metric))
        # λ may have changed since a weight that is not zero was given its λ.
        before = tl.where(at_zero, pull, slope * sign(pull))
        average = before * (1 - share).to(T) + latest * share.to(T)
        zero = tl.abs(average) <= slope
        pull = tl.where(average > slope, slope, tl.where(average < -slope, -slope, average))
        if LIMITED:
            # A weight that has crossed zero may stop there: that undoes no more than the step itself.
            held = at_zero | ((before * point < 0) & (count > number(numbers, WARM_UP, width, column)))
            beyond = zero & (held == 0) & (tl.abs(point) > limit)
            zero = zero & (beyond == 0)
            pull = tl.where(beyond, slope * sign(point), pull)
    size = tl.abs(point)
    found = shrunk(size, strength, step, shape, KIND, NUMBER, EUCLIDEAN, T)
    if LIMITED:
        lowest = tl.where(held, 0.0, size - limit)
        found = tl.where(found < lowest, lowest, found)
    found = with_sign_of(found, point)
    if STEADY:
        found = tl.where(zero, 0.0, found)
    return found, pull
