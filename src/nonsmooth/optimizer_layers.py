"""Optimizers inside wrappers, such as those of Accelerate and Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


def held_as_optimizer(wrapper: Any) -> Optimizer | None:
    """The optimizer in a wrapper's attribute `optimizer`; None without one."""
    inner = getattr(wrapper, "optimizer", None)
    return inner if isinstance(inner, Optimizer) else None


def layers(optimizer: Any, held_by: Callable[[Any], Optimizer | None] = held_as_optimizer) -> list[Any]:
    """An optimizer's wrappers, the outermost first, and the optimizer that they hold.

    Args:
        optimizer: the outermost.
        held_by: gives the optimizer that a wrapper holds.

    Raises:
        TypeError: no layer is a torch optimizer.
    """
    found = [optimizer]
    while (inner := held_by(found[-1])) is not None and all(inner is not layer for layer in found):
        found.append(inner)
    if not isinstance(found[-1], Optimizer):
        raise TypeError(f"optimizer is {optimizer!r}; accepted is a torch.optim.Optimizer")
    return found
