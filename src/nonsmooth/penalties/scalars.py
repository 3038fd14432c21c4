"""Numbers as tensors on a device, without a copy from the host, which a device would have to be waited for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def tensor_like(value: Any, like: Tensor) -> Tensor:
    """A number, or a tensor, in the type and on the device of another tensor.

    `torch.as_tensor` copies a number from the host, which makes the host wait and cannot be captured in a CUDA graph.
    """
    if isinstance(value, Tensor):
        return value.to(like)
    return torch.full((), value, dtype=like.dtype, device=like.device)
