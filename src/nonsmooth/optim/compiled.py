"""A step under `torch.compile`: the prox of everything is one graph, which a λ or a step size that changes reuses.

What looks at groups, penalties and states stays outside of the graph. Its results go in as tensors: torch's compiler
would take numbers for constants, and compile anew where one changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.optim.launches import KINDS, is_extreme
from nonsmooth.optim.proximal_step import ProximalStep
from nonsmooth.penalties import GroupL1, Penalty, SparseGroupL1
from nonsmooth.torch_optimizers import AdaptiveStep


def compiled_step(optimizer: Optimizer, base: Callable[[Optimizer], Any], prox: ProximalStep) -> None:
    """Take torch's own step, and the prox.

    Args:
        optimizer: a proximal one.
        base: torch's own step.
        prox: what the optimizer does about penalties.
    """
    before(prox, optimizer)
    base(optimizer)
    _overwrite(prox.overwrite, _gathered(prox, optimizer))
    after(prox, optimizer)


def _overwrite(overwrite: Callable[..., None], gathered: list[tuple[Any, ...]]) -> None:
    """The graph: a frame of its own, since the compiler ends a graph at what it is told to leave out."""
    for operands in gathered:
        overwrite(*operands)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def before(prox: ProximalStep, optimizer: Optimizer) -> None:
    """`ProximalStep.before`, outside of graphs."""
    prox.before(optimizer, compiled=True)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def after(prox: ProximalStep, optimizer: Optimizer) -> None:
    """`ProximalStep.after`, outside of graphs."""
    prox.after(optimizer)


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def _gathered(prox: ProximalStep, optimizer: Optimizer) -> list[tuple[Any, ...]]:
    """The operands of what a graph takes; the optimizer's step is left with the rest."""
    if getattr(optimizer, "found_inf", None) is not None:
        return []
    return [_as_tensors(operands) for operands in prox.hand_over(optimizer.state, _is_for_graphs)]


def _is_for_graphs(group: dict[str, Any], penalty: Penalty, parameter: Tensor) -> bool:
    """Whether a prox has neither a decomposition nor a look at its own numbers in it."""
    known = type(penalty) in (*KINDS, GroupL1, SparseGroupL1) and not group.get("differentiable", False)
    plain = not parameter.is_complex() and not hasattr(parameter, "device_mesh")
    return known and plain and not is_extreme(penalty, parameter)


def _as_tensors(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands whose numbers are tensors on the device of the point, the second of them."""
    penalty, point, step, *others = operands

    def tensor(value: Any) -> Any:
        if not isinstance(value, float | int):
            return value
        return torch.full((), value, dtype=torch.promote_types(point.dtype, torch.float32), device=point.device)

    there = copy.copy(penalty)
    object.__setattr__(there, "strength", tensor(penalty.strength))
    return there, point, step.of_parts(tensor) if isinstance(step, AdaptiveStep) else tensor(step), *map(tensor, others)
