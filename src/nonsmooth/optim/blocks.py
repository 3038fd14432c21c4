"""Parts of a parameter in which its prox can be taken one after the other."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from nonsmooth.optim.metric import Block
from nonsmooth.penalties import Penalty


def blocks_of(penalty: Penalty, parameter: Tensor, size: int) -> list[Block]:
    """Functions that take the same part of tensors that lie in memory alike; what they take makes the whole.

    Args:
        penalty: λR; only a sum over coordinates or slices has several blocks.
        parameter: w.
        size: about how many elements a block may have.
    """
    if parameter.numel() <= size:
        return [everything]
    if penalty.separable:
        uniform = not isinstance(penalty.strength, Tensor) and getattr(penalty, "weights", None) is None
        flat, dim = _flattener(parameter) if uniform else None, 0
        length = parameter.numel()
    else:
        sliced = penalty.sliced_along(parameter.ndim)
        flat, dim = None if sliced is None else everything, sliced or 0
        length = parameter.shape[dim]
    if flat is None:
        return [everything]
    rows = max(1, size * length // parameter.numel())
    return [partial(_part, flat, dim, first, min(rows, length - first)) for first in range(0, length, rows)]


def _part(view: Block, dim: int, first: int, length: int, tensor: Tensor) -> Tensor:
    return view(tensor).narrow(dim, first, length)


def everything(tensor: Tensor) -> Tensor:
    """A tensor as its only block."""
    return tensor


def _flattener(parameter: Tensor) -> Block | None:
    """A view of a tensor as a vector, in the order of memory; None where there is none."""
    if parameter.is_contiguous():
        return lambda tensor: tensor.view(-1)
    # Such as a convolution's weight in channels-last format.
    strides = parameter.stride()
    order = sorted(range(parameter.ndim), key=lambda dim: (-strides[dim], -parameter.shape[dim]))
    if not parameter.permute(order).is_contiguous():
        return None
    return lambda tensor: tensor.permute(order).view(-1)
