"""A partition of a tensor's coordinates into groups: along dimensions, or by an index."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

Dimensions = int | tuple[int, ...]

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""The types of numbers that may number groups."""

ACCEPTED = (
    "accepted are one whole number per coordinate, or a sequence of groups, each a sequence of coordinates, which are "
    "whole numbers"
)


@dataclass(frozen=True)
class Groups:
    """How to add up over groups and how to hand a number per group back to its coordinates.

    Attributes:
        count: number of groups, G.
        total: values of the tensor's shape → their sum in each group, (G,).
        spread: one number per group, (G,) → a tensor that broadcasts against the tensor.
        largest: values of the tensor's shape → their maximum in each group, (G,); None where there is no way to know.
        subset: which groups, (G,) → how to take their coordinates from a tensor, and their partition; None likewise.
        dimensions: those that number the groups, in order; None for an index.
    """

    count: int
    total: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor]
    largest: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    subset: Callable[[Tensor], tuple[Callable[[Tensor], Tensor], Groups]] | None = field(default=None, kw_only=True)
    dimensions: tuple[int, ...] | None = field(default=None, kw_only=True)

    shared: ClassVar[bool] = False
    """Whether groups lie on several processes, which `total` then makes communicate: all have to call it alike."""

    def totals(self, *values: Tensor) -> tuple[Tensor, ...]:
        """`total` of several tensors; together they cost as much communication as one."""
        return tuple(self.total(each) for each in values)

    def sizes(self, like: Tensor) -> Tensor:
        """The number of coordinates in each group, (G,)."""
        return self.total(torch.ones_like(like))

    def norms(self, point: Tensor) -> Tensor:
        """‖w_g‖₂ of each group, (G,); its gradient is 0 where it is 0."""
        size = point.abs() if point.is_complex() else point
        squares = self.total(size.square())
        if squares.numel() and _may_look(squares) and within_range(squares):
            return squares.sqrt()
        zero = squares == 0
        norms = torch.where(zero, 0, torch.where(zero, 1, squares).sqrt())
        if self.largest is None:
            return norms
        # Squares that leave the range of the type: once more, with the largest magnitude as the unit.
        unit = self.largest(size.detach().abs())
        kind = torch.finfo(squares.dtype)
        inside = (squares >= kind.tiny / kind.eps**2) & (squares <= kind.max)
        unit = torch.where(inside | (unit == 0) | ~torch.isfinite(unit), 1, unit)
        squares = self.total((size / self.spread(unit)).square())
        return torch.where(squares == 0, norms, unit * torch.where(squares == 0, 1, squares).sqrt())


def within_range(squares: Tensor) -> bool:
    """Whether sums of squares are neither so small nor so large that rounding has spoilt them; makes the host wait."""
    kind = torch.finfo(squares.dtype)
    smallest, largest = (float(end) for end in squares.detach().aminmax())
    return kind.tiny / kind.eps**2 <= smallest and largest <= kind.max


def _may_look(values: Tensor) -> bool:
    """Whether reading a value costs nothing but the reading."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def as_dimensions(dim: Any) -> Dimensions:
    """One dimension or several, as whole numbers of Python's: a checkpoint holds no others.

    Raises:
        TypeError: it is neither.
        ValueError: there is none.
    """
    one = _is_whole(dim)
    several = isinstance(dim, Iterable) and not isinstance(dim, Tensor | np.ndarray | str | Mapping)
    found = (dim,) if one else tuple(dim) if several else (None,)
    if not all(map(_is_whole, found)):
        raise TypeError(f"dim is {dim!r}; accepted is a whole number, or a sequence of them")
    if not found:
        raise ValueError(f"dim is {dim!r}; accepted is at least one dimension, or index=[0, 0, ...] for a single group")
    whole = tuple(map(int, found))
    return whole[0] if one else whole


def along(shape: torch.Size, dim: Dimensions) -> Groups:
    """The slices w[i] along a dimension, or w[i, j] along several: each is a group.

    Args:
        shape: of the tensor.
        dim: the dimensions that number the groups; of a convolution's weight 0 means its filters, 1 its input
            channels, (0, 1) its kernels.

    Raises:
        ValueError: the tensor has no such dimension.
    """
    wanted = (dim,) if isinstance(dim, int) else tuple(dim)
    if any(not -len(shape) <= d < len(shape) for d in wanted):
        raise ValueError(f"dim is {dim}; a tensor of shape {tuple(shape)} has the dimensions 0 to {len(shape) - 1}")
    kept = sorted({d % len(shape) for d in wanted})
    summed = [d for d in range(len(shape)) if d not in kept]
    broadcast = [n if d in kept else 1 for d, n in enumerate(shape)]

    count = math.prod([shape[d] for d in kept])

    def total(values: Tensor) -> Tensor:
        return (values.sum(summed) if summed else values).reshape(-1)

    def largest(values: Tensor) -> Tensor:
        empty = values.numel() == 0
        return values.new_zeros(count) if empty else (values.amax(summed) if summed else values).reshape(-1)

    def subset(chosen: Tensor) -> tuple[Callable[[Tensor], Tensor], Groups]:
        def take(values: Tensor) -> Tensor:
            return values.permute(*kept, *summed).reshape(count, -1)[chosen]

        return take, along(torch.Size([int(chosen.sum()), math.prod([shape[d] for d in summed])]), 0)

    def spread(numbers: Tensor) -> Tensor:
        return numbers.reshape(broadcast)

    return Groups(count, total, spread, largest=largest, subset=subset, dimensions=tuple(kept))


def by_coordinate(shape: torch.Size, index: Tensor, dim: Dimensions) -> Tensor:
    """An index that numbers the slices along one dimension, such as the columns of a matrix, as one of coordinates."""
    along_one = index.ndim == 1 and isinstance(dim, int) and -len(shape) <= dim < len(shape)
    if not along_one or index.numel() == math.prod(shape) or index.numel() != shape[dim]:  # type: ignore[index]
        return index
    sides = [1] * len(shape)
    sides[dim] = -1  # type: ignore[index]
    return index.reshape(sides).expand(shape)


def indexed(shape: torch.Size, index: Tensor, count: int | None = None) -> Groups:
    """The coordinates that an index gives the same number.

    Args:
        shape: of the tensor.
        index: the number of the group of each coordinate, 0 to G-1, int64, flat or of that shape.
        count: G; None for the largest number and one more.

    Raises:
        ValueError: the index has another number of elements.
    """
    if index.ndim > 1 and index.shape != shape:
        raise ValueError(f"index has shape {tuple(index.shape)}; accepted is one that is flat or {tuple(shape)}")
    if index.numel() != math.prod(shape):
        raise ValueError(
            f"index has {index.numel()} numbers; accepted is one for each of the {math.prod(shape)} coordinates of a "
            f"tensor of shape {tuple(shape)}, or, with dim, for each slice along it: dim=1 for the columns of a matrix"
        )
    if count is None:
        count = int(index.max()) + 1 if index.numel() else 0
    flat = index.reshape(-1)

    def total(values: Tensor) -> Tensor:
        sums = values.new_zeros(count)
        return sums.index_add(0, flat.to(values.device), values.reshape(-1))

    def spread(numbers: Tensor) -> Tensor:
        return numbers[flat.to(numbers.device)].reshape(shape)

    def largest(values: Tensor) -> Tensor:
        where = flat.to(values.device)
        return values.new_zeros(count).scatter_reduce(0, where, values.reshape(-1), "amax", include_self=False)

    def subset(chosen: Tensor) -> tuple[Callable[[Tensor], Tensor], Groups]:
        numbers = flat.to(chosen.device)
        places = chosen[numbers].nonzero().reshape(-1)
        renumbered = (chosen.cumsum(0) - 1)[numbers[places]]

        def take(values: Tensor) -> Tensor:
            return values.reshape(-1)[places]

        return take, indexed(places.shape, renumbered, int(chosen.sum()))

    return Groups(count, total, spread, largest=largest, subset=subset)


def as_index(index: Any) -> Tensor:
    """The number of each coordinate's group, from labels, one per coordinate, or from lists of coordinates.

    Args:
        index: one label per coordinate, as a tensor or an array of integers or a sequence of whole numbers; or a
            sequence of groups, each a sequence of coordinates of the flattened tensor.

    Raises:
        TypeError: `index` is something else.
        ValueError: the groups are not a partition, or a number is missing.
    """
    if hasattr(index, "__array__") and not isinstance(index, Tensor):
        index = _from_array(np.asarray(index))
    if not isinstance(index, Tensor):
        index = _from_sequence(index)
    if index.dtype not in WHOLE:
        raise ValueError(f"index has dtype {index.dtype}; accepted are integers that number the groups")
    if index.numel():
        _check_range(int(index.min()), int(index.max()), index.numel())
    found = torch.bincount(index.reshape(-1).to(torch.int64))
    if empty := torch.nonzero(found == 0).reshape(-1).tolist():
        raise ValueError(f"index leaves group {empty[0]} empty; accepted is each number from 0 to the largest")
    numbers: Tensor = index.to(torch.int64)
    return numbers


def _check_range(smallest: int, largest: int, count: int) -> None:
    """Raise where a number is negative, or so large that a smaller one is missing."""
    if smallest < 0:
        raise ValueError(f"index has the entry {smallest}; accepted are group numbers of at least 0")
    if largest >= count:
        raise ValueError(
            f"index has the entry {largest} for {count} coordinates; accepted is each number from 0 to the largest"
        )


def _from_array(array: Any) -> Any:
    """An array of labels as a tensor, an array of lists as a list."""
    if array.dtype.kind == "O":
        return list(array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"index has dtype {array.dtype}; accepted are integers that number the groups")
    return torch.from_numpy(array.astype(np.int64))


def _from_sequence(index: Any) -> Tensor:
    """Labels, or groups of coordinates, as labels."""
    if isinstance(index, str | bytes | Mapping) or not isinstance(index, Iterable):
        raise TypeError(f"index is {index!r}; {ACCEPTED}")
    each = list(index)
    flat = [_is_whole(label) for label in each]
    if each and all(flat):
        _check_range(min(int(label) for label in each), max(int(label) for label in each), len(each))
        return torch.tensor([int(label) for label in each], dtype=torch.int64)
    if any(flat):
        raise TypeError(f"index mixes whole numbers and sequences; {ACCEPTED}")
    return _from_groups(each)


def _is_whole(label: Any) -> bool:
    return isinstance(label, Integral) or (isinstance(label, Tensor) and label.ndim == 0 and label.dtype in WHOLE)


def _from_groups(given: list[Any]) -> Tensor:
    try:
        groups = [[operator.index(member) for member in group] for group in given]
    except TypeError:
        raise TypeError(f"index is {given!r}; {ACCEPTED}") from None
    members = [member for group in groups for member in group]
    if [group for group in groups if len(group) == 0]:
        raise ValueError("index has an empty group; accepted are groups of at least one coordinate")
    seen: set[int] = set()
    for member in members:
        if member in seen:
            raise ValueError(f"index has coordinate {member} in two groups; accepted is a partition")
        seen.add(member)
    missing = sorted(set(range(len(members))) - seen)
    if missing:
        raise ValueError(
            f"index has coordinate {missing[0]} in no group; accepted is a partition of 0 to the largest coordinate"
        )
    numbers = torch.empty(len(members), dtype=torch.int64)
    for number, group in enumerate(groups):
        numbers[torch.tensor(group, dtype=torch.int64)] = number
    return numbers
