"""Which weights were 0 before a step: an adaptive prox may hold them there, beyond the limit for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.optim.metric import AdaptiveStep, UnitStep

Held = Tensor | list[Tensor | None]
"""Where a parameter was 0: a mask of its shape, or what `places_of_zeros` gives for each block of it."""

FEW = 1 / 32
"""Up to this share of words of eight weights with a zero among them a list of places is shorter than a mask."""

NO_ZEROS = 0x0101010101010101
"""Eight weights that are not 0, a byte for each."""


def mask_of_zeros(part: Tensor) -> Tensor:
    """1 where a tensor is 0, uint8.

    On a CPU a comparison takes ten times as long as the conversion to bool.
    """
    return part.bool().view(torch.uint8).bitwise_xor_(1)


def places_of_zeros(part: Tensor) -> Tensor | None:
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
