"""A step under `torch.compile`: one graph, which a λ or a step size that changes reuses.

SGD's and Adam's own steps are in it where a penalty is; of the others there is the prox alone.

What looks at groups, penalties and states stays outside of the graph. Its results go in as tensors: torch's compiler
would take numbers for constants, and compile anew where one changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from nonsmooth import kernels
from nonsmooth.optim.graph_steps import adam_step_, in_precision, sgd_step_
from nonsmooth.optim.launch_operands import KINDS, is_extreme
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
    groups = before(prox, optimizer)
    try:
        if groups is None or optimizer.param_groups:
            base(optimizer)
    finally:
        _restore(optimizer, groups)
    _overwrite(prox.overwrite, *_gathered(prox, optimizer))
    after(prox, optimizer)


def _overwrite(
    overwrite: Callable[..., None],
    steps: list[tuple[Callable[..., None], Penalty, list[Any], dict[str, Any]]],
    rest: list[tuple[Any, ...]],
) -> None:
    """The graph: a frame of its own, since the compiler ends a graph at what it is told to leave out."""
    with torch.no_grad():
        for step_, penalty, operands, options in steps:
            step_(overwrite, penalty, *operands, **options)
        for each in rest:
            overwrite(*each)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def before(prox: ProximalStep, optimizer: Optimizer) -> list[dict[str, Any]] | None:
    """`ProximalStep.before`, outside of graphs; all groups, where the optimizer is left with some for its own step."""
    prox.before(optimizer, graphs=partial(_is_for_graphs, prox, whole=True))
    if not prox.alone:
        return None
    groups, alone = optimizer.param_groups, {id(group) for group, _ in prox.alone}
    optimizer.param_groups = [group for group in groups if id(group) not in alone]
    return groups


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _restore(optimizer: Optimizer, groups: list[dict[str, Any]] | None) -> None:
    if groups is not None:
        optimizer.param_groups = groups


@torch.compiler.disable  # type: ignore[untyped-decorator]
def after(prox: ProximalStep, optimizer: Optimizer) -> None:
    """`ProximalStep.after`, outside of graphs."""
    prox.after(optimizer)


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def _gathered(prox: ProximalStep, optimizer: Optimizer) -> tuple[list[Any], list[Any]]:
    """The operands of whole steps, and of what else a graph takes; the optimizer's step is left with the rest."""
    if getattr(optimizer, "found_inf", None) is not None:
        return [], []
    step_ = sgd_step_ if isinstance(optimizer, SGD) else adam_step_
    steps = []
    for group, penalty, operands, options in prox.whole_steps(optimizer):
        decay = group["weight_decay"]
        options["decayed"] = isinstance(decay, Tensor) or decay != 0
        decoupled = options.get("decoupled", False)
        operands[-1] = in_precision(operands[-1], operands[0][0].dtype, decoupled=decoupled)
        steps.append((step_, _with_tensor(penalty, operands[0][0]), operands, options))
    return steps, [_as_tensors(operands) for operands in prox.hand_over(optimizer.state, partial(_is_for_graphs, prox))]


def _is_for_graphs(prox: ProximalStep, group: Any, penalty: Penalty, parameter: Tensor, *, whole: bool = False) -> bool:
    """Whether a prox, or a whole step, has neither a decomposition nor a look at its own numbers in it."""
    grouped = isinstance(penalty, GroupL1 | SparseGroupL1)
    known = type(penalty) in (*KINDS, GroupL1, SparseGroupL1) and not group.get("differentiable", False)
    plain = not parameter.is_complex() and not hasattr(parameter, "device_mesh")
    precise = not whole or (parameter.dtype in (torch.float32, torch.float64) and not kernels.runs_on(parameter.device))
    # Outside of a graph the host looks when Newton's method is done, which on a CPU costs nothing.
    if grouped and prox.adaptive and parameter.device.type == "cpu":
        return False
    return known and plain and precise and not is_extreme(penalty, parameter)


def _with_tensor(penalty: Penalty, point: Tensor) -> Penalty:
    """A penalty whose λ is a tensor on the device of a point."""
    there = copy.copy(penalty)
    object.__setattr__(there, "strength", _tensor(penalty.strength, point))
    return there


def _as_tensors(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands whose numbers are tensors on the device of the point, the second of them."""
    penalty, point, step, *others = operands
    if isinstance(step, AdaptiveStep):
        step = step.of_parts(lambda value: _tensor(value, point))
    return _with_tensor(penalty, point), point, *(_tensor(value, point) for value in (step, *others))


def _tensor(value: Any, point: Tensor) -> Any:
    if not isinstance(value, float | int):
        return value
    return torch.full((), value, dtype=torch.promote_types(point.dtype, torch.float32), device=point.device)
