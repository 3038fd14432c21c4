"""Launches of the package's kernels on the tensors of a model, and the bytes that each must move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu_page import COPY

from nonsmooth.kernels.groups import GroupTable, group_prox_
from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.separable import separable_prox_
from nonsmooth.kernels.steps import adam_step_, sgd_step_
from nonsmooth.kernels.tables import Table

ROWS = {
    Row.STRENGTH: 1e-5, Row.STEP: 1e-3, Row.SCALE: 1e-3, Row.EPSILON: 1e-8, Row.FULL: 1e-3, Row.TIMES: 1.0,
    Row.SLACK: 1e-8, Row.COUNT: 100.0, Row.FORGETTING: 4.0, Row.WARM_UP: 50.0, Row.RATE: 1e-3, Row.WEIGHT_DECAY: 0.0,
    Row.MOMENTUM: 0.9, Row.DAMPENING: 0.0, Row.FIRST_BETA: 0.9, Row.SECOND_BETA: 0.999, Row.DIVISOR: 1e-8,
    Row.CORRECTION: 1.0, Row.ROOT_CORRECTION: 1.0,
}  # fmt: skip
"""Numbers as after many steps."""


@dataclass(frozen=True)
class Kernel:
    """A call that is one launch, or some of them, over all tensors.

    Attributes:
        name: as the page says it.
        passes: tensors of the parameters' size that it must read and write; a mask is a quarter of one.
        tensors: those of the parameters that it takes.
        call: launches it.
    """

    name: str
    passes: float
    tensors: list[torch.Tensor]
    call: Any

    @property
    def bytes(self) -> int:
        """Of the parameters that it takes."""
        return sum(tensor.nbytes for tensor in self.tensors)


def kernels(made: list[torch.nn.Parameter]) -> list[Kernel]:
    """A copy by torch, and what is compared with it.

    Args:
        made: parameters with gradients, on a device on which kernels run.
    """
    points, grads = [each.detach() for each in made], [each.grad for each in made]
    first, pulls, mean = ([torch.zeros_like(each) for each in points] for _ in range(3))
    squares = [grad.square() for grad in grads]
    zeros = [torch.zeros_like(each, dtype=torch.uint8) for each in points]
    numbers, table = Numbers(points[0].device, len(points))(ROWS), Table(points[0].device)
    matrices = [place for place, point in enumerate(points) if point.ndim > 1]
    rows, row_squares = ([tensors[place] for place in matrices] for tensors in (points, squares))
    row_numbers, row_table = numbers[:, matrices].contiguous(), GroupTable(points[0].device)
    prox = partial(separable_prox_, "l1", points, numbers, table=table)
    groups = partial(group_prox_, rows, row_numbers, dim=0, table=row_table)
    sgd = partial(sgd_step_, "l1", points, grads, first, numbers, table=Table(points[0].device))
    adam = partial(adam_step_, "l1", points, grads, mean, squares, numbers, table=Table(points[0].device))
    limited = partial(prox, squares=squares, zeros=zeros)
    return [
        Kernel(COPY, 2, points, partial(torch._foreach_copy_, mean, grads)),
        Kernel("prox of L1, Euclidean", 2, points, prox),
        Kernel("prox of L1, Adam's metric", 3.25, points, limited),
        Kernel("prox of L1, Adam's metric, with a memory", 5.25, points, partial(limited, pulls=pulls)),
        Kernel("prox of GroupL1, Euclidean", 2, rows, groups),
        Kernel("prox of GroupL1, Adam's metric", 3, rows, partial(groups, squares=row_squares)),
        Kernel("step of SGD with momentum, and prox", 5, points, sgd),
        Kernel("step of SGD with momentum, and prox, with a memory", 7, points, partial(sgd, pulls=pulls)),
        Kernel("step of Adam, and prox", 7, points, adam),
        Kernel("step of Adam, and prox, with a memory", 9, points, partial(adam, pulls=pulls)),
    ]
