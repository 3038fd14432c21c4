"""What a sparsity target does in each step of an optimizer: count zeros, set λ, let the penalty go.

It holds no reference to the optimizer, whose hooks hold it: else neither would be freed without the garbage collector.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from nonsmooth.extremes import largest, smallest
from nonsmooth.optim.held_support import Member, cut_smallest_, zero_keepers
from nonsmooth.optim.prox_taken import remember_weights
from nonsmooth.optim.sparsity_control import LARGEST_RISE, Schedule
from nonsmooth.optim.sparsity_pool import (
    Group,
    check_gradients,
    first_scale,
    members,
    set_strengths,
    spare,
    unit_name,
)
from nonsmooth.optim.target_state import ACTIVE, SPARED, TARGET, patterns_of
from nonsmooth.optim.zero_counts import count_units, count_zeros

TOLERANCE = 1e-3
"""How far the share of zeros may be from the aim, or half of one weight where that is more."""

LAST_CUT = 0.02
"""What share of the weights may be set to zero at the end to arrive, without a release; more would be pruning."""

BEGINNING = {"step": 0, "first": 0.0, "log_rise": 0.0, "zeros": None, "released": False}
"""The numbers of a target that has seen no step: the first λ over the base, the logarithm of what it has risen by, the
zeros that there were at its last change, and whether the penalty is gone."""


class Steering:
    """The hooks of one target.

    Args:
        schedule: what is due when.
        over: the names that the target is for; None for all.
    """

    def __init__(self, schedule: Schedule, over: tuple[str, ...] | None) -> None:
        self.schedule, self.over = schedule, over
        self._pending: Callable[[], int] | None = None
        self._keepers: list[Callable[[], None]] = []

    def begin(self, optimizer: Optimizer, pool: list[Group], bases: list[Any]) -> None:
        """Write the state into groups, and register the hooks.

        Args:
            optimizer: with these groups.
            pool: the groups of this target.
            bases: what λ is a multiple of in each.
        """
        for group, base in zip(pool, bases, strict=True):
            group[TARGET] = {**self.schedule.settings(), "over": self.over, **BEGINNING, "base": base}
            group[SPARED] = None
            group["penalty"]["strength"] = 0.0
        optimizer.__dict__.setdefault(ACTIVE, []).append(self.over)
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)
        optimizer.register_state_dict_pre_hook(self._write_count)
        optimizer.register_load_state_dict_pre_hook(self._read_state)
        optimizer.register_load_state_dict_post_hook(self._read_count)

    def pool(self, optimizer: Optimizer) -> list[Group]:
        """The groups of this target.

        Raises:
            RuntimeError: there are none.
        """
        found = [group for group in optimizer.param_groups if self._has(group)]
        if not found:
            raise RuntimeError("the groups of this target are gone from the optimizer; build the target again")
        return found

    def _has(self, group: Group) -> bool:
        return TARGET in group and patterns_of(group[TARGET]) == self.over

    def _before(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        # Without a GPU torch has no such function, but one that raises.
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "a CUDA graph is being captured, whose replays would leave λ as it is; accepted with a sparsity target "
                "are steps outside of graphs"
            )
        pool = self.pool(optimizer)
        check_gradients(pool)
        self._keepers = zero_keepers(members(pool)) if state_of(pool)["released"] else []

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        pool, schedule = self.pool(optimizer), self.schedule
        state, step = state_of(pool), state_of(pool)["step"] + 1
        _write(pool, step=step)
        written, self._keepers = self._keepers, []
        for put_back in written:
            put_back()
        cut, last = False, schedule.release_step or schedule.steps
        if not state["released"] and step <= schedule.steps:
            if step % schedule.interval == 0 and step < last:  # the last λ is the one that has acted
                self._follow(optimizer, pool, step)
            if step >= last:
                cut = self._arrive(pool, step)
        if written or cut:
            remember_weights(optimizer)
        if step == schedule.steps:
            self._warn_if_missed(members(pool))

    def _follow(self, optimizer: Optimizer, pool: list[Group], step: int) -> None:
        """Set λ by the zeros that there were at the last change of it: for those of now the host would have to wait."""
        state, schedule, found = state_of(pool), self.schedule, members(pool)
        first, log_rise, lift = state["first"], state["log_rise"], 0.0
        if first == 0:
            first = first_scale(optimizer, pool)
        elif self._pending is not None:
            units = count_units(found)
            behind = schedule.due(step - schedule.interval) - self._pending() / units
            if abs(behind) > 0.5 / units:
                log_rise = smallest(LARGEST_RISE, log_rise + schedule.push(behind, step))
                lift = schedule.lift(behind, step)
        self._pending = count_zeros(found)
        _write(pool, first=first, log_rise=log_rise)
        set_strengths(pool, first * math.exp(log_rise + lift))
        if schedule.release is not None and (state["first"] == 0 or step % schedule.look_interval == 0):
            spare(pool, schedule.goal(step + schedule.look_interval))

    def _arrive(self, pool: list[Group], step: int) -> bool:
        """Make the zeros as many as there are to be, and let the penalty go; returns whether weights were written.

        Where there are too many, a step without a penalty brings all back that are pulled at, the smallest go again.
        """
        schedule, found = self.schedule, members(pool)
        units, zeros = count_units(found), count_zeros(found)()
        missing = round(schedule.sparsity * units) - zeros
        if schedule.release_step is None:
            arrives = 0 < missing <= largest(1, LAST_CUT * units)
        else:
            arrives = missing > 0
            set_strengths(pool, 0.0)
            if arrives or missing == 0 or step > schedule.release_step:
                self._pending = None
                _write(pool, released=True)
                for group in pool:
                    group[SPARED] = None
        if arrives:
            cut_smallest_(found, zeros + missing)
        return arrives

    def _warn_if_missed(self, found: list[Member]) -> None:
        """Say so where training has ended and the zeros are not as many as wanted."""
        units, aim = count_units(found), self.schedule.sparsity
        share = count_zeros(found)() / units
        if abs(share - aim) > largest(TOLERANCE, 0.5 / units) * (1 + 1e-9):
            warnings.warn(
                f"sparsity is {aim:.2%}, but {share:.2%} of {units:,} {unit_name(found)} are zero after "
                f"{self.schedule.steps:,} steps. Too few: train longer, or with a larger step size, or the penalty "
                "does not reach some weights. Too many: weights that are zero no longer get a gradient",
                UserWarning,
                stacklevel=2,
            )

    def _write_count(self, optimizer: Optimizer) -> None:
        if self._pending is not None:
            _write(self.pool(optimizer), zeros=self._pending())

    def _read_count(self, optimizer: Optimizer) -> None:
        zeros = state_of(self.pool(optimizer))["zeros"]
        self._pending = None if zeros is None else lambda: zeros

    def _read_state(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The state to load, in which this target begins where it has none.

        Raises:
            ValueError: it is that of a target with other settings.
        """
        groups = list(state_dict["param_groups"])
        for index, (own, saved) in enumerate(zip(optimizer.param_groups, groups, strict=False)):
            if not self._has(own):
                continue
            settings = {"over": self.over, **self.schedule.settings()}
            target = saved.get(TARGET) or {**own[TARGET], **settings, **BEGINNING}
            before = {**{name: target.get(name) for name in settings}, "over": patterns_of(target)}
            if before != settings:
                raise ValueError(
                    f"state_dict has a sparsity target with {before}, and this optimizer one with {settings}; accepted "
                    f"is the same, or a state without: delete {TARGET!r} from its groups, and the target begins anew"
                )
            groups[index] = {**saved, TARGET: target}
            if TARGET not in saved:
                groups[index]["penalty"] = {**saved["penalty"], "strength": 0.0}
        return {**state_dict, "param_groups": groups}


def state_of(pool: list[Group]) -> dict[str, Any]:
    """The numbers of a target, which are the same in each of its groups."""
    state: dict[str, Any] = pool[0][TARGET]
    return state


def _write(pool: list[Group], **numbers: Any) -> None:
    """Replace the state in each group: one that was saved is left as it is."""
    for group in pool:
        group[TARGET] = {**group[TARGET], **numbers}
