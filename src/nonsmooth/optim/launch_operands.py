"""What kernels are given: which penalties they know, the numbers of each, and the state that a step of theirs needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from nonsmooth.kernels.numbers import Row
from nonsmooth.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    ElasticNet,
    GroupL1,
    Penalty,
    SeparablePenalty,
    SparseGroupL1,
    TransformedL1,
)
from nonsmooth.penalties.extremes import beyond
from nonsmooth.torch_optimizers import Group

KINDS: Mapping[type[Penalty], tuple[str, str | None]] = {
    L1: ("l1", None),
    ElasticNet: ("elastic_net", "l1_ratio"),
    MCP: ("mcp", "gamma"),
    SCAD: ("scad", "gamma"),
    TransformedL1: ("transformed_l1", "shape"),
    L0: ("l0", None),
}
"""What kernels call a sum over coordinates, and its field beside λ."""

NUMBERS = {"scale": Row.SCALE, "epsilon": Row.EPSILON, "full": Row.FULL, "times": Row.TIMES, "slack": Row.SLACK}
"""Where the numbers of `Rule.numbers` go."""

MEMORY = ("pull", "pulls")
"""The state of a steady optimizer: the mean pull, and how many it is of."""


def memory_of(parameter: Tensor, group: Group, state: dict[str, Any]) -> dict[str, Any]:
    """A parameter's state, in which there is the memory of a steady optimizer now."""
    if "pull" not in state:
        state["pull"] = torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
        # As torch's own counts of steps; an optimizer that has none, SGD, can always be captured in a graph.
        on_device = group.get("capturable", "momentum" in group) or group.get("fused")
        state["pulls"] = torch.zeros((), device=parameter.device if on_device else "cpu")
    return state


def note_written(parameters: Sequence[Tensor]) -> None:
    """Count a write, which torch does not see: a graph of gradients from before is not valid any more."""
    increment_version([parameter for parameter in parameters if not parameter.is_inference()])


def count_step(counts: list[Tensor], overflow: Tensor | None) -> None:
    """Add 1 to each, but nothing where there is an overflow."""
    torch._foreach_add_(counts, 1)
    if overflow is not None:
        torch._foreach_sub_(counts, [(overflow > 0).to(count).reshape(()) for count in counts])


def halt_rows(overflow: Tensor | None) -> dict[Row, Any]:
    """Where a kernel looks for an overflow; nowhere without a scaler."""
    return {} if overflow is None else {Row.HALTED: overflow}


def begin_sgd(
    parameters: Sequence[Tensor], group: Group, states: list[dict[str, Any]], overflow: Tensor | None
) -> dict[Row, Any]:
    """The momentum, at first that of no gradient: it becomes the first gradient itself."""
    del overflow
    if not group["momentum"]:
        return {}
    dampening = []
    for parameter, state in zip(parameters, states, strict=True):
        begins = state.get("momentum_buffer") is None
        if begins:
            state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        dampening.append(0.0 if begins else float(group["dampening"]))
    return {Row.MOMENTUM: group["momentum"], Row.DAMPENING: dampening}


def begin_adam(
    parameters: Sequence[Tensor], group: Group, states: list[dict[str, Any]], overflow: Tensor | None
) -> dict[Row, Any]:
    """The state as torch makes it, which counts the coming step, and its numbers that do not depend on the count."""
    names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * bool(group["amsgrad"])
    for parameter, state in zip(parameters, states, strict=True):
        if not state:
            # As torch does it: on a device where its counts have to be there.
            on_device = group.get("capturable") or group.get("fused")
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if on_device else "cpu")
            state.update({n: torch.zeros_like(parameter, memory_format=torch.preserve_format) for n in names})
    count_step([state["step"] for state in states], overflow)
    first, second = group["betas"]
    return {Row.FIRST_BETA: first, Row.SECOND_BETA: second, Row.DIVISOR: group["eps"]}


def local(tensor: Any) -> Tensor:
    """A tensor, or this process's shard of it."""
    found: Tensor = tensor.detach().to_local() if hasattr(tensor, "device_mesh") else tensor
    return found


def locals_of(tensors: Iterable[Any]) -> list[Tensor]:
    """`local` of each."""
    return [local(tensor) for tensor in tensors]


def is_extreme(penalty: Penalty, parameter: Tensor) -> bool:
    """Whether numbers on the host leave the range of the type that a kernel computes in."""
    precise = torch.promote_types(parameter.dtype, torch.float32)
    if isinstance(penalty, SeparablePenalty):
        return penalty.extreme(_EMPTY[precise], 0.0)
    return beyond(precise, penalty.strength, math.sqrt(parameter.numel() or 1))


_EMPTY = {dtype: torch.empty(0, dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64)}


def strength_rows(penalty: Penalty) -> dict[Row, Any]:
    """λ where it is one number, and the penalty's other one."""
    strength = penalty.strength
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        share = penalty.group_share()
        return {Row.STRENGTH: strength * share, Row.L1_STRENGTH: strength * (1 - share)}
    field = KINDS[type(penalty)][1]
    other = {} if field is None else {Row.SHAPE: getattr(penalty, field)}
    return other if isinstance(strength, Tensor) and strength.numel() != 1 else {Row.STRENGTH: strength, **other}


def strengths_of(penalty: Penalty, points: list[Tensor]) -> list[Tensor] | None:
    """λcⱼ where it is not one number, in memory as the points are."""
    assert isinstance(penalty, SeparablePenalty)
    strength, weights = penalty.strength, penalty.weights
    if weights is None and not (isinstance(strength, Tensor) and strength.numel() != 1):
        return None
    made = []
    for point in points:
        there = torch.empty_like(point, dtype=torch.promote_types(point.dtype, torch.float32))
        made.append(there.copy_(penalty.scaled_strength(there)))  # type: ignore[arg-type]
    return made
