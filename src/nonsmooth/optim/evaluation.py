"""Loss and gradients of a closure, taken without leaving a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from nonsmooth import optimizer_layers
from nonsmooth.preserve_state import modules_seen, preserve_state
from nonsmooth.torch_optimizers.rules import RULES


@dataclass(frozen=True)
class ClosureResult:
    """What a closure gave at the present parameters.

    Attributes:
        loss: the number that it returned.
        signed_loss: the same, negated where the optimiser maximises: what is minimised.
        gradients: of `signed_loss`, by parameter; whole tensors, also where this process holds a part.
        precision: the largest relative rounding in loss and gradients.
    """

    loss: float
    signed_loss: float
    gradients: dict[Tensor, Tensor]
    precision: float


def layers(optimizer: Any) -> list[Any]:
    """An optimiser's wrappers, the outermost first, and the optimiser that they hold under whatever name.

    Accelerate and Lightning hold it in an attribute `optimizer`, SAM in `base_optimizer`.

    Raises:
        TypeError: no layer is a torch optimizer.
    """
    return optimizer_layers.layers(optimizer, _held_by)


def unwrapped(optimizer: Any) -> Optimizer:
    """The optimiser inside all wrappers.

    Raises:
        TypeError: no layer is a torch optimizer.
    """
    inner: Optimizer = layers(optimizer)[-1]
    return inner


def _held_by(wrapper: Any) -> Optimizer | None:
    """The one optimiser in an object's attributes; None where there is none, or more than one."""
    named = optimizer_layers.held_as_optimizer(wrapper)
    if named is not None:
        return named
    if isinstance(wrapper, tuple(RULES)):  # takes a step of its own
        return None
    held = [value for value in getattr(wrapper, "__dict__", {}).values() if isinstance(value, Optimizer)]
    return held[0] if held and all(each is held[0] for each in held) else None


def evaluate(optimizer: Optimizer, closure: Callable[[], Any]) -> ClosureResult:
    """Call a closure for its loss and gradients; all else that it changes is then as before.

    Raises:
        ValueError: the loss is not one real number, or no parameter has a gradient.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    with preserve_state(parameters) as state:
        with state.random.watched(), modules_seen(called=state.add_called, switching=state.add_called):
            loss = closure()
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            raise ValueError(f"closure returned {loss!r}; accepted is the loss, a real tensor of one element")
        gradients: list[Tensor | None] = [parameter.grad for parameter in parameters]
        if all(gradient is None for gradient in gradients) and loss.requires_grad:
            used = [parameter for parameter in parameters if not is_lazy(parameter)]
            by_parameter = dict(zip(used, torch.autograd.grad(loss, used, allow_unused=True), strict=True))
            gradients = [by_parameter.get(parameter) for parameter in parameters]
    signs = [-1 if group.get("maximize", False) else 1 for group in optimizer.param_groups for p in group["params"]
             if p.requires_grad]  # fmt: skip
    found = {
        parameter: sign * (whole(gradient.detach()).to_dense() if gradient.is_sparse else whole(gradient.detach()))
        for parameter, gradient, sign in zip(parameters, gradients, signs, strict=True)
        if gradient is not None
    }
    if not found:
        advice = ""
        if any(hasattr(parameter, "device_mesh") for parameter in parameters):
            advice = "; where FSDP2 has sharded them, it has to call backward on the loss itself"
        raise ValueError(f"closure gave no parameter of the optimizer a gradient{advice}")
    value = float(loss.detach())
    kinds = {tensor.dtype for tensor in (loss, *found.values()) if tensor.is_floating_point() or tensor.is_complex()}
    precision = max((torch.finfo(kind).eps for kind in kinds), default=0.0)
    return ClosureResult(value, -value if signs[0] < 0 else value, found, precision)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which this process may hold a part."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def add_whole_(parameter: Tensor, change: Tensor) -> None:
    """Add a whole tensor to a parameter of which this process may hold a part."""
    if hasattr(parameter, "device_mesh"):
        from nonsmooth.optim.distributed import local_part  # noqa: PLC0415  torch.distributed is slow to import

        sharded: Any = parameter
        sharded.to_local().add_(local_part(change, sharded))
    else:
        parameter.add_(change)
