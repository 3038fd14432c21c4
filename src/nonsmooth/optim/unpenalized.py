"""The coordinates that a penalty leaves free, and the minimum of a quadratic loss over them, the others held.

The dual of a penalised quadratic asks that the gradient vanish in these coordinates. Minimised over them, which changes
nothing of what the bound is about, it does: a few steps of conjugate gradients on differences of the gradient, which of
a quadratic are products with its Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim.evaluation import ClosureResult, add_whole_, evaluate

ITERATIONS = 200
ROUNDINGS = 100
"""A gradient below this many roundings of its summands counts as zero."""


@torch.no_grad()
def minimized_over(
    optimizer: Optimizer, closure: Callable[[], Any], found: ClosureResult, free: dict[Tensor, Tensor], size: float
) -> tuple[ClosureResult, dict[Tensor, Tensor]] | None:
    """Loss and gradients where the free coordinates are at their best, and the way there; None where it is not found.

    The parameters are as before when this returns.

    Args:
        optimizer: holds the parameters.
        closure: computes the loss.
        found: loss and gradients at the present parameters.
        free: for each parameter which of its coordinates are free, of its whole shape.
        size: of gradients in the neighbourhood, whose rounding bounds how far one can vanish.
    """
    moved = list(free)
    kept = [parameter.detach().clone() for parameter in moved]
    start = _restricted(found, free)
    tolerance = ROUNDINGS * max(torch.finfo(parameter.dtype).eps for parameter in moved) * size

    def at(way: list[Tensor]) -> ClosureResult:
        for parameter, before, change in zip(moved, kept, way, strict=True):
            parameter.copy_(before)
            add_whole_(parameter, change)
        return evaluate(optimizer, closure)

    try:
        way = [torch.zeros_like(gradient) for gradient in start]
        residual = [-gradient for gradient in start]
        direction = list(residual)
        for _ in range(ITERATIONS):
            square = _inner(residual, residual)
            if square**0.5 <= tolerance:
                break
            image = [after - before for after, before in zip(_restricted(at(direction), free), start, strict=True)]
            curvature = _inner(direction, image)
            if not curvature > 0:
                break
            pace = square / curvature
            way = [a + pace * d for a, d in zip(way, direction, strict=True)]
            residual = [r - pace * i for r, i in zip(residual, image, strict=True)]
            share = _inner(residual, residual) / square
            direction = [r + share * d for r, d in zip(residual, direction, strict=True)]
        settled = at(way)
    finally:
        for parameter, before in zip(moved, kept, strict=True):
            parameter.copy_(before)
    left = _restricted(settled, free)
    if (
        not _inner(left, left) ** 0.5 <= 10 * tolerance
        or not settled.signed_loss <= found.signed_loss * (1 + 1e-9) + tolerance
    ):
        return None
    return settled, dict(zip(moved, way, strict=True))


def _restricted(found: ClosureResult, free: dict[Tensor, Tensor]) -> list[Tensor]:
    """The gradients in the free coordinates, 0 in the others."""
    return [torch.where(mask, found.gradients[parameter], 0) for parameter, mask in free.items()]


def _inner(first: list[Tensor], second: list[Tensor]) -> float:
    return sum(float((a * b.conj()).real.sum()) for a, b in zip(first, second, strict=True))
