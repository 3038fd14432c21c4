"""The share of zeros that one wants, instead of a λ: λ follows in the course of training.

Most of what an L1 penalty costs in accuracy comes from shrinking the weights that stay. So the penalty is used to find
the weights that can go, and is then taken away: after a share `release` of the steps the zeros are kept, λ is 0, and
the other weights train on without it.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from nonsmooth.extremes import largest, smallest
from nonsmooth.optim.dual_averaging import DualAveraging
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.held_support import Member, zero_keepers
from nonsmooth.optim.prox_taken import remember_weights, takes_prox
from nonsmooth.optim.sparsity_control import LARGEST_RISE, Schedule
from nonsmooth.optim.sparsity_pool import (
    Group,
    as_patterns,
    bases,
    check_gradients,
    choose_parameters,
    cut_to,
    first_scale,
    members,
    set_strengths,
    spare,
    split,
    unit_name,
)
from nonsmooth.optim.target_state import ACTIVE, SPARED, TARGET, patterns_of
from nonsmooth.optim.tensor_certificate import largest_strength
from nonsmooth.optim.zero_counts import count_units, count_zeros

TOLERANCE = 1e-3
"""How far the share of zeros may be from the aim, or half of one weight where that is more."""

LAST_CUT = 0.02
"""What share of the weights may be set to zero at the end to arrive, without a release; more would be pruning."""

BEGINNING = {"step": 0, "first": 0.0, "log_rise": 0.0, "zeros": None, "released": False}
"""The numbers of a target that has seen no step: the first λ over the base, the logarithm of what it has risen by, the
zeros that there were at its last change, and whether the penalty is gone."""


class SparsityTarget:
    """Moves λ so that a share of the penalized weights becomes zero, then lets the other weights recover.

    Attached by its constructor, through the hooks of the optimizer's step; nothing else is to be called. The goal rises
    from 0 to `sparsity` as 1 - (1-t)³, and λ follows: log λ is a proportional and integral control of the goal minus
    the share of zeros. After `release` of the steps the zeros are kept, λ is 0, and the other weights train on. With
    `release=None` λ settles instead, and what is left at the end is a solution for that λ, which `certify` measures.

    What is counted is what the penalty zeroes: single weights, groups under `GroupL1` and `SparseGroupL1`, singular
    values under `Nuclear`. The λ that the penalty brings is not used as it stands: λ starts from 0. But where groups of
    parameters bring different ones, their ratios stay.

    λ lies in the groups as ever, and so does the state of the target: it is in the optimizer's `state_dict`, and a run
    that is resumed with a new target of the same settings goes on bit for bit. As of all hooks, copies and pickles of
    the optimizer have none of it; build the target again.

    Example:
        >>> optimizer = SteadyAdam(penalize(model, L1(1.0)), lr=1e-3)
        >>> target = SparsityTarget(optimizer, sparsity=0.95, steps=epochs * len(loader))

    Args:
        optimizer: one of `nonsmooth.optim`, or one that `attach` was used on.
        sparsity: the share of zeros to arrive at, in (0, 1).
        steps: the length of training, in steps of the optimizer; those that a GradScaler skips are none.
        release: after which share of the steps the zeros are kept and the penalty goes, in (0, 1]; None for never.
        over: patterns of names, as in a shell, of the parameters that are counted together and get one λ; None for all
            that have a penalty. Several targets with patterns that do not overlap give layers sparsities of their own.

    Raises:
        TypeError: not an optimizer, or `over` is one string instead of several.
        ValueError: a number is out of its range, the optimizer takes no prox, no parameter with a penalty matches, or
            one has a target already; nothing has been changed then.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sparsity: float,
        steps: int,
        *,
        release: float | None = 0.6,
        over: Iterable[str] | None = None,
    ) -> None:
        inner = unwrapped(optimizer)
        self._schedule = Schedule(sparsity, steps, release)
        self._over = as_patterns(over)
        if not takes_prox(inner):
            raise ValueError(
                f"optimizer is a {type(inner).__name__} that takes no prox, so it sets no weight to zero; accepted are "
                "optimizers of nonsmooth.optim, or attach(optimizer, penalty, model=model) first"
            )
        if release is not None and isinstance(inner, DualAveraging):
            raise ValueError(
                f"release is {release}; {type(inner).__name__} computes weights anew from sums of gradients, which "
                "would jump without the penalty; accepted there is None"
            )
        pool = split(inner, choose_parameters(inner, self._over))
        for group, base in zip(pool, bases(pool), strict=True):
            group[TARGET] = {**self._schedule.settings(), "over": self._over, **BEGINNING, "base": base}
            group[SPARED] = None
            group["penalty"]["strength"] = 0.0
        self._optimizer = weakref.ref(inner)
        self._pending: Callable[[], int] | None = None
        self._keepers: list[Callable[[], None]] = []
        inner.__dict__.setdefault(ACTIVE, []).append(self._over)
        inner.register_step_pre_hook(self._before)
        inner.register_step_post_hook(self._after)
        inner.register_state_dict_pre_hook(self._write_count)
        inner.register_load_state_dict_pre_hook(self._read_state)
        inner.register_load_state_dict_post_hook(self._read_count)

    @property
    def step(self) -> int:
        """How many steps have been taken."""
        return int(_state(self._pool())["step"])

    @property
    def released(self) -> bool:
        """Whether the zeros are kept and λ is 0."""
        return bool(_state(self._pool())["released"])

    @property
    def goal(self) -> float:
        """The share of zeros that is due now."""
        return self._schedule.goal(self.step)

    @property
    def share(self) -> float:
        """The share of zeros now."""
        found = members(self._pool())
        return count_zeros(found)() / count_units(found)

    @property
    def strength(self) -> float:
        """λ now, the largest where groups have different ones."""
        return largest(largest_strength(penalty) for penalty, _ in members(self._pool()))

    def __str__(self) -> str:
        found, schedule, step = members(self._pool()), self._schedule, self.step
        aim = f"aim {schedule.sparsity:.1%}"
        if step < schedule.steps and not self.released:
            aim += f", {self.goal:.1%} due now"
        return (
            f"{self.share:.1%} of {count_units(found):,} {unit_name(found)} are zero ({aim}), step {step:,} of "
            f"{schedule.steps:,}, "
            + ("released: zeros are kept, λ = 0" if self.released else f"λ = {self.strength:.3g}")
        )

    def _pool(self, optimizer: Optimizer | None = None) -> list[Group]:
        """The groups of this target.

        Raises:
            RuntimeError: there are none, or the optimizer is gone.
        """
        optimizer = optimizer or self._optimizer()
        found = [] if optimizer is None else [group for group in optimizer.param_groups if self._has(group)]
        if not found:
            raise RuntimeError("the optimizer of this target is gone, or its groups are; build the target again")
        return found

    def _has(self, group: Group) -> bool:
        return TARGET in group and patterns_of(group[TARGET]) == self._over

    def _before(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        pool = self._pool(optimizer)
        check_gradients(pool)
        self._keepers = zero_keepers(members(pool)) if _state(pool)["released"] else []

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        del arguments, options
        pool, schedule = self._pool(optimizer), self._schedule
        state, step = _state(pool), _state(pool)["step"] + 1
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
        state, schedule, found = _state(pool), self._schedule, members(pool)
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
        schedule, found = self._schedule, members(pool)
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
            cut_to(found, zeros + missing)
        return arrives

    def _warn_if_missed(self, found: list[Member]) -> None:
        """Say so where training has ended and the zeros are not as many as wanted."""
        units, aim = count_units(found), self._schedule.sparsity
        share = count_zeros(found)() / units
        if abs(share - aim) > largest(TOLERANCE, 0.5 / units) * (1 + 1e-9):
            warnings.warn(
                f"sparsity is {aim:.2%}, but {share:.2%} of {units:,} {unit_name(found)} are zero after "
                f"{self._schedule.steps:,} steps. Too few: train longer, or with a larger step size, or the penalty "
                "does not reach some weights. Too many: weights that are zero no longer get a gradient",
                UserWarning,
                stacklevel=2,
            )

    def _write_count(self, optimizer: Optimizer) -> None:
        if self._pending is not None:
            _write(self._pool(optimizer), zeros=self._pending())

    def _read_count(self, optimizer: Optimizer) -> None:
        zeros = _state(self._pool(optimizer))["zeros"]
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
            settings = {"over": self._over, **self._schedule.settings()}
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


def _state(pool: list[Group]) -> dict[str, Any]:
    """The numbers of a target, which are the same in each of its groups."""
    state: dict[str, Any] = pool[0][TARGET]
    return state


def _write(pool: list[Group], **numbers: Any) -> None:
    """Replace the state in each group: one that was saved is left as it is."""
    for group in pool:
        group[TARGET] = {**group[TARGET], **numbers}
