"""What the programs share: how they find numbers and coordinates, and arithmetic that rounds as PyTorch does.

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

LARGEST = tl.constexpr(torch.finfo(torch.float32).max)
LARGEST_DOUBLE = tl.constexpr(torch.finfo(torch.float64).max)

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
def larger(values, others):
    """max(s, t)."""
    return tl.where(values < others, others, tl.where(others != others, others, values))  # noqa: PLR0124  only NaN does


@triton.jit
def sign(values):
    """-1, 0 or 1; 0 for NaN."""
    return tl.where(values > 0, 1.0, tl.where(values < 0, -1.0, 0.0))


@triton.jit
def with_sign_of(sizes, signs):
    """|s| with the sign of t, that of -0 too."""
    if sizes.dtype == tl.float64:
        bits = tl.abs(sizes).to(tl.int64, bitcast=True) | (signs.to(tl.int64, bitcast=True) & -0x8000000000000000)
    else:
        bits = tl.abs(sizes).to(tl.int32, bitcast=True) | (signs.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(sizes.dtype, bitcast=True)
