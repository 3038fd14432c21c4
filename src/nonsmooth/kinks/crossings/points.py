"""Points of a model's parameter space: read them, and run the model there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

ParameterPoint = Mapping[str, Tensor] | Tensor
"""A state dict, or a vector of all parameters in the order of `model.parameters()`."""


def state_at(model: nn.Module, point: ParameterPoint, argument: str) -> dict[str, Tensor]:
    """All parameters and buffers at a point: copies, which a forward pass may write to.

    Args:
        model: whose parameters they are; what the point does not hold is taken from it.
        point: the point.
        argument: the caller's name of it, for messages.

    Raises:
        TypeError: the point is neither a mapping of names to tensors nor a vector.
        ValueError: it does not fit the model, or a parameter is not finite there.
    """
    state = {name: value.detach().clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    aliases = {*state, *model.state_dict()}  # a state dict names tied weights by each of their names
    for name, value in _given(model, point, argument).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{argument} holds {value!r} as {name!r}; accepted are tensors, as in a state dict")
        if name not in aliases or (name in state and value.shape != state[name].shape):
            wanted = (
                f"shape {tuple(state[name].shape)}" if name in state else f"names such as {next(iter(state), '')!r}"
            )
            raise ValueError(f"{argument} holds {name!r} of shape {tuple(value.shape)}; accepted is {wanted}")
        if name in state:
            state[name] = value.detach().to(state[name]).clone()
    for name, _ in model.named_parameters():
        if not state[name].isfinite().all():
            raise ValueError(
                f"{argument} has {name!r} with entries that are infinite or NaN; accepted are finite numbers"
            )
    return state


def _given(model: nn.Module, point: ParameterPoint, argument: str) -> dict[str, Any]:
    if isinstance(point, Mapping):
        return dict(point)
    if not isinstance(point, Tensor):
        raise TypeError(
            f"{argument} is of type {type(point).__name__}; accepted are a state dict, and a vector of all parameters, "
            "as from torch.nn.utils.parameters_to_vector, or of those that require a gradient"
        )
    parameters = list(model.named_parameters())
    trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    length, shorter = (sum(parameter.numel() for _, parameter in pairs) for pairs in (parameters, trained))
    if point.shape == (shorter,):
        parameters = trained
    elif point.shape != (length,):
        accepted = f"{length}" if shorter == length else f"{length}, or {shorter} of those that require a gradient"
        raise ValueError(f"{argument} has shape {tuple(point.shape)}; accepted is a vector of length {accepted}")
    parts = torch.split(point.detach(), [parameter.numel() for _, parameter in parameters])
    return {name: part.view_as(parameter) for (name, parameter), part in zip(parameters, parts, strict=True)}


def distance_between(model: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Euclidean distance over all parameters of two states."""
    differences = (second[name] - first[name] for name, _ in model.named_parameters())
    return math.hypot(*(float(torch.linalg.vector_norm(difference.abs().double())) for difference in differences))


@contextmanager
def standing_at(model: nn.Module, state: dict[str, Tensor]) -> Iterator[Callable[..., Any]]:
    """A block with a callable that is the model with the parameters and buffers of a state."""
    if isinstance(model, nn.DataParallel):
        # Its replicas would run in other threads, which nothing here sees, and cannot stand elsewhere.
        inner = {name.removeprefix("module."): value for name, value in state.items()}
        with standing_at(model.module, inner) as standing:
            yield standing
        return
    if not any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        yield lambda *args, **kwargs: functional_call(model, state, args, kwargs)
        return
    # The tensors of a scripted module cannot be replaced: they stand for the memory of others, and theirs is not
    # written to.
    kept = [(name, tensor, tensor.data) for name, tensor in [*model.named_parameters(), *model.named_buffers()]]
    try:
        for name, tensor, _ in kept:
            tensor.data = state[name]
        yield model
    finally:
        for _, tensor, data in kept:
            tensor.data = data
