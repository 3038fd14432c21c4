"""The prox of a block of coordinates in the metric of a step, and the memory of a steady optimiser, for Triton.

The mathematics is that of `AdaptiveStep`, of `Penalty.limited_prox_` and of `Steady` in `nonsmooth.optim`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from nonsmooth.kernels.arithmetic import number, positive, quotient, root, sign, with_sign_of
from nonsmooth.kernels.magnitudes import shrunk, slope_at_zero
from nonsmooth.kernels.numbers import Row

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

TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
TINY_DOUBLE = tl.constexpr(torch.finfo(torch.float64).tiny)


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
            bound = tl.where(count > number(numbers, WARM_UP, width, column), 0.0, float("-inf")).to(T)
            held = at_zero | (before * point < bound)
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
