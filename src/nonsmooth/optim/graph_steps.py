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
        numbers: as for the kernel.
        nesterov: Nesterov's momentum.
        maximize: whether f is to grow.
        decayed: whether there is a weight decay.
        pulls: the memory of a steady optimizer.
    """
    for place, point in enumerate(points):
        own = numbers[:, place]
        at_zero, grad = point == 0, -grads[place] if maximize else grads[place]
        if decayed:
            grad = grad + own[Row.WEIGHT_DECAY].to(point) * point
        if momenta is not None:
            momentum, buffer = own[Row.MOMENTUM].to(point), momenta[place]
            buffer.copy_(momentum * buffer + (1 - own[Row.DAMPENING]).to(point) * grad)
            grad = grad + momentum * buffer if nesterov else buffer
        point.sub_(own[Row.RATE].to(point) * grad)
        overwrite(penalty, point, own[Row.STEP].to(point), at_zero, *_memory(pulls, place, own))


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
        numbers: as for the kernel.
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
            moved = point - (own[Row.RATE] * decay).to(point) * point
        elif decayed:
            grad = grad + decay.to(point) * point
        average, square = averages[place], squares[place]
        first, second = own[Row.FIRST_BETA], own[Row.SECOND_BETA]
        average.copy_(first.to(point) * average + (1 - first).to(point) * grad)
        square.copy_(second.to(point) * square + (1 - second).to(point) * grad * grad)
        if largest_squares is not None:
            square = torch.maximum(largest_squares[place], square, out=largest_squares[place])
        below = square.sqrt() / own[Row.ROOT_CORRECTION].to(point) + own[Row.DIVISOR].to(point)
        point.copy_(moved - (own[Row.RATE] / own[Row.CORRECTION]).to(point) * average / below)
        scale, epsilon, full, times, slack = (
            own[row].to(point) for row in (Row.SCALE, Row.EPSILON, Row.FULL, Row.TIMES, Row.SLACK)
        )
        step = AdaptiveStep(scale, epsilon, square, None, full, times, slack)
        overwrite(penalty, point, step, at_zero, *_memory(pulls, place, own))


def _memory(pulls: Role, place: int, own: Tensor) -> tuple[Any, ...]:
    """What `overwrite` of a steady optimizer takes beside: its memory, how many pulls it is of, and its forgetting."""
    if pulls is None:
        return ()
    return pulls[place], own[Row.COUNT].to(pulls[place]), own[Row.FORGETTING].to(pulls[place])
