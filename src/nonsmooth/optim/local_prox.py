"""The prox of one parameter, or of this process's shard of it: in blocks, with weights that were 0 before the step.

An adaptive prox moves a weight no further than its limit, but one that was 0 it may hold there.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nonsmooth.penalties import Penalty
from nonsmooth.torch_optimizers import AdaptiveStep, Block, UnitStep

CHUNK = 1 << 19
"""Elements per block and thread on a CPU: enough to make calls cheap, while the buffers stay in the shared cache."""

DEVICE_CHUNK = 1 << 26
"""Elements per block on an accelerator, where a block only bounds the size of the buffers."""

# C's allocator gives freed memory back to the system beyond twice the size of the largest piece that it has taken back,
# and gets it anew page by page: for the buffers of a block that costs ten times as much as the arithmetic in them.
torch.empty(7 << 22, dtype=torch.uint8, device="cpu")

Held = Tensor | list[Tensor | None]
"""Where a parameter was 0: a mask of its shape, or what `_places_of_zeros` gives for each block of it."""

FEW = 1 / 32
"""Up to this share of words of eight weights with a zero among them a list of places is shorter than a mask."""

NO_ZEROS = 0x0101010101010101
"""Eight weights that are not 0, a byte for each."""


def local_prox_(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None = None) -> None:
    """Overwrite a parameter by its prox, block by block where the penalty is a sum over coordinates or slices.

    Args:
        penalty: λR.
        parameter: w, of any real or complex dtype, whole on this process.
        step: D.
        held: which weights were 0 before the step, by the same blocks or as one mask; None for none.
    """
    # Torch's compiler fuses the whole into one pass.
    whole_at_once = torch.compiler.is_compiling() and not isinstance(held, list)
    blocks = [None] if whole_at_once else _blocks(penalty, parameter)
    if isinstance(step, AdaptiveStep) and penalty.separable and len(blocks) > 1:
        step = step.laid_out_like(parameter)
    for number, block in enumerate(blocks):
        part = parameter if block is None else block(parameter)
        # Else the threshold would be rounded to three digits; the result still is.
        precise = part.float() if part.dtype in (torch.float16, torch.bfloat16) else part
        whole = step(block) if isinstance(step, AdaptiveStep) else step
        limit = step.limit(whole, block) if isinstance(step, AdaptiveStep) else None  # type: ignore[arg-type]
        if limit is None:
            penalty.prox_(precise, whole)
        else:
            mask = held[number] if isinstance(held, list) else held if held is None or block is None else block(held)
            lift_(limit, mask)
            penalty.limited_prox_(precise, whole, limit)  # type: ignore[arg-type]
        if precise is not part:
            part.copy_(precise)


def zeros_of(penalty: Penalty, parameter: Tensor, *, whole: bool) -> Held:
    """Where a parameter is 0: as one mask if `whole`, or not on a CPU, else by the blocks of `local_prox_`."""
    if whole or parameter.device.type != "cpu":
        return mask_of_zeros(parameter)
    blocks = _blocks(penalty, parameter)
    return [_places_of_zeros(parameter if block is None else block(parameter)) for block in blocks]


def mask_of_zeros(part: Tensor) -> Tensor:
    """1 where a tensor is 0, uint8.

    On a CPU a comparison takes ten times as long as the conversion to bool.
    """
    return part.bool().view(torch.uint8).bitwise_xor_(1)


def _places_of_zeros(part: Tensor) -> Tensor | None:
    """Where a tensor on the host is 0: None for nowhere, the places of the few, int64, or a mask.

    A mask is a quarter of the size of the weights, and a dense layer has few zeros or none.
    """
    size = part.numel()
    known = torch.ones(-(-size // 8) * 8, dtype=torch.bool, device=part.device)
    known[:size].view(part.shape).copy_(part)
    words = known.view(torch.int64).bitwise_xor_(NO_ZEROS)  # from here on 1 where a weight is 0
    count = int(torch.count_nonzero(words))
    if count == 0:
        return None
    if part.is_complex() or count > FEW * words.numel():
        return known[:size].view(torch.uint8).view(part.shape)
    found = words.nonzero().reshape(-1)
    which, byte = known.view(-1, 8).index_select(0, found).nonzero(as_tuple=True)
    return found[which].mul_(8).add_(byte)


def lift_(limit: Tensor, zeros: Tensor | None) -> None:
    """Let the prox move weights that were 0 as far as it likes, in place.

    Args:
        limit: how far it may move a weight; for complex weights with Re and Im in a last dimension.
        zeros: where they were, as a mask of the weights' shape or as places; None for nowhere.
    """
    if zeros is None:
        return
    far = torch.finfo(limit.dtype).max
    if torch.compiler.is_compiling():  # which has no vectors for masks as numbers
        limit.copy_(torch.where((zeros.unsqueeze(-1) if limit.ndim > zeros.ndim else zeros) != 0, far, limit))
        return
    if zeros.dtype == torch.int64:
        limit.put_(zeros, limit.new_full((), far).expand(zeros.shape))
        return
    mask = zeros.unsqueeze(-1) if limit.ndim > zeros.ndim else zeros
    limit.add_(mask.to(torch.uint8), alpha=far)  # on a CPU ten times as fast as `masked_fill_`


def limit_of(step: UnitStep, whole: float | Tensor, held: Held | None) -> Tensor | None:
    """How far the prox of a whole parameter may move each weight; None for as far as it likes.

    Args:
        step: D.
        whole: what a call of it gives.
        held: where weights were 0, as a mask or for a single block.
    """
    limit = step.limit(whole) if isinstance(step, AdaptiveStep) and isinstance(whole, Tensor) else None
    if limit is not None:
        lift_(limit, held[0] if isinstance(held, list) else held)
    return limit


def within_limit(found: Tensor, point: Tensor, limit: Tensor | None) -> Tensor:
    """What a prox found, but no coordinate further from its point than its limit; see `Penalty.limited_prox_`."""
    if limit is None:
        return found
    if found.is_complex():
        return torch.view_as_complex(within_limit(torch.view_as_real(found), torch.view_as_real(point), limit))
    return torch.clamp(found, point - limit, point + limit)


def _blocks(penalty: Penalty, parameter: Tensor) -> list[Block | None]:
    """Functions that take the same part of tensors that lie in memory alike; None for the only block, the whole."""
    size = DEVICE_CHUNK if parameter.device.type != "cpu" else CHUNK * torch.get_num_threads()
    if parameter.numel() <= size:
        return [None]
    flat: tuple[int, ...] | None = ()
    if penalty.separable:
        uniform = not isinstance(penalty.strength, Tensor) and getattr(penalty, "weights", None) is None
        flat, dim, length = _order_in_memory(parameter) if uniform else None, 0, parameter.numel()
    else:
        sliced = penalty.sliced_along(parameter.ndim)
        flat, dim = None if sliced is None else (), sliced or 0
        length = parameter.shape[dim]
    if flat is None:
        return [None]
    rows = max(1, size * length // parameter.numel())
    return [partial(_part, flat, dim, first, min(rows, length - first)) for first in range(0, length, rows)]


def _part(order: tuple[int, ...], dim: int, first: int, length: int, tensor: Tensor) -> Tensor:
    """A part along a dimension, of the tensor as a vector if an order of its dimensions is given."""
    return (tensor.permute(order).view(-1) if order else tensor).narrow(dim, first, length)


def _order_in_memory(parameter: Tensor) -> tuple[int, ...] | None:
    """The order of dimensions in which a tensor, such as a channels-last one, is contiguous; None for none."""
    strides = parameter.stride()
    order = tuple(sorted(range(parameter.ndim), key=lambda dim: (-strides[dim], -parameter.shape[dim])))
    return order if parameter.permute(order).is_contiguous() else None
