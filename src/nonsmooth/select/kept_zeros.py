"""Hold weights at zero while any optimizer trains the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextlib.contextmanager
def zeros_kept(parameters: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """A block in which the entries that are zero now stay zero; yields, by name, where these are.

    Two things hold them. Their gradients are set to zero as they are made, so that no mean, momentum or curvature
    estimate of an optimizer sees one. And after every step of every optimizer they are set to zero themselves: so what
    an optimizer carries from before, or makes of a whole matrix as Muon does, never reaches a forward pass.

    Args:
        parameters: by name.
    """
    masks = {name: parameter.detach() == 0 for name, parameter in parameters.items()}
    held = {parameter: masks[name] for name, parameter in parameters.items()}
    handles: list[Any] = [
        parameter.register_hook(_masked(mask))  # type: ignore[no-untyped-call, unused-ignore]
        for parameter, mask in held.items()
        if parameter.requires_grad
    ]

    def after_step(_optimizer: Optimizer, _arguments: Any, _options: Any) -> None:
        set_to_zero(held)

    # Of all optimizers: the one that trains is yet to be made.
    handles.append(register_optimizer_step_post_hook(after_step))
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def set_to_zero(masks: Mapping[nn.Parameter, Tensor]) -> None:
    """Set entries to zero, exactly and whatever they are."""
    for parameter, mask in masks.items():
        parameter.masked_fill_(mask.to(parameter.device), 0)


def _masked(mask: Tensor) -> Callable[[Tensor], Tensor]:
    def hook(gradient: Tensor) -> Tensor:
        # By filling, not by a product, in which an infinite gradient would become NaN.
        return gradient if gradient.is_sparse else gradient.masked_fill(mask.to(gradient.device), 0)

    return hook
