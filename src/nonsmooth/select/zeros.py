"""How many weights, groups or singular values of a trained model are zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonsmooth.optim.evaluation import unwrapped, whole
from nonsmooth.optim.parameter_groups import named_parameters, penalty_of
from nonsmooth.penalties import Nuclear, Penalty


@dataclass(frozen=True)
class Zeros:
    """Zeros under an optimizer's penalties.

    Attributes:
        zeros: number of penalised entries that are exactly 0.
        penalized: number of penalised entries.
        unit: what else the penalties set to zero: "groups", "singular values", or "" for entries alone.
        units: number of these; 0 without any.
        zero_units: number of these that are 0.
    """

    zeros: int
    penalized: int
    unit: str = ""
    units: int = 0
    zero_units: int = 0


def penalized(optimizer: Any) -> list[tuple[str, Tensor, Penalty]]:
    """The parameters with a penalty: name, parameter, penalty."""
    groups = enumerate(unwrapped(optimizer).param_groups)
    return [
        (name, parameter, penalty)
        for index, group in groups
        if (penalty := penalty_of(group)) is not None
        for name, parameter in named_parameters(index, group)
    ]


@torch.no_grad()
def count_zeros(optimizer: Any) -> Zeros:
    """Count the zeros of the parameters that have a penalty in an optimizer's groups."""
    zeros = entries = units = zero_units = 0
    unit = ""
    for _, parameter, penalty in penalized(optimizer):
        point = whole(parameter.detach())
        zeros, entries = zeros + int((point == 0).sum()), entries + point.numel()
        if isinstance(penalty, Nuclear):
            matrix = point.flatten(1)
            count = rank = len(matrix.diagonal())
            if bool(torch.isfinite(matrix).all()):  # else there are no singular values
                rank = int(torch.linalg.matrix_rank(matrix.to(torch.promote_types(matrix.dtype, torch.float32))))
            unit, units, zero_units = "singular values", units + count, zero_units + count - rank
        elif (groups := getattr(penalty, "groups", None)) is not None:
            left = groups(point.shape).total((point != 0).to(torch.float64)) > 0
            unit, units, zero_units = "groups", units + left.numel(), zero_units + int((~left).sum())
    return Zeros(zeros, entries, unit, units, zero_units)


def unfelt(optimizer: Any, loss: Callable[[], Tensor]) -> list[str]:
    """The penalised parameters whose gradient is 0 throughout, as that of a layer behind which all is zero."""
    weights = penalized(optimizer)
    gradients = torch.autograd.grad(loss(), [parameter for _, parameter, _ in weights], allow_unused=True)
    return [
        name
        for (name, _, _), gradient in zip(weights, gradients, strict=True)
        if gradient is None or not bool((gradient != 0).any())
    ]
