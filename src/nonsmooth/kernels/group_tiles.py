"""How groups lie in memory, and how they are cut into tiles, one for each program of the kernel for groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

FIELDS = (
    *("point", "square", "mean", "zeros", "weights"),  # addresses
    *("weights_stride", "count", "inner", "size", "first", "column"),
)
"""What the kernel's table holds for each tensor; `size` is a group's length, `first` the number of its first tile."""

ROWS, COLUMNS, APART = range(3)
"""Arrangements: a group is contiguous; neighbours of a coordinate are those of other groups, as in a group of one
coordinate; anything else."""

METRICS = ("Euclidean", "adaptive", "centred")
"""One step for all coordinates; D = scale/(√square + ε); the same with √(square - mean²)."""

SMALL_TILE = 2048
"""Coordinates of a tile of short groups."""

LARGEST_TILE = 16384
"""Coordinates that 16 warps keep in registers, 32 a thread, together with a step for each; without, twice as many."""

CHUNK = 8192
"""Coordinates of a tile where a group is longer than that: a program fills a multiprocessor then, and has its cache to
itself for the passes that follow the first."""

A_THREAD = 16
"""Coordinates of a thread: compiled for compute capability 9.0, a program then takes about 120 registers a thread."""

NEIGHBOURS = 8
"""Columns of a tile, at least: 32 bytes in single precision, below which memory is not read whole."""


@dataclass(frozen=True)
class Slices:
    """A dense tensor seen in memory as (outer, count, inner): coordinates (o, g, i) belong to group g.

    Attributes:
        outer: the length of what stands before the dimensions that number the groups.
        count: the number of groups.
        inner: the length of what stands after them.
    """

    outer: int
    count: int
    inner: int

    @property
    def length(self) -> int:
        """The number of coordinates in a group."""
        return self.outer * self.inner

    @property
    def arrangement(self) -> int:
        """`ROWS`, `COLUMNS` or `APART`."""
        return COLUMNS if self.inner == 1 else ROWS if self.outer == 1 else APART


def slices_of(point: Tensor, dim: int | tuple[int, ...]) -> Slices | None:
    """The groups along dimensions of a tensor; None where they are no middle part of it as it lies in memory.

    Args:
        point: contiguous, or a permutation of what is, such as channels-last.
        dim: the dimensions that number the groups.
    """
    dims = (dim,) if isinstance(dim, int) else dim
    if any(not -point.ndim <= d < point.ndim for d in dims):
        return None
    kept = {d % point.ndim for d in dims}
    if point.numel() == 0:
        return Slices(1, 0, 0)
    order = sorted((d for d in range(point.ndim) if point.shape[d] > 1), key=point.stride, reverse=True)
    lengths = [point.shape[d] for d in order]
    if any(point.stride(d) != math.prod(lengths[place + 1 :]) for place, d in enumerate(order)):
        return None
    places = [place for place, d in enumerate(order) if d in kept]
    if not places:
        return Slices(1, 1, point.numel())
    first, last = places[0], places[-1] + 1
    # Their numbers are those of the dimensions in order.
    if order[first:last] != sorted(set(order) & kept):
        return None
    return Slices(math.prod(lengths[:first]), math.prod(lengths[first:last]), math.prod(lengths[last:]))


@dataclass(frozen=True)
class Tile:
    """What one program takes.

    Attributes:
        groups: how many neighbouring groups, a power of two.
        length: how many coordinates of each at a time, a power of two.
        whole: whether these are all.
        warps: how many warps share it.
    """

    groups: int
    length: int
    whole: bool

    warps: int


def tile_for(slices: Slices, *, adaptive: bool, double: bool) -> Tile:
    """The tile for groups of that length; alike for lengths up to the same power of two.

    Args:
        slices: the groups.
        adaptive: whether each coordinate has a step of its own.
        double: whether the arithmetic is in double precision.
    """
    length = 1 << (slices.length - 1).bit_length()
    if 1 < length < 16:
        length = 16
    scarce = 2 if double else 1
    capacity = LARGEST_TILE * (1 if adaptive else 2) // scarce
    neighbours = 1 if slices.arrangement == ROWS else NEIGHBOURS
    whole = length * neighbours <= capacity
    if whole:
        groups = max(neighbours, SMALL_TILE // scarce // length)
    else:
        groups = neighbours if slices.arrangement == ROWS else 2 * neighbours
        length = CHUNK // scarce // groups
    # A block has no more than 32 warps, and more than 16 leave a thread 64 registers: enough for w alone.
    warps = max(4, min(16 if adaptive else 32, groups * length * scarce // (32 * A_THREAD)))
    return Tile(groups, length, whole, warps)
