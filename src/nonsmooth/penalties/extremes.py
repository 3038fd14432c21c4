"""Products at the ends of a type's range: a threshold that overflows is the largest number, so that inf - t stays inf.

In the middle of the range nothing here changes a bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Step, Strength
from nonsmooth.penalties.scalars import tensor_like

RANGES = {
    kind: (torch.finfo(kind).tiny, torch.finfo(kind).max)
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.complex32, torch.complex64)
}
"""The smallest number that has all of its digits, and the largest."""


WIDE = 1e6
"""From such a γ on numbers are taken in units of it, since γλ may be beyond all numbers."""

FAR = 1e30
"""A factor as large as this, or as small as its inverse, has its root taken by itself."""


def widened(point: Tensor, step: Step) -> tuple[Tensor, Step]:
    """A point and a step in double precision."""
    double = point.to(torch.promote_types(point.dtype, torch.float64))
    return double, step.to(torch.promote_types(step.dtype, torch.float64)) if isinstance(step, Tensor) else step


def beyond(dtype: torch.dtype, strength: Strength, step: Step, *others: float) -> bool:
    """Whether a number, or the product of λ and step, leaves the range of a type that is not double precision."""
    if dtype not in RANGES:
        return False
    tiny, largest = RANGES[dtype]
    numbers = [value for value in (strength, step, *others) if not isinstance(value, Tensor)]
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        numbers.append(strength * step)
    return any(value and not tiny <= value <= largest for value in numbers)


def product(strength: Strength, step: Step, like: Tensor) -> Strength:
    """λ·step, at most the largest number of a tensor's type."""
    largest = torch.finfo(like.dtype).max
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        return min(strength * step, largest)
    value: Any = strength * step
    if any(not isinstance(factor, Tensor) and factor <= 1 for factor in (strength, step)):
        return value  # type: ignore[no-any-return]
    floating = value.is_floating_point()
    return value.clamp(max=min(largest, torch.finfo(value.dtype).max)) if floating else value  # type: ignore[no-any-return]


def root_of_product(strength: Strength, step: Step, like: Tensor, factor: float = 1.0) -> Tensor:
    """√(factor·λ·step), also where the product leaves the range of a tensor's type and the root does not."""
    kind = torch.finfo(like.dtype)
    whole = tensor_like(factor * (strength * step), like)
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        if kind.tiny <= factor * (strength * step) <= kind.max:
            return whole.sqrt()
        root = min(math.sqrt(factor) * math.sqrt(strength) * math.sqrt(step), kind.max)
        return torch.full_like(whole, root)
    alone = step if isinstance(strength, Tensor) else strength
    if not isinstance(alone, Tensor) and alone and not 1 / FAR < alone < FAR:
        other = tensor_like(strength if isinstance(strength, Tensor) else step, like)
        whole = math.sqrt(factor) * math.sqrt(alone) * other.sqrt()
        return whole.clamp(max=kind.max)
    return whole.sqrt().clamp(max=kind.max)
