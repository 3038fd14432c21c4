"""The prox after an optimizer's own step: read the penalty of each group, find its metric, threshold in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth import kernels
from nonsmooth.optim.embeddings.row_steps import RowStep, begin, finish
from nonsmooth.optim.embeddings.sparse_gradients import ALL_MOVE, takes_rows
from nonsmooth.optim.group_checks import Active, check_before_step
from nonsmooth.optim.launch_operands import local
from nonsmooth.optim.launches import Launches
from nonsmooth.optim.local_prox import Held, limit_of, local_prox_, within_limit, zeros_of
from nonsmooth.optim.overflow import awaiting_momentum, forget_unwritten, unless_overflow
from nonsmooth.optim.penalty_reader import Bound, PenaltyReader
from nonsmooth.optim.prox_taken import remember_weights
from nonsmooth.optim.small_tensors import Bundle, Moving, bundled
from nonsmooth.optim.spared import large_parts
from nonsmooth.optim.target_state import SPARED
from nonsmooth.penalties import Penalty
from nonsmooth.torch_optimizers import AdaptiveStep, UnitStep, rule_of

States = MutableMapping[Tensor, dict[str, Any]]
"""The state of each parameter."""


def prox_parameter(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None = None) -> None:
    """Overwrite a parameter by its prox.

    Args:
        penalty: λR.
        parameter: w, of any real or complex dtype.
        step: D.
        held: which weights were 0 before the step; None for none.
    """
    if hasattr(parameter, "device_mesh"):  # a DTensor, of which this process holds a shard
        from nonsmooth.optim.distributed import prox_shard  # noqa: PLC0415  torch.distributed is slow to import

        prox_shard(penalty, parameter, step, held)  # type: ignore[arg-type]
    else:
        local_prox_(penalty, parameter, step, held)


Accepts = Callable[[Any, Penalty, Tensor], bool]
"""Whether somebody takes a parameter of a group with a penalty."""


class ProximalStep:
    """What a step of an optimizer does about penalties: `before` its own step, in its stead, and `after` it.

    It holds no reference to the optimizer, whose state would not be freed with it otherwise.

    Args:
        kind: the optimizer's class, one of torch's or a subclass.
        reader: of the penalties in its groups.
        replaces: whether a kernel may take the whole step of a group, torch's own included.

    Attributes:
        adaptive: whether the metric differs by coordinate.
        alone: the groups of which a kernel takes the whole step at hand, with their penalties.
    """

    steady: ClassVar[bool] = False
    """Whether the prox has a memory."""

    overwrite: ClassVar[Callable[..., None]] = staticmethod(prox_parameter)
    """Overwrites a parameter; the first operands are the penalty, the parameter and D."""

    def __init__(self, kind: type[Optimizer], reader: PenaltyReader, *, replaces: bool = False) -> None:
        self.reader, self._rule, self._replaces = reader, rule_of(kind), replaces
        self.adaptive = self._rule.adaptive
        self._launches = Launches(self._rule, steady=self.steady)
        self._active: Active = []
        self.alone: list[Any] = []
        self._awaiting: list[Tensor] = []
        self._at_zero: dict[Tensor, Any] = {}
        self._launched: list[tuple[Any, Penalty, list[Tensor]]] = []
        self._rest: list[Moving] = []
        self._bundles: list[Bundle] = []
        self._begins = False
        self._against_sparse = None if takes_rows(kind) and not self.steady else ALL_MOVE
        self._by_rows: dict[Tensor, RowStep] = {}

    def check(self, optimizer: Optimizer) -> None:
        """Raise where a step would be wrong whatever its gradients.

        Raises:
            TypeError: as `check_before_step`.
            ValueError: as `check_before_step`.
        """
        check_before_step(optimizer, self.reader, ahead=True, against_sparse=self._against_sparse)

    def before(self, optimizer: Optimizer, *, graphs: Accepts | None = None) -> None:
        """Check, and look at the weights that the optimizer is about to move.

        Args:
            optimizer: about to step.
            graphs: under torch's compiler, whether a graph can take the whole step of a parameter.

        Raises:
            TypeError: as `check_before_step`.
            ValueError: as `check_before_step`.
        """
        against_sparse = self._against_sparse or (None if graphs is None else "torch.compile takes the step")
        active = check_before_step(optimizer, self.reader, against_sparse=against_sparse)
        if self._against_sparse is None:
            self._by_rows = begin(optimizer, active, self._rule)
        self.alone = [(group, bound) for group, bound in active if self._is_alone(optimizer, group, bound, graphs)]
        self._active = [pair for pair in active if all(pair[0] is not group for group, _ in self.alone)]
        self._divide(optimizer.state)
        whole = graphs is not None
        # On a CPU one operation for each, as SGD's prox is, is as fast as to put them side by side.
        many = self._rule.adaptive or any(parameter.device.type != "cpu" for *_, parameter in self._rest)
        if many and not whole and not self.steady:
            self._bundles, self._rest = bundled(self._rule, self._rest, optimizer.state)
        self._at_zero = self.weights_at_zero(whole=whole) if self.steady or self._rule.adaptive else {}
        if getattr(optimizer, "found_inf", None) is not None:
            self._awaiting = awaiting_momentum(optimizer)

    def _is_alone(self, optimizer: Optimizer, group: Mapping[str, Any], bound: Bound, graphs: Accepts | None) -> bool:
        """Whether the whole step of a group, which is on one device, is taken by a kernel, or by a graph."""
        if not self._replaces or (graphs is None and group.get("fused") is not True) or group.get(SPARED) is not None:
            return False
        if graphs is not None and getattr(optimizer, "found_inf", None) is not None:
            return False
        moving = [parameter for parameter in group["params"] if parameter.grad is not None]
        if graphs is not None:
            return all(graphs(group, bound.penalty, parameter) for parameter in moving)
        states = optimizer.state
        return (
            bound.penalty.separable
            and len({parameter.device for parameter in moving}) == 1
            and all(
                kernels.runs_on(parameter.device)
                and self._launches.accepts(group, bound.penalty, parameter, states.get(parameter, {}), gradient=True)
                for parameter in moving
            )
        )

    @torch.no_grad()
    def instead(self, optimizer: Optimizer) -> list[dict[str, Any]]:
        """Let kernels take the steps of the groups that are theirs alone; the others are returned."""
        for group, penalty, parameters in self._moving_alone():
            self._launches.take_step(optimizer, group, penalty, parameters)
        alone = {id(group) for group, _ in self.alone}
        return [group for group in optimizer.param_groups if id(group) not in alone]

    def whole_steps(self, optimizer: Optimizer) -> Iterator[tuple[Any, Penalty, list[Any], dict[str, Any]]]:
        """The groups whose whole step somebody else is to take, with penalties, operands and options of the step."""
        for group, penalty, parameters in self._moving_alone():
            yield group, penalty, *self._launches.step_operands(optimizer, group, penalty, parameters)

    def _moving_alone(self) -> Iterator[tuple[Any, Penalty, list[Tensor]]]:
        for group, bound in self.alone:
            if moving := [parameter for parameter in group["params"] if parameter.grad is not None]:
                yield group, bound.on(moving[0].device), moving

    @torch.no_grad()
    def after(self, optimizer: Optimizer) -> None:
        """Take the prox of every penalised parameter that the optimizer has just moved, in the optimizer's metric."""
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is not None:  # a fused optimizer under GradScaler
            forget_unwritten(optimizer, self._awaiting)
        if self._begins and self._launched:
            self._divide(optimizer.state)
            bundled_before = {parameter for bundle in self._bundles for parameter in bundle.parameters}
            self._rest = [each for each in self._rest if each[-1] not in bundled_before]
        for group, penalty, parameters in self._launched:
            self._launches.take_prox(group, penalty, parameters, optimizer.state, self._at_zero, overflow)
        if overflow is None:
            self._take(optimizer.state)
        else:
            take, written = partial(self._take, optimizer.state), partial(self.written, optimizer.state)
            unless_overflow(overflow, take, written)
        if self._by_rows:
            finish(optimizer, self._by_rows.values(), self._rule)
        self.alone, self._active, self._launched, self._bundles, self._rest = [], [], [], [], []
        self._awaiting, self._at_zero, self._by_rows = [], {}, {}
        remember_weights(optimizer)

    def _divide(self, states: States) -> None:
        """Give each moving parameter to a launch of its group, or to the rest, which takes the eager path."""
        self._launched, self._rest, self._begins = [], [], False
        for group, bound in self._active:
            launched: dict[torch.device, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is None or parameter in self._by_rows:
                    continue
                state = states.get(parameter, {})
                self._begins |= self._rule.adaptive and not state
                runs = group.get("fused") is not False and kernels.runs_on(parameter.device)
                runs = runs and group.get(SPARED) is None
                if runs and self._launches.accepts(group, bound.penalty, parameter, state, gradient=False):
                    launched.setdefault(parameter.device, []).append(parameter)
                else:
                    self._rest.append((group, bound.on(parameter.device), parameter))
            self._launched += [(group, bound.on(device), parameters) for device, parameters in launched.items()]

    def hand_over(self, states: States, accepts: Callable[[Any, Penalty, Tensor], bool]) -> Iterator[tuple[Any, ...]]:
        """The operands of `overwrite` for what somebody else is to overwrite, of what no kernel takes.

        Args:
            states: of the parameters, which the optimizer has just moved.
            accepts: whether somebody takes a parameter of a group with a penalty.
        """
        self._divide(states)
        self._begins, rest, self._rest = False, self._rest, []
        for group, penalty, parameter in rest:
            if accepts(group, penalty, parameter) and group.get(SPARED) is None:
                yield self.operands(group, penalty, parameter, states[parameter])
            else:
                self._rest.append((group, penalty, parameter))

    def _take(self, states: States) -> None:
        for bundle in self._bundles:
            bundle.take_prox(states)
        for group, penalty, parameter in self._rest:
            state = states[parameter]
            if group.get("differentiable", False):
                with torch.enable_grad():
                    step, held = self._rule.step(group, state), self._at_zero.get(parameter)
                    parameter.copy_(_differentiable_prox(penalty, parameter, step, held))
            else:
                put_back = None if group.get(SPARED) is None else large_parts(group, penalty, parameter)
                self.overwrite(*self.operands(group, penalty, parameter, state))
                if put_back is not None:
                    put_back()

    def weights_at_zero(self, *, whole: bool) -> dict[Tensor, Any]:
        """Which weights are 0, by penalised parameter that is about to move.

        The limit of an adaptive prox keeps weights that are not zero from being wiped out; those that are may be held.

        Args:
            whole: whether each parameter has one mask.
        """
        at_zero: dict[Tensor, Any] = {}
        for group, _, parameters in self._launched:
            at_zero |= self._launches.zeros_of(group, parameters)
        for bundle in self._bundles:
            bundle.look()
        for group, penalty, parameter in self._rest:
            one = whole or self.steady or group.get("differentiable", False) or kernels.runs_on(parameter.device)
            one = one or (hasattr(parameter, "device_mesh") and not penalty.separable)
            at_zero[parameter] = zeros_of(penalty, local(parameter), whole=one)
        return at_zero

    def operands(
        self, group: Mapping[str, Any], penalty: Penalty, parameter: Tensor, state: dict[str, Any]
    ) -> tuple[Any, ...]:
        """What `overwrite` needs for a parameter that has taken the optimizer's own step.

        Args:
            group: the parameter's.
            penalty: λR.
            parameter: z, which is overwritten by w.
            state: the parameter's.
        """
        return penalty, parameter.detach(), self._rule.step(group, state), self._at_zero.get(parameter)

    def written(self, states: States) -> list[Tensor]:
        """What `overwrite` overwrites."""
        del states
        together = [parameter for bundle in self._bundles for parameter in bundle.parameters]
        return together + [parameter for *_, parameter in self._rest]


def _differentiable_prox(penalty: Penalty, parameter: Tensor, step: UnitStep, held: Held | None) -> Tensor:
    """The prox of a copy, since autograd keeps what a later step overwrites."""
    point = parameter.clone()
    if not isinstance(step, AdaptiveStep):
        return penalty.proximal_map(point, step)
    whole = step()
    return within_limit(penalty.proximal_map(point, whole), point, limit_of(step, whole, held))
