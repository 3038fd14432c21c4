"""Which sparse gradients are accepted on a parameter with a penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Optimizer

from nonsmooth.penalties import GroupL1, Penalty, SparseGroupL1

ALL_MOVE = "this optimizer moves every coordinate under a penalty"

ACCEPTED_BY_ROWS = (
    "Sparse ones are accepted by SGD without momentum and by Adagrad, with sums over coordinates, and GroupL1 or "
    "SparseGroupL1 with dim=0"
)


def takes_rows(kind: type[Optimizer]) -> bool:
    """Whether torch's own step may leave rows without a gradient as they are."""
    return issubclass(kind, SGD | Adagrad)


def reason_against(optimizer: Optimizer, group: Mapping[str, Any], penalty: Penalty, parameter: Tensor) -> str | None:
    """Why a sparse gradient cannot be accepted; None where it can.

    Args:
        optimizer: one of a class that takes rows.
        group: the parameter's.
        penalty: λR.
        parameter: with its gradient.
    """
    for name in ("momentum", "weight_decay"):
        if group.get(name, 0) != 0:
            return f"{name} is {group[name]!r}, which moves every coordinate"
    for name in ("fused", "differentiable"):
        if group.get(name):
            return f"{name} is {group[name]!r}, which torch does not offer for it"
    if parameter.grad is not None and parameter.grad.layout != torch.sparse_coo:
        return "torch.sparse_coo is the one that lists coordinates"
    if hasattr(parameter, "device_mesh"):
        return "the parameter is distributed over processes"
    if parameter.is_complex() and isinstance(optimizer, Adagrad):
        return "torch's Adagrad takes complex numbers in another way there"
    if not keeps_to_rows(penalty, parameter.ndim):
        return f"{type(penalty).__name__} ties rows together"
    return None


def keeps_to_rows(penalty: Penalty, ndim: int) -> bool:
    """Whether a prox of some rows, the slices along the first dimension, is the same rows of the prox.

    Args:
        penalty: λR.
        ndim: the parameter's number of dimensions.
    """
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        dims = (penalty.dim,) if isinstance(penalty.dim, int) else penalty.dim
        return penalty.index is None and 0 in [dim % ndim for dim in dims]
    others = {name for name, value in penalty.fields().items() if isinstance(value, Tensor) and value.numel() > 1}
    return penalty.separable and others <= {"strength", "weights"}
