"""Steps in which a fused optimizer finds that a gradient has overflowed, as GradScaler tells it, and moves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.torch_optimizers import rule_of


def awaiting_momentum(optimizer: Optimizer) -> list[Tensor]:
    """The parameters whose momentum the coming step allocates and, should a gradient overflow, does not write.

    Torch's fused SGD takes the memory of its first momentum as it finds it and leaves the rest to a kernel, which does
    nothing where `GradScaler` has found a gradient that is not finite; the step after would average that memory in.

    Args:
        optimizer: before its step, with the scaler's findings in `found_inf`, if there is a scaler.
    """
    if getattr(optimizer, "found_inf", None) is None or rule_of(type(optimizer)).adaptive:
        return []
    return [
        parameter
        for group in optimizer.param_groups
        if group["momentum"] != 0
        for parameter in group["params"]
        if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None
    ]


def forget_unwritten(optimizer: Optimizer, parameters: list[Tensor]) -> None:
    """Drop the momentum of parameters that were awaiting one, if the step has found an overflow.

    So the next step is the first one again, as if this had not been asked for. It waits for the device, and only where
    momentum begins: there torch's other SGD waits in every step under a scaler.

    Args:
        optimizer: after its step.
        parameters: what `awaiting_momentum` gave before.
    """
    if parameters and bool(optimizer.found_inf > 0):  # type: ignore[attr-defined]
        for parameter in parameters:
            optimizer.state[parameter].pop("momentum_buffer", None)


def unless_overflow(overflow: Tensor, change: Callable[[], None], written: Callable[[], Iterable[Tensor]]) -> None:
    """Change weights, but not after a step that has found an overflow.

    On a device, which nobody waits for, they are changed and put back.

    Args:
        overflow: above 0 where the step has, as GradScaler hands it over.
        change: overwrites tensors.
        written: gives these tensors.
    """
    if overflow.device.type == "cpu" and not torch.compiler.is_compiling():
        if not bool(overflow > 0):
            change()
        return
    before = [(tensor, tensor.clone()) for tensor in written()]
    change()
    for tensor, kept in before:
        there = overflow.to(device=tensor.device, non_blocking=True)
        tensor.copy_(torch.where(there > 0, kept, tensor))
