"""The prox of a whole group of parameters in one launch, and whole steps of SGD and Adam, where kernels run.

Kernels are given tensors and numbers; which penalties they know, and where an optimizer keeps what they need, stands
here. What they do not take, such as complex parameters or a penalty of a user's own, takes the eager path.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import SGD, Optimizer

from nonsmooth import kernels
from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.tables import Table, qualifies
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
from nonsmooth.torch_optimizers import Group, Rule, State
from nonsmooth.torch_optimizers.rules import WARM_UP

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


class Launches:
    """What kernels keep of an optimizer's groups from step to step.

    Args:
        rule: of the optimizer.
        steady: whether the optimizer has a memory of pulls.
    """

    def __init__(self, rule: Rule, *, steady: bool) -> None:
        self._rule, self._steady = rule, steady
        self._kept: dict[Any, tuple[Any, Numbers]] = {}
        self._fits: dict[Tensor, tuple[Any, ...]] = {}
        self._looked: dict[tuple[torch.dtype, int], tuple[Penalty, bool]] = {}

    def accepts(self, group: Group, penalty: Penalty, parameter: Tensor, state: State, *, gradient: bool) -> bool:
        """Whether kernels take a parameter, with this penalty and as its tensors lie in memory.

        Args:
            group: the parameter's.
            penalty: λR.
            parameter: w, where kernels run.
            state: the parameter's.
            gradient: whether its gradient is read as well.
        """
        if group.get("differentiable", False):
            return False
        square = self._rule.square(group, state) if self._rule.adaptive and state else None
        grad = parameter.grad if gradient else None
        form = (parameter.stride(), None if grad is None else (grad.stride(), grad.dtype), type(penalty))
        seen, known, fits = self._fits.get(parameter, (None, None, False))
        if form != known or (seen is None) != (square is None) or (seen is not None and seen() is not square):
            others = [local(each) for each in (square, grad) if each is not None]
            fits = self._qualifies(penalty, parameter, others)
            # No reference that would keep a state alive which has been replaced.
            self._fits[parameter] = (None if square is None else weakref.ref(square), form, fits)
        return fits and not self._is_extreme(penalty, parameter)

    def _is_extreme(self, penalty: Penalty, parameter: Tensor) -> bool:
        """`is_extreme`, looked at once for all parameters for which it is the same."""
        if isinstance(penalty.strength, Tensor):
            return is_extreme(penalty, parameter)
        alike = (parameter.dtype, 0 if isinstance(penalty, SeparablePenalty) else parameter.numel())
        looked = self._looked.get(alike)
        if looked is None or looked[0] is not penalty:
            looked = self._looked[alike] = penalty, is_extreme(penalty, parameter)
        return looked[1]

    def _qualifies(self, penalty: Penalty, parameter: Tensor, others: list[Tensor]) -> bool:
        shared, point = hasattr(parameter, "device_mesh"), local(parameter)
        if isinstance(penalty, GroupL1 | SparseGroupL1):
            from nonsmooth.kernels import groups  # noqa: PLC0415  needs Triton

            known = type(penalty) in (GroupL1, SparseGroupL1) and penalty.index is None
            return known and not shared and groups.qualifies(point, penalty.dim, *others)
        by_coordinate = any(isinstance(value, Tensor) for value in penalty.fields().values())
        return type(penalty) in KINDS and not (shared and by_coordinate) and qualifies(point, *others)

    def zeros_of(self, group: Group, parameters: Sequence[Tensor]) -> dict[Tensor, Tensor]:
        """Where parameters on one device, which `accepts` has said yes to, are 0: 1 there, uint8.

        Args:
            group: theirs.
            parameters: of one device.
        """
        from nonsmooth.kernels.separable import mark_zeros_  # noqa: PLC0415  needs Triton

        points = _locals(parameters)
        masks = [torch.empty_like(point, dtype=torch.uint8) for point in points]
        mark_zeros_(points, masks, table=self._keep((id(group), "zeros"), points, Table)[0])
        return dict(zip(parameters, masks, strict=True))

    def take_prox(
        self,
        group: Group,
        penalty: Penalty,
        parameters: Sequence[Tensor],
        states: Mapping[Tensor, dict[str, Any]],
        at_zero: Mapping[Tensor, Tensor],
        overflow: Tensor | None,
    ) -> None:
        """Overwrite parameters on one device, which `accepts` has said yes to, by their prox.

        Args:
            group: theirs.
            penalty: λR, its numbers on their device.
            parameters: that the optimizer has just moved.
            states: of the parameters.
            at_zero: masks of the weights that were 0 before.
            overflow: above 0 where nothing is to be changed; None for never.
        """
        own = [states[parameter] for parameter in parameters]
        points = [local(parameter) for parameter in parameters]
        roles: dict[str, Any] = {}
        if self._rule.adaptive:
            roles["squares"] = [local(self._rule.square(group, state)) for state in own]
            if group.get("centered", False):
                roles["means"] = [local(state["grad_avg"]) for state in own]
        if at_zero:
            roles["zeros"] = [at_zero[parameter] for parameter in parameters]
        if isinstance(penalty, GroupL1 | SparseGroupL1):
            from nonsmooth.kernels.groups import GroupTable, group_prox_  # noqa: PLC0415  needs Triton

            table, numbers = self._keep(id(group), points, GroupTable)
            weights = None if penalty.weights is None else [penalty.weights] * len(points)
            rows = {**_strength_rows(penalty), **self._metric_rows(group, own), **_halt(overflow)}
            sparse = isinstance(penalty, SparseGroupL1)
            group_prox_(points, numbers(rows), dim=penalty.dim, weights=weights, sparse=sparse, table=table, **roles)
            increment_version(parameters)  # torch does not see what a kernel writes
            return
        from nonsmooth.kernels.separable import separable_prox_  # noqa: PLC0415  needs Triton

        table, numbers = self._keep(id(group), points, Table)
        memory = self._remember(group, parameters, own, overflow)
        rows = {**_strength_rows(penalty), **self._metric_rows(group, own), **memory, **_halt(overflow)}
        separable_prox_(
            KINDS[type(penalty)][0], points, numbers(rows), table=table, pulls=self._pulls(own),
            strengths=_strengths(penalty, points), **roles,
        )  # fmt: skip
        increment_version(parameters)

    def take_step(self, optimizer: Optimizer, group: Group, penalty: Penalty, parameters: Sequence[Tensor]) -> None:
        """Take a whole step of SGD or Adam, prox included, in one pass over memory.

        Args:
            optimizer: with what GradScaler hands over, if there is a scaler.
            group: one whose `fused` is True, of SGD, Adam or AdamW.
            penalty: λR, its numbers on the parameters' device.
            parameters: those with a gradient, on one device; `accepts` has said yes to all.
        """
        from nonsmooth.kernels.steps import adam_step_, sgd_step_  # noqa: PLC0415  needs Triton

        operands, options = self.step_operands(optimizer, group, penalty, parameters)
        scale = getattr(optimizer, "grad_scale", None)
        table = self._keep(id(group), operands[0], Table)[0]
        step_ = sgd_step_ if isinstance(optimizer, SGD) else adam_step_
        step_(
            KINDS[type(penalty)][0], *operands, table=table, scaled=scale is not None,
            strengths=_strengths(penalty, operands[0]), **options,
        )  # fmt: skip
        increment_version(parameters)

    def step_operands(
        self, optimizer: Optimizer, group: Group, penalty: Penalty, parameters: Sequence[Tensor]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The tensors, numbers and options of a whole step; the state is made where it is missing, and counts the step.

        Args:
            optimizer: as for `take_step`.
            group: of SGD, Adam or AdamW.
            penalty: λR.
            parameters: those with a gradient.
        """
        overflow, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        own = [optimizer.state[parameter] for parameter in parameters]
        points, grads = _locals(parameters), _locals([parameter.grad for parameter in parameters])
        numbers, is_sgd = self._keep(id(group), points, Table)[1], isinstance(optimizer, SGD)
        begin = _begin_sgd if is_sgd else _begin_adam
        rows = begin(parameters, group, own, overflow)
        rows |= {Row.RATE: group["lr"], Row.WEIGHT_DECAY: group["weight_decay"], **_strength_rows(penalty)}
        rows |= {**self._metric_rows(group, own), **self._remember(group, parameters, own, overflow), **_halt(overflow)}
        rows |= {} if scale is None else {Row.GRAD_SCALE: scale}
        options: dict[str, Any] = {"maximize": group["maximize"], "pulls": self._pulls(own)}
        if is_sgd:
            momenta = _locals([state["momentum_buffer"] for state in own]) if group["momentum"] else None
            return [points, grads, momenta, numbers(rows)], {**options, "nesterov": group["nesterov"]}
        averages, squares = (_locals([state[name] for state in own]) for name in ("exp_avg", "exp_avg_sq"))
        options["largest_squares"] = _locals([state["max_exp_avg_sq"] for state in own]) if group["amsgrad"] else None
        options["decoupled"] = group.get("decoupled_weight_decay", False)
        return [points, grads, averages, squares, numbers(rows)], options

    def _keep(self, what: Any, points: list[Tensor], kind: Any) -> tuple[Any, Numbers]:
        """A table and numbers of a group: a graph that has captured them needs them, so none is ever replaced."""
        device = points[0].device
        key = (what, device, kind, len(points))
        if key not in self._kept:
            self._kept[key] = kind(device), Numbers(device, len(points))
        return self._kept[key]

    def _metric_rows(self, group: Group, states: list[dict[str, Any]]) -> dict[Row, Any]:
        """D and its limit, for each parameter its own, since they may have taken different numbers of steps."""
        if not self._rule.adaptive:
            return {Row.STEP: self._rule.step(group, {})}
        counts = {name: [state[name] for state in states] for name in ("step", "mu_product") if name in states[0]}
        if any(count.device.type == "cpu" for count in counts["step"]) and not kernels.INTERPRETED:
            known: dict[tuple[float, ...], dict[str, Any]] = {}  # mostly all parameters have taken the same steps
            each = []
            for place, state in enumerate(states):
                key = tuple(float(values[place]) for values in counts.values())
                if key not in known:
                    known[key] = self._rule.numbers(group, state)
                each.append(known[key])
            return {row: [numbers[name] for numbers in each] for name, row in NUMBERS.items()}
        stacked: dict[str, Any] = {
            name: torch.stack([each.reshape(()) for each in values]).double() for name, values in counts.items()
        }
        found = self._rule.numbers(group, stacked)
        return {row: found[name] for name, row in NUMBERS.items()}

    def _remember(
        self, group: Group, parameters: Sequence[Tensor], states: list[dict[str, Any]], overflow: Tensor | None
    ) -> dict[Row, Any]:
        """Count one more pull at each parameter of a steady optimizer."""
        if not self._steady:
            return {}
        for parameter, state in zip(parameters, states, strict=True):
            memory_of(parameter, group, state)
        counts = [state["pulls"] for state in states]
        _count(counts, overflow)
        return {Row.COUNT: counts, Row.FORGETTING: group["forgetting"], Row.WARM_UP: WARM_UP}

    def _pulls(self, states: list[dict[str, Any]]) -> list[Tensor] | None:
        return _locals([state["pull"] for state in states]) if self._steady else None


def _count(counts: list[Tensor], overflow: Tensor | None) -> None:
    """Add 1 to each, but nothing where there is an overflow."""
    torch._foreach_add_(counts, 1)
    if overflow is not None:
        torch._foreach_sub_(counts, [(overflow > 0).to(count).reshape(()) for count in counts])


def _halt(overflow: Tensor | None) -> dict[Row, Any]:
    return {} if overflow is None else {Row.HALTED: overflow}


def _begin_sgd(
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


def _begin_adam(
    parameters: Sequence[Tensor], group: Group, states: list[dict[str, Any]], overflow: Tensor | None
) -> dict[Row, Any]:
    """The state as torch's fused step makes it, and the numbers of the coming step."""
    names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * bool(group["amsgrad"])
    for parameter, state in zip(parameters, states, strict=True):
        if not state:
            # As torch does it: on a device where its counts have to be there.
            on_device = group.get("capturable") or group.get("fused")
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if on_device else "cpu")
            state.update({n: torch.zeros_like(parameter, memory_format=torch.preserve_format) for n in names})
    counts = [state["step"] for state in states]
    _count(counts, overflow)
    count: Any = torch.stack(counts).double()
    first, second = group["betas"]
    return {
        Row.FIRST_BETA: first,
        Row.SECOND_BETA: second,
        Row.DIVISOR: group["eps"],
        Row.CORRECTION: 1 - first**count,
        Row.ROOT_CORRECTION: (1 - second**count).sqrt(),
    }


def local(tensor: Any) -> Tensor:
    """A tensor, or this process's shard of it."""
    found: Tensor = tensor.detach().to_local() if hasattr(tensor, "device_mesh") else tensor
    return found


def _locals(tensors: Iterable[Any]) -> list[Tensor]:
    return [local(tensor) for tensor in tensors]


def is_extreme(penalty: Penalty, parameter: Tensor) -> bool:
    """Whether numbers on the host leave the range of the type that a kernel computes in."""
    precise = torch.promote_types(parameter.dtype, torch.float32)
    if isinstance(penalty, SeparablePenalty):
        return penalty.extreme(_EMPTY[precise], 0.0)
    return beyond(precise, penalty.strength, math.sqrt(parameter.numel() or 1))


_EMPTY = {dtype: torch.empty(0, dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64)}


def _strength_rows(penalty: Penalty) -> dict[Row, Any]:
    """λ where it is one number, and the penalty's other one."""
    strength = penalty.strength
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        share = penalty.group_share()
        return {Row.STRENGTH: strength * share, Row.L1_STRENGTH: strength * (1 - share)}
    field = KINDS[type(penalty)][1]
    other = {} if field is None else {Row.SHAPE: getattr(penalty, field)}
    return other if isinstance(strength, Tensor) and strength.numel() != 1 else {Row.STRENGTH: strength, **other}


def _strengths(penalty: Penalty, points: list[Tensor]) -> list[Tensor] | None:
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
