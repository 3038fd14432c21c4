"""What is read at a step of gradient descent on a small network: eigenvalues, and the curvature along the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nonsmooth.curvature import hessian_operator, sharpness

Loss = Callable[[list[Tensor]], Tensor]


def one_of(parts: Sequence[Tensor], network: int) -> list[Tensor]:
    """The parts of one of the stacked networks, as a stack of one."""
    return [part[network : network + 1].detach() for part in parts]


def _form(loss: Loss, weights: Sequence[Tensor], vector: Tensor) -> float:
    """⟨v, Hv⟩/‖v‖² at the weights of one network."""
    leaves, unit = [part.clone().requires_grad_() for part in weights], vector / vector.norm()
    with hessian_operator(lambda: loss(leaves).sum(), leaves) as operator:
        return float(unit @ operator.product(unit))


def eigenvalues(loss: Loss, weights: Sequence[Tensor]) -> tuple[float, float]:
    """The largest, and the form of the Ritz vector to the second largest."""
    leaves = [part.clone().requires_grad_() for part in weights]
    read = sharpness(lambda: loss(leaves).sum(), leaves)
    return read.value, math.nan if read.second is None else _form(loss, weights, read.second)


def readings(
    loss: Loss, earlier: Sequence[Tensor], weights: Sequence[Tensor], slope: Sequence[Tensor], now: Sequence[Tensor]
) -> tuple[float, ...]:
    """Sharpness, second eigenvalue, curvature along the last step, and what of that the Hessian sees.

    Args:
        loss: of stacked networks, (networks,).
        earlier: weights of one network before the step.
        weights: after it.
        slope: gradients before it.
        now: after it.
    """
    move = torch.cat([(b - a).flatten() for a, b in zip(earlier, weights, strict=True)])
    change = torch.cat([(b - a).flatten() for a, b in zip(slope, now, strict=True)])
    middle = [(a + b) / 2 for a, b in zip(earlier, weights, strict=True)]
    return (*eigenvalues(loss, weights), float(change @ move / move.square().sum()), _form(loss, middle, move))
