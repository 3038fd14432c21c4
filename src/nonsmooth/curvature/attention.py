"""Fused attention computed by its plain twin, which has a second derivative, in one thread alone.

`torch.nn.attention.sdpa_kernel` sets the kernels of the whole process, and other threads would compute other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ATTENTION = functional.scaled_dot_product_attention
_MULTI_HEAD = functional.multi_head_attention_forward


class PlainAttention(TorchFunctionMode):
    """Inside it, attention is computed in steps. It is simple enough to be traced with a compiled model."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function, or its twin."""
        del types
        options = kwargs or {}
        if function is _ATTENTION:
            return _plain(*args, **options)
        # Attention inside is not seen, and only where the weights are asked for it is computed in steps.
        if function is _MULTI_HEAD and not options.get("need_weights", True):
            return function(*args, **{**options, "need_weights": True})[0], None
        return function(*args, **options)


def _plain(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    names = ("attn_mask", "dropout_p", "is_causal")
    given: Mapping[str, Any] = {**dict(zip(names, args, strict=False)), **options}
    result: Tensor = torch.ops.aten._scaled_dot_product_attention_math(query, key, value, **given)[0]
    return result
