"""Products at the ends of a type's range: a threshold that overflows is the largest number, so that inf - t stays inf.

In the middle of the range nothing here changes a bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonsmooth.penalties.penalty import Step, Strength


def widened(point: Tensor, step: Step) -> tuple[Tensor, Step]:
    """A point and a step in double precision."""
    double = point.to(torch.promote_types(point.dtype, torch.float64))
    return double, step.to(torch.promote_types(step.dtype, torch.float64)) if isinstance(step, Tensor) else step


def beyond(dtype: torch.dtype, strength: Strength, step: Step, *others: float) -> bool:
    """Whether a number, or the product of λ and step, leaves the range of a type that is not double precision."""
    kind = torch.finfo(dtype)
    if kind.bits == 64:
        return False
    numbers = [value for value in (strength, step, *others) if not isinstance(value, Tensor)]
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        numbers.append(strength * step)
    return any(value != 0 and not kind.tiny <= value <= kind.max for value in numbers)


def product(strength: Strength, step: Step, like: Tensor) -> Strength:
    """λ·step, at most the largest number of a tensor's type."""
    largest = torch.finfo(like.dtype).max
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        return min(strength * step, largest)
    value = strength * step
    bounded = [factor for factor in (strength, step) if not isinstance(factor, Tensor) and factor <= 1]
    return value if bounded else value.clamp(max=largest)  # type: ignore[union-attr]


def root_of_product(strength: Strength, step: Step, like: Tensor, factor: float = 1.0) -> Tensor:
    """√(factor·λ·step), also where the product leaves the range of a tensor's type and the root does not."""
    kind = torch.finfo(like.dtype)
    whole = torch.as_tensor(factor * (strength * step), dtype=like.dtype, device=like.device)
    if not isinstance(strength, Tensor) and not isinstance(step, Tensor):
        if kind.tiny <= factor * (strength * step) <= kind.max:
            return whole.sqrt()
        root = min(math.sqrt(factor) * math.sqrt(strength) * math.sqrt(step), kind.max)
        return torch.full_like(whole, root)
    return whole.sqrt().clamp(max=kind.max)
