"""Steps of SGD and of Adam with their prox, written in PyTorch for its compiler, which makes one pass of each.

They are called as the kernels of `nonsmooth.kernels.steps` are, but for the penalty, which is an object here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kernels.numbers import Row
from nonsmooth.penalties import Penalty
from nonsmooth.torch_optimizers import AdaptiveStep

Role = Sequence[Tensor] | None

REST_OF_FIRST, REST_OF_SECOND = len(Row), len(Row) + 1
"""Rows of `in_precision`: 1 - β₁ and 1 - β₂."""


def sgd_step_(
    overwrite: Callable[..., None],
    penalty: Penalty,
    points: Sequence[Tensor],
    grads: Sequence[Tensor],
    momenta: Role,
    numbers: Tensor,
    *,
    nesterov: bool,
    maximize: bool,
    decayed: bool,
    pulls: Role,
) -> None:
    """Overwrite parameters by a step of torch.optim.SGD and its prox, and momenta by theirs.

    Args:
        overwrite: the prox.
        penalty: λR, with λ as a tensor.
        points: w.
        grads: g.
        momenta: the momentum buffers; None for no momentum.
        numbers: what `in_precision` gives.
        nesterov: Nesterov's momentum.
        maximize: whether f is to grow.
        decayed: whether there is a weight decay.
        pulls: the memory of a steady optimizer.
    """
    for place, point in enumerate(points):
        own = numbers[:, place]
        at_zero, grad = point == 0, -grads[place] if maximize else grads[place]
        if decayed:
            grad = grad + own[Row.WEIGHT_DECAY] * point
        if momenta is not None:
            momentum, buffer = own[Row.MOMENTUM], momenta[place]
            buffer.copy_(momentum * buffer + own[Row.DAMPENING] * grad)
            grad = grad + momentum * buffer if nesterov else buffer
        point.sub_(own[Row.RATE] * grad)
        overwrite(penalty, point, own[Row.STEP], at_zero, *_memory(pulls, place, own))


def adam_step_(
    overwrite: Callable[..., None],
    penalty: Penalty,
    points: Sequence[Tensor],
    grads: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    numbers: Tensor,
    *,
    largest_squares: Role,
    decoupled: bool,
    maximize: bool,
    decayed: bool,
    pulls: Role,
) -> None:
    """Overwrite parameters by a step of torch.optim.Adam or AdamW and its prox, and the states by theirs.

    Args:
        overwrite: the prox.
        penalty: λR, with λ as a tensor.
        points: w.
        grads: g.
        averages: the running means of the gradients.
        squares: the running means of their squares.
        numbers: what `in_precision` gives.
        largest_squares: the largest squares so far, for AMSGrad.
        decoupled: whether the weight decay is AdamW's.
        maximize: whether f is to grow.
        decayed: whether there is a weight decay.
        pulls: the memory of a steady optimizer.
    """
    for place, point in enumerate(points):
        own = numbers[:, place]
        at_zero, grad = point == 0, -grads[place] if maximize else grads[place]
        decay, moved = own[Row.WEIGHT_DECAY], point
        if decayed and decoupled:
            moved = point - decay * point
        elif decayed:
            grad = grad + decay * point
        average, square = averages[place], squares[place]
        average.copy_(own[Row.FIRST_BETA] * average + own[REST_OF_FIRST] * grad)
        square.copy_(own[Row.SECOND_BETA] * square + own[REST_OF_SECOND] * grad * grad)
        if largest_squares is not None:
            square = torch.maximum(largest_squares[place], square, out=largest_squares[place])
        below = square.sqrt() / own[Row.ROOT_CORRECTION] + own[Row.DIVISOR]
        point.copy_(moved - own[Row.RATE] * average / below)
        scale, epsilon, full, times, slack = (
            own[row] for row in (Row.SCALE, Row.EPSILON, Row.FULL, Row.TIMES, Row.SLACK)
        )
        step = AdaptiveStep(scale, epsilon, square, None, full, times, slack)
        overwrite(penalty, point, step, at_zero, *_memory(pulls, place, own))


def _memory(pulls: Role, place: int, own: Tensor) -> tuple[Any, ...]:
    """What `overwrite` of a steady optimizer takes beside: its memory, how many pulls it is of, and its forgetting."""
    if pulls is None:
        return ()
    return pulls[place], own[Row.COUNT], own[Row.FORGETTING]


def in_precision(numbers: Tensor, dtype: torch.dtype, *, decoupled: bool) -> Tensor:
    """The numbers as a graph takes them: what would be worked out of them for each coordinate, in the points' type.

    Torch's compiler puts such arithmetic into its loops, where double precision takes the vectors away.

    Args:
        numbers: as for the kernel.
        dtype: of the points.
        decoupled: whether the weight decay is AdamW's.

    Returns:
        The rows of `Row`, in which RATE is divided by CORRECTION, DAMPENING is 1 - τ, and a decoupled WEIGHT_DECAY is
        multiplied by RATE; and two more: 1 - β₁ and 1 - β₂.
    """
    made = torch.cat([numbers, 1 - numbers[Row.FIRST_BETA : Row.SECOND_BETA + 1]])
    made[Row.DAMPENING] = 1 - numbers[Row.DAMPENING]
    if decoupled:
        made[Row.WEIGHT_DECAY] *= numbers[Row.RATE]
    if not bool(torch.isnan(numbers[Row.CORRECTION]).any()):
        made[Row.RATE] /= numbers[Row.CORRECTION]
    return made.to(dtype)
