"""The prox of a whole group of parameters in one launch, and whole steps of SGD and Adam, where kernels run.

What kernels do not take, such as complex parameters or a penalty of a user's own, takes the eager path.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from nonsmooth import kernels
from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.tables import Table, qualifies
from nonsmooth.optim.launch_operands import (
    KINDS,
    NUMBERS,
    begin_adam,
    begin_sgd,
    count_step,
    halt_rows,
    is_extreme,
    local,
    locals_of,
    memory_of,
    note_written,
    strength_rows,
    strengths_of,
)
from nonsmooth.penalties import GroupL1, Penalty, SeparablePenalty, SparseGroupL1
from nonsmooth.torch_optimizers import Group, Rule, State
from nonsmooth.torch_optimizers.rules import WARM_UP


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

        points = locals_of(parameters)
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
            rows = {**strength_rows(penalty), **self._metric_rows(group, own), **halt_rows(overflow)}
            sparse = isinstance(penalty, SparseGroupL1)
            group_prox_(points, numbers(rows), dim=penalty.dim, weights=weights, sparse=sparse, table=table, **roles)
            note_written(parameters)
            return
        from nonsmooth.kernels.separable import separable_prox_  # noqa: PLC0415  needs Triton

        table, numbers = self._keep(id(group), points, Table)
        memory = self._remember(group, parameters, own, overflow)
        rows = {**strength_rows(penalty), **self._metric_rows(group, own), **memory, **halt_rows(overflow)}
        separable_prox_(
            KINDS[type(penalty)][0], points, numbers(rows), table=table, pulls=self._pulls(own),
            strengths=strengths_of(penalty, points), **roles,
        )  # fmt: skip
        note_written(parameters)

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
            strengths=strengths_of(penalty, operands[0]), **options,
        )  # fmt: skip
        note_written(parameters)

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
        points, grads = locals_of(parameters), locals_of([parameter.grad for parameter in parameters])
        numbers, is_sgd = self._keep(id(group), points, Table)[1], isinstance(optimizer, SGD)
        begin = begin_sgd if is_sgd else begin_adam
        rows = begin(parameters, group, own, overflow)
        rows |= {Row.RATE: group["lr"], Row.WEIGHT_DECAY: group["weight_decay"], **strength_rows(penalty)}
        rows |= {
            **self._metric_rows(group, own),
            **self._remember(group, parameters, own, overflow),
            **halt_rows(overflow),
        }
        rows |= {} if scale is None else {Row.GRAD_SCALE: scale}
        options: dict[str, Any] = {"maximize": group["maximize"], "pulls": self._pulls(own)}
        if is_sgd:
            momenta = locals_of([state["momentum_buffer"] for state in own]) if group["momentum"] else None
            return [points, grads, momenta, numbers(rows)], {**options, "nesterov": group["nesterov"]}
        averages, squares = (locals_of([state[name] for state in own]) for name in ("exp_avg", "exp_avg_sq"))
        largest = locals_of([state["max_exp_avg_sq"] for state in own]) if group["amsgrad"] else None
        options |= {"largest_squares": largest, "decoupled": group.get("decoupled_weight_decay", False)}
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
            known: dict[tuple[float, ...], dict[Row, Any]] = {}  # mostly all parameters have taken the same steps
            each = []
            for place, state in enumerate(states):
                key = tuple(float(values[place]) for values in counts.values())
                if key not in known:
                    known[key] = self._adaptive_rows(group, state)
                each.append(known[key])
            return {row: [rows[row] for rows in each] for row in each[0]}
        return self._adaptive_rows(
            group,
            {name: torch.stack([each.reshape(()) for each in values]).double() for name, values in counts.items()},
        )

    def _adaptive_rows(self, group: Group, state: Any) -> dict[Row, Any]:
        """The numbers of D, and of a whole step."""
        rows = {NUMBERS[name]: value for name, value in self._rule.numbers(group, state).items()}
        rows[Row.CORRECTION], rows[Row.ROOT_CORRECTION] = (
            self._rule.early(group, state), self._rule.correction(group, state),
        )  # fmt: skip
        return rows

    def _remember(
        self, group: Group, parameters: Sequence[Tensor], states: list[dict[str, Any]], overflow: Tensor | None
    ) -> dict[Row, Any]:
        """Count one more pull at each parameter of a steady optimizer."""
        if not self._steady:
            return {}
        for parameter, state in zip(parameters, states, strict=True):
            memory_of(parameter, group, state)
        counts = [state["pulls"] for state in states]
        count_step(counts, overflow)
        return {Row.COUNT: counts, Row.FORGETTING: group["forgetting"], Row.WARM_UP: WARM_UP}

    def _pulls(self, states: list[dict[str, Any]]) -> list[Tensor] | None:
        return locals_of([state["pull"] for state in states]) if self._steady else None
